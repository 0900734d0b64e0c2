//! Revocation: how soon a revoked token is rejected on every replica.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::future::{join_all, select_all};
use tonic::Code;
use user_service::{
    convert::pb,
    model::{scope::Scope, token::Subject},
    store::sql::Sql,
};

use super::{Stage, USER_ID, call, with};
use crate::support::{Client, TestApp, fault, start_time, statements::until_waiting};

/// How long a test waits for what a notice brings.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the outcome is there, and tells how long that took.
pub async fn becomes(client: &mut Client, outcome: &str) -> Duration {
    let start = Instant::now();
    while call(client).await != outcome {
        assert!(start.elapsed() < PATIENCE, "it never is {outcome}");
    }
    start.elapsed()
}

async fn set_password(client: &mut Client, proof: Option<&str>, password: &str) {
    let proof = proof.map(|current| pb::Proof {
        current_password: current.to_owned(),
        ..Default::default()
    });
    let request = pb::UpdateAccountRequest {
        user_id: USER_ID,
        new_password: password.to_owned(),
        proof,
        ..Default::default()
    };
    client.users.update_account(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p50_a_revocation_reaches_another_replica_within_200_milliseconds() {
    let stage = Stage::new().await;
    let there = stage.replica().await;
    let mut service = stage.app.service().await;
    let mut fastest = Duration::MAX;

    // The clock stands still, so that only a notice ends a kept verdict. The first is heard late
    // where the other replica still connects, and a machine may be busy for a moment: the fastest
    // counts.
    for _ in 0..6 {
        let subject = Subject::User(USER_ID);
        let (token, secret) = stage
            .app
            .api
            .tokens()
            .issue(&subject, &[], TimeDelta::days(1))
            .await
            .unwrap();
        let mut client = there.client(&secret);
        assert_eq!(call(&mut client).await, "OK");
        service
            .admin
            .revoke_token(pb::RevokeTokenRequest {
                token_id: token.token_id,
            })
            .await
            .unwrap();
        fastest = fastest.min(becomes(&mut client, "TOKEN_REVOKED").await);
    }

    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
}

/// Waits until a service listens to another. As it begins to, it forgets every verdict, which on a
/// busy machine may be late.
pub async fn hears(listener: &TestApp, other: &TestApp) {
    let (token, secret) = other
        .api
        .tokens()
        .issue(&Subject::User(USER_ID), &[], TimeDelta::days(1))
        .await
        .unwrap();
    let mut client = listener.client(&secret);
    assert_eq!(call(&mut client).await, "OK");
    let revoke = pb::RevokeTokenRequest {
        token_id: token.token_id,
    };
    other
        .service()
        .await
        .admin
        .revoke_token(revoke)
        .await
        .unwrap();
    becomes(&mut client, "TOKEN_REVOKED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p50_a_revocation_that_nobody_told_holds_within_30_seconds() {
    let stage = Stage::new().await;
    hears(&stage.app, &stage.replica().await).await;
    let subject = Subject::User(USER_ID);
    let (token, secret) = stage
        .app
        .api
        .tokens()
        .issue(&subject, &[], TimeDelta::days(1))
        .await
        .unwrap();
    assert_eq!(stage.call(&secret).await, "OK");
    let mut conn = stage.app.database.connect().await;
    let statement = Sql::<()>::new("update tokens set revoked_at = now() where token_id = ")
        .bind(token.token_id);
    statement.execute(&mut conn).await.unwrap();

    stage.app.clock.advance(TimeDelta::seconds(29));
    let before = stage.call(&secret).await;
    stage.app.clock.advance(TimeDelta::seconds(1));
    let after = stage.call(&secret).await;

    assert_eq!((before.as_str(), after.as_str()), ("OK", "TOKEN_REVOKED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p50_a_listener_that_was_cut_off_forgets_every_verdict() {
    let stage = Stage::new().await;
    let (token, secret) = stage
        .app
        .api
        .tokens()
        .issue(&Subject::User(USER_ID), &[], TimeDelta::days(1))
        .await
        .unwrap();
    let mut client = stage.app.client(&secret);
    assert_eq!(call(&mut client).await, "OK");
    let mut conn = stage.app.database.connect().await;
    let statement = Sql::<()>::new("update tokens set revoked_at = now() where token_id = ")
        .bind(token.token_id);
    statement.execute(&mut conn).await.unwrap();

    conn.batch_execute(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and query ilike 'listen %'",
    )
    .await
    .unwrap();

    becomes(&mut client, "TOKEN_REVOKED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p34_a_changed_password_ends_the_tokens_of_before_on_every_replica() {
    let stage = Stage::new().await;
    let there = stage.replica().await;
    let mut service = stage.app.service().await;
    set_password(&mut service, None, "correct horse battery").await;
    stage.app.clock.advance(TimeDelta::seconds(100));
    let now = start_time().timestamp() + 100;
    let signed = |issued_at: i64, id: i64| {
        let mut claims = with("iat", issued_at);
        claims["jti"] = id.into();
        stage.signer.sign(&claims)
    };
    let (own, old, fresh) = (signed(now - 10, 1), signed(now - 10, 2), signed(now, 3));
    let (_, opaque) = stage
        .app
        .api
        .tokens()
        .issue(&Subject::User(USER_ID), &[], TimeDelta::days(1))
        .await
        .unwrap();
    for token in [&own, &old, &fresh, &opaque] {
        assert_eq!(call(&mut there.client(token)).await, "OK");
    }

    set_password(
        &mut stage.app.client(&own),
        Some("correct horse battery"),
        "staple battery horse",
    )
    .await;

    for gone in [&old, &opaque] {
        assert_eq!(stage.call(gone).await, "TOKEN_REVOKED");
        becomes(&mut there.client(gone), "TOKEN_REVOKED").await;
    }
    for kept in [&own, &fresh] {
        assert_eq!(stage.call(kept).await, "OK");
        assert_eq!(call(&mut there.client(kept)).await, "OK");
    }
}

#[tokio::test]
async fn p34_a_services_change_of_a_password_ends_all_of_the_users_tokens() {
    let stage = Stage::new().await;
    let token = stage
        .signer
        .sign(&with("iat", start_time().timestamp() - 1));
    assert_eq!(stage.call(&token).await, "OK");

    set_password(
        &mut stage.app.service().await,
        None,
        "correct horse battery",
    )
    .await;

    assert_eq!(stage.call(&token).await, "TOKEN_REVOKED");
}

fn revoke_user(user_id: i64) -> pb::RevokeTokensRequest {
    pb::RevokeTokensRequest {
        subject: Some(pb::revoke_tokens_request::Subject::UserId(user_id)),
    }
}

fn revoke_service(name: &str) -> pb::RevokeTokensRequest {
    pb::RevokeTokensRequest {
        subject: Some(pb::revoke_tokens_request::Subject::Service(name.to_owned())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p67_all_tokens_of_a_user_end_on_every_replica_and_the_signed_ones_too() {
    let stage = Stage::new().await;
    let there = stage.replica().await;
    hears(&there, &stage.app).await;
    let mut service = stage.app.service().await;
    let signed = stage.signer.sign(&super::claims());
    let (first, second) = (
        stage.app.user_token(USER_ID).await,
        stage.app.user_token(USER_ID).await,
    );
    for token in [&signed, &first, &second] {
        assert_eq!(stage.call(token).await, "OK");
        assert_eq!(call(&mut there.client(token)).await, "OK");
    }
    let etag = service.account(USER_ID).await.etag;

    let revoked = service
        .admin
        .revoke_tokens(revoke_user(USER_ID))
        .await
        .unwrap()
        .into_inner()
        .revoked;

    assert_eq!(revoked, 2, "one more was revoked before");
    for token in [&signed, &first, &second] {
        assert_eq!(stage.call(token).await, "TOKEN_REVOKED");
        becomes(&mut there.client(token), "TOKEN_REVOKED").await;
    }
    stage.app.clock.advance(TimeDelta::seconds(60));
    assert_eq!(stage.call(&signed).await, "TOKEN_REVOKED");
    let next = stage
        .signer
        .sign(&with("iat", start_time().timestamp() + 1));
    assert_eq!(stage.call(&next).await, "OK", "a later sign-in counts");
    assert_eq!(service.account(USER_ID).await.etag, etag);
    assert_eq!(
        service
            .admin
            .revoke_tokens(revoke_user(USER_ID))
            .await
            .unwrap()
            .into_inner()
            .revoked,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p67_all_tokens_of_a_service_end_on_every_replica_with_the_callers_own() {
    let stage = Stage::new().await;
    let there = stage.replica().await;
    hears(&there, &stage.app).await;
    let mut claims = with("sub", "billing");
    claims["client_id"] = "billing".into();
    claims["scope"] = "profiles.read".into();
    let signed = stage.signer.sign(&claims);
    let own = {
        let scopes = [Scope::ProfilesRead, Scope::TokensWrite];
        let subject = Subject::Service("billing".to_owned());
        stage
            .app
            .api
            .tokens()
            .issue(&subject, &scopes, TimeDelta::days(1))
            .await
            .unwrap()
            .1
    };
    let mut other = stage.app.service().await;
    for token in [&signed, &own] {
        assert_eq!(lists(&mut stage.app.client(token)).await, "OK");
        assert_eq!(lists(&mut there.client(token)).await, "OK");
    }

    let revoked = stage
        .app
        .client(&own)
        .admin
        .revoke_tokens(revoke_service("billing"))
        .await
        .unwrap();

    assert_eq!(revoked.into_inner().revoked, 1);
    for token in [&signed, &own] {
        assert_eq!(lists(&mut stage.app.client(token)).await, "TOKEN_REVOKED");
        let (start, mut client) = (Instant::now(), there.client(token));
        while lists(&mut client).await != "TOKEN_REVOKED" {
            assert!(
                start.elapsed() < PATIENCE,
                "the other replica never rejects it"
            );
        }
    }
    assert_eq!(
        lists(&mut other).await,
        "OK",
        "another service keeps its tokens"
    );
    claims["iat"] = (start_time().timestamp() + 1).into();
    stage.app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(
        lists(&mut stage.app.client(&stage.signer.sign(&claims))).await,
        "OK"
    );
}

/// The outcome of a call that a service may make.
async fn lists(client: &mut Client) -> String {
    match client
        .users
        .list_profiles(pb::ListProfilesRequest {
            page_size: 1,
            ..Default::default()
        })
        .await
    {
        Ok(_) => "OK".to_owned(),
        error => fault(error).reason,
    }
}

#[tokio::test]
async fn p67_what_a_signed_token_issued_ends_with_it_and_with_all_of_its_service() {
    let stage = Stage::new().await;
    let mut claims = with("sub", "login");
    claims["client_id"] = "login".into();
    claims["scope"] = "sessions.write profiles.read".into();
    let mut login = stage.app.client(&stage.signer.sign(&claims));
    let subject = Some(pb::issue_token_request::Subject::UserId(USER_ID));
    let request = pb::IssueTokenRequest {
        subject,
        ..Default::default()
    };

    let issued = login.admin.issue_token(request).await.unwrap().into_inner();
    let before = stage.call(&issued.secret).await;
    stage
        .app
        .service()
        .await
        .admin
        .revoke_tokens(revoke_service("login"))
        .await
        .unwrap();

    // With the leeway that clocks have.
    assert_eq!(
        issued.token.unwrap().expires_at.unwrap().seconds,
        claims["exp"].as_i64().unwrap() + 30
    );
    assert_eq!(
        (before.as_str(), stage.call(&issued.secret).await.as_str()),
        ("OK", "TOKEN_REVOKED")
    );
    assert_eq!(lists(&mut login).await, "TOKEN_REVOKED");
}

#[tokio::test]
async fn p67_who_may_revoke_all_tokens_of_whom() {
    let app = TestApp::new().await;
    let ann = app.service().await.create_named("Ann").await.user_id;
    let mut sessions = app.service_with(&[Scope::SessionsWrite]).await;
    let mut services = app.service_with(&[Scope::TokensWrite]).await;
    let revoke =
        async |client: &mut Client, request| match client.admin.revoke_tokens(request).await {
            Ok(response) => response.into_inner().revoked.to_string(),
            error => fault(error).reason,
        };

    assert_eq!(
        revoke(&mut sessions, revoke_service("nobody")).await,
        "SCOPE_MISSING"
    );
    assert_eq!(
        revoke(&mut services, revoke_user(ann)).await,
        "SCOPE_MISSING"
    );
    assert_eq!(
        revoke(&mut services, revoke_user(77_777)).await,
        "SCOPE_MISSING",
        "before existence"
    );
    assert_eq!(
        revoke(&mut app.user(ann).await, revoke_user(ann)).await,
        "SCOPE_MISSING"
    );
    assert_eq!(
        revoke(&mut sessions, revoke_user(77_777)).await,
        "USER_NOT_FOUND"
    );
    assert_eq!(revoke(&mut services, revoke_service("nobody")).await, "0");
    assert_eq!(
        revoke(&mut services, pb::RevokeTokensRequest::default()).await,
        "INVALID_REQUEST"
    );
    assert_eq!(
        revoke(&mut services, revoke_service("")).await,
        "INVALID_REQUEST"
    );
}

#[tokio::test]
async fn p50_the_last_use_is_noted_at_most_once_a_minute() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut conn = app.database.connect().await;
    let mut last_use = async || -> Option<DateTime<Utc>> {
        let statement = Sql::<Nullable<Timestamptz>>::new("select last_used_at from tokens");
        statement.get_result(&mut conn).await.unwrap()
    };
    let mut noted = Vec::new();

    // A verdict counts for half a minute, and so each of these is a look-up.
    for _ in 0..5 {
        client
            .users
            .list_profiles(pb::ListProfilesRequest::default())
            .await
            .unwrap();
        noted.push(last_use().await.unwrap());
        app.clock.advance(TimeDelta::seconds(35));
    }

    assert_eq!(noted[0], noted[1]);
    assert!(noted[2] - noted[0] >= TimeDelta::seconds(60));
    assert_eq!(noted[2], noted[3]);
    assert!(noted[4] - noted[2] >= TimeDelta::seconds(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn p50_tokens_of_a_deleted_user_end_on_every_replica_at_once() {
    let stage = Stage::new().await;
    let there = stage.replica().await;
    hears(&there, &stage.app).await;
    let signed = stage.signer.sign(&super::claims());
    let opaque = stage.app.user_token(USER_ID).await;
    for token in [&signed, &opaque] {
        assert_eq!(stage.call(token).await, "OK");
        assert_eq!(call(&mut there.client(token)).await, "OK");
    }

    let mut service = stage.app.service().await;
    service
        .admin
        .delete_user(pb::DeleteUserRequest {
            user_id: USER_ID,
            ..Default::default()
        })
        .await
        .unwrap();

    // The clock stands still, so that only a notice ends the verdict that the other replica has
    // cached.
    for (token, outcome) in [(&signed, "TOKEN_REVOKED"), (&opaque, "TOKEN_INVALID")] {
        assert_eq!(stage.call(token).await, outcome);
        becomes(&mut there.client(token), outcome).await;
    }
    let mut conn = stage.app.database.connect().await;
    let left: i64 = Sql::<BigInt>::new("select count(*) from tokens where user_id is not null")
        .get_result(&mut conn)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn p50_look_ups_that_hang_keep_no_others_waiting() {
    let app = TestApp::new().await;
    let ann = app.service().await.create_named("Ann").await.user_id;
    let tokens = join_all((0..5).map(|_| app.user_token(ann))).await;
    let mut holder = app.database.connect().await;
    holder
        .batch_execute("begin; lock table tokens")
        .await
        .unwrap();
    let mut calls: Vec<_> = tokens
        .iter()
        .map(|token| {
            let mut client = app.client(token);
            tokio::spawn(async move { client.get(ann).await })
        })
        .collect();

    // As many as there are turns wait for the database, and the fifth for its turn.
    let (refused, place, _) = select_all(calls.iter_mut()).await;
    let refused = fault(refused.unwrap());
    calls.remove(place);
    holder.batch_execute("rollback").await.unwrap();

    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unavailable, "AUTH_BACKEND_UNAVAILABLE")
    );
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().user_id, ann);
    }
    assert_eq!(app.client(&tokens[0]).get(ann).await.unwrap().user_id, ann);
}

#[tokio::test]
async fn p50_whoever_leaves_takes_the_look_up_from_nobody() {
    let app = TestApp::new().await;
    let ann = app.service().await.create_named("Ann").await.user_id;
    let token = app.user_token(ann).await;
    let (mut holder, mut watcher) = (app.database.connect().await, app.database.connect().await);
    holder
        .batch_execute("begin; lock table tokens")
        .await
        .unwrap();
    let call = || {
        let mut client = app.client(&token);
        tokio::spawn(async move { client.get(ann).await })
    };
    let first = call();
    until_waiting(&mut watcher, 1).await;
    let second = call();
    first.abort();
    drop(first.await);

    // One look-up waits still, for the second call.
    until_waiting(&mut watcher, 1).await;
    holder.batch_execute("rollback").await.unwrap();

    assert_eq!(second.await.unwrap().unwrap().user_id, ann);
}
