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
    Nullable<Text>,
);

const COLUMNS: &str = "token_id, service, user_id, scopes, created_at, expires_at, last_used_at, revoked_at, issued_by";

/// A token to store.
pub struct NewToken<'a> {
    pub hash: Vec<u8>,
    pub subject: &'a Subject,
    pub scopes: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// The issuer, in the `Display` form of [`Subject`].
    pub issued_by: String,
    /// The hash of the token that issued it, if any.
    pub parent: Option<Vec<u8>>,
}

/// The token of that hash, revoked and expired ones too.
pub async fn find_by_hash(
    conn: &mut AsyncPgConnection,
    hash: Vec<u8>,
) -> QueryResult<Option<Token>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from tokens where token_hash = ")
        .bind(hash);
    statement.get_result(conn).await.optional()
}

/// The token of that id, unless it is revoked or expired.
pub async fn find(
    conn: &mut AsyncPgConnection,
    token_id: i64,
    now: DateTime<Utc>,
) -> QueryResult<Option<Token>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from tokens where token_id = ")
        .bind(token_id);
    statement
        .push(" and revoked_at is null and expires_at > ")
        .bind(now)
        .get_result(conn)
        .await
        .optional()
}

/// Tokens of a service or a user, or all, that are neither expired nor revoked, newest first.
pub async fn list(
    conn: &mut AsyncPgConnection,
    subject: Option<&Subject>,
    before: Option<i64>,
    limit: i64,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Token>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from tokens where ");
    let statement = match subject {
        Some(Subject::Service(name)) => statement
            .push("service = ")
            .bind(name.as_str())
            .push(" and "),
        Some(Subject::User(user_id)) => statement.push("user_id = ").bind(*user_id).push(" and "),
        None => statement,
    };
    let mut statement = statement
        .push("revoked_at is null and expires_at > ")
        .bind(now);
    if let Some(before) = before {
        statement = statement.push(" and token_id < ").bind(before);
    }
    statement
        .push(" order by token_id desc limit ")
        .bind(limit)
        .load(conn)
        .await
}

/// The token with that hash, locked so that it can't be revoked before the transaction ends.
pub async fn find_and_share(
    conn: &mut AsyncPgConnection,
    hash: Vec<u8>,
) -> QueryResult<Option<Token>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from tokens where token_hash = ")
        .bind(hash);
    statement
        .push(" for share")
        .get_result(conn)
        .await
        .optional()
}

/// Keeps a token's hash.
pub async fn insert(conn: &mut AsyncPgConnection, new: NewToken<'_>) -> QueryResult<Token> {
    let (service, user_id) = match new.subject {
        Subject::Service(name) => (Some(name.clone()), None),
        Subject::User(user_id) => (None, Some(*user_id)),
    };
    let statement = Sql::<Row>::new(
        "insert into tokens (token_hash, service, user_id, scopes, created_at, expires_at, issued_by, parent_hash) \
         values (",
    );
    statement
        .bind(new.hash)
        .push(", ")
        .bind(service)
        .push(", ")
        .bind(user_id)
        .push(", ")
        .bind(new.scopes)
        .push(", ")
        .bind(new.created_at)
        .push(", ")
        .bind(new.expires_at)
        .push(", ")
        .bind(new.issued_by)
        .push(", ")
        .bind(new.parent)
        .push(") returning ")
        .push(COLUMNS)
        .get_result(conn)
        .await
}

/// A newly revoked token: its hash, and its service if it belongs to one.
pub type RevokedRow = (TokenHash, Option<String>);

type RevokedSql = (Bytea, Nullable<Text>);

const RETURNING: &str = " and revoked_at is null returning token_hash, service";

fn revoked((hash, service): (Vec<u8>, Option<String>)) -> RevokedRow {
    (
        hash.try_into().expect("valid: SHA-256 has 32 bytes"),
        service,
    )
}

/// Revokes a token; `None` if it didn't exist or was already revoked.
pub async fn revoke(
    conn: &mut AsyncPgConnection,
    token_id: i64,
    now: DateTime<Utc>,
) -> QueryResult<Option<RevokedRow>> {
    let statement = Sql::<RevokedSql>::new("update tokens set revoked_at = ").bind(now);
    let statement = statement
        .push(" where token_id = ")
        .bind(token_id)
        .push(RETURNING);
    Ok(statement.get_result(conn).await.optional()?.map(revoked))
}

/// Revokes the tokens of a service that have not expired.
pub async fn revoke_service(
    conn: &mut AsyncPgConnection,
    service: &str,
    now: DateTime<Utc>,
) -> QueryResult<Vec<RevokedRow>> {
    let statement = Sql::<RevokedSql>::new("update tokens set revoked_at = ")
        .bind(now)
        .push(" where service = ");
    let statement = statement
        .bind(service)
        .push(" and expires_at > ")
        .bind(now)
        .push(RETURNING);
    Ok(statement
        .load(conn)
        .await?
        .into_iter()
        .map(revoked)
        .collect())
}

/// Revokes the tokens that these tokens, which belong to these subjects, have issued.
pub async fn revoke_issued(
    conn: &mut AsyncPgConnection,
    issuers: Vec<String>,
    parents: Vec<Vec<u8>>,
    now: DateTime<Utc>,
) -> QueryResult<Vec<RevokedRow>> {
    let statement = Sql::<RevokedSql>::new("update tokens set revoked_at = ")
        .bind(now)
        .push(" where issued_by = any(");
    let statement = statement
        .bind(issuers)
        .push(") and parent_hash = any(")
        .bind(parents)
        .push(")")
        .push(RETURNING);
    Ok(statement
        .load(conn)
        .await?
        .into_iter()
        .map(revoked)
        .collect())
}

/// Revokes the tokens that any token of this issuer has issued, including its signed tokens.
pub async fn revoke_issued_by(
    conn: &mut AsyncPgConnection,
    issuer: String,
    now: DateTime<Utc>,
) -> QueryResult<Vec<RevokedRow>> {
    let statement = Sql::<RevokedSql>::new("update tokens set revoked_at = ")
        .bind(now)
        .push(" where issued_by = ");
    let statement = statement
        .bind(issuer)
        .push(" and parent_hash is not null")
        .push(RETURNING);
    Ok(statement
        .load(conn)
        .await?
        .into_iter()
        .map(revoked)
        .collect())
}

/// Permits the signed tokens of a service to issue others until the transaction ends: a revocation
/// of all waits for it.
pub async fn share_service(conn: &mut AsyncPgConnection, lock: i64) -> QueryResult<()> {
    let statement = Sql::<()>::new("select pg_advisory_xact_lock_shared(")
        .bind(lock)
        .push(")");
    statement.execute(conn).await.map(|_| ())
}

/// Waits until no signed token of a service is issuing another, and prevents that until the
/// transaction ends.
pub async fn lock_service(conn: &mut AsyncPgConnection, lock: i64) -> QueryResult<()> {
    Sql::<()>::new("select pg_advisory_xact_lock(")
        .bind(lock)
        .push(")")
        .execute(conn)
        .await
        .map(|_| ())
}

/// The time before which the signed tokens of a service are revoked.
pub async fn find_revocation(
    conn: &mut AsyncPgConnection,
    service: &str,
) -> QueryResult<Option<DateTime<Utc>>> {
    let statement =
        Sql::<Timestamptz>::new("select revoked_before from service_revocations where service = ");
    statement.bind(service).get_result(conn).await.optional()
}

/// Revokes the signed tokens of a service that were issued before a time; an existing later time is
/// kept.
pub async fn revoke_signed(
    conn: &mut AsyncPgConnection,
    service: &str,
    before: DateTime<Utc>,
) -> QueryResult<()> {
    Sql::<()>::new("insert into service_revocations (service, revoked_before) values (")
        .bind(service)
        .push(", ")
        .bind(before)
        .push(
            ") on conflict (service) do update \
             set revoked_before = greatest(service_revocations.revoked_before, excluded.revoked_before)",
        )
        .execute(conn)
        .await
        .map(|_| ())
}

/// Notes that a token was used, unless that was noted after `before`.
pub async fn note_use(
    conn: &mut AsyncPgConnection,
    hash: Vec<u8>,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update tokens set last_used_at = ")
        .bind(now)
        .push(" where token_hash = ");
    let statement = statement
        .bind(hash)
        .push(" and (last_used_at is null or last_used_at < ")
        .bind(before);
    statement.push(")").execute(conn).await
}

/// Where replicas tell each other what was revoked.
pub const CHANNEL: &str = "user_service_tokens";

/// Revokes all tokens of a user that haven't expired, except the one with that hash, and notifies
/// every replica. Returns the number of revoked tokens.
pub async fn revoke_all(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    kept: Option<Vec<u8>>,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    let revoked = Sql::<()>::new("update tokens set revoked_at = ")
        .bind(now)
        .push(" where user_id = ")
        .bind(user_id)
        .push(" and expires_at > ")
        .bind(now)
        .push(" and revoked_at is null and token_hash is distinct from ")
        .bind(kept)
        .execute(conn)
        .await?;
    notify_revoked(conn, &[Revoked::User(user_id)]).await?;
    Ok(revoked)
}

/// Tells every replica what was revoked.
pub async fn notify_revoked(conn: &mut AsyncPgConnection, what: &[Revoked]) -> QueryResult<()> {
    if what.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = what.iter().map(ToString::to_string).collect();
    let statement = Sql::<()>::new("select pg_notify(")
        .bind(CHANNEL)
        .push(", told) from unnest(")
        .bind(told);
    statement
        .push(") as given (told)")
        .execute(conn)
        .await
        .map(|_| ())
}

/// Removes up to `limit` tokens that are long expired or revoked.
pub async fn purge(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from tokens where token_hash in (select token_hash from tokens where expires_at < ",
    )
    .bind(before)
    .push(" or revoked_at < ")
    .bind(before)
    .push(" limit ")
    .bind(limit)
    .push(")")
    .execute(conn)
    .await
}
