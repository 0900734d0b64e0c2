//! Tables `accounts` and `connections`: how a user logs in.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult, Queryable,
    sql_types::{BigInt, Bool, Bytea, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    model::{
        account::{Account, Connection, Login, Normalized},
        password::Kind,
    },
    store::sql::Sql,
};

type Row = (
    BigInt,
    Nullable<Text>,
    Nullable<Text>,
    Bool,
    Nullable<Text>,
    Bool,
    Bool,
    Bool,
    Nullable<Timestamptz>,
    BigInt,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
);

const COLUMNS: &str = "a.user_id, a.username, a.email, a.email_verified, a.phone, a.phone_verified, \
    a.password_hash is not null, a.wallet_password_hash is not null, a.last_login_at, a.version, \
    a.email_bound_at, a.phone_bound_at";

/// The accounts of these users, in no order.
pub async fn list(conn: &mut AsyncPgConnection, user_ids: Vec<i64>) -> QueryResult<Vec<Account>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from accounts a where a.user_id = any(")
        .bind(user_ids);
    statement.push(")").load(conn).await
}

/// The connections of these users, oldest first.
pub async fn list_connections(
    conn: &mut AsyncPgConnection,
    user_ids: Vec<i64>,
) -> QueryResult<Vec<Connection>> {
    let statement = Sql::<(BigInt, BigInt, Text, Text, Text, Timestamptz)>::new(
        "select connection_id, user_id, provider, subject, display_name, linked_at from connections where user_id = any(",
    );
    statement
        .bind(user_ids)
        .push(") order by connection_id")
        .load(conn)
        .await
}

const LOGIN: &str = "a.user_id, a.username, a.username_key, a.email, a.email_key, a.email_verified, a.email_bound_at, \
    a.phone, a.phone_verified, a.phone_bound_at, a.password_hash, a.wallet_password_hash, a.last_login_at, a.version, \
    a.password_unproven_at, a.email_set_at, a.phone_set_at";

/// The SQL types of [`LOGIN`].
type LoginRow = (
    BigInt,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Bool,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Bool,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Timestamptz>,
    BigInt,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
);

/// One account whole, with its hashes.
pub async fn find_login(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<Option<Login>> {
    let statement = Sql::<LoginRow>::new("select ")
        .push(LOGIN)
        .push(" from accounts a where a.user_id = ")
        .bind(user_id);
    statement.get_result(conn).await.optional()
}

/// How many ways to log in the user has, a password not counted.
pub async fn count_credentials(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<i64> {
    let statement = Sql::<BigInt>::new(
        "select num_nonnulls(a.username_key, a.email_key, a.phone, u.openid, u.unionid) \
         + (select count(*) from connections c where c.user_id = ",
    );
    let statement = statement
        .bind(user_id)
        .push(") from users u join accounts a on a.user_id = u.user_id where u.user_id = ");
    statement.bind(user_id).get_result(conn).await
}

/// An account whose user is locked.
#[derive(Queryable)]
pub struct Locked {
    pub login: Login,
    /// The profile's, for what is sent to the user.
    pub language: Option<String>,
}

/// One account whole. The user's row is locked, as every write of a user does first, and the
/// account's too: a row that is not would be as it was before the wait for the other.
pub async fn lock(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<Option<Locked>> {
    Sql::<(LoginRow, Nullable<Text>)>::new("select ")
        .push(LOGIN)
        .push(
            ", u.language from users u join accounts a on a.user_id = u.user_id where u.user_id = ",
        )
        .bind(user_id)
        .push(" for update")
        .get_result(conn)
        .await
        .optional()
}

/// An address as it will be bound.
#[derive(Clone, Debug)]
pub struct Address {
    pub folded: Normalized,
    pub verified: bool,
    /// When its user bound it without the proof of an older factor.
    pub bound_at: Option<DateTime<Utc>>,
    /// When it was set.
    pub set_at: Option<DateTime<Utc>>,
}

/// New values of an account; absent ones stay, `Some(None)` clears.
#[derive(Clone, Default)]
pub struct Changes {
    pub username: Option<Option<Normalized>>,
    pub email: Option<Option<Address>>,
    pub phone: Option<Option<Address>>,
    pub last_login_at: Option<Option<DateTime<Utc>>>,
    pub password_hash: Option<String>,
    /// When the password was set without the proof of an older factor.
    pub password_unproven_at: Option<Option<DateTime<Utc>>>,
    pub wallet_password_hash: Option<String>,
    /// Signed tokens from before this second count no more, but for the one whose hash is kept.
    pub revoked: Option<(DateTime<Utc>, Option<Vec<u8>>)>,
}

/// An account as it was written.
#[derive(Queryable)]
pub struct Written {
    pub login: Login,
    /// Whether there is anything to list.
    pub has_connections: bool,
}

/// Writes an account; its version counts one up.
pub async fn update(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    changes: Changes,
) -> QueryResult<Written> {
    let mut statement =
        Sql::<(LoginRow, Bool)>::new("update accounts a set version = a.version + 1");
    if let Some(username) = changes.username {
        let (shown, key) = username.map(|folded| (folded.shown, folded.key)).unzip();
        statement = statement
            .push(", username = ")
            .bind(shown)
            .push(", username_key = ")
            .bind(key.clone());
        statement = statement.push(", skeleton_of = ").bind(key);
    }
    if let Some(email) = changes.email {
        let verified = email.as_ref().is_some_and(|email| email.verified);
        let bound_at = email.as_ref().and_then(|email| email.bound_at);
        let set_at = email.as_ref().and_then(|email| email.set_at);
        let (shown, key) = email
            .map(|email| (email.folded.shown, email.folded.key))
            .unzip();
        statement = statement
            .push(", email = ")
            .bind(shown)
            .push(", email_key = ")
            .bind(key);
        statement = statement
            .push(", email_verified = ")
            .bind(verified)
            .push(", email_bound_at = ")
            .bind(bound_at);
        statement = statement.push(", email_set_at = ").bind(set_at);
    }
    if let Some(phone) = changes.phone {
        let verified = phone.as_ref().is_some_and(|phone| phone.verified);
        let bound_at = phone.as_ref().and_then(|phone| phone.bound_at);
        let set_at = phone.as_ref().and_then(|phone| phone.set_at);
        statement = statement
            .push(", phone = ")
            .bind(phone.map(|phone| phone.folded.key));
        statement = statement
            .push(", phone_verified = ")
            .bind(verified)
            .push(", phone_bound_at = ")
            .bind(bound_at);
        statement = statement.push(", phone_set_at = ").bind(set_at);
    }
    if let Some(last_login_at) = changes.last_login_at {
        statement = statement.push(", last_login_at = ").bind(last_login_at);
    }
    if let Some(hash) = changes.password_hash {
        statement = statement.push(", password_hash = ").bind(hash);
    }
    if let Some(at) = changes.password_unproven_at {
        statement = statement.push(", password_unproven_at = ").bind(at);
    }
    if let Some(hash) = changes.wallet_password_hash {
        statement = statement.push(", wallet_password_hash = ").bind(hash);
    }
    if let Some((at, kept)) = changes.revoked {
        statement = statement
            .push(", password_changed_at = ")
            .bind(at)
            .push(", kept_token_hash = ")
            .bind(kept);
    }
    let statement = statement
        .push(" where a.user_id = ")
        .bind(user_id)
        .push(" returning ")
        .push(LOGIN);
    let statement = statement
        .push(", exists (select from connections c where c.user_id = ")
        .bind(user_id);
    statement.push(")").get_result(conn).await
}

/// Puts a hash with newer parameters in the place of one for the same password: no change of the
/// account.
pub async fn renew_hash(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    kind: Kind,
    old: &str,
    new: &str,
) -> QueryResult<usize> {
    let (set, and) = match kind {
        Kind::Login => (
            "update accounts set password_hash = ",
            " and password_hash = ",
        ),
        Kind::Wallet => (
            "update accounts set wallet_password_hash = ",
            " and wallet_password_hash = ",
        ),
    };
    Sql::<()>::new(set)
        .bind(new)
        .push(" where user_id = ")
        .bind(user_id)
        .push(and)
        .bind(old)
        .execute(conn)
        .await
}

/// Up to `limit` users whose look-alikes are not reserved by the username that they have.
pub async fn find_without_skeletons(
    conn: &mut AsyncPgConnection,
    limit: i64,
) -> QueryResult<Vec<i64>> {
    let statement = Sql::<BigInt>::new(
        "select user_id from accounts where skeleton_of is distinct from username_key limit ",
    );
    statement.bind(limit).load(conn).await
}

/// Notes the username whose look-alikes are reserved: no change of the account.
pub async fn set_skeleton_of(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    username_key: Option<String>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update accounts set skeleton_of = ").bind(username_key);
    statement
        .push(" where user_id = ")
        .bind(user_id)
        .execute(conn)
        .await
}

/// Links a third-party login.
pub async fn insert_connection(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    provider: &str,
    subject: &str,
    display_name: &str,
    now: DateTime<Utc>,
) -> QueryResult<i64> {
    Sql::<BigInt>::new(
        "insert into connections (user_id, provider, subject, display_name, linked_at) values (",
    )
    .bind(user_id)
    .push(", ")
    .bind(provider)
    .push(", ")
    .bind(subject)
    .push(", ")
    .bind(display_name)
    .push(", ")
    .bind(now)
    .push(") returning connection_id")
    .get_result(conn)
    .await
}

/// Unlinks a third-party login.
pub async fn delete_connection(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    connection_id: i64,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("delete from connections where user_id = ").bind(user_id);
    statement
        .push(" and connection_id = ")
        .bind(connection_id)
        .execute(conn)
        .await
}

/// When a user's tokens were revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Queryable)]
pub struct Revocation {
    /// The password was changed then, which revokes the signed tokens issued before that second…
    pub password_changed_at: Option<DateTime<Utc>>,
    /// … but for the one of this hash, which changed it.
    pub kept_token_hash: Option<Vec<u8>>,
    /// Signed tokens issued before are revoked, without an exception.
    pub revoked_before: Option<DateTime<Utc>>,
}

/// When a user's tokens were revoked; `None` where there is no such user.
pub async fn find_revocation(
    conn: &mut AsyncPgConnection,
    user_id: i64,
) -> QueryResult<Option<Revocation>> {
    let statement = Sql::<(
        Nullable<Timestamptz>,
        Nullable<Bytea>,
        Nullable<Timestamptz>,
    )>::new(
        "select password_changed_at, kept_token_hash, tokens_revoked_before from accounts where user_id = ",
    );
    statement.bind(user_id).get_result(conn).await.optional()
}

/// Revokes the signed tokens of a user that were issued before a time; a later one stays. No change
/// of the account.
pub async fn revoke_signed_tokens(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    before: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new(
        "update accounts set tokens_revoked_before = greatest(tokens_revoked_before, ",
    );
    statement
        .bind(before)
        .push(") where user_id = ")
        .bind(user_id)
        .execute(conn)
        .await
}
