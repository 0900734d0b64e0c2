use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::future::{join_all, select_all};
use tonic::Code;
use user_service::{model::token::Subject, store::sql::Sql, wire::pb};

use super::{Stage, USER_ID, call, with};
use crate::support::{Client, TestApp, fault, start_time, statements::until_waiting};

/// How long a test waits for what a notice brings.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the outcome is there, and tells how long that took.
async fn becomes(client: &mut Client, outcome: &str) -> Duration {
    let start = Instant::now();
    while call(client).await != outcome {
        assert!(start.elapsed() < PATIENCE, "it never is {outcome}");
    }
    start.elapsed()
}

async fn set_password(client: &mut Client, proof: Option<&str>, password: &str) {
    let proof = proof.map(|current| pb::Proof { current_password: current.to_owned(), ..Default::default() });
    let request =
        pb::UpdateAccountRequest { user_id: USER_ID, new_password: password.to_owned(), proof, ..Default::default() };
    client.users.update_account(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p50_a_revocation_reaches_another_replica_within_200_milliseconds() {
    let stage = Stage::new().await;
    let there = stage.replica().await;
    let mut service = stage.app.service().await;
    let mut fastest = Duration::MAX;

    // The clock stands still, so that only a notice ends a kept verdict. The first is heard late where the other
    // replica still connects, and a machine may be busy for a moment: the fastest counts.
    for _ in 0..6 {
        let subject = Subject::User(USER_ID);
        let (token, secret) = stage.app.api.tokens().issue(&subject, &[], TimeDelta::days(1)).await.unwrap();
        let mut client = there.client(&secret);
        assert_eq!(call(&mut client).await, "OK");
        service.admin.revoke_token(pb::RevokeTokenRequest { token_id: token.token_id }).await.unwrap();
        fastest = fastest.min(becomes(&mut client, "TOKEN_REVOKED").await);
    }

    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
}

/// Waits until the service listens. As it begins to, it forgets every verdict, which on a busy machine may be late.
async fn hears(stage: &Stage) {
    let there = stage.replica().await;
    let (token, secret) = stage.app.api.tokens().issue(&Subject::User(USER_ID), &[], TimeDelta::days(1)).await.unwrap();
    let mut client = stage.app.client(&secret);
    assert_eq!(call(&mut client).await, "OK");
    let revoke = pb::RevokeTokenRequest { token_id: token.token_id };
    there.service().await.admin.revoke_token(revoke).await.unwrap();
    becomes(&mut client, "TOKEN_REVOKED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p50_a_revocation_that_nobody_told_holds_within_30_seconds() {
    let stage = Stage::new().await;
    hears(&stage).await;
    let subject = Subject::User(USER_ID);
    let (token, secret) = stage.app.api.tokens().issue(&subject, &[], TimeDelta::days(1)).await.unwrap();
    assert_eq!(stage.call(&secret).await, "OK");
    let mut conn = stage.app.database.connect().await;
    let statement = Sql::<()>::new("update tokens set revoked_at = now() where token_id = ").bind(token.token_id);
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
    let (token, secret) = stage.app.api.tokens().issue(&Subject::User(USER_ID), &[], TimeDelta::days(1)).await.unwrap();
    let mut client = stage.app.client(&secret);
    assert_eq!(call(&mut client).await, "OK");
    let mut conn = stage.app.database.connect().await;
    let statement = Sql::<()>::new("update tokens set revoked_at = now() where token_id = ").bind(token.token_id);
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
    let (_, opaque) = stage.app.api.tokens().issue(&Subject::User(USER_ID), &[], TimeDelta::days(1)).await.unwrap();
    for token in [&own, &old, &fresh, &opaque] {
        assert_eq!(call(&mut there.client(token)).await, "OK");
    }

    set_password(&mut stage.app.client(&own), Some("correct horse battery"), "staple battery horse").await;

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
    let token = stage.signer.sign(&with("iat", start_time().timestamp() - 1));
    assert_eq!(stage.call(&token).await, "OK");

    set_password(&mut stage.app.service().await, None, "correct horse battery").await;

    assert_eq!(stage.call(&token).await, "TOKEN_REVOKED");
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
        client.users.list_profiles(pb::ListProfilesRequest::default()).await.unwrap();
        noted.push(last_use().await.unwrap());
        app.clock.advance(TimeDelta::seconds(35));
    }

    assert_eq!(noted[0], noted[1]);
    assert!(noted[2] - noted[0] >= TimeDelta::seconds(60));
    assert_eq!(noted[2], noted[3]);
    assert!(noted[4] - noted[2] >= TimeDelta::seconds(60));
}

#[tokio::test]
async fn p49_tokens_of_a_deleted_user_speak_for_nobody() {
    let stage = Stage::new().await;
    let token = stage.signer.sign(&super::claims());
    assert_eq!(stage.call(&token).await, "OK");

    let mut service = stage.app.service().await;
    service.admin.delete_user(pb::DeleteUserRequest { user_id: USER_ID, ..Default::default() }).await.unwrap();

    assert_eq!(stage.call(&token).await, "USER_NOT_FOUND");
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
    holder.batch_execute("begin; lock table tokens").await.unwrap();
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

    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "AUTH_BACKEND_UNAVAILABLE"));
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
    holder.batch_execute("begin; lock table tokens").await.unwrap();
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
