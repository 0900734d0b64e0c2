//! Tables `accounts` and `connections`: how a user logs in.

use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Bool, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    model::account::{Account, Connection},
    store::sql::Sql,
};

type Row =
    (BigInt, Nullable<Text>, Nullable<Text>, Bool, Nullable<Text>, Bool, Bool, Bool, Nullable<Timestamptz>, BigInt);

const COLUMNS: &str = "a.user_id, a.username, a.email, a.email_verified, a.phone, a.phone_verified, \
    a.password_hash is not null, a.wallet_password_hash is not null, a.last_login_at, a.version";

/// The accounts of these users, in no order.
pub async fn list(conn: &mut AsyncPgConnection, user_ids: Vec<i64>) -> QueryResult<Vec<Account>> {
    let statement =
        Sql::<Row>::new("select ").push(COLUMNS).push(" from accounts a where a.user_id = any(").bind(user_ids);
    statement.push(")").load(conn).await
}

/// One account.
pub async fn find(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<Option<Account>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS).push(" from accounts a where a.user_id = ").bind(user_id);
    statement.get_result(conn).await.optional()
}

/// The connections of these users, oldest first.
pub async fn list_connections(conn: &mut AsyncPgConnection, user_ids: Vec<i64>) -> QueryResult<Vec<Connection>> {
    let statement = Sql::<(BigInt, BigInt, Text, Text, Text, Timestamptz)>::new(
        "select connection_id, user_id, provider, subject, display_name, linked_at from connections where user_id = any(",
    );
    statement.bind(user_ids).push(") order by connection_id").load(conn).await
}
