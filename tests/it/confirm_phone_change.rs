//! ConfirmPhoneChange, the twin of ConfirmEmailChange.

use futures_util::future::join_all;
use tonic::{Code, Status};
use user_service::{
    convert::pb::{self, CodePurpose},
    model::scope::Scope,
};

use crate::support::{Client, TestApp, fault, given, wrong};

const OLD: &str = "+8613800138000";
const NEW: &str = "+8613900139000";

fn request(phone: &str, code: &str, current: &str) -> pb::ConfirmPhoneChangeRequest {
    pb::ConfirmPhoneChangeRequest {
        phone: phone.to_owned(),
        code: code.to_owned(),
        current_phone_code: current.to_owned(),
        ..Default::default()
    }
}

async fn confirm(
    client: &mut Client,
    request: pb::ConfirmPhoneChangeRequest,
) -> Result<pb::Account, Status> {
    Ok(client
        .users
        .confirm_phone_change(request)
        .await?
        .into_inner()
        .account
        .unwrap())
}

#[tokio::test]
async fn p71_a_verified_phone_is_replaced_by_two_codes_whatever_the_deployment_waives() {
    let app = TestApp::configured(|config| config.email_change.require_current_code = false).await;
    let (_, mut ann) = app.join(given("", OLD), "").await;
    let code = app.bind_code(&mut ann, NEW).await;

    let missing = fault(confirm(&mut ann, request(NEW, &code, "")).await);
    let current = app.code(&mut ann, CodePurpose::Replace, OLD).await;
    let swapped = fault(confirm(&mut ann, request(NEW, &wrong(&code), &wrong(&current))).await);
    let still = ann.account(0).await;
    let replaced = confirm(&mut ann, request(NEW, &code, &current))
        .await
        .unwrap();
    let again = fault(confirm(&mut ann, request(NEW, &code, &current)).await);

    assert_eq!(
        (missing.code, missing.reason.as_str()),
        (Code::FailedPrecondition, "CURRENT_CODE_REQUIRED")
    );
    assert_eq!(missing.preconditions, ["current_phone_code"]);
    assert_eq!(
        swapped.told(),
        ("CODE_INVALID", vec!["code", "current_phone_code"])
    );
    assert_eq!(
        still.phone.as_deref(),
        Some(OLD),
        "it stays in effect until then"
    );
    assert_eq!(
        (replaced.phone.as_deref(), replaced.phone_verified),
        (Some(NEW), true)
    );
    assert_eq!(again.reason, "CODE_USED");
    assert_eq!(
        app.queued(OLD).await,
        ["code.replace", "notice.phone_changed"]
    );
}

#[tokio::test]
async fn p71_a_first_phone_needs_its_own_code_alone_and_the_email_hears_of_it() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;

    let code = app.bind_code(&mut ann, NEW).await;
    let bound = confirm(&mut ann, request(NEW, &code, "")).await.unwrap();

    assert_eq!(
        (bound.phone.as_deref(), bound.phone_verified),
        (Some(NEW), true)
    );
    assert_eq!(bound.email.as_deref(), Some("ann@example.org"));
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.phone_changed"]
    );
}

#[tokio::test]
async fn p71_the_current_unverified_phone_is_verified() {
    let app = TestApp::new().await;
    let account = pb::Account {
        phone_verified: false,
        ..given("", OLD)
    };
    let (_, mut ann) = app.join(account, "").await;

    let code = app.bind_code(&mut ann, OLD).await;
    let verified = confirm(&mut ann, request(OLD, &code, "")).await.unwrap();
    let unchanged = fault(confirm(&mut ann, request(OLD, "", "")).await);
    let once_more = fault(confirm(&mut ann, request(OLD, &code, "")).await);

    assert_eq!(
        (verified.phone.as_deref(), verified.phone_verified),
        (Some(OLD), true)
    );
    assert_eq!(unchanged.told(), ("INVALID_REQUEST", vec!["code"]));
    assert_eq!(once_more.reason, "CODE_USED");
    assert_eq!(
        app.queued(OLD).await,
        ["code.bind"],
        "no number changed, so there is no notice"
    );
}

#[tokio::test]
async fn p71_a_verified_phone_cannot_be_bound_again() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("", OLD), "").await;

    let refused = fault(confirm(&mut ann, request(OLD, "123456", "")).await);

    assert_eq!(
        (refused.reason.as_str(), refused.preconditions),
        ("ADDRESS_UNCHANGED", vec!["phone".to_owned()])
    );
}

#[tokio::test]
async fn p71_a_taken_phone_is_told_only_after_the_right_code() {
    let app = TestApp::new().await;
    let mut users = Vec::new();
    for name in ["ann@example.org", "ben@example.org"] {
        let (_, mut user) = app.join(given(name, ""), "").await;
        let code = app.bind_code(&mut user, NEW).await;
        users.push((user, code));
    }
    let (mut ben, ben_code) = users.pop().unwrap();
    let (mut ann, ann_code) = users.pop().unwrap();

    confirm(&mut ann, request(NEW, &ann_code, ""))
        .await
        .unwrap();
    let guessed = fault(confirm(&mut ben, request(NEW, &wrong(&ben_code), "")).await);
    let right = fault(confirm(&mut ben, request(NEW, &ben_code, "")).await);

    assert_eq!(guessed.reason, "CODE_INVALID");
    assert_eq!(
        (right.code, right.told()),
        (Code::AlreadyExists, ("PHONE_TAKEN", vec!["phone"]))
    );
    assert_eq!(right.resource.as_deref(), Some("phone"));
}

#[tokio::test]
async fn p71_violations_are_reported_at_once_and_others_are_not_its_own() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;

    let empty = fault(confirm(&mut ann, request("", "", "")).await);
    let faulty = pb::ConfirmPhoneChangeRequest {
        request_id: "x".to_owned(),
        ..request("030123456", "12345a", "1")
    };
    let faulty = fault(confirm(&mut ann, faulty).await);
    let other = pb::ConfirmPhoneChangeRequest {
        user_id: 999,
        ..Default::default()
    };

    assert_eq!(empty.told(), ("INVALID_REQUEST", vec!["phone", "code"]));
    assert_eq!(
        faulty.told(),
        (
            "INVALID_REQUEST",
            vec!["request_id", "phone", "code", "current_phone_code"]
        )
    );
    assert_eq!(fault(confirm(&mut ann, other).await).reason, "NOT_OWNER");
}

#[tokio::test]
async fn p71_a_service_needs_accounts_write_and_the_codes_all_the_same() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = app.join(given("", OLD), "").await;
    let code = app.bind_code(&mut ann, NEW).await;
    let current = app.code(&mut ann, CodePurpose::Replace, OLD).await;
    let whole = pb::ConfirmPhoneChangeRequest {
        user_id,
        ..request(NEW, &code, &current)
    };

    let mut weak = app.service_with(&[Scope::CodesSend]).await;
    let weak = fault(confirm(&mut weak, whole.clone()).await);
    let mut service = app.service_with(&[Scope::AccountsWrite]).await;
    let nobody = fault(confirm(&mut service, request(NEW, &code, &current)).await);
    let missing = pb::ConfirmPhoneChangeRequest {
        user_id,
        ..request(NEW, &code, "")
    };
    let missing = fault(confirm(&mut service, missing).await);
    let done = confirm(&mut service, whole).await.unwrap();

    assert_eq!(weak.metadata["requiredScope"], "accounts.write");
    assert_eq!(nobody.told(), ("INVALID_REQUEST", vec!["user_id"]));
    assert_eq!(missing.reason, "CURRENT_CODE_REQUIRED");
    assert!(done.phone_verified);
}

#[tokio::test]
async fn p20_p71_a_confirmation_repeated_ten_times_is_one() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let code = app.bind_code(&mut ann, NEW).await;
    let whole = pb::ConfirmPhoneChangeRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..request(NEW, &code, "")
    };

    let calls = (0..10).map(|_| {
        let (mut ann, whole) = (ann.clone(), whole.clone());
        async move { confirm(&mut ann, whole).await }
    });
    let mut replies = Vec::new();
    for answer in join_all(calls).await {
        match answer {
            Ok(reply) => replies.push(reply),
            Err(_) => assert_eq!(fault(answer).reason, "REQUEST_IN_PROGRESS"),
        }
    }
    replies.push(confirm(&mut ann, whole.clone()).await.unwrap());
    let other = pb::ConfirmPhoneChangeRequest {
        code: "000000".to_owned(),
        ..whole
    };

    assert!(
        replies.iter().all(|reply| *reply == replies[0]),
        "{replies:?}"
    );
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.phone_changed"]
    );
    assert_eq!(
        fault(confirm(&mut ann, other).await).reason,
        "REQUEST_ID_REUSED"
    );
}
