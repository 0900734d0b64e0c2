//! Tables `field_definitions` and `field_values`: the application's own fields and the index of their values.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::{
    model::field::{Field, FieldType},
    store::sql::Sql,
};

type Row = (BigInt, Text, Text, Nullable<Text>, Text, Nullable<Jsonb>, Bool, Bool, Bool, Bool, Bool, Timestamptz);
type Loaded = (i64, String, String, Option<String>, String, Option<Value>, bool, bool, bool, bool, bool, DateTime<Utc>);

const COLUMNS: &str = "field_id, name, kind, item_kind, description, default_value, required, is_unique, indexed, \
    index_ready, user_writable, created_at";

fn field(row: Loaded) -> Option<Field> {
    let (
        field_id,
        name,
        kind,
        item,
        description,
        default_value,
        required,
        unique,
        indexed,
        index_ready,
        user_writable,
        created_at,
    ) = row;
    Some(Field {
        field_id,
        name,
        field_type: FieldType::from_names(&kind, item.as_deref())?,
        description,
        default_value,
        required,
        unique,
        indexed,
        index_ready,
        user_writable,
        created_at,
    })
}

/// All fields that are not deleted, oldest first.
pub async fn list(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Field>> {
    let statement = Sql::<Row>::new("select ").push(COLUMNS);
    let rows: Vec<Loaded> =
        statement.push(" from field_definitions where deleted_at is null order by field_id").load(conn).await?;
    Ok(rows.into_iter().filter_map(field).collect())
}

/// Makes a field; `None` where its name is taken. The index of a field that nobody has a value of is ready at once.
pub async fn insert(conn: &mut AsyncPgConnection, new: &Field) -> QueryResult<Option<Field>> {
    let (kind, item) = new.field_type.names();
    let statement = Sql::<Row>::new(
        "insert into field_definitions (name, kind, item_kind, description, default_value, required, is_unique, \
         indexed, index_ready, user_writable, created_at, changed_at) values (",
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
    .bind(new.indexed)
    .push(", ")
    .bind(new.indexed)
    .push(", ")
    .bind(new.user_writable)
    .push(", ")
    .bind(new.created_at)
    .push(", ")
    .bind(new.created_at)
    .push(") on conflict (name) do nothing returning ")
    .push(COLUMNS);
    Ok(statement.get_result::<Loaded>(conn).await.optional()?.and_then(field))
}

/// Tells the other replicas that definitions changed.
pub async fn notify(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    Sql::<()>::new("select pg_notify('user_service_fields', '')").execute(conn).await
}

/// Puts the values of one user's indexed fields in place of those that were there.
pub async fn replace_values(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    created_at: DateTime<Utc>,
    field_ids: Vec<i64>,
    values: Vec<(i64, Vec<u8>)>,
) -> QueryResult<()> {
    let statement = Sql::<()>::new("delete from field_values where user_id = ").bind(user_id);
    statement.push(" and field_id = any(").bind(field_ids).push(")").execute(conn).await?;
    insert_values(conn, user_id, created_at, values).await
}

/// Adds values of one user's indexed fields.
pub async fn insert_values(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    created_at: DateTime<Utc>,
    values: Vec<(i64, Vec<u8>)>,
) -> QueryResult<()> {
    if values.is_empty() {
        return Ok(());
    }
    let (fields, values): (Vec<i64>, Vec<Vec<u8>>) = values.into_iter().unzip();
    let statement = Sql::<()>::new("insert into field_values (field_id, value, created_at, user_id) select f, v, ")
        .bind(created_at)
        .push(", ")
        .bind(user_id)
        .push(" from unnest(")
        .bind(fields)
        .push(", ")
        .bind(values)
        .push(") as given (f, v) on conflict do nothing");
    statement.execute(conn).await.map(|_| ())
}
