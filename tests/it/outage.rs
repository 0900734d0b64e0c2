//! The database restarts under load.

use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::Serving;

use crate::support::{
    TestApp, TestDatabase, fault,
    load::Load,
    postgres::{OwnPostgres, Stop},
    serve::Serve,
};

/// Restarts Postgres and tells how long after its start all callers succeed again.
async fn recovery_after(how: Stop) -> Duration {
    let mut postgres = OwnPostgres::new().await;
    let serve = Serve::start_for_load(&postgres.url());
    serve.wait_for(Serving).await;
    let load = Load::start(serve.client().await, 8).await;
    load.more(100).await;
    assert!(load.failures().is_empty(), "{:?}", load.failures()[0]);

    postgres.stop(how).await;
    postgres.start().await;
    let started = Instant::now();
    load.more(1).await;
    let recovered = started.elapsed();
    load.more(100).await;
    serve.wait_for(Serving).await;

    let failures = load.stop().await;
    assert!(!failures.is_empty(), "nobody noticed");
    for status in failures {
        let failure = fault::<()>(Err(status));
        assert_eq!(failure.code, Code::Unavailable, "{failure:?}");
        assert_eq!(failure.retry, Some(Duration::from_secs(1)), "{failure:?}");
    }
    recovered
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_restart_of_postgres_is_unavailable_and_over_within_five_seconds() {
    let recovered = recovery_after(Stop::Fast).await;

    assert!(recovered <= Duration::from_secs(5), "{recovered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_of_postgres_is_unavailable_and_over_within_five_seconds() {
    let recovered = recovery_after(Stop::Immediate).await;

    assert!(recovered <= Duration::from_secs(5), "{recovered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn url_with_two_hosts_finds_the_one_that_takes_writes() {
    // A listener whose queue is full answers no one, as a host without power.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dark = socket.listen(1).unwrap();
    let address = dark.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await
    {
        queue.push(stream.unwrap());
    }
    let database = TestDatabase::new().await;
    let (server, name) = (crate::support::server_url(), database.name().to_owned());
    let (_, server) = server
        .trim_end_matches("/postgres")
        .rsplit_once('@')
        .unwrap();

    let url =
        format!("postgres://postgres@{address},{server}/{name}?target_session_attrs=read-write");
    let app = TestApp::over_url(database, &url).await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;

    assert_eq!(client.get(ann.user_id).await.unwrap().nickname, "Ann");
    drop((queue, dark));
}
