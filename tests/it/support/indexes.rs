//! The indexes of custom fields beside the documents that they are made of.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bytea, Jsonb, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use user_service::{
    domain::fields::index_rows,
    model::document::Document,
    store::{fields, sql::Sql},
};

use super::TestDatabase;

/// Field, value, and the user's time and id.
type Row = (i64, Vec<u8>, DateTime<Utc>, i64);

/// The indexes hold what the documents say, and nothing else.
pub async fn assert_whole(database: &TestDatabase) {
    let mut conn = database.connect().await;
    let (stored, expected) = (stored(&mut conn).await, expected(&mut conn).await);
    let missing: Vec<_> = expected.difference(&stored).take(5).collect();
    let left_over: Vec<_> = stored.difference(&expected).take(5).collect();
    assert!(
        missing.is_empty() && left_over.is_empty(),
        "missing {missing:?}, left over {left_over:?}"
    );
}

async fn stored(conn: &mut AsyncPgConnection) -> BTreeSet<Row> {
    let statement = Sql::<(BigInt, Bytea, Timestamptz, BigInt)>::new("select * from field_values");
    statement
        .load::<Row>(conn)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

async fn expected(conn: &mut AsyncPgConnection) -> BTreeSet<Row> {
    let known = fields::list(conn).await.unwrap();
    let indexed = || known.iter().filter(|field| field.index.is_maintained());
    let statement = Sql::<(BigInt, Timestamptz, Jsonb)>::new(
        "select user_id, created_at, custom_fields from users",
    );
    let users: Vec<(i64, DateTime<Utc>, Document)> = statement.load(conn).await.unwrap();
    let rows = users
        .into_iter()
        .flat_map(|(user_id, created_at, document)| {
            let rows = index_rows(indexed(), (user_id, created_at), &document.fields()).into_iter();
            rows.map(|row| (row.field_id, row.value, row.created_at, row.user_id))
        });
    rows.collect()
}
