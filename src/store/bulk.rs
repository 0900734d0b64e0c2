//! Statements that change the custom fields of many users at once.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::{BigInt, Jsonb, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::{
    model::{document::Document, filter::Filter},
    store::{
        filter::{self, Narrow},
        sql::Sql,
    },
};

/// The users that match, in order of their id, with the time of their last change.
pub async fn pick(
    conn: &mut AsyncPgConnection,
    filter: &Filter,
    after: Option<i64>,
    skip: i64,
    limit: i64,
) -> QueryResult<Vec<(i64, DateTime<Utc>)>> {
    let mut statement = Sql::<(BigInt, Timestamptz)>::new("select u.user_id, u.updated_at from users u where ")
        .append(filter::predicate(filter, Narrow::ByIndex));
    if let Some(after) = after {
        statement = statement.push(" and u.user_id > ").bind(after);
    }
    statement = statement.push(" order by u.user_id limit ").bind(limit);
    if skip > 0 {
        statement = statement.push(" offset ").bind(skip);
    }
    statement.one_off().load(conn).await
}

/// A profile after its change.
pub type Changed = (i64, DateTime<Utc>, Document);

/// Changes the documents of these users, where they still match; gives those that were changed. `with_documents` says
/// whether anyone asks for the documents themselves.
///
/// One document that cannot be changed refuses the whole statement; then it runs again over the others alone.
pub async fn update(
    conn: &mut AsyncPgConnection,
    user_ids: &[i64],
    filter: &Filter,
    changes: &Value,
    now: DateTime<Utc>,
    with_documents: bool,
) -> QueryResult<Vec<Changed>> {
    let statement = |only_possible: bool| {
        let mut statement =
            Sql::<(BigInt, Timestamptz, Jsonb)>::new("update users u set version = u.version + 1, updated_at = ")
                .bind(now)
                .push(", custom_fields = change_document(u.custom_fields, ")
                .bind(changes.clone())
                .push(") where u.user_id = any(")
                .bind(user_ids.to_vec())
                .push(") and ")
                .append(filter::predicate(filter, Narrow::No));
        if only_possible {
            statement = statement
                .push(" and jsonb_typeof(change_document(u.custom_fields, ")
                .bind(changes.clone())
                .push(")) = 'object'");
        }
        let returned = if with_documents { "u.custom_fields" } else { "'{}'::jsonb" };
        statement.push(" returning u.user_id, u.created_at, ").push(returned).one_off()
    };
    walk_by_id(conn).await?;
    // A savepoint, so that the refusal of one row leaves the transaction whole.
    let whole = conn.transaction(async |conn| statement(false).load(conn).await).await;
    match whole {
        Err(DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, information))
            if information.constraint_name() == Some("users_custom_fields_object") =>
        {
            statement(true).load(conn).await
        }
        done => done,
    }
}

/// Has the statements of this transaction reach users through their primary key alone: it gives them, and so locks them,
/// in order of their id, and two bulk changes of the same users wait for each other. In order of the place that their
/// rows happen to have, they would meet in deadlocks.
async fn walk_by_id(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    Sql::<()>::new("select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)")
        .execute(conn)
        .await
}

/// Of these users, who were not changed, those who still match, and why, as `REASON:field`; `None` for a document that
/// can be changed by now.
pub async fn find_refusals(
    conn: &mut AsyncPgConnection,
    user_ids: Vec<i64>,
    filter: &Filter,
    changes: &Value,
) -> QueryResult<Vec<(i64, Option<String>)>> {
    let statement = Sql::<(BigInt, Nullable<Text>)>::new(
        "select n.user_id, case jsonb_typeof(n.made) when 'string' then n.made #>> '{}' end from \
         (select u.user_id, change_document(u.custom_fields, ",
    );
    let statement = statement
        .bind(changes.clone())
        .push(") as made from users u where u.user_id = any(")
        .bind(user_ids)
        .push(") and ")
        .append(filter::predicate(filter, Narrow::No))
        .push(") n");
    statement.one_off().load(conn).await
}

/// Frees the unique values of these kinds that these users hold, but for the pairs that are kept.
pub async fn free_unique(
    conn: &mut AsyncPgConnection,
    user_ids: Vec<i64>,
    kinds: Vec<String>,
    kept: &[(String, String)],
) -> QueryResult<usize> {
    let (kept_kinds, kept_values): (Vec<String>, Vec<String>) = kept.iter().cloned().unzip();
    Sql::<()>::new("delete from unique_values v where v.user_id = any(")
        .bind(user_ids)
        .push(") and v.kind = any(")
        .bind(kinds)
        .push(") and (v.kind, v.value) not in (select * from unnest(")
        .bind(kept_kinds)
        .push("::text[], ")
        .bind(kept_values)
        .push("::text[]))")
        .execute(conn)
        .await
}
