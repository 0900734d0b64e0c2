//! More calls than a process takes.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{TestApp, eventually, fault};

#[tokio::test(flavor = "multi_thread")]
async fn p56_calls_beyond_512_are_turned_away_and_health_still_answers() {
    let app = TestApp::configured(|config| config.callers.service_concurrency = 1024).await;
    let client = app.service().await;
    let ann = client.clone().create_named("Ann").await.user_id;
    let mut holder = app.database.connect().await;
    holder
        .batch_execute("begin; lock table users")
        .await
        .unwrap();
    let calls = || {
        let mut client = client.clone();
        tokio::spawn(async move { client.get(ann).await })
    };
    let mut health = HealthClient::new(
        Endpoint::from_shared(format!("http://{}", app.address()))
            .unwrap()
            .connect_lazy(),
    );

    // All that there is room for, which wait, and more, which do not.
    let mut refused = Vec::new();
    let mut waiting: Vec<_> = (0..512).map(|_| calls()).collect();
    waiting.extend((0..100).map(|_| calls()));
    while refused.len() < 100 {
        let (done, place, _) = futures_util::future::select_all(waiting.iter_mut()).await;
        refused.push(fault(done.unwrap()));
        waiting.swap_remove(place);
    }
    let told = health
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    holder.batch_execute("rollback").await.unwrap();
    let served = join_all(waiting).await;

    for refused in refused {
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Unavailable, "OVERLOADED")
        );
        assert_eq!(refused.retry, Some(Duration::from_secs(1)));
    }
    assert_eq!(told.status(), ServingStatus::Serving);
    assert_eq!(served.len(), 512);
    assert!(served.into_iter().all(|call| call.unwrap().is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn p56_an_import_takes_room_until_it_ends() {
    let app = TestApp::configured(|config| {
        config.callers.service_concurrency = 1024;
        // One caller gets half of it, and an import 4 MiB.
        config.callers.body_memory_mib = 4096;
    })
    .await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await.user_id;
    let imports = (0..512).map(|_| {
        let mut client = client.clone();
        async move {
            client
                .admin
                .import_users(tokio_stream::pending())
                .await
                .unwrap()
        }
    });

    let imports = join_all(imports).await;
    let refused = fault(client.get(ann).await);
    drop(imports);
    let served = eventually("room", async || client.get(ann).await.ok()).await;

    assert_eq!(refused.reason, "OVERLOADED");
    assert_eq!(served.user_id, ann);
}
