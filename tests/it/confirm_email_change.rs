//! ConfirmEmailChange: the flow with one code, the flow with two, and who may.

use futures_util::future::join_all;
use tonic::Code;
use user_service::{
    convert::pb::{self, CodePurpose},
    model::scope::Scope,
};

use crate::support::{Asks, TestApp, fault, given, patiently, wrong};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";

#[tokio::test]
async fn p28_a_verified_email_is_replaced_by_two_codes() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("Ann@Example.org", ""), "").await;
    let code = app.bind_code(&mut ann, "New@Example.org").await;

    let missing = fault(ann.confirm("new@example.org", &code, "").await);
    let current = app
        .code(&mut ann, CodePurpose::Replace, "Ann@Example.org")
        .await;
    let still = ann.account(0).await;
    let swapped = fault(
        ann.confirm("new@example.org", &wrong(&code), &wrong(&current))
            .await,
    );
    let replaced = ann
        .confirm("new@example.org", &code, &current)
        .await
        .unwrap();

    assert_eq!(
        (missing.code, missing.reason.as_str()),
        (Code::FailedPrecondition, "CURRENT_CODE_REQUIRED")
    );
    assert_eq!(missing.preconditions, ["current_email_code"]);
    assert_eq!(
        still.email.as_deref(),
        Some("Ann@Example.org"),
        "36: it stays in force until then"
    );
    assert_eq!(
        swapped.told(),
        ("CODE_INVALID", vec!["code", "current_email_code"])
    );
    assert_eq!(
        (replaced.email.as_deref(), replaced.email_verified),
        (Some("new@example.org"), true)
    );
    assert_eq!(
        app.queued("Ann@Example.org").await,
        ["code.replace", "notice.email_changed"]
    );
}

#[tokio::test]
async fn p28_a_first_email_needs_its_own_code_alone() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("", "+8613800138000"), "").await;

    let code = app.bind_code(&mut ann, "new@example.org").await;
    let bound = ann.confirm("NEW@example.org", &code, "").await.unwrap();

    assert_eq!(
        (bound.email.as_deref(), bound.email_verified),
        (Some("NEW@example.org"), true)
    );
}

#[tokio::test]
async fn p28_by_configuration_the_new_code_alone_replaces_as_lancens_does() {
    let app = TestApp::configured(|config| config.email_change.require_current_code = false).await;
    let (_, mut ann) = app
        .join(given("ann@example.org", "+8613800138000"), "")
        .await;

    let code = app.bind_code(&mut ann, "new@example.org").await;
    let replaced = ann.confirm("new@example.org", &code, "").await.unwrap();
    let code = app.bind_code(&mut ann, "+8613900139000").await;
    let phone = fault(
        ann.update(Asks::phone("+8613900139000").new_code(&code))
            .await,
    );

    assert_eq!(replaced.email.as_deref(), Some("new@example.org"));
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.email_changed"]
    );
    assert_eq!(
        phone.reason, "CURRENT_CODE_REQUIRED",
        "a phone needs both whatever the policy of emails"
    );
}

#[tokio::test]
async fn p28_a_code_to_the_bound_address_verifies_it() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        ..given("ann@example.org", "")
    };
    let (_, mut ann) = app.join(account, "").await;

    let code = app.bind_code(&mut ann, "ann@example.org").await;
    let verified = ann.confirm("ann@example.org", &code, "").await.unwrap();
    let again = fault(ann.confirm("ann@example.org", &code, "").await);

    assert_eq!(
        (verified.email.as_deref(), verified.email_verified),
        (Some("ann@example.org"), true)
    );
    assert_eq!(
        again.reason, "CODE_USED",
        "it goes before ADDRESS_UNCHANGED"
    );
    assert_eq!(
        app.queued("ann@example.org").await,
        ["code.bind"],
        "no address changed, so there is no notice"
    );
}

#[tokio::test]
async fn p28_a_verified_email_cannot_be_bound_again() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;

    let confirmed = fault(ann.confirm("ANN@example.org", "123456", "").await);
    let updated = fault(ann.update(Asks::email("ann@example.org")).await);

    assert_eq!(
        (confirmed.reason.as_str(), confirmed.preconditions),
        ("ADDRESS_UNCHANGED", vec!["email".to_owned()])
    );
    assert_eq!(
        (updated.reason.as_str(), updated.preconditions),
        ("ADDRESS_UNCHANGED", vec!["account.email".to_owned()])
    );
}

#[tokio::test]
async fn p51_a_service_needs_accounts_write_and_the_codes_all_the_same() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let code = app.bind_code(&mut ann, "new@example.org").await;
    let current = app
        .code(&mut ann, CodePurpose::Replace, "ann@example.org")
        .await;
    let request = |code: &str, current: &str| pb::ConfirmEmailChangeRequest {
        user_id,
        email: "new@example.org".to_owned(),
        code: code.to_owned(),
        current_email_code: current.to_owned(),
        ..Default::default()
    };

    let mut weak = app.service_with(&[Scope::CodesSend]).await;
    let weak = fault(
        weak.users
            .confirm_email_change(request(&code, &current))
            .await,
    );
    let mut service = app.service_with(&[Scope::AccountsWrite]).await;
    let missing = fault(service.users.confirm_email_change(request(&code, "")).await);
    let wrong = fault(
        service
            .users
            .confirm_email_change(request(&wrong(&code), &current))
            .await,
    );
    let done = service
        .users
        .confirm_email_change(request(&code, &current))
        .await
        .unwrap()
        .into_inner();

    assert_eq!(weak.metadata["requiredScope"], "accounts.write");
    assert_eq!(
        (missing.reason.as_str(), wrong.told()),
        ("CURRENT_CODE_REQUIRED", ("CODE_INVALID", vec!["code"]))
    );
    assert!(done.account.unwrap().email_verified);
}

#[tokio::test]
async fn p29_faults_and_missing_fields_are_told_at_once() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;

    let empty = fault(ann.confirm("", "", "").await);
    let faulty = fault(ann.confirm("nobody", "12345a", "1").await);
    let other = pb::ConfirmEmailChangeRequest {
        user_id: 999,
        ..Default::default()
    };

    assert_eq!(empty.told(), ("INVALID_REQUEST", vec!["email", "code"]));
    assert!(
        empty
            .fields
            .iter()
            .all(|(_, reason)| reason == "FIELD_REQUIRED")
    );
    assert_eq!(
        faulty.told(),
        (
            "INVALID_REQUEST",
            vec!["email", "code", "current_email_code"]
        )
    );
    assert_eq!(
        fault(ann.users.confirm_email_change(other).await).reason,
        "NOT_OWNER"
    );
}

#[tokio::test]
async fn p20_a_confirmation_repeated_ten_times_is_one() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("", "+8613800138000"), "").await;
    let code = app.bind_code(&mut ann, "new@example.org").await;
    let request = pb::ConfirmEmailChangeRequest {
        email: "new@example.org".to_owned(),
        code,
        request_id: ID.to_owned(),
        ..Default::default()
    };

    let tries = (0..10).map(|_| {
        let (mut ann, request) = (ann.clone(), request.clone());
        async move { ann.users.confirm_email_change(request).await }
    });
    let mut replies = Vec::new();
    for answer in join_all(tries).await {
        match answer {
            Ok(reply) => replies.push(reply.into_inner()),
            Err(_) => assert_eq!(fault(answer).reason, "REQUEST_IN_PROGRESS"),
        }
    }
    replies.push(
        ann.users
            .confirm_email_change(request.clone())
            .await
            .unwrap()
            .into_inner(),
    );
    let other = pb::ConfirmEmailChangeRequest {
        code: "000000".to_owned(),
        ..request
    };
    let reused = fault(ann.users.confirm_email_change(other).await);

    assert!(
        replies.iter().all(|reply| *reply == replies[0]),
        "{replies:?}"
    );
    assert_eq!(app.queued("+8613800138000").await, ["notice.email_changed"]);
    assert_eq!(reused.reason, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn p40_twenty_right_confirmations_at_once_are_one_success() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let code = app.bind_code(&mut ann, "new@example.org").await;
    let current = app
        .code(&mut ann, CodePurpose::Replace, "ann@example.org")
        .await;

    let tries =
        (0..20).map(|_| {
            let (mut ann, code, current) = (ann.clone(), code.clone(), current.clone());
            async move {
                patiently(async || ann.confirm("new@example.org", &code, &current).await).await
            }
        });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);
    let later = fault(ann.confirm("new@example.org", &code, &current).await);

    assert_eq!((won.len(), lost.len()), (1, 19));
    assert_eq!(later.reason, "CODE_USED");
    assert_eq!(
        app.queued("ann@example.org").await,
        ["code.replace", "notice.email_changed"]
    );
}

#[tokio::test]
async fn p30_three_who_confirm_one_address_at_once_are_one_owner() {
    let app = TestApp::new().await;
    // Someone who never proved it does not matter.
    let squatter = pb::Account {
        email_verified: false,
        ..given("new@example.org", "+8613800138009")
    };
    app.join(squatter, "").await;
    let mut tries = Vec::new();
    for number in 0..3 {
        let (_, mut user) = app
            .join(given("", &format!("+861380013800{number}")), "")
            .await;
        let code = app.bind_code(&mut user, "new@example.org").await;
        tries.push(async move { user.confirm("new@example.org", &code, "").await });
    }

    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!((won.len(), lost.len()), (1, 2));
    for answer in lost {
        let refused = fault(answer);
        assert_eq!(
            (refused.code, refused.told()),
            (Code::AlreadyExists, ("EMAIL_TAKEN", vec!["email"]))
        );
    }
}
