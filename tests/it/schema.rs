//! The database schema: comments, names, indexes, and migrations up, down and up again.

use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use user_service::store::{
    distribution,
    schema::{self, SchemaCompatibility},
    sql::Sql,
};

use crate::support::TestDatabase;

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let database = TestDatabase::new().await;
    let mut conn = database.connect().await;

    let bare: Vec<String> = Sql::<Text>::new(
        "select c.relname || coalesce('.' || a.attname, '') from pg_class c \
         left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
         where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname not like '\\_\\_diesel%' \
         and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null)",
    )
    .load(&mut conn)
    .await
    .unwrap();

    assert_eq!(bare, Vec::<String>::new());
}

#[tokio::test]
async fn no_foreign_key_and_no_trigger() {
    let database = TestDatabase::new().await;
    let mut conn = database.connect().await;

    let found: i64 = Sql::<BigInt>::new(
        "select (select count(*) from pg_constraint where contype = 'f') \
         + (select count(*) from pg_trigger where not tgisinternal)",
    )
    .get_result(&mut conn)
    .await
    .unwrap();

    assert_eq!(found, 0);
}

#[tokio::test]
async fn every_function_is_immutable() {
    let database = TestDatabase::new().await;

    let changing: Vec<String> = Sql::<Text>::new(
        "select proname::text from pg_proc where pronamespace = 'public'::regnamespace and provolatile <> 'i'",
    )
    .load(&mut database.connect().await)
    .await
    .unwrap();

    assert_eq!(
        changing,
        Vec::<String>::new(),
        "a distributed Postgres accepts no others in an UPDATE"
    );
}

#[tokio::test]
async fn no_function_in_sql_names_a_collation() {
    let database = TestDatabase::new().await;

    let lossy: Vec<String> = Sql::<Text>::new(
        "select proname::text from pg_proc join pg_language l on l.oid = prolang \
         where pronamespace = 'public'::regnamespace and l.lanname = 'sql' and prosrc ilike '%collate%'",
    )
    .load(&mut database.connect().await)
    .await
    .unwrap();

    assert_eq!(
        lossy,
        Vec::<String>::new(),
        "a distributed Postgres loses the collation of a function that is inlined"
    );
}

#[tokio::test]
async fn every_table_and_function_has_a_place_in_a_distributed_database() {
    let database = TestDatabase::new().await;
    let mut conn = database.connect().await;

    let mut tables: Vec<String> = Sql::<Text>::new(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' \
         and relname not like '\\_\\_diesel%'",
    )
    .load(&mut conn)
    .await
    .unwrap();
    let mut functions: Vec<String> = Sql::<Text>::new(
        "select proname::text from pg_proc where pronamespace = 'public'::regnamespace",
    )
    .load(&mut conn)
    .await
    .unwrap();
    let mut placed: Vec<&str> = distribution::TABLES
        .iter()
        .map(|(table, _)| *table)
        .collect();
    let mut created = distribution::FUNCTIONS.to_vec();
    tables.sort_unstable();
    functions.sort_unstable();
    placed.sort_unstable();
    created.sort_unstable();

    assert_eq!(placed, tables);
    assert_eq!(created, functions);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_postgres_has_nothing_to_distribute_to() {
    let database = TestDatabase::empty().await;

    let refused = schema::migrate_and_distribute(&database.url(), None, true)
        .await
        .err()
        .unwrap();
    let fit = schema::compatibility(&mut database.connect().await)
        .await
        .unwrap();
    let migrated = schema::migrate_and_distribute(&database.url(), None, false)
        .await
        .unwrap();

    assert!(
        refused
            .to_string()
            .starts_with("this is a plain Postgres without the extension Citus"),
        "{refused:#}"
    );
    assert!(
        matches!(fit, SchemaCompatibility::Older { .. }),
        "nothing was done: {fit:?}"
    );
    assert_eq!(migrated.distributed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn p59_migrations_go_down_and_up_again_and_run_once_at_a_time() {
    let database = TestDatabase::empty().await;
    let url = database.url();

    let (first, second) = tokio::join!(
        tokio::spawn({
            let url = url.clone();
            async move { schema::migrate(&url, None).await.unwrap() }
        }),
        tokio::spawn({
            let url = url.clone();
            async move { schema::migrate(&url, None).await.unwrap() }
        })
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    let up = schema::compatibility(&mut database.connect().await)
        .await
        .unwrap();
    schema::revert(&url, None).await.unwrap();
    let left: Vec<String> = Sql::<Text>::new(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relname not like '\\_\\_diesel%' \
         union all select proname::text from pg_proc where pronamespace = 'public'::regnamespace",
    )
    .load(&mut database.connect().await)
    .await
    .unwrap();
    let down = schema::compatibility(&mut database.connect().await)
        .await
        .unwrap();
    let again = schema::migrate(&url, None).await.unwrap();

    assert_eq!(
        first.len().min(second.len()),
        0,
        "one of them found nothing to do"
    );
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(up, SchemaCompatibility::Fits);
    assert!(
        matches!(down, SchemaCompatibility::Older { missing } if missing > 0),
        "{down:?}"
    );
    assert_eq!(again.len(), first.len().max(second.len()));
}
