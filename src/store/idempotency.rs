//! Table `idempotency`: replies of writes that carried a request id.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult,
    sql_types::{BigInt, Bytea, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::store::sql::Sql;

/// Which request it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub request_id: Uuid,
    /// The service or the user who sent it.
    pub caller: String,
    pub rpc: &'static str,
}

/// What is kept of a request.
#[derive(Clone, Debug)]
pub(crate) struct StoredResponse {
    /// The key of the fingerprint.
    pub key_id: String,
    pub fingerprint: Vec<u8>,
    pub reply: Vec<u8>,
}

/// What is kept of these requests and is not older than `since`, each with its place among them.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    requests: &[&RequestKey],
    since: DateTime<Utc>,
) -> QueryResult<HashMap<usize, StoredResponse>> {
    let statement = Sql::<(BigInt, Text, Bytea, Bytea)>::new("select ");
    let statement = match requests {
        // Without a list to join, by which a distributed Postgres knows the node.
        [RequestKey { request_id, caller, rpc }] => statement
            .push("1::bigint, kept.key_id, kept.fingerprint, kept.reply from idempotency kept where kept.request_id = ")
            .bind(*request_id)
            .push(" and kept.caller = ")
            .bind(caller.as_str())
            .push(" and kept.rpc = ")
            .bind(*rpc)
            .push(" and kept.created_at > "),
        requests => statement
            .push("given.place, kept.key_id, kept.fingerprint, kept.reply from unnest(")
            .append(columns(requests))
            .push(
                ") with ordinality as given (request_id, caller, rpc, place) join idempotency kept \
                 on kept.request_id = given.request_id and kept.caller = given.caller collate \"C\" \
                 and kept.rpc = given.rpc collate \"C\" where kept.created_at > ",
            ),
    };
    let statement = statement.bind(since);
    let rows: Vec<(i64, String, Vec<u8>, Vec<u8>)> = statement.load(conn).await?;
    let kept = |(place, key_id, fingerprint, reply)| {
        (
            place as usize - 1,
            StoredResponse {
                key_id,
                fingerprint,
                reply,
            },
        )
    };
    Ok(rows.into_iter().map(kept).collect())
}

fn columns(requests: &[&RequestKey]) -> Sql {
    Sql::new("")
        .bind(
            requests
                .iter()
                .map(|request| request.request_id)
                .collect::<Vec<_>>(),
        )
        .push(", ")
        .bind(
            requests
                .iter()
                .map(|request| request.caller.clone())
                .collect::<Vec<_>>(),
        )
        .push(", ")
        .bind(
            requests
                .iter()
                .map(|request| request.rpc.to_owned())
                .collect::<Vec<_>>(),
        )
}

/// Takes the right to run requests, until the transaction ends; gives those that no other holds.
pub(crate) async fn try_lock(
    conn: &mut AsyncPgConnection,
    numbers: Vec<i64>,
) -> QueryResult<HashSet<i64>> {
    let statement = Sql::<BigInt>::new("select number from unnest(").bind(numbers);
    let locked: Vec<i64> = statement
        .push(") as given (number) where pg_try_advisory_xact_lock(number)")
        .load(conn)
        .await?;
    Ok(locked.into_iter().collect())
}

/// A reply that is to be kept, and whose data it holds where it is one user's.
pub(crate) type Reply<'a> = (&'a RequestKey, Option<i64>, StoredResponse);

/// Keeps replies; one that is too old to count gives way.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    replies: Vec<Reply<'_>>,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new(
        "insert into idempotency (request_id, caller, rpc, user_id, key_id, fingerprint, reply, created_at) ",
    );
    let statement = match <[Reply<'_>; 1]>::try_from(replies) {
        Ok(
            [
                (
                    RequestKey {
                        request_id,
                        caller,
                        rpc,
                    },
                    user_id,
                    StoredResponse {
                        key_id,
                        fingerprint,
                        reply,
                    },
                ),
            ],
        ) => statement.values([vec![
            (*request_id).into(),
            caller.as_str().into(),
            (*rpc).into(),
            user_id.into(),
            key_id.into(),
            fingerprint.into(),
            reply.into(),
            now.into(),
        ]]),
        Err(replies) => statement.append(listed(replies, now)),
    };
    statement
        .push(
            " on conflict (request_id, caller, rpc) do update set user_id = excluded.user_id, \
             key_id = excluded.key_id, fingerprint = excluded.fingerprint, reply = excluded.reply, \
             created_at = excluded.created_at",
        )
        .execute(conn)
        .await
}

/// Any number of replies as a list for each column.
fn listed(replies: Vec<Reply<'_>>, now: DateTime<Utc>) -> Sql {
    let requests: Vec<&RequestKey> = replies.iter().map(|(request, ..)| *request).collect();
    let requests = columns(&requests);
    let mut kept = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (
        _,
        user_id,
        StoredResponse {
            key_id,
            fingerprint,
            reply,
        },
    ) in replies
    {
        kept.0.push(user_id);
        kept.1.push(key_id);
        kept.2.push(fingerprint);
        kept.3.push(reply);
    }
    Sql::new("select given.*, ")
        .bind(now)
        .push(" from unnest(")
        .append(requests)
        .push(", ")
        .bind(kept.0)
        .push(", ")
        .bind(kept.1)
        .push(", ")
        .bind(kept.2)
        .push(", ")
        .bind(kept.3)
        .push(") as given")
}

/// Removes up to `limit` replies that are kept no longer.
pub(crate) async fn purge(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from idempotency where (request_id, caller, rpc) in \
         (select request_id, caller, rpc from idempotency where created_at < ",
    )
    .bind(before)
    .push(" limit ")
    .bind(limit)
    // A row that was stored again meanwhile is read again.
    .push(") and created_at < ")
    .bind(before)
    .execute(conn)
    .await
}
