//! Table `users`: the profiles.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::{Array, BigInt, Bool, Jsonb, Nullable, SmallInt, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::{
    model::{
        filter::Filter,
        order::{Key, OrderKey},
        profile::{BuiltinPatch, Profile},
    },
    store::{
        filter::{self, Narrow},
        sql::Sql,
    },
};

/// The SQL types of [`COLUMNS`].
type Row = (
    BigInt,
    Nullable<Text>,
    Nullable<Text>,
    SmallInt,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Bool,
    Array<BigInt>,
    Jsonb,
    Timestamptz,
    Timestamptz,
    BigInt,
);

const COLUMNS: &str = "u.user_id, u.nickname, u.avatar_url, u.gender, u.country, u.province, u.city, u.language, \
    u.openid, u.unionid, u.is_authorized, u.group_ids, u.custom_fields, u.created_at, u.updated_at, u.version";

/// One profile.
pub async fn find(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<Option<Profile>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS).push(" from users u where u.user_id = ").bind(user_id);
    statement.get_result(conn).await.optional()
}

/// The version of a profile, by which its etag is made; `None` where there is no such user.
pub async fn find_version(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<Option<i64>> {
    let statement = Sql::<BigInt>::new("select version from users where user_id = ").bind(user_id);
    statement.get_result(conn).await.optional()
}

/// Locks the user's row, as every write of a user does first.
pub async fn lock(conn: &mut AsyncPgConnection, user_id: i64) -> QueryResult<Option<Profile>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from users u where u.user_id = ")
        .bind(user_id)
        .push(" for update");
    statement.get_result(conn).await.optional()
}

/// What became of an update.
pub enum Updated {
    Done(Box<Profile>),
    /// No row has this id and version.
    Unmatched,
    /// A change of the document cannot be done, as `REASON:field`.
    Refused(String),
}

/// Changes the named columns and the document in one UPDATE; the version is compared inside it.
pub async fn update(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    patch: &BuiltinPatch,
    changes: &Value,
    version: Option<i64>,
    now: DateTime<Utc>,
) -> QueryResult<Updated> {
    let BuiltinPatch {
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
    } = patch;
    let mut statement = Sql::<Row>::new("update users u set version = u.version + 1, updated_at = ").bind(now);
    let texts = [
        (", nickname = ", nickname),
        (", avatar_url = ", avatar_url),
        (", country = ", country),
        (", province = ", province),
        (", city = ", city),
        (", language = ", language),
        (", openid = ", openid),
        (", unionid = ", unionid),
    ];
    for (set, value) in texts {
        if let Some(value) = value {
            statement = statement.push(set).bind(value.clone());
        }
    }
    if let Some(gender) = gender {
        statement = statement.push(", gender = ").bind(*gender);
    }
    if let Some(flag) = is_authorized {
        statement = statement.push(", is_authorized = ").bind(*flag);
    }
    if let Some(groups) = group_ids {
        statement = statement.push(", group_ids = ").bind(groups.clone());
    }
    if changes.as_array().is_some_and(|changes| !changes.is_empty()) {
        statement =
            statement.push(", custom_fields = change_document(u.custom_fields, ").bind(changes.clone()).push(")");
    }
    statement = statement.push(" where u.user_id = ").bind(user_id);
    if let Some(version) = version {
        statement = statement.push(" and u.version = ").bind(version);
    }
    match statement.push(" returning ").push(COLUMNS).get_result::<Profile>(conn).await.optional() {
        Ok(Some(profile)) => Ok(Updated::Done(Box::new(profile))),
        Ok(None) => Ok(Updated::Unmatched),
        Err(DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, information))
            if information.constraint_name() == Some("users_custom_fields_object") =>
        {
            Ok(Updated::Refused(String::new()))
        }
        Err(error) => Err(error),
    }
}

/// Why a change of the document cannot be done, as `REASON:field`; `None` where it can.
pub async fn find_refusal(conn: &mut AsyncPgConnection, user_id: i64, changes: &Value) -> QueryResult<Option<String>> {
    let statement = Sql::<Nullable<Text>>::new("select n.made #>> '{}' from (select change_document(custom_fields, ")
        .bind(changes.clone())
        .push(") as made from users where user_id = ")
        .bind(user_id)
        .push(") n where jsonb_typeof(n.made) = 'string'");
    Ok(statement.get_result::<Option<String>>(conn).await.optional()?.flatten())
}

/// What is listed.
pub struct Selection {
    pub filter: Filter,
    pub order: Vec<OrderKey>,
    /// Values of the last row of the page before.
    pub after: Option<Vec<Value>>,
    pub skip: i64,
    pub limit: i64,
}

/// The profiles of a page, in order.
pub async fn list(conn: &mut AsyncPgConnection, selection: &Selection) -> QueryResult<Vec<Profile>> {
    let Selection { filter, order, after, skip, limit } = selection;
    // By the index of a value, whose rows come in the order of time: the first page of a rare value and of a common
    // one are both there at once.
    let driver = filter::index_value(filter).filter(|_| is_by_time(order));
    let by = if driver.is_some() { "d" } else { "u" };
    let mut statement = Sql::<Row>::new("select ").push(COLUMNS);
    statement = match driver {
        Some((field_id, value)) => statement
            .push(" from field_values d join users u on u.user_id = d.user_id where d.field_id = ")
            .bind(field_id)
            .push(" and d.value = ")
            .bind(value)
            .push(" and ")
            .append(filter::predicate(filter, Narrow::No)),
        None => statement.push(" from users u where ").append(filter::predicate(filter, Narrow::ByIndex)),
    };
    if let Some(after) = after {
        statement = statement.push(" and ").append(beyond(order, after, by));
    }
    statement = statement.push(" order by ");
    for (index, OrderKey { key, descending }) in order.iter().enumerate() {
        let direction = match (is_never_null(key), descending) {
            (true, false) => "",
            (true, true) => " desc",
            (false, false) => " nulls last",
            (false, true) => " desc nulls last",
        };
        statement = statement.push(if index == 0 { "" } else { ", " }).append(expression(key, by)).push(direction);
    }
    statement = statement.push(" limit ").bind(*limit);
    if *skip > 0 {
        statement = statement.push(" offset ").bind(*skip);
    }
    // Filters have very many forms; only the simplest are worth keeping prepared.
    if filter.required().len() > 1 || !matches!(filter, Filter::All(_) | Filter::Is(..)) {
        statement = statement.one_off();
    }
    statement.load(conn).await
}

/// Whether the order is that of `created_at`, as the index of a value has it.
fn is_by_time(order: &[OrderKey]) -> bool {
    let keys: Vec<&Key> = order.iter().map(|order| &order.key).collect();
    keys == [&Key::CreatedAt, &Key::UserId] && order[0].descending == order[1].descending
}

/// How many profiles match.
pub async fn count(conn: &mut AsyncPgConnection, filter: &Filter) -> QueryResult<i64> {
    let statement = Sql::<BigInt>::new("select count(*) from users u where ");
    statement.append(filter::predicate(filter, Narrow::ByIndex)).one_off().get_result(conn).await
}

/// The values of a row by which a page token finds its place again.
pub fn place(keys: &[OrderKey], profile: &Profile) -> Vec<Value> {
    let time = |time: DateTime<Utc>| Value::from(time.timestamp_micros());
    keys.iter()
        .map(|OrderKey { key, .. }| match key {
            Key::UserId => Value::from(profile.user_id),
            Key::Nickname => Value::from(profile.nickname.clone()),
            Key::AvatarUrl => Value::from(profile.avatar_url.clone()),
            Key::Openid => Value::from(profile.openid.clone()),
            Key::Unionid => Value::from(profile.unionid.clone()),
            Key::IsAuthorized => Value::from(profile.is_authorized),
            Key::CreatedAt => time(profile.created_at),
            Key::UpdatedAt => time(profile.updated_at),
            Key::Custom(field) => profile.custom_fields.get(&field.name).cloned().unwrap_or_default(),
        })
        .collect()
}

fn is_never_null(key: &Key) -> bool {
    matches!(key, Key::UserId | Key::IsAuthorized | Key::CreatedAt | Key::UpdatedAt)
}

/// The SQL of a key; `by` is the table whose index gives the order.
fn expression(key: &Key, by: &'static str) -> Sql {
    match key {
        Key::UserId => Sql::new(by).push(".user_id"),
        Key::Nickname => Sql::new("u.nickname"),
        Key::AvatarUrl => Sql::new("u.avatar_url"),
        Key::Openid => Sql::new("u.openid"),
        Key::Unionid => Sql::new("u.unionid"),
        Key::IsAuthorized => Sql::new("u.is_authorized"),
        Key::CreatedAt => Sql::new(by).push(".created_at"),
        Key::UpdatedAt => Sql::new("u.updated_at"),
        Key::Custom(field) => {
            let text = Sql::new("(u.custom_fields ->> ").bind(field.name.as_str()).push(")");
            match field.field_type.names().0 {
                "integer" | "number" => text.push("::numeric"),
                "boolean" => text.push("::boolean"),
                _ => text.push(" collate \"C\""),
            }
        }
    }
}

/// A value of a page token as its key compares it.
fn operand(key: &Key, value: &Value) -> Sql {
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let time = || DateTime::from_timestamp_micros(value.as_i64().unwrap_or_default()).unwrap_or_default();
    match key {
        Key::UserId => Sql::default().bind(value.as_i64().unwrap_or_default()),
        Key::CreatedAt | Key::UpdatedAt => Sql::default().bind(time()),
        Key::IsAuthorized => Sql::default().bind(value.as_bool().unwrap_or_default()),
        Key::Nickname | Key::AvatarUrl | Key::Openid | Key::Unionid => Sql::default().bind(text()),
        Key::Custom(field) => match field.field_type.names().0 {
            "integer" | "number" => Sql::default().bind(text()).push("::text::numeric"),
            "boolean" => Sql::default().bind(value.as_bool().unwrap_or_default()),
            _ => Sql::default().bind(text()),
        },
    }
}

/// The rows beyond a place. Where no key can be null and all go one way it is one comparison of rows, which an index
/// serves; else it is written out key by key.
fn beyond(keys: &[OrderKey], after: &[Value], by: &'static str) -> Sql {
    let descending = keys[0].descending;
    if keys.iter().all(|key| is_never_null(&key.key) && key.descending == descending) {
        let mut sides = [Sql::new("("), Sql::new("(")];
        for (index, (key, value)) in keys.iter().zip(after).enumerate() {
            let [left, right] = sides;
            let comma = if index == 0 { "" } else { ", " };
            sides =
                [left.push(comma).append(expression(&key.key, by)), right.push(comma).append(operand(&key.key, value))];
        }
        let [left, right] = sides;
        return left.push(if descending { ") < " } else { ") > " }).append(right).push(")");
    }
    let mut whole = Sql::new("(false");
    for last in 0..keys.len() {
        if after[last].is_null() {
            continue; // nothing is beyond null
        }
        whole = whole.push(" or (");
        for (key, value) in keys.iter().zip(after).take(last) {
            whole = match value.is_null() {
                true => whole.append(expression(&key.key, by)).push(" is null and "),
                false => {
                    whole.append(expression(&key.key, by)).push(" = ").append(operand(&key.key, value)).push(" and ")
                }
            };
        }
        let OrderKey { key, descending } = &keys[last];
        whole = whole
            .push("(")
            .append(expression(key, by))
            .push(if *descending { " < " } else { " > " })
            .append(operand(key, &after[last]));
        if !is_never_null(key) {
            whole = whole.push(" or ").append(expression(key, by)).push(" is null");
        }
        whole = whole.push("))");
    }
    whole.push(")")
}
