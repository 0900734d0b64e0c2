//! Usernames and addresses: what is reserved for whom, what gives way, and what looks like another
//! name.

use chrono::TimeDelta;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use tonic::Code;
use user_service::{
    convert::pb::{self, CodePurpose},
    store::sql::Sql,
};

use crate::support::{Asks, Client, TestApp, fault, given, member, person};

const EMAIL: &str = "ann@example.org";
const PHONE: &str = "+8613800138000";
const PASSWORD: &str = "violet-lantern-93";

fn name(username: &str) -> pb::Account {
    pb::Account {
        username: Some(username.to_owned()),
        ..Default::default()
    }
}

/// The reason why a call fails; empty where it does not.
fn reason<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> String {
    if answer.is_ok() {
        String::new()
    } else {
        fault(answer).reason
    }
}

async fn create(app: &TestApp, account: pb::Account) -> String {
    reason(app.service().await.create(member(account)).await)
}

#[tokio::test]
async fn p66_a_username_that_a_user_released_is_reserved_for_30_days() {
    let app = TestApp::new().await;
    let (_, mut ann) = app
        .join(
            pb::Account {
                username: Some("Ann.Mixed".to_owned()),
                ..given(EMAIL, "")
            },
            "",
        )
        .await;
    let (ben_id, mut ben) = app.join(name("ben.mixed"), "").await;
    ann.update(Asks::username("ann.other")).await.unwrap();

    let by_user = fault(ben.update(Asks::username("ANN.mixed")).await);
    let by_service = reason(
        app.service()
            .await
            .update(Asks::username("ann.mixed").of(ben_id))
            .await,
    );
    let created = create(&app, name("ann.mixed")).await;
    let back = ann.update(Asks::username("ann.mixed")).await.unwrap();
    ann.update(Asks::clear("username")).await.unwrap();
    app.clock
        .advance(TimeDelta::days(30) - TimeDelta::seconds(1));
    let last = create(&app, name("ann.mixed")).await;
    app.clock.advance(TimeDelta::seconds(1));
    let over = create(&app, name("ann.mixed")).await;

    assert_eq!(
        (by_user.code, by_user.told()),
        (
            Code::AlreadyExists,
            ("USERNAME_TAKEN", vec!["account.username"])
        )
    );
    assert_eq!(
        (by_service.as_str(), created.as_str()),
        ("USERNAME_TAKEN", "USERNAME_TAKEN")
    );
    assert_eq!(back.username.as_deref(), Some("ann.mixed"));
    assert_eq!((last.as_str(), over.as_str()), ("USERNAME_TAKEN", ""));
}

#[tokio::test]
async fn p66_what_a_service_releases_and_what_a_deleted_user_had_is_free_at_once() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let account = pb::Account {
        username: Some("ann.mixed".to_owned()),
        ..given(EMAIL, PHONE)
    };
    let (user_id, mut ann) = app.join(account, "").await;
    ann.update(Asks::username("ann.other")).await.unwrap();

    service
        .update(Asks::clear("email").of(user_id))
        .await
        .unwrap();
    let released = create(&app, given(EMAIL, "")).await;
    service
        .admin
        .delete_user(pb::DeleteUserRequest {
            user_id,
            ..Default::default()
        })
        .await
        .unwrap();
    let deleted = create(
        &app,
        pb::Account {
            username: Some("ann.mixed".to_owned()),
            ..given("", PHONE)
        },
    )
    .await;

    assert_eq!((released.as_str(), deleted.as_str()), ("", ""));
}

#[tokio::test]
async fn p66_an_address_that_a_user_released_behaves_as_a_taken_one() {
    let app = TestApp::new().await;
    let (ann_id, mut ann) = app.join(given(EMAIL, PHONE), "").await;
    let (ben_id, mut ben) = app
        .join(given("ben@example.org", "+8613800138001"), "")
        .await;
    let code = app.code(&mut ann, CodePurpose::Replace, PHONE).await;
    ann.update(Asks::clear("phone").code(&code)).await.unwrap();

    let sent = ben.send_bind(PHONE).await;
    let right = crate::send_code::digits(&app, ben_id, "bind").await;
    let current = app
        .code(&mut ben, CodePurpose::Replace, "+8613800138001")
        .await;
    let taken = fault(
        ben.update(Asks::phone(PHONE).code(&current).new_code(&right))
            .await,
    );
    let (cid_id, _) = app.join(given("cid@example.org", ""), "").await;
    let request = pb::SendPhoneCodeRequest {
        user_id: cid_id,
        phone: PHONE.to_owned(),
        ..Default::default()
    };
    let told = fault(app.service().await.users.send_phone_code(request).await);
    let created = create(&app, given("", PHONE)).await;
    let back = app.bind_code(&mut ann, PHONE).await;
    let back = ann
        .update(Asks::phone(PHONE).new_code(&back))
        .await
        .unwrap();

    assert!(sent.is_ok());
    assert_eq!(
        (taken.told(), told.told()),
        (
            ("PHONE_TAKEN", vec!["account.phone"]),
            ("PHONE_TAKEN", vec!["phone"])
        )
    );
    assert_eq!(
        (created.as_str(), back.phone.as_deref()),
        ("PHONE_TAKEN", Some(PHONE))
    );
    let queued = app.queued(PHONE).await;
    let sent = [
        "code.replace",
        "notice.phone_changed",
        "notice.address_in_use",
        "code.bind",
    ];
    assert_eq!(
        queued, sent,
        "no code went there for anyone but user {ann_id}"
    );
}

#[tokio::test]
async fn p66_an_unverified_address_that_was_released_gives_way_to_who_proves_it() {
    let app = TestApp::new().await;
    let squatter = pb::Account {
        email_verified: false,
        username: Some("squatter".to_owned()),
        ..given(EMAIL, "")
    };
    let (_, mut squatter) = app.join(squatter, "").await;
    let (_, mut ben) = app.join(given("", PHONE), "").await;
    squatter.update(Asks::clear("email")).await.unwrap();

    let unproved = create(
        &app,
        pb::Account {
            email_verified: false,
            ..given(EMAIL, "")
        },
    )
    .await;
    let code = app.bind_code(&mut ben, EMAIL).await;
    let bound = ben.confirm(EMAIL, &code, "").await.unwrap();

    assert_eq!(
        (unproved.as_str(), bound.email.as_deref()),
        ("EMAIL_TAKEN", Some(EMAIL))
    );
}

#[tokio::test]
async fn p66_one_user_does_not_reserve_name_after_name() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(name("ann.mixed"), "").await;

    for number in 0..80 {
        ann.update(Asks::username(&format!("squatted.{number}")))
            .await
            .unwrap();
    }

    assert_eq!(
        create(&app, name("ann.mixed")).await,
        "USERNAME_TAKEN",
        "the first one stays reserved"
    );
    assert_eq!(create(&app, name("squatted.78")).await, "");
}

#[tokio::test]
async fn p66_without_a_hold_names_are_free_at_once() {
    let app = TestApp::configured(|config| config.accounts.release_hold_days = 0).await;
    let (_, mut ann) = app.join(name("ann.mixed"), "").await;

    ann.update(Asks::username("ann.other")).await.unwrap();

    assert_eq!(create(&app, name("ann.mixed")).await, "");
}

#[tokio::test]
async fn p66_whoever_races_for_a_name_while_it_is_released_does_not_get_it() {
    let app = TestApp::new().await;
    let (_, ann) = app.join(name("ann.mixed"), "").await;
    let mut snatchers = Vec::new();
    for number in 0..6 {
        snatchers.push(app.join(name(&format!("snatcher.{number}")), "").await.1);
    }

    let mut releasing = ann.clone();
    let release = async {
        releasing
            .update(Asks::username("ann.other"))
            .await
            .map(|_| ())
    };
    let snatch = snatchers
        .into_iter()
        .map(|mut snatcher: Client| async move {
            let mut reasons = Vec::new();
            for _ in 0..4 {
                reasons.push(reason(snatcher.update(Asks::username("ann.mixed")).await));
            }
            reasons
        });
    let (released, snatched) = tokio::join!(release, join_all(snatch));

    released.unwrap();
    assert!(
        snatched
            .iter()
            .flatten()
            .all(|reason| reason == "USERNAME_TAKEN"),
        "{snatched:?}"
    );
}

#[tokio::test]
async fn p66_reservations_that_are_over_go() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(name("ann.mixed"), "").await;
    ann.update(Asks::username("ann.other")).await.unwrap();
    let mut conn = app.database.connect().await;
    let mut count = async || -> i64 {
        Sql::<BigInt>::new("select count(*) from reserved_values")
            .get_result(&mut conn)
            .await
            .unwrap()
    };

    app.app.housekeeping.clean().await.unwrap();
    let young = count().await;
    app.clock.advance(TimeDelta::days(30));
    app.app.housekeeping.clean().await.unwrap();

    assert_eq!(
        (young, count().await),
        (2, 0),
        "the name and what it looks like"
    );
}

#[tokio::test]
async fn p28_an_unverified_last_login_gives_way_after_30_days() {
    let app = TestApp::new().await;
    let squatter = pb::Account {
        email_verified: false,
        ..given(EMAIL, "")
    };
    let (squatter_id, _) = app.join(squatter, PASSWORD).await;
    let (ben_id, mut ben) = app.join(given("", PHONE), "").await;
    let code = app.bind_code(&mut ben, EMAIL).await;
    let early = fault(ben.confirm(EMAIL, &code, "").await);
    app.clock.advance(TimeDelta::days(30));
    let mut ben = app.user(ben_id).await;

    let code = app.bind_code(&mut ben, EMAIL).await;
    let bound = ben.confirm(EMAIL, &code, "").await.unwrap();

    assert_eq!(
        (early.reason.as_str(), bound.email.as_deref()),
        ("EMAIL_TAKEN", Some(EMAIL))
    );
    let left = app.service().await.account(squatter_id).await;
    assert_eq!((left.email, left.has_password), (None, true));
}

#[tokio::test]
async fn p28_a_user_who_comes_with_a_verified_address_is_not_blocked_by_an_unverified_one() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let unverified = |account| pb::Account {
        email_verified: false,
        phone_verified: false,
        ..account
    };
    let squatter = pb::Account {
        username: Some("squatter".to_owned()),
        ..unverified(given(EMAIL, ""))
    };
    let (squatter_id, _) = app.join(squatter, "").await;
    let (both_id, _) = app
        .join(unverified(given("both@example.org", PHONE)), "")
        .await;

    let without_proof = create(&app, unverified(given(EMAIL, ""))).await;
    let faulty = pb::Account {
        username: Some("squatter".to_owned()),
        ..given(EMAIL, "")
    };
    let faulty = create(&app, faulty).await;
    let kept = service.account(squatter_id).await;
    let made = service.create(member(given(EMAIL, ""))).await.unwrap();
    let all = create(&app, given("both@example.org", PHONE)).await;

    assert_eq!(
        (without_proof.as_str(), faulty.as_str()),
        ("EMAIL_TAKEN", "USERNAME_TAKEN")
    );
    assert_eq!(
        kept.email.as_deref(),
        Some(EMAIL),
        "whoever was not made took nothing"
    );
    let account = service.account(made.user_id).await;
    assert!(account.email_verified && account.email_confirmed);
    assert_eq!(service.account(squatter_id).await.email, None);
    assert_eq!(
        all, "PHONE_TAKEN",
        "one of the two is the last login method of its holder"
    );
    let both = service.account(both_id).await;
    assert_eq!(
        (both.email.as_deref(), both.phone.as_deref()),
        (Some("both@example.org"), Some(PHONE))
    );
}

#[tokio::test]
async fn p31_a_username_that_looks_like_one_in_use_is_taken() {
    let app = TestApp::new().await;
    let (ann_id, mut ann) = app.join(name("aceopx_2"), "").await;
    let (_, mut ben) = app.join(name("ben.mixed"), "").await;

    let cyrillic = fault(ben.update(Asks::username("асеорх_2")).await);
    let created = create(&app, name("АСЕОРХ_2")).await;
    let own = ann.update(Asks::username("Aceopx_2")).await.unwrap();
    let mut service = app.service().await;
    service
        .update(Asks::username("other.name").of(ann_id))
        .await
        .unwrap();
    let free = ben.update(Asks::username("асеорх_2")).await.unwrap();

    assert_eq!(
        (cyrillic.code, cyrillic.told()),
        (
            Code::AlreadyExists,
            ("USERNAME_TAKEN", vec!["account.username"])
        )
    );
    assert_eq!(
        (created.as_str(), own.username.as_deref()),
        ("USERNAME_TAKEN", Some("Aceopx_2"))
    );
    assert_eq!(free.username.as_deref(), Some("асеорх_2"));
}

#[tokio::test]
async fn p31_usernames_of_before_are_protected_once_housekeeping_has_been_there() {
    let app = TestApp::new().await;
    let (ann_id, _) = app.join(name("aceopx_2"), "").await;
    let mut conn = app.database.connect().await;
    Sql::<()>::new("delete from unique_values where kind = 'username_skeleton'")
        .execute(&mut conn)
        .await
        .unwrap();
    Sql::<()>::new("update accounts set skeleton_of = null")
        .execute(&mut conn)
        .await
        .unwrap();
    let etag = app.service().await.account(ann_id).await.etag;

    let found = app.app.housekeeping.reserve_look_alikes().await.unwrap();
    let again = app.app.housekeeping.reserve_look_alikes().await.unwrap();

    assert_eq!((found, again), (1, 0));
    assert_eq!(create(&app, name("асеорх_2")).await, "USERNAME_TAKEN");
    assert_eq!(
        app.service().await.account(ann_id).await.etag,
        etag,
        "that is no change of the account"
    );
}

#[tokio::test]
async fn p31_reserved_names_are_refused_and_other_scripts_accepted() {
    let app = TestApp::configured(|config| {
        config
            .accounts
            .reserved_usernames
            .push("The.Shop".to_owned());
        config.accounts.username_max_length = 40;
    })
    .await;
    let (_, mut ann) = app.join(given(EMAIL, ""), "").await;

    for reserved in ["Support", "administrator", "the.shop"] {
        let refused = fault(ann.update(Asks::username(reserved)).await);
        assert_eq!(
            refused.fields,
            [("account.username".to_owned(), "FIELD_FORMAT".to_owned())],
            "{reserved}"
        );
        assert_eq!(create(&app, name(reserved)).await, "INVALID_REQUEST");
    }
    for accepted in [
        "हिन्दी_नाम",
        "தமிழ்_பெயர்",
        "ชื่อผู้ใช้",
        "မြန်မာ_အမည်",
        "ọlọ́runṣẹ̀",
        &"a".repeat(40),
    ] {
        let account = ann.update(Asks::username(accepted)).await.unwrap();
        assert!(account.username.is_some(), "{accepted}");
    }
    let long = fault(ann.update(Asks::username(&"b".repeat(41))).await);
    assert_eq!(
        long.fields,
        [("account.username".to_owned(), "FIELD_LENGTH".to_owned())]
    );
}

#[tokio::test]
async fn p18_a_nickname_shows_something() {
    let app = TestApp::new().await;
    let mut service = app.service().await;

    for invisible in [
        " ",
        "\u{3000}",
        "\u{200b}\u{200d}",
        "\u{3164}",
        "\u{2800}\u{2800}",
        "\u{301}",
    ] {
        let refused = fault(service.create(person(invisible)).await);
        assert_eq!(
            refused.fields,
            [("profile.nickname".to_owned(), "FIELD_FORMAT".to_owned())],
            "{invisible:?}"
        );
    }
    for visible in ["王芳", "👩‍🚀", " a ", "…"] {
        assert!(service.create(person(visible)).await.is_ok(), "{visible:?}");
    }
}

#[tokio::test]
async fn p27_a_first_password_without_another_proof_unlinks_nothing_older() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let user_id = service.create_named("Ann").await.user_id;
    let older = service
        .link(user_id, "github", "7")
        .await
        .unwrap()
        .connection_id;
    let mut thief = app.user(user_id).await;
    app.clock.advance(TimeDelta::hours(1));

    thief
        .update(Asks::username("ann.mixed").and(Asks::password(PASSWORD)))
        .await
        .unwrap();
    app.clock.advance(TimeDelta::hours(1));
    let younger = service
        .link(user_id, "qq", "8")
        .await
        .unwrap()
        .connection_id;
    let refused = fault(thief.update(Asks::unlink(older).current(PASSWORD)).await);
    // Another password that this one proves is as good.
    thief
        .update(Asks::password("amber-harbour-51").current(PASSWORD))
        .await
        .unwrap();
    let again = fault(
        thief
            .update(Asks::unlink(older).current("amber-harbour-51"))
            .await,
    );
    let own = thief
        .update(Asks::unlink(younger).current("amber-harbour-51"))
        .await
        .unwrap();
    let by_service = service
        .update(Asks::unlink(older).of(user_id))
        .await
        .unwrap();

    assert_eq!(
        (refused.code, refused.told()),
        (
            Code::InvalidArgument,
            ("PROOF_REQUIRED", vec!["unlink_connection_id"])
        )
    );
    assert_eq!(again.reason, "PROOF_REQUIRED");
    assert_eq!(
        (own.connections.len(), by_service.connections.len()),
        (1, 0)
    );
}
