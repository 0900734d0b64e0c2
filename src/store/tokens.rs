//! Table `tokens`: opaque tokens by their hash.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{Array, BigInt, Bytea, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    model::token::{Revoked, Subject, Token, TokenHash},
    store::sql::Sql,
};

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
    subject: &Subject,
    before: Option<i64>,
    limit: i64,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Token>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS).push(" from tokens where ");
    let statement = match subject {
        Subject::Service(name) => statement.push("service = ").bind(name.as_str()),
        Subject::User(user_id) => statement.push("user_id = ").bind(*user_id),
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
    subject: &Subject,
    scopes: Vec<String>,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<Token> {
    let (service, user_id) = match subject {
        Subject::Service(name) => (Some(name.clone()), None),
        Subject::User(user_id) => (None, Some(*user_id)),
    };
    let statement =
        Sql::<Row>::new("insert into tokens (token_hash, service, user_id, scopes, created_at, expires_at) values (");
    statement
        .bind(hash)
        .push(", ")
        .bind(service)
        .push(", ")
        .bind(user_id)
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

/// Revokes a token; gives its hash, `None` where it was not there or revoked already.
pub async fn revoke(conn: &mut AsyncPgConnection, token_id: i64, now: DateTime<Utc>) -> QueryResult<Option<TokenHash>> {
    let statement =
        Sql::<Bytea>::new("update tokens set revoked_at = ").bind(now).push(" where token_id = ").bind(token_id);
    let statement = statement.push(" and revoked_at is null returning token_hash");
    let hash: Option<Vec<u8>> = statement.get_result(conn).await.optional()?;
    Ok(hash.map(|hash| hash.try_into().expect("valid: SHA-256 has 32 bytes")))
}

/// Notes that a token was used, unless that was noted after `before`.
pub async fn note_use(
    conn: &mut AsyncPgConnection,
    hash: Vec<u8>,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update tokens set last_used_at = ").bind(now).push(" where token_hash = ");
    let statement = statement.bind(hash).push(" and (last_used_at is null or last_used_at < ").bind(before);
    statement.push(")").execute(conn).await
}

/// Where replicas tell each other what was revoked.
pub const CHANNEL: &str = "user_service_tokens";

/// Revokes all tokens of a user but the one with that hash, and tells every replica.
pub async fn revoke_all(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    kept: Option<Vec<u8>>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    Sql::<()>::new("update tokens set revoked_at = ")
        .bind(now)
        .push(" where user_id = ")
        .bind(user_id)
        .push(" and revoked_at is null and token_hash is distinct from ")
        .bind(kept)
        .execute(conn)
        .await?;
    tell(conn, Revoked::User(user_id)).await
}

/// Tells every replica what was revoked.
pub async fn tell(conn: &mut AsyncPgConnection, what: Revoked) -> QueryResult<()> {
    let statement = Sql::<()>::new("select pg_notify(").bind(CHANNEL).push(", ").bind(what.to_string()).push(")");
    statement.execute(conn).await.map(|_| ())
}

/// Removes up to `limit` tokens that are long expired or revoked.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    Sql::<()>::new("delete from tokens where token_hash in (select token_hash from tokens where expires_at < ")
        .bind(before)
        .push(" or revoked_at < ")
        .bind(before)
        .push(" limit ")
        .bind(limit)
        .push(")")
        .execute(conn)
        .await
}
