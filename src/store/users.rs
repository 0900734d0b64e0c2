//! Making and erasing a user over all of its tables.

use std::collections::HashSet;

use diesel::{OptionalExtension, QueryResult, sql_types::BigInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    model::{account::Normalized, profile::Profile, token::Revoked, user::NewAccount},
    store::{
        sql::{Bind, Sql},
        tokens,
    },
};

/// Draws this many ids that no user has or had, and that are not set aside for others.
pub(crate) async fn draw_ids(
    conn: &mut AsyncPgConnection,
    count: usize,
    kept: &[i64],
) -> QueryResult<Vec<i64>> {
    let mut free = Vec::with_capacity(count);
    let mut spare = 0;
    while free.len() < count {
        let statement =
            Sql::<BigInt>::new("select nextval('users_user_id_seq') from generate_series(1, ");
        let drawn: Vec<i64> = statement
            .bind((count - free.len() + spare) as i64)
            .push(")")
            .load(conn)
            .await?;
        let used = find_used(conn, drawn.clone()).await?;
        free.extend(
            drawn
                .into_iter()
                .filter(|user_id| !used.contains(user_id) && !kept.contains(user_id)),
        );
        // Where one was not free, the next ones may be those that are kept.
        spare = kept.len();
    }
    free.truncate(count);
    Ok(free)
}

/// Of these ids, those that are or were in use.
pub(crate) async fn find_used(
    conn: &mut AsyncPgConnection,
    user_ids: Vec<i64>,
) -> QueryResult<HashSet<i64>> {
    if user_ids.is_empty() {
        return Ok(HashSet::new());
    }
    let statement =
        Sql::<BigInt>::new("select user_id from users where user_id = any(").bind(user_ids.clone());
    let statement = statement
        .push(") union all select user_id from deleted_users where user_id = any(")
        .bind(user_ids);
    Ok(statement
        .push(")")
        .load::<i64>(conn)
        .await?
        .into_iter()
        .collect())
}

/// Moves the sequence past an explicit id.
pub(crate) async fn advance_id_sequence(
    conn: &mut AsyncPgConnection,
    user_id: i64,
) -> QueryResult<usize> {
    Sql::<()>::new("select setval('users_user_id_seq', ")
        .bind(user_id)
        .push(") from users_user_id_seq where last_value < ")
        .bind(user_id)
        .execute(conn)
        .await
}

/// Makes the profiles' rows.
///
/// # Errors
/// A unique violation where others took an id meanwhile.
pub(crate) async fn insert_profiles<'a>(
    conn: &mut AsyncPgConnection,
    new: impl Iterator<Item = &'a Profile>,
) -> QueryResult<usize> {
    let new: Vec<&Profile> = new.collect();
    let texts = |column: fn(&Profile) -> &Option<String>| -> Vec<_> {
        new.iter().map(|profile| column(profile).clone()).collect()
    };
    // An array of arrays is a matrix to Postgres, so each user's groups go as the text of an array.
    let groups = |profile: &&Profile| {
        let ids: Vec<String> = profile.group_ids.iter().map(i64::to_string).collect();
        format!("{{{}}}", ids.join(","))
    };
    let statement = Sql::<()>::new(
        "insert into users (user_id, nickname, avatar_url, gender, country, province, city, language, openid, unionid, \
         is_authorized, group_ids, custom_fields, created_at, updated_at, version) ",
    );
    // One user at a time is the usual case, and costs a distributed Postgres a fraction of a list.
    if let [profile] = new.as_slice() {
        return statement.values([row(profile)]).execute(conn).await;
    }
    statement
        .push(
            "select user_id, nickname, avatar_url, gender, country, province, city, language, openid, unionid, \
         is_authorized, group_ids::bigint[], custom_fields, created_at, updated_at, version from unnest(",
        )
        .bind(new.iter().map(|profile| profile.user_id).collect::<Vec<_>>())
        .push(", ")
        .bind(texts(|profile| &profile.nickname))
        .push(", ")
        .bind(texts(|profile| &profile.avatar_url))
        .push(", ")
        .bind(new.iter().map(|profile| profile.gender).collect::<Vec<_>>())
        .push(", ")
        .bind(texts(|profile| &profile.country))
        .push(", ")
        .bind(texts(|profile| &profile.province))
        .push(", ")
        .bind(texts(|profile| &profile.city))
        .push(", ")
        .bind(texts(|profile| &profile.language))
        .push(", ")
        .bind(texts(|profile| &profile.openid))
        .push(", ")
        .bind(texts(|profile| &profile.unionid))
        .push(", ")
        .bind(new.iter().map(|profile| profile.is_authorized).collect::<Vec<_>>())
        .push(", ")
        .bind(new.iter().map(groups).collect::<Vec<_>>())
        .push(", ")
        .bind(new.iter().map(|profile| profile.custom_fields.clone()).collect::<Vec<_>>())
        .push(", ")
        .bind(new.iter().map(|profile| profile.created_at).collect::<Vec<_>>())
        .push(", ")
        .bind(new.iter().map(|profile| profile.updated_at).collect::<Vec<_>>())
        .push(", ")
        .bind(new.iter().map(|profile| profile.version).collect::<Vec<_>>())
        .push(
            ") as given (user_id, nickname, avatar_url, gender, country, province, city, language, openid, unionid, \
         is_authorized, group_ids, custom_fields, created_at, updated_at, version) order by user_id",
        )
        .execute(conn)
        .await
}

fn row(profile: &Profile) -> Vec<Bind> {
    let Profile {
        user_id,
        nickname,
        avatar_url,
        gender,
        country,
        province,
        city,
        language,
        openid,
        unionid,
        is_authorized,
        group_ids,
        custom_fields,
        created_at,
        updated_at,
        version,
    } = profile.clone();
    vec![
        user_id.into(),
        nickname.into(),
        avatar_url.into(),
        gender.into(),
        country.into(),
        province.into(),
        city.into(),
        language.into(),
        openid.into(),
        unionid.into(),
        is_authorized.into(),
        group_ids.into(),
        custom_fields.into(),
        created_at.into(),
        updated_at.into(),
        version.into(),
    ]
}

/// Makes the accounts' rows.
pub(crate) async fn insert_accounts(
    conn: &mut AsyncPgConnection,
    new: &[(i64, &NewAccount)],
) -> QueryResult<usize> {
    let texts = |column: fn(&NewAccount) -> Option<&String>| -> Vec<_> {
        new.iter()
            .map(|(_, account)| column(account).cloned())
            .collect()
    };
    let flags = |column: fn(&NewAccount) -> bool| -> Vec<_> {
        new.iter().map(|(_, account)| column(account)).collect()
    };
    let statement = Sql::<()>::new(
        "insert into accounts (user_id, username, username_key, email, email_key, email_verified, phone, \
         phone_verified, last_login_at, password_hash, wallet_password_hash, email_set_at, phone_set_at, skeleton_of) ",
    );
    if let [(user_id, account)] = new {
        return statement
            .values([account_row(*user_id, account)])
            .execute(conn)
            .await;
    }
    statement
        .push("select given.*, given.username_key from unnest(")
        .bind(new.iter().map(|(user_id, _)| *user_id).collect::<Vec<_>>())
        .push(", ")
        .bind(texts(|account| account.username.as_ref().map(|folded| &folded.shown)))
        .push(", ")
        .bind(texts(|account| account.username.as_ref().map(|folded| &folded.key)))
        .push(", ")
        .bind(texts(|account| account.email.as_ref().map(|folded| &folded.shown)))
        .push(", ")
        .bind(texts(|account| account.email.as_ref().map(|folded| &folded.key)))
        .push(", ")
        .bind(flags(|account| account.email_verified))
        .push(", ")
        .bind(texts(|account| account.phone.as_ref().map(|folded| &folded.shown)))
        .push(", ")
        .bind(flags(|account| account.phone_verified))
        .push(", ")
        .bind(new.iter().map(|(_, account)| account.last_login_at).collect::<Vec<_>>())
        .push(", ")
        .bind(texts(|account| account.password_hash.as_ref()))
        .push(", ")
        .bind(texts(|account| account.wallet_password_hash.as_ref()))
        .push(", ")
        .bind(new.iter().map(|(_, account)| account.set_at.filter(|_| account.email.is_some())).collect::<Vec<_>>())
        .push(", ")
        .bind(new.iter().map(|(_, account)| account.set_at.filter(|_| account.phone.is_some())).collect::<Vec<_>>())
        .push(
            ") as given (user_id, username, username_key, email, email_key, email_verified, phone, phone_verified, \
         last_login_at, password_hash, wallet_password_hash, email_set_at, phone_set_at)",
        )
        .execute(conn)
        .await
}

fn account_row(user_id: i64, account: &NewAccount) -> Vec<Bind> {
    let NewAccount {
        email_verified,
        phone_verified,
        set_at,
        last_login_at,
        ..
    } = account;
    let shown = |folded: &Option<Normalized>| {
        Bind::from(folded.as_ref().map(|folded| folded.shown.clone()))
    };
    let key =
        |folded: &Option<Normalized>| Bind::from(folded.as_ref().map(|folded| folded.key.clone()));
    vec![
        user_id.into(),
        shown(&account.username),
        key(&account.username),
        shown(&account.email),
        key(&account.email),
        (*email_verified).into(),
        shown(&account.phone),
        (*phone_verified).into(),
        (*last_login_at).into(),
        account.password_hash.clone().into(),
        account.wallet_password_hash.clone().into(),
        set_at.filter(|_| account.email.is_some()).into(),
        set_at.filter(|_| account.phone.is_some()).into(),
        key(&account.username),
    ]
}

/// Erases a user, whose row the caller has locked, with all of its data, and keeps only the id.
/// Notifies every replica that the user's tokens are revoked.
pub(crate) async fn delete(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<()> {
    const OWNED: &[&str] = &[
        "delete from users where user_id = ",
        "delete from accounts where user_id = ",
        "delete from connections where user_id = ",
        "delete from unique_values where user_id = ",
        "delete from reserved_values where user_id = ",
        "delete from field_values where user_id = ",
        "delete from tokens where user_id = ",
        "delete from codes where user_id = ",
        "delete from known_clients where user_id = ",
        "delete from outbox where user_id = ",
        "delete from idempotency where user_id = ",
    ];
    for statement in OWNED {
        Sql::<()>::new(statement)
            .bind(user_id)
            .execute(conn)
            .await?;
    }
    Sql::<()>::new("insert into deleted_users (user_id) values (")
        .bind(user_id)
        .push(") on conflict do nothing")
        .execute(conn)
        .await?;
    tokens::notify_revoked(conn, &[Revoked::User(user_id)]).await
}

/// Whether the id belonged to a deleted user.
pub(crate) async fn was_deleted(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<bool> {
    let statement =
        Sql::<BigInt>::new("select user_id from deleted_users where user_id = ").bind(user_id);
    let found: Option<i64> = statement.get_result(conn).await.optional()?;
    Ok(found.is_some())
}
