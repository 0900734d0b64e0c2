//! The second steps of field definitions: filling and emptying an index, erasing a deleted field.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::{
    model::field::{FieldType, Index},
    store::{
        fields::{self, ALL_LOCK},
        sql::Sql,
    },
};

/// A field that waits for its second step.
pub(crate) struct Work {
    pub field_id: i64,
    pub name: String,
    pub field_type: FieldType,
    pub index: Index,
    pub is_deleted: bool,
    /// The last user that the backfill has processed.
    pub position: Option<i64>,
}

type Loaded = (
    i64,
    String,
    String,
    Option<String>,
    String,
    bool,
    Option<i64>,
);

/// Takes one field whose first step is older than `before`, unless another replica is at it.
pub(crate) async fn take(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
) -> QueryResult<Option<Work>> {
    let statement = Sql::<(
        BigInt,
        Text,
        Text,
        Nullable<Text>,
        Text,
        Bool,
        Nullable<BigInt>,
    )>::new(
        "select field_id, name, kind, item_kind, index_state, deleted_at is not null, fill_from from field_definitions \
         where (deleted_at is not null or index_state in ('filling', 'leaving')) and changed_at <= ",
    );
    let found: Option<Loaded> = statement
        .bind(before)
        .push(" order by field_id limit 1 for update skip locked")
        .get_result(conn)
        .await
        .optional()?;
    let work = |(field_id, name, kind, item, index, is_deleted, position): Loaded| {
        Ok(Work {
            field_id,
            name,
            field_type: fields::field_type(field_id, &kind, item.as_deref())?,
            index: fields::index_state(field_id, &index)?,
            is_deleted,
            position,
        })
    };
    found.map(work).transpose()
}

/// Waits until no writer of the field is under way, and keeps new ones waiting until the
/// transaction ends.
pub(crate) async fn lock_fill(conn: &mut AsyncPgConnection, field_id: i64) -> QueryResult<usize> {
    Sql::<()>::new("select pg_advisory_xact_lock(")
        .bind(fill_lock(field_id))
        .push(")")
        .execute(conn)
        .await
}

/// A writer's side of [`lock_fill`]: many may hold it at once.
pub(crate) async fn join_fill(conn: &mut AsyncPgConnection, field_id: i64) -> QueryResult<usize> {
    Sql::<()>::new("select pg_advisory_xact_lock_shared(")
        .bind(fill_lock(field_id))
        .push(")")
        .execute(conn)
        .await
}

/// Locks of fields stand apart from those of request ids, which are 64 random bits, and of
/// migrations.
fn fill_lock(field_id: i64) -> i64 {
    ALL_LOCK + field_id
}

/// The next users after a position, each with its value of a field.
pub(crate) async fn read_values(
    conn: &mut AsyncPgConnection,
    name: &str,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<(i64, DateTime<Utc>, Option<Value>)>> {
    Sql::<(BigInt, Timestamptz, Nullable<Jsonb>)>::new(
        "select user_id, created_at, custom_fields -> ",
    )
    .bind(name)
    .push(" from users where user_id > ")
    .bind(after.unwrap_or(i64::MIN))
    .push(" order by user_id limit ")
    .bind(limit)
    .load(conn)
    .await
}

/// Removes a field's values from the documents of the next users; gives the last of them. Neither
/// version nor time of the profiles changes.
pub(crate) async fn erase_values(
    conn: &mut AsyncPgConnection,
    name: &str,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Option<i64>> {
    let user_ids: Vec<i64> = Sql::<BigInt>::new("select user_id from users where user_id > ")
        .bind(after.unwrap_or(i64::MIN))
        .push(" order by user_id limit ")
        .bind(limit)
        .load(conn)
        .await?;
    let last = user_ids.last().copied();
    Sql::<()>::new("update users set custom_fields = custom_fields - ")
        .bind(name)
        .push(" where user_id = any(")
        .bind(user_ids)
        .push(") and custom_fields ? ")
        .bind(name)
        .execute(conn)
        .await?;
    Ok(last)
}

/// Deletes some rows of a field's index; 0 when none is left.
pub(crate) async fn empty_index(
    conn: &mut AsyncPgConnection,
    field_id: i64,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from field_values where (field_id, value, created_at, user_id) in \
         (select field_id, value, created_at, user_id from field_values where field_id = ",
    )
    .bind(field_id)
    .push(" limit ")
    .bind(limit)
    .push(")")
    .execute(conn)
    .await
}

/// Frees some values of a unique field; 0 when none is left.
pub(crate) async fn empty_unique(
    conn: &mut AsyncPgConnection,
    kind: &str,
    limit: i64,
) -> QueryResult<usize> {
    Sql::<()>::new(
        "delete from unique_values where (kind, value) in (select kind, value from unique_values where kind = ",
    )
    .bind(kind)
    .push(" limit ")
    .bind(limit)
    .push(")")
    .execute(conn)
    .await
}

/// Notes how far the work has come.
pub(crate) async fn save_position(
    conn: &mut AsyncPgConnection,
    field_id: i64,
    position: i64,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new("update field_definitions set fill_from = ").bind(position);
    statement
        .push(" where field_id = ")
        .bind(field_id)
        .execute(conn)
        .await
}

/// Sets what there is of a field's index.
pub(crate) async fn set_index(
    conn: &mut AsyncPgConnection,
    field_id: i64,
    index: Index,
) -> QueryResult<usize> {
    let statement =
        Sql::<()>::new("update field_definitions set index_state = ").bind(index.as_str());
    statement
        .push(", fill_from = null where field_id = ")
        .bind(field_id)
        .execute(conn)
        .await
}

/// Forgets a field whose values are erased: its name is free.
pub(crate) async fn forget(conn: &mut AsyncPgConnection, field_id: i64) -> QueryResult<usize> {
    Sql::<()>::new("delete from field_definitions where field_id = ")
        .bind(field_id)
        .execute(conn)
        .await
}
