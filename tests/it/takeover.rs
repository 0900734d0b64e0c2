//! A stolen user token does not make the account the thief's own (details 27 and 28), step by step.

use chrono::TimeDelta;
use tonic::Code;
use user_service::convert::pb::{self, CodePurpose};

use crate::support::{Asks, Client, TestApp, fault, given, member, named};

const OWNER: &str = "owner@example.org";
const PASSWORD: &str = "violet-lantern-93";
const NEW_PASSWORD: &str = "amber-harbour-51";
const THIEFS_PHONE: &str = "+8613900139000";

/// An account with a verified email and a password, and the client of someone who stole its token.
async fn stolen(app: &TestApp) -> (i64, Client) {
    app.join(given(OWNER, ""), PASSWORD).await
}

async fn bind_phone(app: &TestApp, thief: &mut Client) {
    let code = app.bind_code(thief, THIEFS_PHONE).await;
    thief
        .update(Asks::phone(THIEFS_PHONE).new_code(&code))
        .await
        .unwrap();
}

#[tokio::test]
async fn p27_a_thief_sets_no_password_without_the_old_one_or_a_code() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;

    let login = fault(thief.update(Asks::password(NEW_PASSWORD)).await);
    let wallet = fault(thief.update(Asks::wallet_password(NEW_PASSWORD)).await);

    assert_eq!(
        (login.code, login.told()),
        (
            Code::InvalidArgument,
            ("PROOF_REQUIRED", vec!["new_password"])
        )
    );
    assert_eq!(
        wallet.told(),
        ("PROOF_REQUIRED", vec!["new_wallet_password"])
    );
}

#[tokio::test]
async fn p27_a_thief_guesses_five_times() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;
    for _ in 0..5 {
        let guess = Asks::password(NEW_PASSWORD).current("a wild guess");
        assert_eq!(fault(thief.update(guess).await).reason, "PASSWORD_MISMATCH");
    }

    let right = fault(
        thief
            .update(Asks::password(NEW_PASSWORD).current(PASSWORD))
            .await,
    );

    assert_eq!(
        (right.code, right.reason.as_str()),
        (Code::ResourceExhausted, "PASSWORD_ATTEMPTS_EXCEEDED")
    );
}

#[tokio::test]
async fn p27_a_code_for_the_password_goes_to_the_owner() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;

    thief.send_mail(CodePurpose::Password, "").await.unwrap();
    let elsewhere = fault(
        thief
            .send_mail(CodePurpose::Password, "thief@example.org")
            .await,
    );

    assert_eq!(app.queued(OWNER).await, ["code.password"]);
    assert_eq!(
        elsewhere.fields,
        [("email".to_owned(), "FIELD_FORMAT".to_owned())]
    );
}

#[tokio::test]
async fn p28_a_thief_does_not_replace_the_email() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;
    let code = app.bind_code(&mut thief, "thief@example.org").await;

    let updated = fault(
        thief
            .update(Asks::email("thief@example.org").new_code(&code))
            .await,
    );
    let confirmed = fault(thief.confirm("thief@example.org", &code, "").await);

    assert_eq!(
        (updated.reason.as_str(), updated.preconditions),
        ("CURRENT_CODE_REQUIRED", vec!["proof.code".to_owned()])
    );
    assert_eq!(confirmed.reason, "CURRENT_CODE_REQUIRED");
}

#[tokio::test]
async fn p28_a_thief_does_not_clear_the_email() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;
    bind_phone(&app, &mut thief).await;

    let bare = fault(thief.update(Asks::clear("email")).await);
    let by_text = fault(thief.update(Asks::clear("email").texted("123456")).await);

    assert_eq!(bare.told(), ("PROOF_REQUIRED", vec!["proof.code"]));
    assert_eq!(
        by_text.fields,
        [("proof.channel".to_owned(), "FIELD_FORMAT".to_owned())]
    );
}

#[tokio::test]
async fn p65_a_phone_that_a_thief_binds_never_opens_the_account_and_the_owner_is_told() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;
    bind_phone(&app, &mut thief).await;
    assert_eq!(app.queued(OWNER).await, ["notice.phone_changed"]);
    app.clock.advance(TimeDelta::days(365));
    let (owner, _) = stolen_account(&app).await;
    let mut thief = app.user(owner).await;

    for purpose in [
        CodePurpose::Password,
        CodePurpose::WalletPassword,
        CodePurpose::Unlink,
    ] {
        let refused = fault(thief.send_text(purpose, "").await);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::FailedPrecondition, "ADDRESS_NOT_CONFIRMED")
        );
        assert_eq!(
            (refused.retry, refused.preconditions),
            (None, vec!["phone".to_owned()])
        );
    }
    let shown = fault(
        thief
            .update(Asks::password(NEW_PASSWORD).texted("123456"))
            .await,
    );
    assert_eq!(
        (shown.reason.as_str(), shown.preconditions),
        ("ADDRESS_NOT_CONFIRMED", vec!["proof.channel".to_owned()])
    );
    let account = thief.account(0).await;
    assert_eq!(
        (
            account.email_confirmed,
            account.phone_verified,
            account.phone_confirmed
        ),
        (true, true, false)
    );
}

/// The one user with the owner's email, as a service finds it.
async fn stolen_account(app: &TestApp) -> (i64, pb::Account) {
    let mut service = app.service().await;
    let found = pb::get_profile_request::Key::Email(OWNER.to_owned());
    let user_id = service.get_by(found).await.unwrap().user_id;
    let account = service.account(user_id).await;
    (user_id, account)
}

#[tokio::test]
async fn p65_a_thief_does_not_confirm_a_phone_by_a_second_one_or_by_naming_it_again() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;
    bind_phone(&app, &mut thief).await;
    app.clock.advance(TimeDelta::minutes(2));
    let other = app.bind_code(&mut thief, "+8613900139001").await;
    let current = app
        .code(&mut thief, CodePurpose::Replace, THIEFS_PHONE)
        .await;

    let replaced = thief
        .update(
            Asks::phone("+8613900139001")
                .code(&current)
                .new_code(&other),
        )
        .await
        .unwrap();
    let again = fault(thief.update(Asks::phone("+8613900139001")).await);
    let guessed = fault(
        thief
            .update(Asks::phone("+8613900139001").current("a wild guess"))
            .await,
    );

    assert_eq!(
        (replaced.phone_verified, replaced.phone_confirmed),
        (true, false)
    );
    assert_eq!(
        (again.reason.as_str(), guessed.reason.as_str()),
        ("ADDRESS_UNCHANGED", "PASSWORD_MISMATCH")
    );
    assert!(!thief.account(0).await.phone_confirmed);
}

#[tokio::test]
async fn p65_a_phone_that_is_not_confirmed_changes_no_email() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;
    bind_phone(&app, &mut thief).await;
    let code = app
        .code(&mut thief, CodePurpose::Replace, THIEFS_PHONE)
        .await;
    let new = app.bind_code(&mut thief, "thief@example.org").await;

    let cleared = fault(thief.update(Asks::clear("email").texted(&code)).await);
    let replaced = fault(
        thief
            .update(
                Asks::email("thief@example.org")
                    .texted(&code)
                    .new_code(&new),
            )
            .await,
    );

    for refused in [cleared, replaced] {
        assert_eq!(
            refused.fields,
            [("proof.channel".to_owned(), "FIELD_FORMAT".to_owned())]
        );
    }
}

#[tokio::test]
async fn p65_the_password_confirms_an_address_at_once_or_later() {
    let app = TestApp::new().await;
    let (_, mut ann) = stolen(&app).await;
    let (_, mut ben) = app.join(given("ben@example.org", ""), PASSWORD).await;
    let code = app.bind_code(&mut ann, "+8613900139001").await;
    bind_phone(&app, &mut ben).await;

    let at_once = ann
        .update(
            Asks::phone("+8613900139001")
                .new_code(&code)
                .current(PASSWORD),
        )
        .await
        .unwrap();
    let before = ben.account(0).await;
    let later = ben
        .update(Asks::phone(THIEFS_PHONE).current(PASSWORD))
        .await
        .unwrap();
    let code = app
        .code(&mut ben, CodePurpose::Password, THIEFS_PHONE)
        .await;
    let done = ben
        .update(Asks::password(NEW_PASSWORD).texted(&code))
        .await
        .unwrap();

    assert!(
        at_once.phone_confirmed
            && !before.phone_confirmed
            && later.phone_confirmed
            && done.has_password
    );
    assert_ne!(before.etag, later.etag);
}

#[tokio::test]
async fn p65_a_code_sent_to_a_confirmed_address_confirms_one_of_the_other_channel() {
    let app = TestApp::new().await;
    let (_, mut ann) = stolen(&app).await;
    let (_, mut ben) = app.join(given("ben@example.org", ""), PASSWORD).await;
    bind_phone(&app, &mut ann).await;

    let code = app.code(&mut ann, CodePurpose::Replace, OWNER).await;
    let later = ann
        .update(Asks::phone(THIEFS_PHONE).mailed(&code))
        .await
        .unwrap();
    let code = app
        .code(&mut ben, CodePurpose::Replace, "ben@example.org")
        .await;
    let new = app.bind_code(&mut ben, "+8613900139001").await;
    let at_once = ben
        .update(Asks::phone("+8613900139001").mailed(&code).new_code(&new))
        .await
        .unwrap();

    assert!(later.phone_confirmed && at_once.phone_confirmed);
    let used = fault(ann.update(Asks::clear("phone").texted("123456")).await);
    assert_eq!(
        used.reason, "CODE_NOT_REQUESTED",
        "a confirmed phone protects itself"
    );
}

#[tokio::test]
async fn p65_the_owner_removes_what_a_thief_bound_by_password_or_by_a_code_to_the_email() {
    let app = TestApp::new().await;
    let (_, mut ann) = stolen(&app).await;
    bind_phone(&app, &mut ann).await;

    let bare = fault(ann.update(Asks::clear("phone")).await);
    let by_password = ann
        .update(Asks::clear("phone").current(PASSWORD))
        .await
        .unwrap();
    app.clock.advance(TimeDelta::days(1));
    let mut ann = app.user(by_password.user_id).await;
    bind_phone(&app, &mut ann).await;
    let code = app.code(&mut ann, CodePurpose::Replace, OWNER).await;
    let by_code = ann
        .update(Asks::clear("phone").mailed(&code))
        .await
        .unwrap();
    app.clock.advance(TimeDelta::days(1));
    let mut ann = app.user(by_password.user_id).await;
    bind_phone(&app, &mut ann).await;
    app.clock.advance(TimeDelta::minutes(2));
    let new = app.bind_code(&mut ann, "+8613900139002").await;
    let replaced = ann
        .update(
            Asks::phone("+8613900139002")
                .new_code(&new)
                .current(PASSWORD),
        )
        .await
        .unwrap();

    assert_eq!(bare.told(), ("PROOF_REQUIRED", vec!["proof.code"]));
    assert_eq!((by_password.phone, by_code.phone), (None, None));
    assert_eq!(
        (replaced.phone.as_deref(), replaced.phone_confirmed),
        (Some("+8613900139002"), true)
    );
}

#[tokio::test]
async fn p65_an_address_counts_as_confirmed_when_the_older_factors_are_gone_and_stays_so() {
    let app = TestApp::new().await;
    let (user_id, mut ann) = app.join(given(OWNER, ""), "").await;
    bind_phone(&app, &mut ann).await;
    let before = ann.account(0).await;

    app.service()
        .await
        .update(Asks::clear("email").of(user_id))
        .await
        .unwrap();
    let alone = ann.account(0).await;
    app.service()
        .await
        .update(Asks::email("later@example.org").of(user_id))
        .await
        .unwrap();
    let code = app.bind_code(&mut ann, "later@example.org").await;
    let with_later = ann.confirm("later@example.org", &code, "").await.unwrap();

    assert!(!before.phone_confirmed && alone.phone_confirmed);
    assert!(
        with_later.email_confirmed && with_later.phone_confirmed,
        "a factor that comes later is not older"
    );
}

#[tokio::test]
async fn p65_an_unverified_address_of_the_sign_up_is_confirmed_by_its_code_on_the_same_day() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        ..given(OWNER, "")
    };
    let (_, mut ann) = app.join(account, PASSWORD).await;

    let code = app.bind_code(&mut ann, OWNER).await;
    let verified = ann.confirm(OWNER, &code, "").await.unwrap();
    let code = app.code(&mut ann, CodePurpose::Password, OWNER).await;
    let done = ann.update(Asks::password(NEW_PASSWORD).mailed(&code)).await;

    assert!(verified.email_confirmed && done.is_ok());
}

#[tokio::test]
async fn p65_without_a_confirmed_address_the_password_unlinks() {
    let app = TestApp::new().await;
    let account = pb::Account {
        username: Some("ann.mixed".to_owned()),
        ..Default::default()
    };
    let (user_id, mut ann) = app.join(account, PASSWORD).await;
    let connection = app
        .service()
        .await
        .link(user_id, "github", "7")
        .await
        .unwrap()
        .connection_id;
    bind_phone(&app, &mut ann).await;

    let done = ann
        .update(Asks::unlink(connection).current(PASSWORD))
        .await
        .unwrap();

    assert!(done.connections.is_empty());
}

#[tokio::test]
async fn p65_nobody_sets_whether_an_address_is_confirmed() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = stolen(&app).await;
    let account = pb::Account {
        phone_confirmed: true,
        email_confirmed: true,
        ..given("", "+8613800138000")
    };

    let made = fault(service.create(member(account.clone())).await);
    let set = fault(
        service
            .update(Asks(named(account, &["email_confirmed"])).of(user_id))
            .await,
    );

    assert_eq!(
        made.paths(),
        ["account.email_confirmed", "account.phone_confirmed"]
    );
    assert_eq!(
        set.fields,
        [("update_mask".to_owned(), "IMMUTABLE_FIELD".to_owned())]
    );
}

#[tokio::test]
async fn p28_a_password_guards_an_account_whose_address_is_unverified() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        ..given(OWNER, "")
    };
    let (_, mut thief) = app.join(account, PASSWORD).await;

    // The unverified address protects nothing, not even itself.
    let code = app.bind_code(&mut thief, "thief@example.org").await;
    thief.confirm("thief@example.org", &code, "").await.unwrap();
    let sent = fault(thief.send_mail(CodePurpose::Password, "").await);
    let shown = fault(
        thief
            .update(Asks::password(NEW_PASSWORD).mailed("123456"))
            .await,
    );

    assert_eq!(
        (sent.reason.as_str(), shown.reason.as_str()),
        ("ADDRESS_NOT_CONFIRMED", "ADDRESS_NOT_CONFIRMED")
    );
    assert_eq!(
        app.queued(OWNER).await,
        [""; 0],
        "notices go to verified addresses alone"
    );
}

#[tokio::test]
async fn p28_an_older_verified_phone_guards_where_the_new_code_alone_replaces_an_email() {
    let app = TestApp::configured(|config| config.email_change.require_current_code = false).await;
    let (_, mut thief) = app.join(given(OWNER, "+8613800138000"), "").await;
    let code = app.bind_code(&mut thief, "thief@example.org").await;
    thief.confirm("thief@example.org", &code, "").await.unwrap();

    let sent = fault(thief.send_mail(CodePurpose::Password, "").await);
    let bare = fault(thief.update(Asks::password(NEW_PASSWORD)).await);

    assert_eq!(sent.reason, "ADDRESS_NOT_CONFIRMED");
    assert_eq!(bare.reason, "PROOF_REQUIRED");
    assert_eq!(app.queued(OWNER).await, ["notice.email_changed"]);
}

#[tokio::test]
async fn p27_a_thief_does_not_unlink() {
    let app = TestApp::new().await;
    let (user_id, mut thief) = stolen(&app).await;
    let connection = app
        .service()
        .await
        .link(user_id, "github", "7")
        .await
        .unwrap()
        .connection_id;

    let bare = fault(thief.update(Asks::unlink(connection)).await);
    let by_password = fault(
        thief
            .update(Asks::unlink(connection).current(PASSWORD))
            .await,
    );
    let other_purpose = app.code(&mut thief, CodePurpose::Replace, OWNER).await;
    let other_purpose = fault(
        thief
            .update(Asks::unlink(connection).mailed(&other_purpose))
            .await,
    );

    assert_eq!(
        bare.told(),
        ("PROOF_REQUIRED", vec!["unlink_connection_id"])
    );
    assert_eq!(
        by_password.reason, "PROOF_REQUIRED",
        "where an address is verified, only its code counts"
    );
    assert_eq!(other_purpose.reason, "CODE_NOT_REQUESTED");
}

#[tokio::test]
async fn p27_without_a_verified_address_unlinking_needs_the_password_if_there_is_one() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let name = |name: &str| pb::Account {
        username: Some(name.to_owned()),
        ..Default::default()
    };
    let (with, mut ann) = app.join(name("ann.mixed"), PASSWORD).await;
    let (without, mut ben) = app.join(name("ben.mixed"), "").await;
    let of_ann = service
        .link(with, "github", "7")
        .await
        .unwrap()
        .connection_id;
    let of_ben = service
        .link(without, "github", "8")
        .await
        .unwrap()
        .connection_id;

    let bare = fault(ann.update(Asks::unlink(of_ann)).await);
    let by_code = fault(
        ann.update(Asks::unlink(of_ann).mailed("123456").current(PASSWORD))
            .await,
    );
    let done = ann
        .update(Asks::unlink(of_ann).current(PASSWORD))
        .await
        .unwrap();
    let free = ben.update(Asks::unlink(of_ben)).await.unwrap();

    assert_eq!(
        bare.told(),
        ("PROOF_REQUIRED", vec!["proof.current_password"])
    );
    assert_eq!(by_code.reason, "ADDRESS_NOT_BOUND");
    assert!(done.connections.is_empty() && free.connections.is_empty());
}

#[tokio::test]
async fn p37_a_code_of_the_thiefs_own_account_opens_no_other() {
    let app = TestApp::new().await;
    let (_, mut thief) = stolen(&app).await;
    let (_, mut own) = app.join(given("thief@example.org", ""), "").await;
    let code = app
        .code(&mut own, CodePurpose::Password, "thief@example.org")
        .await;

    let refused = fault(
        thief
            .update(Asks::password(NEW_PASSWORD).mailed(&code))
            .await,
    );

    assert_eq!(refused.reason, "CODE_NOT_REQUESTED");
}

#[tokio::test]
async fn p28_an_address_that_came_verified_with_its_user_serves_at_once() {
    let app = TestApp::new().await;
    let (_, mut owner) = stolen(&app).await;

    let code = app.code(&mut owner, CodePurpose::Password, OWNER).await;
    let done = owner
        .update(Asks::password(NEW_PASSWORD).mailed(&code))
        .await
        .unwrap();

    assert!(done.has_password);
}

#[tokio::test]
async fn p28_a_first_address_of_an_account_without_a_password_serves_at_once() {
    let app = TestApp::new().await;
    let user_id = app.service().await.create_named("Ann").await.user_id;
    let mut ann = app.user(user_id).await;
    bind_phone(&app, &mut ann).await;

    let code = app
        .code(&mut ann, CodePurpose::Password, THIEFS_PHONE)
        .await;

    assert!(
        ann.update(Asks::password(NEW_PASSWORD).texted(&code))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn p28_an_unverified_address_blocks_nobody() {
    let app = TestApp::new().await;
    let squatter = pb::Account {
        email_verified: false,
        username: Some("squatter".to_owned()),
        ..given(OWNER, "")
    };
    let (squatter_id, mut squatter) = app.join(squatter, "").await;
    let (_, mut owner) = app.join(given("", "+8613800138000"), "").await;

    let code = app.bind_code(&mut owner, OWNER).await;
    let bound = owner.confirm(OWNER, &code, "").await.unwrap();

    assert_eq!(
        (bound.email.as_deref(), bound.email_verified),
        (Some(OWNER), true)
    );
    let left = squatter.account(0).await;
    assert_eq!(
        (left.email, left.username.as_deref()),
        (None, Some("squatter"))
    );
    let found = pb::get_profile_request::Key::Email(OWNER.to_owned());
    assert_ne!(
        app.service().await.get_by(found).await.unwrap().user_id,
        squatter_id
    );
}

#[tokio::test]
async fn p28_an_unverified_address_that_is_the_last_login_stays() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        phone_verified: false,
        ..given(OWNER, "")
    };
    app.join(account, PASSWORD).await;
    let (_, mut other) = app.join(given("", "+8613800138000"), "").await;

    let code = app.bind_code(&mut other, OWNER).await;
    let refused = fault(other.confirm(OWNER, &code, "").await);

    assert_eq!(
        (refused.code, refused.told()),
        (Code::AlreadyExists, ("EMAIL_TAKEN", vec!["email"]))
    );
}

#[tokio::test]
async fn p28_a_service_does_not_take_an_unverified_address_away() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        username: Some("holder".to_owned()),
        ..given(OWNER, "")
    };
    app.join(account, "").await;
    let (user_id, _) = app.join(given("", "+8613800138000"), "").await;

    let refused = fault(
        app.service()
            .await
            .update(Asks::email(OWNER).of(user_id))
            .await,
    );

    assert_eq!(refused.told(), ("EMAIL_TAKEN", vec!["account.email"]));
}
