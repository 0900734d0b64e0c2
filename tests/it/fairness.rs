//! Fairness between callers (promise 64): what one service or user does at length, or in great
//! numbers, leaves the calls of the others alone.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client as HttpClient, rt::TokioExecutor};
use serde_json::json;
use tonic::Code;
use user_service::convert::pb;

use crate::support::{
    Asks, TestApp, eventually, fault, given, json as structure, rest, statements::until_waiting,
};

/// Opens a call that sends its headers and never a message; gives what comes back.
async fn open_without_message(app: &TestApp, token: &str) -> Response<Incoming> {
    let client = HttpClient::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let request = Request::post(format!(
        "http://{}/userservice.v1.UserService/GetProfile",
        app.address()
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("authorization", format!("Bearer {token}"))
    .body(StreamBody::new(tokio_stream::pending::<
        Result<Frame<Bytes>, Infallible>,
    >()))
    .unwrap();
    client.request(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p64_calls_without_a_message_use_up_only_their_callers_limit() {
    let app = TestApp::configured(|config| config.callers.user_concurrency = 10).await;
    let mut service = app.service().await;
    let (ann, ben) = (
        service.create_named("Ann").await.user_id,
        service.create_named("Ben").await.user_id,
    );
    let token = app.user_token(ann).await;
    let mut other = app.user(ben).await;

    // Ten of the calls wait for their message; the others are rejected at once.
    let mut calls: Vec<_> = (0..60)
        .map(|_| Box::pin(open_without_message(&app, &token)))
        .collect();
    let mut rejected = Vec::new();
    while rejected.len() < 50 {
        let (response, place, _) = futures_util::future::select_all(calls.iter_mut()).await;
        rejected.push(response);
        drop(calls.swap_remove(place));
    }
    let served = other.get(ben).await.unwrap();

    for response in rejected {
        assert_eq!(
            response.headers()["grpc-status"],
            (Code::ResourceExhausted as i32).to_string()
        );
    }
    assert_eq!((calls.len(), served.user_id), (10, ben));
}

#[tokio::test(flavor = "multi_thread")]
async fn p64_a_caller_beyond_its_rate_is_told_to_wait_and_the_others_go_on() {
    let app = TestApp::configured(|config| config.callers.user_rate = 5).await;
    let mut service = app.service().await;
    let (ann, ben) = (
        service.create_named("Ann").await.user_id,
        service.create_named("Ben").await.user_id,
    );
    let (mut fast, mut slow) = (app.user(ann).await, app.user(ben).await);

    let mut served = 0;
    let rejected = loop {
        match fast.get(ann).await {
            Ok(_) => served += 1,
            Err(status) => break fault(Err::<(), _>(status)),
        }
    };

    assert!(served >= 15, "{served} were served");
    assert_eq!(
        (rejected.code, rejected.reason.as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    assert_eq!(rejected.quota.as_deref(), Some("caller_rate"));
    assert!(
        rejected
            .retry
            .is_some_and(|wait| wait <= Duration::from_millis(200)),
        "{:?}",
        rejected.retry
    );
    slow.get(ben).await.unwrap();
    service.get(ann).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p64_a_user_token_sends_at_most_128_kib() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let ann = service.create_named("Ann").await.user_id;
    let mut user = app.user(ann).await;
    let request = |size| pb::UpdateProfileRequest {
        custom_fields: Some(structure(json!({ "text": "x".repeat(size) }))),
        ..Default::default()
    };

    let large = fault(user.users.update_profile(request(128 * 1024)).await);
    let small = fault(user.users.update_profile(request(120 * 1024)).await);
    let by_rest = rest::Caller {
        rest: app.rest(),
        headers: Vec::new(),
    };
    let bearer = format!("Bearer {}", app.user_token(ann).await);
    let body = json!({ "customFields": { "text": "x".repeat(128 * 1024) } }).to_string();
    let by_rest = by_rest
        .with("authorization", &bearer)
        .send("PATCH", "/v1/users/me/profile", body)
        .await;

    assert_eq!(
        (large.code, large.reason.as_str()),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
    assert_eq!(small.reason, "INVALID_REQUEST");
    assert_eq!(
        (by_rest.status.as_u16(), by_rest.reason()),
        (413, "MESSAGE_TOO_LARGE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p64_writes_that_wait_for_one_user_leave_the_pool_to_the_others() {
    let app = TestApp::configured(|config| config.database.pool_size = 4).await;
    let mut service = app.service().await;
    let (ann, ben) = (
        service.create_named("Ann").await.user_id,
        service.create_named("Ben").await.user_id,
    );
    let mut holder = app.database.connect().await;
    holder
        .batch_execute(&format!(
            "begin; select from users where user_id = {ann} for update"
        ))
        .await
        .unwrap();
    let waiting: Vec<_> = (0..50)
        .map(|number| {
            let mut service = service.clone();
            tokio::spawn(async move { service.rename(ann, &format!("Ann {number}")).await })
        })
        .collect();

    let served = join_all((0..20).map(|number| {
        let mut service = service.clone();
        async move { service.rename(ben, &format!("Ben {number}")).await }
    }))
    .await;
    holder.batch_execute("rollback").await.unwrap();

    assert!(served.into_iter().all(|renamed| renamed.is_ok()));
    for call in waiting {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p64_guesses_that_wait_for_one_count_leave_the_pool_to_the_others() {
    let app = TestApp::configured(|config| config.database.pool_size = 4).await;
    let mut service = app.service().await;
    let (ann, client) = app.join(given("", ""), "violet-lantern-93").await;
    let ben = service.create_named("Ben").await.user_id;
    let guess = || {
        let mut client = client.clone();
        async move {
            client
                .update(Asks::password("amber-harbour-51").current("copper-window-27"))
                .await
                .map(|_| ())
        }
    };
    let log_in = || {
        let mut service = service.clone();
        let request = pb::VerifyPasswordRequest {
            key: Some(pb::verify_password_request::Key::UserId(ann)),
            password: "copper-window-27".to_owned(),
            client: "192.0.2.1".to_owned(),
            ..Default::default()
        };
        async move { service.admin.verify_password(request).await.map(|_| ()) }
    };
    assert_eq!(
        [fault(guess().await).reason, fault(log_in().await).reason],
        ["PASSWORD_MISMATCH"; 2]
    );
    let (mut holder, mut watcher) = (app.database.connect().await, app.database.connect().await);
    holder
        .batch_execute("begin; select from limits for update")
        .await
        .unwrap();
    let mut waiting: Vec<_> = (0..20).map(|_| tokio::spawn(guess())).collect();
    waiting.extend((0..20).map(|_| tokio::spawn(log_in())));
    until_waiting(&mut watcher, 1).await;

    let served = join_all((0..20).map(|number| {
        let mut service = service.clone();
        async move { service.rename(ben, &format!("Ben {number}")).await }
    }))
    .await;
    holder.batch_execute("rollback").await.unwrap();

    assert!(served.into_iter().all(|renamed| renamed.is_ok()));
    for call in waiting {
        let refused = fault(call.await.unwrap()).reason;
        assert!(
            ["PASSWORD_MISMATCH", "PASSWORD_ATTEMPTS_EXCEEDED"].contains(&refused.as_str()),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p64_slow_searches_leave_connections_for_tokens_and_single_users() {
    let app = TestApp::configured(|config| config.database.pool_size = 4).await;
    let mut service = app.service().await;
    let ann = service.create_named("Ann").await.user_id;
    let other = app.user_token(ann).await;
    let mut holder = app.database.connect().await;
    holder
        .batch_execute("begin; lock table users")
        .await
        .unwrap();
    let searches: Vec<_> = (0..40)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                service
                    .users
                    .list_profiles(pb::ListProfilesRequest::default())
                    .await
            })
        })
        .collect();

    // A token that no replica has seen, and a statement of a single subject.
    let listed = eventually("the tokens", async || {
        let request = pb::ListTokensRequest {
            subject: Some(pb::list_tokens_request::Subject::UserId(ann)),
            ..Default::default()
        };
        service.admin.list_tokens(request).await.ok()
    })
    .await;
    let verified = app.api.verify(&other).await;
    holder.batch_execute("rollback").await.unwrap();

    assert_eq!(listed.into_inner().tokens.len(), 1);
    assert_eq!(verified.unwrap().user(), Some(ann));
    for search in searches {
        // Those beyond the searches' connections were rejected, and none is lost.
        if let Err(status) = search.await.unwrap() {
            let rejected = fault(Err::<(), _>(status));
            assert!(
                ["OVERLOADED", "QUERY_TOO_SLOW"].contains(&rejected.reason.as_str()),
                "{rejected:?}"
            );
        }
    }
}
