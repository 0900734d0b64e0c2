//! Health and readiness: what is published while the database comes, goes and comes back.

use std::time::Duration;

use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use user_service::convert::SERVICES;

use crate::support::{TestApp, fault};

fn health(app: &TestApp) -> HealthClient<tonic::transport::Channel> {
    HealthClient::new(
        Endpoint::from_shared(format!("http://{}", app.address()))
            .unwrap()
            .connect_lazy(),
    )
}

#[tokio::test]
async fn p53_each_service_serves_once_the_database_answers() {
    let app = TestApp::new().await;
    let mut client = health(&app);

    for service in SERVICES.iter().copied().chain([""]) {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut watch = client.watch(request).await.unwrap().into_inner();
        while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
    let unknown = client
        .check(HealthCheckRequest {
            service: "nothing".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn lost_database_is_unavailable_and_comes_back_by_itself() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;
    let name = app.database.url().rsplit('/').next().unwrap().to_owned();
    let admin = crate::support::server_url();
    let mut conn = user_service::store::schema::connect(admin, None)
        .await
        .unwrap();
    let mut run = async |statement: String| {
        diesel_async::SimpleAsyncConnection::batch_execute(&mut conn, &statement)
            .await
            .unwrap();
    };

    run(format!("alter database {name} allow_connections false")).await;
    run(format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    ))
    .await;
    let mut refused = Vec::new();
    while refused.len() < 3 {
        refused.push(fault(client.get(ann.user_id).await));
    }
    run(format!("alter database {name} allow_connections true")).await;
    let mut tries = 0;
    while client.get(ann.user_id).await.is_err() {
        tries += 1;
        assert!(tries < 20, "it does not come back");
    }

    for refused in refused {
        assert_eq!(refused.code, Code::Unavailable, "{refused:?}");
        assert_eq!(refused.retry, Some(Duration::from_secs(1)));
    }
}
