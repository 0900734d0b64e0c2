//! Deadlines and clients that go away: what they leave in the database.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use hyper_util::{client::legacy::Client as Transport, rt::TokioExecutor};
use tonic::{Code, Request};
use user_service::{
    convert::pb::{self, user_service_client::UserServiceClient},
    model::{scope::Scope, token::Subject},
};

use crate::support::{TestApp, fault, person, statements::until_waiting};

/// An app with one connection, one user, and someone who holds that user's row.
async fn stage() -> (TestApp, i64, AsyncPgConnection) {
    let app = TestApp::configured(|config| config.database.pool_size = 1).await;
    let user_id = app.service().await.create_named("Ann").await.user_id;
    let mut holder = app.database.connect().await;
    holder
        .batch_execute(&format!(
            "begin; update users set version = version where user_id = {user_id}"
        ))
        .await
        .unwrap();
    (app, user_id, holder)
}

fn rename(user_id: i64) -> pb::UpdateProfileRequest {
    let update_mask = Some(prost_types::FieldMask {
        paths: vec!["nickname".to_owned()],
    });
    pb::UpdateProfileRequest {
        user_id,
        profile: person("Anna").profile,
        update_mask,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p55_a_statement_past_its_deadline_is_cancelled_within_100_ms() {
    let (app, user_id, mut holder) = stage().await;
    let (_, token) = app
        .api
        .tokens()
        .issue(
            &Subject::Service("t".into()),
            Scope::ALL,
            TimeDelta::days(1),
        )
        .await
        .unwrap();
    // Not tonic's own channel, which keeps the deadline itself and would not wait for the answer.
    let transport = Transport::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let mut client = UserServiceClient::with_origin(
        transport,
        format!("http://{}", app.address()).parse().unwrap(),
    );
    let mut watch = app.database.connect().await;
    let mut lasted = Vec::new();

    for _ in 0..5 {
        let mut request = Request::new(rename(user_id));
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
            .metadata_mut()
            .insert("grpc-timeout", "250m".parse().unwrap());
        let began = Instant::now();
        let failure = fault(client.update_profile(request).await);
        assert_eq!(
            (failure.code, failure.reason.as_str()),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
        );
        until_waiting(&mut watch, 0).await;
        lasted.push(began.elapsed());
    }
    holder.batch_execute("commit").await.unwrap();

    // A busy machine may be late now and then.
    let best = lasted.iter().min().unwrap();
    assert!(*best >= Duration::from_millis(240), "{lasted:?}");
    assert!(*best <= Duration::from_millis(350), "{lasted:?}");
    app.service().await.rename(user_id, "Anna").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p55_a_client_that_goes_away_frees_its_connection() {
    let (app, user_id, _holder) = stage().await;
    let mut client = app.service().await;
    let other = client.create_named("Bob").await.user_id;
    let mut watch = app.database.connect().await;

    let mut leaver = client.clone();
    let call = tokio::spawn(async move { leaver.rename(user_id, "Anna").await });
    until_waiting(&mut watch, 1).await;
    call.abort();
    until_waiting(&mut watch, 0).await;

    // The pool's only connection is there again.
    client.rename(other, "Bert").await.unwrap();
}
