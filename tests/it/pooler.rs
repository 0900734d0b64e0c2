//! A connection pooler before the database: one in session mode serves, one that shares connections
//! is rejected.

use user_service::store::{connector::Connector, pooler::is_shared};

use crate::support::{TestDatabase, pooler::Pooler, serve::Serve};

/// A pooler before this database. The test doesn't run without one, and says so.
async fn pooler(database: &TestDatabase, pool_mode: &str) -> Option<Pooler> {
    let pooler = Pooler::start(database, pool_mode).await;
    if pooler.is_none() {
        eprintln!("PgBouncer is not installed: NOTHING IS TESTED of pool_mode = {pool_mode}");
    }
    pooler
}

#[tokio::test]
async fn connections_to_postgres_itself_are_not_shared() {
    let database = TestDatabase::new().await;

    assert!(
        !is_shared(&Connector::new(None).unwrap(), &database.url())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn p73_a_pooler_that_shares_connections_is_refused_at_the_start() {
    let database = TestDatabase::new().await;
    let Some(pooler) = pooler(&database, "transaction").await else {
        return;
    };

    let is_shared = is_shared(&Connector::new(None).unwrap(), pooler.url())
        .await
        .unwrap();
    let mut serve = Serve::start_with(&database, &[("DATABASE__URL", pooler.url())]);
    let status = serve.ended().await;

    assert!(is_shared);
    assert!(!status.success());
    let log = serve.log();
    assert!(
        log.iter().any(|line| line.contains("pool_mode = session")),
        "{log:#?}"
    );
}

#[tokio::test]
async fn p73_a_pooler_in_session_mode_serves() {
    let database = TestDatabase::new().await;
    let Some(pooler) = pooler(&database, "session").await else {
        return;
    };

    let listen_url = database.url();
    let variables = [
        ("DATABASE__URL", pooler.url()),
        ("DATABASE__LISTEN_URL", &listen_url),
    ];
    let serve = Serve::start_with(&database, &variables);
    let mut client = serve.client().await;
    let user_id = client.create_named("Ann").await.user_id;

    assert_eq!(client.get(user_id).await.unwrap().user_id, user_id);
}
