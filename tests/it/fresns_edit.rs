//! What Fresns' edit endpoint needs of emails and phones; its rules of passwords and links stand
//! with those.

use tonic::Code;
use user_service::convert::pb::CodePurpose;

use crate::support::{Asks, TestApp, fault, given, wrong};

const EMAIL: &str = "ann@example.org";
const PHONE: &str = "+8613800138000";

#[tokio::test]
async fn fresns_a_first_email_needs_the_new_code_alone() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("", PHONE), "").await;

    let bare = fault(ann.update(Asks::email(EMAIL)).await);
    let code = app.bind_code(&mut ann, EMAIL).await;
    let other = fault(
        ann.update(Asks::email("other@example.org").new_code(&code))
            .await,
    );
    let bound = ann
        .update(Asks::email(EMAIL).new_code(&code))
        .await
        .unwrap();

    assert_eq!(
        (bare.code, bare.told()),
        (
            Code::InvalidArgument,
            ("PROOF_REQUIRED", vec!["proof.new_code"])
        )
    );
    assert_eq!(
        other.reason, "CODE_NOT_REQUESTED",
        "the code is checked against the very address"
    );
    assert_eq!(
        (bound.email.as_deref(), bound.email_verified),
        (Some(EMAIL), true)
    );
}

#[tokio::test]
async fn fresns_replacing_an_email_needs_both_codes() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, ""), "").await;
    let code = app.bind_code(&mut ann, "new@example.org").await;
    let current = app.code(&mut ann, CodePurpose::Replace, EMAIL).await;
    let asks = Asks::email("new@example.org");

    let new_alone = fault(ann.update(asks.clone().new_code(&code)).await);
    let old_alone = fault(ann.update(asks.clone().code(&current)).await);
    let wrong_old = fault(
        ann.update(asks.clone().code(&wrong(&current)).new_code(&code))
            .await,
    );
    let swapped = fault(
        ann.update(asks.clone().code(&code).new_code(&current))
            .await,
    );
    let replaced = ann
        .update(asks.code(&current).new_code(&code))
        .await
        .unwrap();

    assert_eq!(
        (new_alone.code, new_alone.reason.as_str()),
        (Code::FailedPrecondition, "CURRENT_CODE_REQUIRED")
    );
    assert_eq!(new_alone.preconditions, ["proof.code"]);
    assert_eq!(old_alone.told(), ("PROOF_REQUIRED", vec!["proof.new_code"]));
    assert_eq!(wrong_old.told(), ("CODE_INVALID", vec!["proof.code"]));
    assert_eq!(
        swapped.told(),
        ("CODE_INVALID", vec!["proof.new_code", "proof.code"])
    );
    assert_eq!(
        (replaced.email.as_deref(), replaced.email_verified),
        (Some("new@example.org"), true)
    );
}

#[tokio::test]
async fn fresns_a_first_phone_needs_the_new_code_alone() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, ""), "").await;

    let bare = fault(ann.update(Asks::phone(PHONE)).await);
    let code = app.bind_code(&mut ann, PHONE).await;
    let bound = ann
        .update(Asks::phone(PHONE).new_code(&code))
        .await
        .unwrap();

    assert_eq!(bare.told(), ("PROOF_REQUIRED", vec!["proof.new_code"]));
    assert_eq!(
        (bound.phone.as_deref(), bound.phone_verified),
        (Some(PHONE), true)
    );
}

#[tokio::test]
async fn fresns_replacing_a_phone_needs_both_codes() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("", PHONE), "").await;
    let code = app.bind_code(&mut ann, "+8613900139000").await;
    let asks = Asks::phone("+8613900139000").new_code(&code);

    let new_alone = fault(ann.update(asks.clone()).await);
    let current = app.code(&mut ann, CodePurpose::Replace, PHONE).await;
    let replaced = ann.update(asks.code(&current)).await.unwrap();

    assert_eq!(new_alone.reason, "CURRENT_CODE_REQUIRED");
    assert_eq!(
        (replaced.phone.as_deref(), replaced.phone_verified),
        (Some("+8613900139000"), true)
    );
}

#[tokio::test]
async fn fresns_a_code_type_that_contradicts_the_field_is_refused() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, PHONE), "").await;

    let email = fault(
        ann.update(
            Asks::email("new@example.org")
                .texted("123456")
                .new_code("123456"),
        )
        .await,
    );
    let phone = fault(
        ann.update(
            Asks::phone("+8613900139000")
                .mailed("123456")
                .new_code("123456"),
        )
        .await,
    );
    let mut without = Asks::password("amber-harbour-51").code("123456");
    without.0.proof.as_mut().unwrap().channel = 0;
    let without = fault(ann.update(without).await);

    for refused in [email, phone] {
        assert_eq!(
            refused.fields,
            [("proof.channel".to_owned(), "FIELD_FORMAT".to_owned())]
        );
    }
    assert_eq!(
        without.fields,
        [("proof.channel".to_owned(), "FIELD_REQUIRED".to_owned())]
    );
}

#[tokio::test]
async fn fresns_mail_and_phone_in_one_call_only_where_one_of_them_needs_a_code() {
    let app = TestApp::new().await;
    let account = user_service::convert::pb::Account {
        email_verified: false,
        ..given(EMAIL, PHONE)
    };
    let (_, mut ann) = app.join(account, "").await;
    let code = app.bind_code(&mut ann, "+8613900139000").await;
    let current = app.code(&mut ann, CodePurpose::Replace, PHONE).await;
    let phone = Asks::phone("+8613900139000").code(&current).new_code(&code);

    let both = fault(
        ann.update(phone.clone().and(Asks::email("new@example.org")))
            .await,
    );
    let done = ann.update(phone.and(Asks::clear("email"))).await.unwrap();

    assert_eq!(both.told(), ("PROOF_REQUIRED", vec!["account.phone"]));
    assert_eq!(
        (done.email, done.phone.as_deref()),
        (None, Some("+8613900139000")),
        "an unverified one needs none"
    );
}

#[tokio::test]
async fn fresns_an_address_of_anybody_else_is_refused_and_no_code_is_burnt() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = app.join(given(EMAIL, ""), "").await;
    app.join(given("", PHONE), "").await;
    ann.send_bind(PHONE).await.unwrap();
    let code = crate::send_code::digits(&app, user_id, "bind").await;

    for _ in 0..2 {
        let taken = fault(ann.update(Asks::phone(PHONE).new_code(&code)).await);
        assert_eq!(
            (taken.code, taken.told()),
            (Code::AlreadyExists, ("PHONE_TAKEN", vec!["account.phone"]))
        );
    }
}

#[tokio::test]
async fn fresns_the_last_login_needs_the_token_alone() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, ""), "violet-lantern-93").await;
    let seconds = crate::support::start_time().timestamp() - 60;
    let last_login_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    let account = user_service::convert::pb::Account {
        last_login_at,
        ..Default::default()
    };

    let done = ann
        .update(Asks(crate::support::named(account, &["last_login_at"])))
        .await
        .unwrap();

    assert_eq!(done.last_login_at, last_login_at);
    assert_eq!(app.queued(EMAIL).await, [""; 0]);
}
