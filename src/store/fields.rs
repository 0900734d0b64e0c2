//! Tables `field_definitions` and `field_values`: the application's own fields and the index of
//! their values.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    result::Error as DieselError,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::{
    model::field::{Field, FieldType, Index},
    store::{
        error::Unreadable,
        sql::{FEW_ROWS, Sql},
    },
};

type Row = (
    BigInt,
    Text,
    Text,
    Nullable<Text>,
    Text,
    Nullable<Jsonb>,
    Bool,
    Bool,
    Text,
    Bool,
    Timestamptz,
    BigInt,
);
type Loaded = (
    i64,
    String,
    String,
    Option<String>,
    String,
    Option<Value>,
    bool,
    bool,
    String,
    bool,
    DateTime<Utc>,
    i64,
);

const COLUMNS: &str = "field_id, name, kind, item_kind, description, default_value, required, is_unique, \
    index_state, user_writable, created_at, version";

fn field(row: Loaded) -> QueryResult<Field> {
    let (
        field_id,
        name,
        kind,
        item,
        description,
        default_value,
        required,
        unique,
        index,
        user_writable,
        ..,
    ) = row;
    let (.., created_at, version) = row;
    Ok(Field {
        field_id,
        name,
        field_type: field_type(field_id, &kind, item.as_deref())?,
        description,
        default_value,
        required,
        unique,
        index: index_state(field_id, &index)?,
        user_writable,
        created_at,
        version,
    })
}

/// The type of a stored field.
///
/// # Errors
/// [`Unreadable`] for a type of a newer version.
pub(super) fn field_type(field_id: i64, kind: &str, item: Option<&str>) -> QueryResult<FieldType> {
    let what = || format!("the type {kind:?} of {item:?}");
    FieldType::from_names(kind, item).ok_or_else(|| unreadable(field_id, what()))
}

/// The state of a stored field's index.
///
/// # Errors
/// [`Unreadable`] for a state of a newer version.
pub(super) fn index_state(field_id: i64, state: &str) -> QueryResult<Index> {
    Index::parse(state).ok_or_else(|| unreadable(field_id, format!("the index state {state:?}")))
}

fn unreadable(field_id: i64, what: String) -> DieselError {
    Unreadable {
        row: format!("field_definitions {field_id}"),
        what,
    }
    .into()
}

/// All fields that are not deleted, oldest first.
pub async fn list(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Field>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS);
    let rows: Vec<Loaded> = statement
        .push(" from field_definitions where deleted_at is null order by field_id")
        .load(conn)
        .await?;
    rows.into_iter().map(field).collect()
}

/// Of these names, those of fields that are not deleted.
///
/// # Errors
/// The database's.
pub async fn find_named(conn: &mut AsyncPgConnection, names: &[&str]) -> QueryResult<Vec<String>> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let statement = Sql::<Text>::new(
        "select name from field_definitions where deleted_at is null and name = any(",
    );
    statement
        .bind(names)
        .push(") order by name")
        .load(conn)
        .await
}

/// Up to `limit` fields that are not deleted after the one of this id, oldest first, and the id of
/// the last where there are more.
pub async fn list_page(
    conn: &mut AsyncPgConnection,
    after: i64,
    limit: i64,
) -> QueryResult<(Vec<Field>, Option<i64>)> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS);
    let statement = statement
        .push(" from field_definitions where deleted_at is null and field_id > ")
        .bind(after);
    let mut rows: Vec<Loaded> = statement
        .push(" order by field_id limit ")
        .bind(limit + 1)
        .load(conn)
        .await?;
    let has_more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let last = rows.last().map(|row| row.0).filter(|_| has_more);
    Ok((
        rows.into_iter().map(field).collect::<QueryResult<_>>()?,
        last,
    ))
}

/// Whether there are fewer than `max` definitions, deleted ones included until their values are
/// erased, or the name is in use, which is another error.
pub async fn has_room(conn: &mut AsyncPgConnection, name: &str, max: i64) -> QueryResult<bool> {
    let statement = Sql::<Bool>::new("select count(*) < ")
        .bind(max)
        .push(" or bool_or(name = ")
        .bind(name);
    statement
        .push(") from field_definitions")
        .get_result(conn)
        .await
}

/// Locks the definitions as a whole until the transaction ends, for a change that is bounded by all
/// of them together. An advisory lock: a row that is being inserted cannot be locked.
pub async fn lock_all(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    Sql::<()>::new("select pg_advisory_xact_lock(")
        .bind(ALL_LOCK)
        .push(")")
        .execute(conn)
        .await
}

/// The lock of a field's backfill is this plus its id, and ids begin at 1.
pub const ALL_LOCK: i64 = 0x6669_656c_0000_0000;

/// Names of deleted fields whose values are still being erased.
pub async fn list_hidden(conn: &mut AsyncPgConnection) -> QueryResult<Vec<String>> {
    Sql::<Text>::new("select name from field_definitions where deleted_at is not null")
        .load(conn)
        .await
}

/// The field of that name, locked against other changes of it.
pub async fn lock(conn: &mut AsyncPgConnection, name: &str) -> QueryResult<Option<Field>> {
    let statement = Sql::<Row>::new("select ")
        .push(COLUMNS)
        .push(" from field_definitions where name = ")
        .bind(name);
    let found: Option<Loaded> = statement
        .push(" and deleted_at is null for update")
        .get_result(conn)
        .await
        .optional()?;
    found.map(field).transpose()
}

/// Writes a field's changeable parts, and its version. Where the state of its index changes, the
/// second step waits from now.
pub async fn update(
    conn: &mut AsyncPgConnection,
    new: &Field,
    index_changes: bool,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    let mut statement = Sql::<()>::new("update field_definitions set description = ")
        .bind(new.description.as_str())
        .push(", default_value = ")
        .bind(new.default_value.clone())
        .push(", required = ")
        .bind(new.required)
        .push(", is_unique = ")
        .bind(new.unique)
        .push(", user_writable = ")
        .bind(new.user_writable)
        .push(", version = ")
        .bind(new.version);
    if index_changes {
        statement = statement
            .push(", index_state = ")
            .bind(new.index.as_str())
            .push(", changed_at = ")
            .bind(now);
        statement = statement.push(", fill_from = null");
    }
    statement
        .push(" where field_id = ")
        .bind(new.field_id)
        .execute(conn)
        .await
}

/// Whether some stored text of a field, or of an array's items, is longer than an index takes.
pub async fn has_long_text(
    conn: &mut AsyncPgConnection,
    name: &str,
    max: i32,
) -> QueryResult<bool> {
    Sql::<Bool>::new(
        "select exists (select 1 from users u where case jsonb_typeof(u.custom_fields -> ",
    )
    .bind(name)
    .push(") when 'string' then char_length(u.custom_fields ->> ")
    .bind(name)
    .push(") > ")
    .bind(max)
    .push(" when 'array' then exists (select 1 from jsonb_array_elements_text(u.custom_fields -> ")
    .bind(name)
    .push(") e (item) where char_length(e.item) > ")
    .bind(max)
    .push(") else false end)")
    .get_result(conn)
    .await
}

/// Hides a field; its values are erased later.
pub async fn delete(
    conn: &mut AsyncPgConnection,
    field_id: i64,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update field_definitions set deleted_at = ")
        .bind(now)
        .push(", changed_at = ");
    statement
        .bind(now)
        .push(", fill_from = null where field_id = ")
        .bind(field_id)
        .execute(conn)
        .await
}

/// Creates a field; `None` where its name is taken. The index of a field without values is ready at
/// once.
pub async fn insert(conn: &mut AsyncPgConnection, new: &Field) -> QueryResult<Option<Field>> {
    let (kind, item) = new.field_type.names();
    let statement = Sql::<Row>::new(
        "insert into field_definitions (name, kind, item_kind, description, default_value, required, is_unique, \
         index_state, user_writable, created_at, changed_at) values (",
    )
    .bind(new.name.as_str())
    .push(", ")
    .bind(kind)
    .push(", ")
    .bind(item.map(str::to_owned))
    .push(", ")
    .bind(new.description.as_str())
    .push(", ")
    .bind(new.default_value.clone())
    .push(", ")
    .bind(new.required)
    .push(", ")
    .bind(new.unique)
    .push(", ")
    .bind(new.index.as_str())
    .push(", ")
    .bind(new.user_writable)
    .push(", ")
    .bind(new.created_at)
    .push(", ")
    .bind(new.created_at)
    .push(") on conflict (name) do nothing returning ")
    .push(COLUMNS);
    statement
        .get_result::<Loaded>(conn)
        .await
        .optional()?
        .map(field)
        .transpose()
}

/// Where replicas tell each other that definitions changed.
pub const CHANNEL: &str = "user_service_fields";

/// Tells the other replicas that definitions changed.
pub async fn notify(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    Sql::<()>::new("select pg_notify(")
        .bind(CHANNEL)
        .push(", '')")
        .execute(conn)
        .await
}

/// A row of the index: the value of a field, or an item of one, in bytes that sort as the value
/// does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    pub field_id: i64,
    pub value: Vec<u8>,
    /// The user's.
    pub created_at: DateTime<Utc>,
    pub user_id: i64,
}

/// Puts rows in place of those that the users have of these fields.
pub async fn replace_values(
    conn: &mut AsyncPgConnection,
    user_ids: Vec<i64>,
    field_ids: Vec<i64>,
    rows: Vec<IndexRow>,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("delete from field_values where user_id = any(").bind(user_ids);
    statement
        .push(") and field_id = any(")
        .bind(field_ids)
        .push(")")
        .execute(conn)
        .await?;
    insert_values(conn, rows).await
}

/// Adds rows to the index. Those that are there already stay.
pub async fn insert_values(
    conn: &mut AsyncPgConnection,
    rows: Vec<IndexRow>,
) -> QueryResult<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    let statement =
        Sql::<()>::new("insert into field_values (field_id, value, created_at, user_id) ");
    if rows.len() <= FEW_ROWS {
        let row = |row: IndexRow| {
            vec![
                row.field_id.into(),
                row.value.into(),
                row.created_at.into(),
                row.user_id.into(),
            ]
        };
        return statement
            .values(rows.into_iter().map(row))
            .push(" on conflict do nothing")
            .execute(conn)
            .await;
    }
    let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for IndexRow {
        field_id,
        value,
        created_at,
        user_id,
    } in rows
    {
        columns.0.push(field_id);
        columns.1.push(value);
        columns.2.push(created_at);
        columns.3.push(user_id);
    }
    statement
        .push("select * from unnest(")
        .bind(columns.0)
        .push(", ")
        .bind(columns.1)
        .push(", ")
        .bind(columns.2)
        .push(", ")
        .bind(columns.3)
        .push(") on conflict do nothing")
        .execute(conn)
        .await
}
