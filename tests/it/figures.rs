//! Figures of the promises that a deployment has configured: each is seen through the API.

use chrono::TimeDelta;
use diesel::sql_types::Text;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tonic::Code;
use user_service::{
    convert::pb::{self, CodePurpose, verify_password_request::Key},
    store::sql::Sql,
};

use crate::support::{Asks, TestApp, fault, given, member, wrong};

const PASSWORD: &str = "violet-lantern-93";

#[tokio::test]
async fn p37_the_lifetime_and_the_attempts_of_a_code_are_configured() {
    let app = TestApp::configured(|config| {
        config.codes.lifetime_seconds = 120;
        config.codes.attempts = 2;
    })
    .await;
    let mut ann = app.join(given("ann@example.org", ""), "").await.1;

    let sent = ann
        .send_mail(CodePurpose::Bind, "new@example.org")
        .await
        .unwrap();
    let mail = app.newest("new@example.org").await;
    let code = app.newest_code("new@example.org").await;
    let replace = app
        .code(&mut ann, CodePurpose::Replace, "ann@example.org")
        .await;
    let first = fault(
        ann.confirm("new@example.org", &wrong(&code), &replace)
            .await,
    );
    let second = fault(
        ann.confirm("new@example.org", &wrong(&code), &replace)
            .await,
    );
    let exhausted = fault(ann.confirm("new@example.org", &code, &replace).await);
    app.clock.advance(TimeDelta::seconds(121));
    let expired = fault(ann.confirm("new@example.org", &code, &replace).await);

    assert_eq!(
        sent.expires_at.unwrap().seconds,
        crate::support::start_time().timestamp() + 120
    );
    assert!(mail.contains("2 minutes"), "{mail}");
    assert_eq!(
        (first.reason.as_str(), &*first.metadata["attemptsRemaining"]),
        ("CODE_INVALID", "1")
    );
    assert_eq!(
        (
            second.reason.as_str(),
            &*second.metadata["attemptsRemaining"]
        ),
        ("CODE_INVALID", "0")
    );
    assert_eq!(exhausted.reason, "CODE_ATTEMPTS_EXHAUSTED");
    assert_eq!(expired.reason, "CODE_EXPIRED");
}

#[tokio::test]
async fn p41_the_send_limits_are_configured() {
    let app = TestApp::configured(|config| {
        config.codes.cooldown_seconds = 10;
        config.codes.user_sends_per_hour = 2;
    })
    .await;
    let mut ann = app.join(given("ann@example.org", ""), "").await.1;
    ann.send_mail(CodePurpose::Bind, "one@example.org")
        .await
        .unwrap();

    let soon = fault(ann.send_mail(CodePurpose::Bind, "two@example.org").await);
    app.clock.advance(TimeDelta::seconds(10));
    ann.send_mail(CodePurpose::Bind, "two@example.org")
        .await
        .unwrap();
    app.clock.advance(TimeDelta::seconds(10));
    let third = fault(ann.send_mail(CodePurpose::Bind, "three@example.org").await);

    assert_eq!(
        (soon.reason.as_str(), soon.wait()),
        ("CODE_SEND_COOLDOWN", 10)
    );
    assert_eq!(
        (third.reason.as_str(), third.quota.as_deref()),
        ("CODE_SEND_QUOTA", Some("code_send_user_hour"))
    );
    assert_eq!(third.wait(), 3600 - 20);
}

#[tokio::test]
async fn p39_the_wrong_codes_per_day_are_configured() {
    let app = TestApp::configured(|config| config.codes.wrong_per_day = 1).await;
    let mut ann = app.join(given("ann@example.org", ""), "").await.1;
    let phone = "+8613900139000";
    let code = app.bind_code(&mut ann, phone).await;

    let first = fault(ann.update(Asks::phone(phone).new_code(&wrong(&code))).await);
    let second = fault(ann.update(Asks::phone(phone).new_code(&code)).await);

    assert_eq!(first.reason, "CODE_INVALID");
    assert_eq!(
        (second.reason.as_str(), second.quota.as_deref()),
        ("CODE_BUDGET_EXCEEDED", Some("code_wrong_day"))
    );
}

/// The stored hash of a user's password.
async fn hash(app: &TestApp, user_id: i64) -> String {
    let mut conn = app.database.connect().await;
    let statement =
        Sql::<Text>::new("select password_hash from accounts where user_id = ").bind(user_id);
    statement.get_result(&mut conn).await.unwrap()
}

#[tokio::test]
async fn p34_the_parameters_of_new_hashes_are_configured_and_older_hashes_are_upgraded() {
    let app = TestApp::new().await;
    let request = pb::CreateUserRequest {
        password: PASSWORD.to_owned(),
        ..member(given("ann@example.org", ""))
    };
    let user_id = app.service().await.create(request).await.unwrap().user_id;
    let before = hash(&app, user_id).await;
    let replica = app
        .replica_configured(|config| {
            config.passwords.argon2_memory_kib = 8192;
            config.passwords.argon2_iterations = 3;
        })
        .await;
    let mut service = replica.service().await;
    let verify = || pb::VerifyPasswordRequest {
        key: Some(Key::UserId(user_id)),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };

    service.admin.verify_password(verify()).await.unwrap();
    let upgraded = hash(&app, user_id).await;
    service.admin.verify_password(verify()).await.unwrap();
    let kept = hash(&app, user_id).await;

    assert!(
        before.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{before}"
    );
    assert!(
        upgraded.starts_with("$argon2id$v=19$m=8192,t=3,p=1$"),
        "{upgraded}"
    );
    assert_eq!(kept, upgraded, "a current hash is not replaced");
}

#[tokio::test]
async fn p5_page_sizes_and_the_lifetime_of_page_tokens_are_configured() {
    let app = TestApp::configured(|config| {
        config.pages.default_size = 1;
        config.pages.max_size = 2;
        config.pages.token_days = 1;
    })
    .await;
    let mut service = app.service().await;
    for _ in 0..4 {
        service
            .create(pb::CreateUserRequest::default())
            .await
            .unwrap();
    }
    let list = |page_size, page_token: &str| pb::ListProfilesRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };

    let default = service
        .users
        .list_profiles(list(0, ""))
        .await
        .unwrap()
        .into_inner();
    let largest = service
        .users
        .list_profiles(list(100, ""))
        .await
        .unwrap()
        .into_inner();
    app.clock.advance(TimeDelta::hours(24));
    let next = service
        .users
        .list_profiles(list(2, &largest.next_page_token))
        .await
        .unwrap()
        .into_inner();
    app.clock.advance(TimeDelta::seconds(1));
    let late = fault(
        service
            .users
            .list_profiles(list(2, &largest.next_page_token))
            .await,
    );

    assert_eq!(
        (
            default.profiles.len(),
            largest.profiles.len(),
            next.profiles.len()
        ),
        (1, 2, 2)
    );
    assert_eq!(
        (late.code, late.reason.as_str()),
        (Code::InvalidArgument, "PAGE_TOKEN_EXPIRED")
    );
}

#[tokio::test]
async fn p55_the_deadline_of_a_call_is_configured() {
    let app = TestApp::configured(|config| config.deadlines.call_seconds = 1).await;
    let user_id = app
        .service()
        .await
        .create(pb::CreateUserRequest::default())
        .await
        .unwrap()
        .user_id;
    let mut locked = app.database.connect().await;
    let lock = format!("begin; select 1 from users where user_id = {user_id} for update");
    locked.batch_execute(&lock).await.unwrap();
    let request = pb::UpdateProfileRequest {
        user_id,
        profile: Some(pb::Profile {
            nickname: "Ann".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["nickname".to_owned()],
        }),
        ..Default::default()
    };

    let begun = std::time::Instant::now();
    let late = fault(app.service().await.users.update_profile(request).await);

    assert_eq!(
        (late.code, late.reason.as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(8),
        "the default is ten seconds"
    );
}
