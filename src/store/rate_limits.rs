//! Table `limits`: when something that is limited happened.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult,
    sql_types::{Array, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::sql::Sql;

/// The times of a key, oldest first, locked until the transaction ends.
pub async fn lock(
    conn: &mut AsyncPgConnection,
    key: &str,
    now: DateTime<Utc>,
) -> QueryResult<Vec<DateTime<Utc>>> {
    Sql::<Array<Timestamptz>>::new("insert into limits (key, hits, expires_at) values (")
        .bind(key)
        .push(", '{}', ")
        .bind(now)
        .push(") on conflict (key) do update set expires_at = limits.expires_at returning hits")
        .get_result(conn)
        .await
}

/// Writes the times of a key that was locked.
pub async fn save(
    conn: &mut AsyncPgConnection,
    key: &str,
    hits: Vec<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update limits set hits = ")
        .bind(hits)
        .push(", expires_at = ")
        .bind(expires_at);
    statement
        .push(" where key = ")
        .bind(key)
        .execute(conn)
        .await
}

/// Removes up to `limit` keys that say nothing more.
pub async fn purge(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new("delete from limits where key in (select key from limits where expires_at < ")
        .bind(before)
        .push(" limit ")
        .bind(limit)
        // One that was locked meanwhile has hits by now, and is looked at again.
        .push(") and expires_at < ")
        .bind(before)
        .execute(conn)
        .await
}

/// Removes a key, and every key that continues it after a `/`.
pub async fn clear(conn: &mut AsyncPgConnection, key: &str) -> QueryResult<usize> {
    // In the order of bytes, `0` is the character after `/`.
    Sql::<()>::new("delete from limits where key = ")
        .bind(key)
        .push(" or (key >= ")
        .bind(format!("{key}/"))
        .push(" and key < ")
        .bind(format!("{key}0"))
        .push(")")
        .execute(conn)
        .await
}
