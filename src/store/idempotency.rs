//! Table `idempotency`: replies of writes that carried a request id.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{Bool, Bytea, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::store::sql::Sql;

/// Key id, fingerprint and reply of an earlier request, where it is not older than `since`.
pub async fn find(
    conn: &mut AsyncPgConnection,
    caller: &str,
    rpc: &str,
    request_id: Uuid,
    since: DateTime<Utc>,
) -> QueryResult<Option<(String, Vec<u8>, Vec<u8>)>> {
    Sql::<(Text, Bytea, Bytea)>::new("select key_id, fingerprint, reply from idempotency where request_id = ")
        .bind(request_id)
        .push(" and caller = ")
        .bind(caller)
        .push(" and rpc = ")
        .bind(rpc)
        .push(" and created_at > ")
        .bind(since)
        .get_result(conn)
        .await
        .optional()
}

/// Takes the right to run a request, until the transaction ends; false where another holds it.
pub async fn try_lock(conn: &mut AsyncPgConnection, number: i64) -> QueryResult<bool> {
    Sql::<Bool>::new("select pg_try_advisory_xact_lock(").bind(number).push(")").get_result(conn).await
}

/// Keeps a reply; one that is too old to count gives way.
#[expect(clippy::too_many_arguments, reason = "one parameter a column")]
pub async fn insert(
    conn: &mut AsyncPgConnection,
    caller: &str,
    rpc: &str,
    request_id: Uuid,
    user_id: Option<i64>,
    key_id: &str,
    fingerprint: Vec<u8>,
    reply: Vec<u8>,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "insert into idempotency (request_id, caller, rpc, user_id, key_id, fingerprint, reply, created_at) values (",
    )
    .bind(request_id)
    .push(", ")
    .bind(caller)
    .push(", ")
    .bind(rpc)
    .push(", ")
    .bind(user_id)
    .push(", ")
    .bind(key_id)
    .push(", ")
    .bind(fingerprint)
    .push(", ")
    .bind(reply)
    .push(", ")
    .bind(now)
    .push(
        ") on conflict (request_id, caller, rpc) do update set user_id = excluded.user_id, key_id = excluded.key_id, \
         fingerprint = excluded.fingerprint, reply = excluded.reply, created_at = excluded.created_at",
    )
    .execute(conn)
    .await
}

/// Removes up to `limit` replies that are kept no longer.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from idempotency where (request_id, caller, rpc) in \
         (select request_id, caller, rpc from idempotency where created_at < ",
    )
    .bind(before)
    .push(" limit ")
    .bind(limit)
    .push(")")
    .execute(conn)
    .await
}
