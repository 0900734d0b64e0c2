//! UpdateAccount: who may change what, together or not at all.

use futures_util::future::join_all;
use tonic::Code;
use user_service::{
    convert::pb::{self, CodePurpose},
    model::scope::Scope,
};

use crate::support::{Asks, TestApp, fault, given, named, patiently, person, wrong};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";
const PASSWORD: &str = "violet-lantern-93";

#[tokio::test]
async fn p26_a_service_sets_all_of_an_account_without_proof() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app
        .join(given("old@example.org", "+8613800138000"), "")
        .await;
    let login = prost_types::Timestamp {
        seconds: 1_700_000_000,
        nanos: 0,
    };
    let account = pb::Account {
        username: Some("Ann.Mixed".to_owned()),
        email: Some("New@Example.org".to_owned()),
        phone: Some("+8613900139000".to_owned()),
        last_login_at: Some(login),
        ..Default::default()
    };

    let asks = Asks(named(
        account,
        &["username", "email", "phone", "last_login_at"],
    ))
    .of(user_id);
    let set = service
        .update(asks.and(Asks::password(PASSWORD)))
        .await
        .unwrap();

    assert_eq!(
        (set.username.as_deref(), set.email.as_deref()),
        (Some("Ann.Mixed"), Some("New@Example.org"))
    );
    assert_eq!(
        (set.phone.as_deref(), set.last_login_at),
        (Some("+8613900139000"), Some(login))
    );
    assert_eq!((set.email_verified, set.phone_verified), (false, false));
    assert!(set.has_password && !set.has_wallet_password);
    assert_eq!(service.account(user_id).await, set);
}

#[tokio::test]
async fn p26_a_service_clears_and_the_last_way_to_log_in_stays() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app
        .join(given("ann@example.org", "+8613800138000"), PASSWORD)
        .await;

    let cleared = service
        .update(Asks::clear("email").of(user_id))
        .await
        .unwrap();
    let last = fault(service.update(Asks::clear("phone").of(user_id)).await);

    assert_eq!(
        (cleared.email, cleared.email_verified, cleared.has_password),
        (None, false, true)
    );
    assert_eq!(
        (last.code, last.reason.as_str()),
        (Code::FailedPrecondition, "LAST_CREDENTIAL")
    );
    assert_eq!(last.preconditions, ["account.phone"]);
}

#[tokio::test]
async fn p26_nobody_clears_a_last_connection_or_a_last_username() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let user_id = service.create_named("Ann").await.user_id;
    let connection = service.link(user_id, "github", "7").await.unwrap();
    let mut user = app.user(user_id).await;

    let last = fault(user.update(Asks::unlink(connection.connection_id)).await);
    user.update(Asks::username("ann.mixed")).await.unwrap();
    user.update(Asks::unlink(connection.connection_id))
        .await
        .unwrap();
    let name = fault(user.update(Asks::clear("username")).await);

    assert_eq!(
        (last.reason.as_str(), last.preconditions),
        ("LAST_CREDENTIAL", vec!["unlink_connection_id".to_owned()])
    );
    assert_eq!(
        (name.reason.as_str(), name.preconditions),
        ("LAST_CREDENTIAL", vec!["account.username".to_owned()])
    );
}

#[tokio::test]
async fn p27_a_user_changes_the_username_freely_and_the_last_login_forwards_only() {
    let app = TestApp::new().await;
    let (_, mut user) = app.join(given("ann@example.org", ""), "").await;
    let at = |seconds| {
        let last_login_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        Asks(named(
            pb::Account {
                last_login_at,
                ..Default::default()
            },
            &["last_login_at"],
        ))
    };
    // The clock stands at the first of January 2026.
    let now = crate::support::start_time().timestamp();

    let renamed = user.update(Asks::username("Ann.Mixed")).await.unwrap();
    let later = user.update(at(now)).await.unwrap();
    let earlier = user.update(at(now - 5)).await.unwrap();
    let ahead = fault(user.update(at(now + 90)).await);

    assert_eq!(renamed.username.as_deref(), Some("Ann.Mixed"));
    assert_eq!(later.last_login_at.unwrap().seconds, now);
    assert_eq!(earlier, later, "an earlier one changes nothing");
    assert_eq!(
        ahead.fields,
        [("account.last_login_at".to_owned(), "FIELD_RANGE".to_owned())]
    );
}

#[tokio::test]
async fn p27_an_own_unverified_address_that_is_named_again_changes_nothing() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        ..given("ann@example.org", "")
    };
    let (_, mut user) = app.join(account, "").await;
    let before = user.account(0).await;

    let after = user.update(Asks::email("ANN@example.org")).await.unwrap();

    assert_eq!(after, before);
}

#[tokio::test]
async fn p27_clearing_a_verified_address_needs_its_code() {
    let app = TestApp::new().await;
    let (_, mut user) = app
        .join(given("ann@example.org", "+8613800138000"), "")
        .await;

    let bare = fault(user.update(Asks::clear("email")).await);
    let code = app
        .code(&mut user, CodePurpose::Replace, "ann@example.org")
        .await;
    let cleared = user.update(Asks::clear("email").code(&code)).await.unwrap();

    assert_eq!(bare.told(), ("PROOF_REQUIRED", vec!["proof.code"]));
    assert_eq!((cleared.email, cleared.email_verified), (None, false));
}

#[tokio::test]
async fn p28_an_unverified_address_is_verified_replaced_and_cleared_without_its_code() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        username: Some("ann.mixed".to_owned()),
        ..given("ann@example.org", "")
    };
    let (_, mut user) = app.join(account, "").await;

    let code = app.bind_code(&mut user, "ben@example.org").await;
    let replaced = user
        .update(Asks::email("ben@example.org").new_code(&code))
        .await
        .unwrap();
    let mut service = app.service().await;
    service
        .update(Asks::email("cid@example.org").of(replaced.user_id))
        .await
        .unwrap();
    app.clock.advance(chrono::TimeDelta::seconds(61));
    let code = app.bind_code(&mut user, "cid@example.org").await;
    let verified = user
        .update(Asks::email("cid@example.org").new_code(&code))
        .await
        .unwrap();
    service
        .update(Asks::email("dan@example.org").of(replaced.user_id))
        .await
        .unwrap();
    let cleared = user.update(Asks::clear("email")).await.unwrap();

    assert_eq!(
        (replaced.email.as_deref(), replaced.email_verified),
        (Some("ben@example.org"), true)
    );
    assert_eq!(
        (verified.email.as_deref(), verified.email_verified),
        (Some("cid@example.org"), true)
    );
    assert_eq!(cleared.email, None);
}

#[tokio::test]
async fn p28_a_proof_that_is_not_needed_is_checked_all_the_same() {
    let app = TestApp::new().await;
    let (_, mut user) = app.join(given("ann@example.org", ""), PASSWORD).await;

    let code = app
        .code(&mut user, CodePurpose::Password, "ann@example.org")
        .await;
    let both = Asks::password("amber-harbour-51")
        .mailed(&wrong(&code))
        .current(PASSWORD);
    let wrong_code = fault(user.update(both).await);
    let both = Asks::password("amber-harbour-51")
        .mailed(&code)
        .current("not this one");
    let wrong_password = fault(user.update(both).await);
    let name = fault(
        user.update(Asks::username("ann.mixed").current("not this one"))
            .await,
    );

    assert_eq!(wrong_code.told(), ("CODE_INVALID", vec!["proof.code"]));
    assert_eq!(
        wrong_password.told(),
        ("PASSWORD_MISMATCH", vec!["proof.current_password"])
    );
    assert_eq!(
        (
            name.reason.as_str(),
            name.metadata["attemptsRemaining"].as_str()
        ),
        ("PASSWORD_MISMATCH", "3")
    );
    user.update(
        Asks::password("amber-harbour-51")
            .mailed(&code)
            .current(PASSWORD),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn p28_one_change_of_a_call_is_proved_by_code() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, mut user) = app
        .join(given("ann@example.org", "+8613800138000"), PASSWORD)
        .await;
    let connection = service
        .link(user_id, "github", "7")
        .await
        .unwrap()
        .connection_id;

    let addresses = Asks::email("new@example.org")
        .and(Asks::phone("+8613900139000"))
        .code("123456")
        .new_code("123456");
    let addresses = fault(user.update(addresses).await);
    let secrets = Asks::password("amber-harbour-51")
        .and(Asks::unlink(connection))
        .mailed("123456");
    let secrets = fault(user.update(secrets).await);
    let code = app
        .code(&mut user, CodePurpose::Unlink, "ann@example.org")
        .await;
    let asks = Asks::password("amber-harbour-51")
        .current(PASSWORD)
        .and(Asks::unlink(connection))
        .mailed(&code);
    let done = user.update(asks).await.unwrap();

    assert_eq!(addresses.told(), ("PROOF_REQUIRED", vec!["account.phone"]));
    assert_eq!(
        secrets.told(),
        ("PROOF_REQUIRED", vec!["unlink_connection_id"])
    );
    assert!(
        done.connections.is_empty(),
        "the password has a proof of its own, so the code is free for the link"
    );
}

#[tokio::test]
async fn p29_changes_are_made_together_or_not_at_all() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (_, mut ben) = app.join(given("ben@example.org", ""), "").await;
    ben.update(Asks::username("taken.name")).await.unwrap();
    let (user_id, mut user) = app.join(given("ann@example.org", ""), "").await;
    let before = user.account(0).await;
    let code = app.bind_code(&mut user, "+8613900139000").await;

    let asks = Asks::phone("+8613900139000").new_code(&code);
    let taken = fault(
        user.update(asks.clone().and(Asks::username("TAKEN.name")))
            .await,
    );
    let unchanged = user.account(0).await;
    let both = user
        .update(asks.and(Asks::username("free.name")))
        .await
        .unwrap();

    assert_eq!(taken.told(), ("USERNAME_TAKEN", vec!["account.username"]));
    assert_eq!(unchanged, before);
    assert_eq!(
        (both.phone.as_deref(), both.username.as_deref()),
        (Some("+8613900139000"), Some("free.name"))
    );
    assert_eq!(
        service.account(user_id).await,
        both,
        "and the code was not burnt by the call that failed"
    );
}

#[tokio::test]
async fn p29_all_that_is_taken_is_told_at_once() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let holder = pb::Account {
        username: Some("taken.name".to_owned()),
        ..given("taken@example.org", "+8613800138000")
    };
    app.join(holder, "").await;
    let (user_id, mut user) = app.join(given("", "+8613900139000"), "").await;

    let asks = Asks::username("Taken.Name").and(Asks::email("taken@example.org"));
    let of_service = fault(
        service
            .update(asks.clone().and(Asks::phone("+8613800138000")).of(user_id))
            .await,
    );
    user.send_bind("taken@example.org").await.unwrap();
    let digits = crate::send_code::digits(&app, user_id, "bind").await;
    let of_user = fault(user.update(asks.new_code(&digits)).await);

    let all = ["account.username", "account.email", "account.phone"];
    assert_eq!(
        (of_service.code, of_service.told()),
        (Code::AlreadyExists, ("USERNAME_TAKEN", all.to_vec()))
    );
    assert_eq!(of_user.told(), ("USERNAME_TAKEN", all[..2].to_vec()));
    assert_eq!(of_user.resource.as_deref(), Some("account.username"));
}

#[tokio::test]
async fn p29_all_faults_of_a_request_are_told_at_once() {
    let app = TestApp::new().await;
    let (_, mut user) = app.join(given("ann@example.org", ""), "").await;
    let account = pb::Account {
        username: Some("123456".to_owned()),
        email: Some("nobody".to_owned()),
        phone: Some("13800138000".to_owned()),
        ..Default::default()
    };
    let mut asks = Asks(named(
        account,
        &["username", "email", "phone", "email_verified", "nope"],
    ));
    asks = asks
        .and(Asks::password("short"))
        .and(Asks::wallet_password("tiny"))
        .mailed("12345")
        .new_code("1234567");
    asks.0.unlink_connection_id = -1;
    asks.0.request_id = "no uuid".to_owned();

    let refused = fault(user.update(asks).await);
    let nothing = fault(user.update(Asks::default()).await);

    let expected = [
        ("request_id", "FIELD_FORMAT"),
        ("account.username", "FIELD_FORMAT"),
        ("account.email", "FIELD_FORMAT"),
        ("account.phone", "FIELD_FORMAT"),
        ("update_mask", "IMMUTABLE_FIELD"),
        ("update_mask", "UNKNOWN_FIELD"),
        ("new_password", "FIELD_LENGTH"),
        ("new_wallet_password", "FIELD_LENGTH"),
        ("unlink_connection_id", "FIELD_RANGE"),
        ("proof.code", "FIELD_FORMAT"),
        ("proof.new_code", "FIELD_FORMAT"),
    ];
    let told: Vec<(&str, &str)> = refused
        .fields
        .iter()
        .map(|(path, reason)| (&**path, &**reason))
        .collect();
    assert_eq!(
        (refused.reason.as_str(), told),
        ("INVALID_REQUEST", expected.to_vec())
    );
    assert_eq!(
        nothing.fields,
        [("update_mask".to_owned(), "FIELD_REQUIRED".to_owned())]
    );
}

#[tokio::test]
async fn p30_a_race_for_an_address_or_a_name_has_one_winner_whatever_its_case() {
    let app = TestApp::new().await;
    let service = app.service().await;
    let mut user_ids = Vec::new();
    for number in 0..8 {
        user_ids.push(
            app.join(given("", &format!("+861380013800{number}")), "")
                .await
                .0,
        );
    }
    let cases = [
        (
            Asks::username("Racer.One"),
            Asks::username("rACER.oNE"),
            "USERNAME_TAKEN",
        ),
        (
            Asks::email("Racer@Example.org"),
            Asks::email("rACER@eXAMPLE.ORG"),
            "EMAIL_TAKEN",
        ),
        (
            Asks::phone("+8613900139000"),
            Asks::phone("+8613900139000"),
            "PHONE_TAKEN",
        ),
    ];
    for (one, other, reason) in cases {
        let tries = user_ids.iter().enumerate().map(|(place, &user_id)| {
            let asks = if place % 2 == 0 {
                one.clone()
            } else {
                other.clone()
            };
            let mut client = service.clone();
            async move { client.update(asks.of(user_id)).await }
        });
        let (won, lost): (Vec<_>, Vec<_>) =
            join_all(tries).await.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{reason}");
        for answer in lost {
            let refused = fault(answer);
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::AlreadyExists, reason)
            );
        }
    }
}

#[tokio::test]
async fn p14_a_stale_etag_of_the_account_is_aborted_and_one_of_twenty_wins() {
    let app = TestApp::new().await;
    let (user_id, user) = app.join(given("ann@example.org", ""), "").await;
    let before = user.clone().account(0).await;
    let profile = user.clone().get(user_id).await.unwrap();

    let tries = (0..20).map(|number| {
        let mut user = user.clone();
        let asks = Asks::username(&format!("ann.number-{number}")).at(&before.etag);
        async move { patiently(async || user.update(asks.clone()).await).await }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!(won.len(), 1);
    for answer in lost {
        let refused = fault(answer);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Aborted, "ETAG_MISMATCH")
        );
    }
    assert_eq!(
        user.clone().get(user_id).await.unwrap().etag,
        profile.etag,
        "the profile's stays"
    );
}

#[tokio::test]
async fn p19_a_trial_counts_wrong_proofs_and_burns_no_right_one() {
    let app = TestApp::new().await;
    let (_, mut user) = app.join(given("ann@example.org", ""), "").await;
    let before = user.account(0).await;
    let code = app.bind_code(&mut user, "+8613900139000").await;
    let asks = Asks::phone("+8613900139000").trial().once(ID);

    let right = user.update(asks.clone().new_code(&code)).await.unwrap();
    let untouched = user.account(0).await;
    let first = fault(user.update(asks.clone().new_code(&wrong(&code))).await);
    let second = fault(user.update(asks.new_code(&wrong(&code))).await);
    let done = user
        .update(Asks::phone("+8613900139000").new_code(&code).once(ID))
        .await
        .unwrap();

    assert_eq!(
        (right.phone.as_deref(), right.phone_verified, &right.etag),
        (Some("+8613900139000"), true, &before.etag)
    );
    assert_eq!(untouched, before);
    assert_eq!(
        (
            &*first.metadata["attemptsRemaining"],
            &*second.metadata["attemptsRemaining"]
        ),
        ("4", "3")
    );
    assert_eq!(
        done.phone.as_deref(),
        Some("+8613900139000"),
        "a trial keeps no request id either"
    );
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.phone_changed"],
        "and tells nobody"
    );
}

#[tokio::test]
async fn details_order_of_checks_from_scope_to_the_last_credential() {
    let app = TestApp::new().await;
    let mut weak = app
        .service_with(&[Scope::AccountsRead, Scope::CodesSend])
        .await;
    let mut service = app.service().await;
    app.join(
        pb::Account {
            username: Some("taken.name".to_owned()),
            ..given("ben@example.org", "")
        },
        "",
    )
    .await;
    let user_id = service.create(person("Ann")).await.unwrap().user_id;
    service.link(user_id, "github", "7").await.unwrap();
    let mut user = app.user(user_id).await;
    let faulty = Asks::email("nobody").of(user_id + 1);

    assert_eq!(
        fault(weak.update(faulty.clone()).await).reason,
        "SCOPE_MISSING"
    );
    assert_eq!(fault(user.update(faulty.clone()).await).reason, "NOT_OWNER");
    assert_eq!(
        fault(service.update(faulty.of(user_id + 9)).await).reason,
        "INVALID_REQUEST"
    );
    let missing = Asks::username("taken.name").at("stale").of(user_id + 9);
    assert_eq!(
        fault(service.update(missing).await).reason,
        "USER_NOT_FOUND"
    );
    let unlinked = fault(user.update(Asks::unlink(999).at("stale")).await);
    assert_eq!(
        (unlinked.reason.as_str(), unlinked.resource.as_deref()),
        ("CONNECTION_NOT_FOUND", Some("connections/999"))
    );

    let taken = Asks::username("taken.name").and(Asks::phone("+8613900139000"));
    assert_eq!(
        fault(user.update(taken.clone().at("stale")).await).reason,
        "ETAG_MISMATCH"
    );
    assert_eq!(
        fault(user.update(taken.clone()).await).reason,
        "PROOF_REQUIRED"
    );
    assert_eq!(
        fault(user.update(taken.clone().new_code("123456")).await).reason,
        "CODE_NOT_REQUESTED"
    );
    let code = app.bind_code(&mut user, "+8613900139000").await;
    assert_eq!(
        fault(user.update(taken.clone().new_code(&wrong(&code))).await).reason,
        "CODE_INVALID"
    );
    assert_eq!(
        fault(user.update(taken.new_code(&code)).await).reason,
        "USERNAME_TAKEN"
    );

    let connection = user.account(0).await.connections[0].connection_id;
    let both = Asks::unlink(connection).and(Asks::username("taken.name"));
    assert_eq!(fault(user.update(both).await).reason, "USERNAME_TAKEN");
    assert_eq!(
        fault(user.update(Asks::unlink(connection)).await).reason,
        "LAST_CREDENTIAL"
    );
}

#[tokio::test]
async fn details_order_of_checks_within_the_proofs() {
    let app = TestApp::new().await;
    let (_, mut user) = app.join(given("ann@example.org", ""), PASSWORD).await;
    let asks = |code: &str| Asks::email("new@example.org").new_code(code);

    // What is missing comes before the wrong password, and that before a right code's change.
    assert_eq!(
        fault(user.update(asks("123456").current("no")).await).reason,
        "CURRENT_CODE_REQUIRED"
    );
    let code = app.bind_code(&mut user, "new@example.org").await;
    let unsent = fault(
        user.update(asks(&wrong(&code)).code("123456").current("no"))
            .await,
    );
    let current = app
        .code(&mut user, CodePurpose::Replace, "ann@example.org")
        .await;
    let both = fault(
        user.update(asks(&wrong(&code)).code(&wrong(&current)))
            .await,
    );

    assert_eq!(
        (unsent.reason.as_str(), unsent.preconditions),
        ("CODE_NOT_REQUESTED", vec!["proof.code".to_owned()])
    );
    assert_eq!(
        both.told(),
        ("CODE_INVALID", vec!["proof.new_code", "proof.code"])
    );
    assert_eq!(
        both.metadata["attemptsRemaining"], "4",
        "the call that failed by a code's state counted none"
    );
    for _ in 0..5 {
        fault(user.update(Asks::username("ann.mixed").current("no")).await);
    }
    let limited = fault(
        user.update(asks("123456").code(&current).current("no"))
            .await,
    );
    assert_eq!(
        (limited.reason.as_str(), limited.quota.as_deref()),
        ("PASSWORD_ATTEMPTS_EXCEEDED", Some("password_wrong"))
    );
}
