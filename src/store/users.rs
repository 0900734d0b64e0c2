//! Making and erasing a user over all of its tables.

use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Bool},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    model::{account::Folded, profile::Profile},
    store::sql::Sql,
};

/// The account of a user who is made.
#[derive(Clone, Debug, Default)]
pub struct NewAccount {
    pub username: Option<Folded>,
    pub email: Option<Folded>,
    pub email_verified: bool,
    pub phone: Option<Folded>,
    pub phone_verified: bool,
    pub last_login_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Draws the next id.
pub async fn next_id(conn: &mut AsyncPgConnection) -> QueryResult<i64> {
    Sql::<BigInt>::new("select nextval(pg_get_serial_sequence('users', 'user_id'))").get_result(conn).await
}

/// Whether the id is or was in use.
pub async fn is_used(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<bool> {
    Sql::<Bool>::new("select exists (select 1 from users where user_id = ")
        .bind(user_id)
        .push(") or exists (select 1 from deleted_users where user_id = ")
        .bind(user_id)
        .push(")")
        .get_result(conn)
        .await
}

/// Moves the sequence past an explicit id.
pub async fn pass(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<usize> {
    Sql::<()>::new("select setval('users_user_id_seq', ")
        .bind(user_id)
        .push(") from users_user_id_seq where last_value < ")
        .bind(user_id)
        .execute(conn)
        .await
}

/// Makes the profile's row; false where the id is in use.
pub async fn insert_profile(conn: &mut AsyncPgConnection, new: &Profile) -> QueryResult<bool> {
    let made = Sql::<BigInt>::new(
        "insert into users (user_id, nickname, avatar_url, gender, country, province, city, language, openid, unionid, \
         is_authorized, group_ids, custom_fields, created_at, updated_at, version) values (",
    )
    .bind(new.user_id)
    .push(", ")
    .bind(new.nickname.clone())
    .push(", ")
    .bind(new.avatar_url.clone())
    .push(", ")
    .bind(new.gender)
    .push(", ")
    .bind(new.country.clone())
    .push(", ")
    .bind(new.province.clone())
    .push(", ")
    .bind(new.city.clone())
    .push(", ")
    .bind(new.language.clone())
    .push(", ")
    .bind(new.openid.clone())
    .push(", ")
    .bind(new.unionid.clone())
    .push(", ")
    .bind(new.is_authorized)
    .push(", ")
    .bind(new.group_ids.clone())
    .push(", ")
    .bind(new.custom_fields.clone())
    .push(", ")
    .bind(new.created_at)
    .push(", ")
    .bind(new.updated_at)
    .push(", ")
    .bind(new.version)
    .push(") on conflict do nothing returning user_id");
    Ok(made.get_result::<i64>(conn).await.optional()?.is_some())
}

/// Makes the account's row.
pub async fn insert_account(conn: &mut AsyncPgConnection, user_id: i64, new: &NewAccount) -> QueryResult<usize> {
    let shown = |folded: &Option<Folded>| folded.as_ref().map(|folded| folded.shown.clone());
    let key = |folded: &Option<Folded>| folded.as_ref().map(|folded| folded.key.clone());
    Sql::<()>::new(
        "insert into accounts (user_id, username, username_key, email, email_key, email_verified, phone, \
         phone_verified, last_login_at) values (",
    )
    .bind(user_id)
    .push(", ")
    .bind(shown(&new.username))
    .push(", ")
    .bind(key(&new.username))
    .push(", ")
    .bind(shown(&new.email))
    .push(", ")
    .bind(key(&new.email))
    .push(", ")
    .bind(new.email_verified)
    .push(", ")
    .bind(shown(&new.phone))
    .push(", ")
    .bind(new.phone_verified)
    .push(", ")
    .bind(new.last_login_at)
    .push(")")
    .execute(conn)
    .await
}

/// Erases the user and all that belongs to it, and keeps the number alone; false where there is none. The row goes
/// first: that is the lock on which every other write of the user waits.
pub async fn delete(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<bool> {
    if Sql::<()>::new("delete from users where user_id = ").bind(user_id).execute(conn).await? == 0 {
        return Ok(false);
    }
    const OWNED: &[&str] = &[
        "delete from accounts where user_id = ",
        "delete from connections where user_id = ",
        "delete from unique_values where user_id = ",
        "delete from field_values where user_id = ",
        "delete from tokens where user_id = ",
        "delete from codes where user_id = ",
        "delete from outbox where user_id = ",
        "delete from idempotency where user_id = ",
    ];
    for statement in OWNED {
        Sql::<()>::new(statement).bind(user_id).execute(conn).await?;
    }
    Sql::<()>::new("insert into deleted_users (user_id) values (")
        .bind(user_id)
        .push(") on conflict do nothing")
        .execute(conn)
        .await?;
    Ok(true)
}

/// Takes back a profile that was made in this transaction, with what was claimed for it.
pub async fn undo_insert(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<()> {
    for statement in ["delete from users where user_id = ", "delete from unique_values where user_id = "] {
        Sql::<()>::new(statement).bind(user_id).execute(conn).await?;
    }
    Ok(())
}
