//! Table `known_clients`: clients that logged in to an account.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{Bytea, Integer},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::sql::Sql;

/// Whether one of these hashes is of a client that logged in to the account since then.
pub(crate) async fn is_known(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    hashes: Vec<Vec<u8>>,
    since: DateTime<Utc>,
) -> QueryResult<bool> {
    let statement =
        Sql::<Integer>::new("select 1 from known_clients where user_id = ").bind(user_id);
    let statement = statement
        .push(" and client_hash = any(")
        .bind(hashes)
        .push(") and last_login_at >= ")
        .bind(since);
    Ok(statement
        .push(" limit 1")
        .get_result::<i32>(conn)
        .await
        .optional()?
        .is_some())
}

/// Remembers a client, and only the newest `most` of the account.
pub(crate) async fn remember(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    hash: Vec<u8>,
    now: DateTime<Utc>,
    most: i64,
) -> QueryResult<()> {
    Sql::<()>::new("insert into known_clients (user_id, client_hash, last_login_at) values (")
        .bind(user_id)
        .push(", ")
        .bind(hash)
        .push(", ")
        .bind(now)
        .push(") on conflict (user_id, client_hash) do update set last_login_at = excluded.last_login_at")
        .execute(conn)
        .await?;
    let statement =
        Sql::<Bytea>::new("select client_hash from known_clients where user_id = ").bind(user_id);
    let statement = statement
        .push(" order by last_login_at desc, client_hash offset ")
        .bind(most);
    let surplus: Vec<Vec<u8>> = statement.load(conn).await?;
    if !surplus.is_empty() {
        let statement = Sql::<()>::new("delete from known_clients where user_id = ").bind(user_id);
        statement
            .push(" and client_hash = any(")
            .bind(surplus)
            .push(")")
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Removes up to `limit` clients that have not logged in since then.
pub(crate) async fn purge(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from known_clients where (user_id, client_hash) in \
         (select user_id, client_hash from known_clients where last_login_at < ",
    )
    .bind(before)
    .push(" limit ")
    .bind(limit)
    // One that logged in meanwhile is looked at again.
    .push(") and last_login_at < ")
    .bind(before)
    .execute(conn)
    .await
}
