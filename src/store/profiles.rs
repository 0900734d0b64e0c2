//! Table `users`: the profiles.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    result::Error as DieselError,
    sql_types::{Array, BigInt, Bool, Jsonb, Nullable, SmallInt, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value};

use crate::{
    model::{
        profile::{BuiltinPatch, GroupChange, Profile},
        update::{Change, Op},
    },
    store::{error::Class, sql::Sql},
};

/// The SQL types of [`COLUMNS`].
pub(super) type Row = (
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

pub(super) const COLUMNS: &str = "u.user_id, u.nickname, u.avatar_url, u.gender, u.country, u.province, u.city, u.language, \
    u.openid, u.unionid, u.is_authorized, u.group_ids, u.custom_fields, u.created_at, u.updated_at, u.version";

/// [`COLUMNS`] with an empty document, for callers that don't read custom fields: Postgres then
/// never de-TOASTs `custom_fields`.
pub(super) const COLUMNS_WITHOUT_DOCUMENT: &str = "u.user_id, u.nickname, u.avatar_url, u.gender, u.country, u.province, \
    u.city, u.language, u.openid, u.unionid, u.is_authorized, u.group_ids, '{}'::jsonb, u.created_at, u.updated_at, \
    u.version";

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
    /// A change of the document cannot be done; [`find_refusal`] tells why.
    Rejected,
    /// The user would have more groups than are allowed.
    TooManyGroups,
}

/// Why an UPDATE of profiles can't be done: the functions that make the new values never raise, but
/// return what the column rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The new document is not an object.
    Document,
    /// The new list of groups is null.
    Groups,
}

impl Rejected {
    /// Why an UPDATE of profiles was rejected, if it was. `users` has one check, and of its columns
    /// that need a value only the groups are ever set to null.
    pub fn of(error: &DieselError) -> Option<Self> {
        match Class::of(error) {
            Class::Check => Some(Rejected::Document),
            Class::NotNull => Some(Rejected::Groups),
            _ => None,
        }
    }
}

/// The list of groups after a change, or null where it would be too long.
pub fn changed_groups(change: &GroupChange) -> Sql {
    Sql::new("change_groups(u.group_ids, ")
        .bind(change.add.clone())
        .push(", ")
        .bind(change.remove.clone())
        .push(")")
}

/// Changes the named columns, the groups and the document in one UPDATE; the version is compared
/// inside it.
pub async fn update(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    patch: &BuiltinPatch,
    group_change: &GroupChange,
    changes: &[Change],
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
    let mut statement =
        Sql::<Row>::new("update users u set version = u.version + 1, updated_at = ").bind(now);
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
    if !group_change.is_empty() {
        statement = statement
            .push(", group_ids = ")
            .append(changed_groups(group_change));
    }
    if !changes.is_empty() {
        statement = statement
            .push(", custom_fields = ")
            .append(changed(changes));
    }
    statement = statement.push(" where u.user_id = ").bind(user_id);
    if let Some(version) = version {
        statement = statement.push(" and u.version = ").bind(version);
    }
    match statement
        .push(" returning ")
        .push(COLUMNS)
        .get_result::<Profile>(conn)
        .await
        .optional()
    {
        Ok(Some(profile)) => Ok(Updated::Done(Box::new(profile))),
        Ok(None) => Ok(Updated::Unmatched),
        Err(error) => match Rejected::of(&error) {
            Some(Rejected::Document) => Ok(Updated::Rejected),
            Some(Rejected::Groups) => Ok(Updated::TooManyGroups),
            None => Err(error),
        },
    }
}

/// The document after the changes, or an error as a JSON string. The most usual ones are part of
/// the statement itself; to go through a list of any others costs more than they do.
fn changed(changes: &[Change]) -> Sql {
    if let [
        Change {
            op: Op::IncrBy(operand),
            path,
            field,
        },
    ] = changes
        && let [name] = path.as_slice()
    {
        return Sql::new("limited(add_number(u.custom_fields, ")
            .bind(name.as_str())
            .push(", ")
            .bind(operand.clone())
            .push(", ")
            .bind(field.field_type.names().0)
            .push("))");
    }
    let mut set = Map::new();
    let mut unset = Vec::new();
    for Change { field, op, .. } in changes {
        match op {
            Op::Set(value) => {
                set.insert(field.name.clone(), value.clone());
            }
            Op::Unset => unset.push(field.name.clone()),
            _ => {
                let list =
                    Sql::new("change_document(u.custom_fields, ").bind(Change::list(changes));
                return list.push(")");
            }
        }
    }
    Sql::new("limited((u.custom_fields || ")
        .bind(Value::Object(set))
        .push(") - ")
        .bind(unset)
        .push(")")
}

/// Why a change of the document cannot be done, as `REASON:field`; `None` where it can.
pub async fn find_refusal(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    changes: &[Change],
) -> QueryResult<Option<String>> {
    let statement = Sql::<Nullable<Text>>::new(
        "select n.made #>> '{}' from (select change_document(custom_fields, ",
    )
    .bind(Change::list(changes))
    .push(") as made from users where user_id = ")
    .bind(user_id)
    .push(") n where jsonb_typeof(n.made) = 'string'");
    Ok(statement
        .get_result::<Option<String>>(conn)
        .await
        .optional()?
        .flatten())
}
