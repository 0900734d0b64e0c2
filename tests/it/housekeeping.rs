//! What is old goes, and nothing else.

use chrono::TimeDelta;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use user_service::{
    convert::pb::CodePurpose,
    store::{rate_limits, sql::Sql},
};

use crate::support::{Asks, Client, TestApp, given, start_time, statements::until_waiting};

/// How many rows each of the tables has that are cleaned.
async fn rows(conn: &mut AsyncPgConnection) -> [i64; 5] {
    const COUNTS: [&str; 5] = [
        "select count(*) from idempotency",
        "select count(*) from codes",
        "select count(*) from limits",
        "select count(*) from outbox",
        "select count(*) from tokens",
    ];
    let mut rows = [0; 5];
    for (count, text) in rows.iter_mut().zip(COUNTS) {
        *count = Sql::<BigInt>::new(text).get_result(conn).await.unwrap();
    }
    rows
}

#[tokio::test]
async fn what_is_kept_for_a_time_goes_when_it_is_over() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let mut conn = app.database.connect().await;
    let leave_rows = async |ann: &mut Client, name: &str, request_id: &str| {
        ann.update(Asks::username(name).once(request_id))
            .await
            .unwrap();
        app.code(ann, CodePurpose::Password, "ann@example.org")
            .await;
    };
    leave_rows(&mut ann, "ann.one", "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b").await;
    let before = rows(&mut conn).await;
    let removed_young = app.app.housekeeping.clean().await.unwrap();
    let young = rows(&mut conn).await;
    // All tokens of now have expired by then, and are told apart for 30 days more.
    app.clock.advance(TimeDelta::days(365 + 31));
    let mut ann = app.user(user_id).await;
    leave_rows(&mut ann, "ann.two", "0e4fb7a9-5b3d-4b5c-8a35-3b0c6a0a9d11").await;

    let removed = app.app.housekeeping.clean().await.unwrap();
    let after = rows(&mut conn).await;

    assert_eq!(
        (removed_young, &young),
        (0, &before),
        "nothing of it is old"
    );
    assert!(
        removed > 0 && after.iter().all(|count| *count > 0),
        "{after:?}"
    );
    let kept = Sql::<Text>::new("select request_id::text from idempotency")
        .load::<String>(&mut conn)
        .await
        .unwrap();
    assert_eq!(kept, ["0e4fb7a9-5b3d-4b5c-8a35-3b0c6a0a9d11"]);
    let old = Sql::<BigInt>::new(
        "select (select count(*) from codes where created_at < '2026-12-01') \
         + (select count(*) from outbox where updated_at < '2026-12-01') \
         + (select count(*) from tokens where expires_at < '2027-01-01') \
         + (select count(*) from limits where expires_at < '2027-01-01')",
    );
    assert_eq!(old.get_result::<i64>(&mut conn).await.unwrap(), 0);
}

#[tokio::test]
async fn p41_a_count_that_begins_anew_is_not_taken_away() {
    let app = TestApp::new().await;
    let (mut counting, mut watcher) = (app.database.connect().await, app.database.connect().await);
    let now = start_time();
    rate_limits::lock(&mut counting, "key", now).await.unwrap();
    // It is over, and someone counts once more while the row is to be removed.
    counting.batch_execute("begin").await.unwrap();
    rate_limits::lock(&mut counting, "key", now).await.unwrap();
    let later = now + TimeDelta::days(1);
    let mut cleaner = app.database.connect().await;
    let cleaning =
        tokio::spawn(async move { rate_limits::purge(&mut cleaner, later, 10).await.unwrap() });
    until_waiting(&mut watcher, 1).await;

    rate_limits::save(
        &mut counting,
        "key",
        vec![later],
        later + TimeDelta::days(1),
    )
    .await
    .unwrap();
    counting.batch_execute("commit").await.unwrap();

    assert_eq!(cleaning.await.unwrap(), 0);
    assert_eq!(
        rate_limits::lock(&mut watcher, "key", later).await.unwrap(),
        [later]
    );
}
