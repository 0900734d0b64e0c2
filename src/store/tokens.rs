//! Table `tokens`: opaque tokens by their hash.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{Array, BigInt, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{model::token::Token, store::sql::Sql};

type Row = (
    BigInt,
    Nullable<Text>,
    Nullable<BigInt>,
    Array<Text>,
    Timestamptz,
    Timestamptz,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
);

const COLUMNS: &str = "token_id, service, user_id, scopes, created_at, expires_at, last_used_at, revoked_at";

/// The token of that hash, revoked and expired ones too.
pub async fn find_by_hash(conn: &mut AsyncPgConnection, hash: Vec<u8>) -> QueryResult<Option<Token>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS).push(" from tokens where token_hash = ").bind(hash);
    statement.get_result(conn).await.optional()
}

/// The token of that id, unless it is revoked or expired.
pub async fn find(conn: &mut AsyncPgConnection, token_id: i64, now: DateTime<Utc>) -> QueryResult<Option<Token>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS).push(" from tokens where token_id = ").bind(token_id);
    statement.push(" and revoked_at is null and expires_at > ").bind(now).get_result(conn).await.optional()
}

/// Those of a service or a user that are neither expired nor revoked, newest first.
pub async fn list(
    conn: &mut AsyncPgConnection,
    subject: Result<&str, i64>,
    before: Option<i64>,
    limit: i64,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Token>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS).push(" from tokens where ");
    let statement = match subject {
        Ok(service) => statement.push("service = ").bind(service),
        Err(user_id) => statement.push("user_id = ").bind(user_id),
    };
    let mut statement = statement.push(" and revoked_at is null and expires_at > ").bind(now);
    if let Some(before) = before {
        statement = statement.push(" and token_id < ").bind(before);
    }
    statement.push(" order by token_id desc limit ").bind(limit).load(conn).await
}

/// Keeps a token's hash.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    hash: Vec<u8>,
    subject: Result<&str, i64>,
    scopes: Vec<String>,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<Token> {
    let statement =
        Sql::<Row>::new("insert into tokens (token_hash, service, user_id, scopes, created_at, expires_at) values (");
    statement
        .bind(hash)
        .push(", ")
        .bind(subject.ok().map(str::to_owned))
        .push(", ")
        .bind(subject.err())
        .push(", ")
        .bind(scopes)
        .push(", ")
        .bind(now)
        .push(", ")
        .bind(expires_at)
        .push(") returning ")
        .push(COLUMNS)
        .get_result(conn)
        .await
}

/// Revokes a token and tells every replica; false where it was not there or not good any more.
pub async fn revoke(conn: &mut AsyncPgConnection, token_id: i64, now: DateTime<Utc>) -> QueryResult<bool> {
    let statement =
        Sql::<()>::new("update tokens set revoked_at = ").bind(now).push(" where token_id = ").bind(token_id);
    Ok(statement.push(" and revoked_at is null").execute(conn).await? > 0)
}
