//! Table `codes`: the codes that were sent, without their digits.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult,
    sql_types::{BigInt, Bytea, Integer, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    model::{
        code::{Code, Purpose},
        delivery::Channel,
    },
    store::sql::Sql,
};

type Row = (
    BigInt,
    Text,
    Bytea,
    Text,
    Integer,
    Timestamptz,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
);

const COLUMNS: &str =
    "code_id, address, nonce, key_id, attempts, expires_at, used_at, superseded_at";

/// A code that is about to be sent.
pub struct NewCode {
    pub user_id: i64,
    pub channel: Channel,
    pub purpose: Purpose,
    /// Normalized address.
    pub address: String,
    pub nonce: Vec<u8>,
    pub key_id: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Keeps what the digits are derived from.
pub async fn insert(conn: &mut AsyncPgConnection, new: NewCode) -> QueryResult<i64> {
    Sql::<BigInt>::new(
        "insert into codes (user_id, channel, purpose, address, nonce, key_id, created_at, expires_at) values (",
    )
    .bind(new.user_id)
    .push(", ")
    .bind(new.channel.as_str())
    .push(", ")
    .bind(new.purpose.as_str())
    .push(", ")
    .bind(new.address)
    .push(", ")
    .bind(new.nonce)
    .push(", ")
    .bind(new.key_id)
    .push(", ")
    .bind(new.created_at)
    .push(", ")
    .bind(new.expires_at)
    .push(") returning code_id")
    .get_result(conn)
    .await
}

/// The codes of a user, channel and purpose since a time, newest first.
pub async fn list(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    channel: Channel,
    purpose: Purpose,
    since: DateTime<Utc>,
) -> QueryResult<Vec<Code>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from codes where user_id = ")
        .bind(user_id);
    let statement = statement
        .push(" and channel = ")
        .bind(channel.as_str())
        .push(" and purpose = ");
    let statement = statement
        .bind(purpose.as_str())
        .push(" and created_at > ")
        .bind(since);
    statement.push(" order by code_id desc").load(conn).await
}

/// Counts one try more, or one less.
pub async fn count(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    code_id: i64,
    by: i32,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update codes set attempts = attempts + ")
        .bind(by)
        .push(" where user_id = ");
    statement
        .bind(user_id)
        .push(" and code_id = ")
        .bind(code_id)
        .execute(conn)
        .await
}

/// Consumes a code; returns false if it was consumed or invalidated in the meantime.
pub async fn consume(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    code_id: i64,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let statement = Sql::<()>::new("update codes set used_at = ")
        .bind(now)
        .push(" where user_id = ")
        .bind(user_id);
    let statement = statement.push(" and code_id = ").bind(code_id);
    Ok(statement
        .push(" and used_at is null and superseded_at is null")
        .execute(conn)
        .await?
        > 0)
}

/// Invalidates the live codes of a user.
pub async fn invalidate(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update codes set superseded_at = ")
        .bind(now)
        .push(" where user_id = ");
    statement
        .bind(user_id)
        .push(" and used_at is null and superseded_at is null")
        .execute(conn)
        .await
}

/// Removes up to `limit` expired codes.
pub async fn purge(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from codes where (user_id, code_id) in (select user_id, code_id from codes where created_at < ",
    )
    .bind(before)
    .push(" limit ")
    .bind(limit)
    .push(")")
    .execute(conn)
    .await
}
