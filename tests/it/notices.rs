//! Notices: to what was bound before a change, and to no one where nothing changed.

use user_service::convert::pb::{self, CodePurpose};

use crate::support::{Asks, TestApp, fault, given, person};

const EMAIL: &str = "ann@example.org";
const PHONE: &str = "+8613800138000";
const PASSWORD: &str = "violet-lantern-93";

#[tokio::test]
async fn p35_a_changed_email_is_told_to_the_old_one() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, PHONE), "").await;
    let code = app.bind_code(&mut ann, "new@example.org").await;
    let current = app.code(&mut ann, CodePurpose::Replace, EMAIL).await;

    ann.confirm("new@example.org", &code, &current)
        .await
        .unwrap();

    assert_eq!(
        app.queued(EMAIL).await,
        ["code.replace", "notice.email_changed"]
    );
    assert_eq!(app.queued("new@example.org").await, ["code.bind"]);
    assert_eq!(app.queued(PHONE).await, [""; 0]);
    assert!(
        app.newest(EMAIL)
            .await
            .contains("The email address of your account was changed.")
    );
}

#[tokio::test]
async fn p35_a_changed_phone_is_told_to_the_old_one_and_by_mail() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, PHONE), "").await;
    let code = app.bind_code(&mut ann, "+8613900139000").await;
    let current = app.code(&mut ann, CodePurpose::Replace, PHONE).await;

    ann.update(Asks::phone("+8613900139000").code(&current).new_code(&code))
        .await
        .unwrap();

    assert_eq!(
        app.queued(PHONE).await,
        ["code.replace", "notice.phone_changed"]
    );
    assert_eq!(app.queued(EMAIL).await, ["notice.phone_changed"]);
    assert!(
        app.newest(PHONE)
            .await
            .contains("The phone number of your account was changed.")
    );
}

#[tokio::test]
async fn p35_a_first_address_is_told_to_that_of_the_other_kind() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, ""), "").await;
    let (_, mut ben) = app.join(given("", "+8613800138001"), "").await;

    let code = app.bind_code(&mut ann, PHONE).await;
    ann.update(Asks::phone(PHONE).new_code(&code))
        .await
        .unwrap();
    let code = app.bind_code(&mut ben, "ben@example.org").await;
    ben.confirm("ben@example.org", &code, "").await.unwrap();

    assert_eq!(app.queued(EMAIL).await, ["notice.phone_changed"]);
    assert_eq!(app.queued("+8613800138001").await, ["notice.email_changed"]);
    assert_eq!(
        (app.queued(PHONE).await, app.queued("ben@example.org").await),
        (bind(), bind())
    );
}

fn bind() -> Vec<String> {
    vec!["code.bind".to_owned()]
}

#[tokio::test]
async fn p35_what_a_service_changes_is_told_too() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app.join(given(EMAIL, PHONE), "").await;
    let (by_text, _) = app.join(given("", "+8613800138001"), "").await;
    let connection = service
        .link(user_id, "github", "7")
        .await
        .unwrap()
        .connection_id;

    service
        .update(
            Asks::password(PASSWORD)
                .and(Asks::wallet_password("simple"))
                .of(user_id),
        )
        .await
        .unwrap();
    service
        .update(Asks::unlink(connection).of(user_id))
        .await
        .unwrap();
    service
        .update(Asks::clear("phone").of(user_id))
        .await
        .unwrap();
    service
        .update(Asks::password(PASSWORD).of(by_text))
        .await
        .unwrap();

    let told = [
        "connection_linked",
        "password_changed",
        "wallet_password_changed",
        "connection_unlinked",
        "phone_changed",
    ];
    assert_eq!(
        app.queued(EMAIL).await,
        told.map(|what| format!("notice.{what}"))
    );
    assert_eq!(app.queued(PHONE).await, ["notice.phone_changed"]);
    assert_eq!(
        app.queued("+8613800138001").await,
        ["notice.password_changed"]
    );
}

#[tokio::test]
async fn p35_changes_of_one_call_are_told_each() {
    let app = TestApp::new().await;
    let (user_id, _) = app.join(given(EMAIL, PHONE), "").await;
    let asks = Asks::email("new@example.org")
        .and(Asks::phone("+8613900139000"))
        .and(Asks::password(PASSWORD));

    app.service().await.update(asks.of(user_id)).await.unwrap();

    let told = [
        "notice.email_changed",
        "notice.phone_changed",
        "notice.password_changed",
    ];
    assert_eq!(app.queued(EMAIL).await, told);
    assert_eq!(app.queued(PHONE).await, ["notice.phone_changed"]);
    assert_eq!(
        app.queued("new@example.org").await,
        [""; 0],
        "whoever is bound now made the change"
    );
}

#[tokio::test]
async fn p35_an_unverified_address_is_told_nothing() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let account = pb::Account {
        email_verified: false,
        ..given(EMAIL, "")
    };
    let (user_id, mut ann) = app.join(account, "").await;

    service
        .update(Asks::username("ann.mixed").of(user_id))
        .await
        .unwrap();
    service
        .update(Asks::email("ANN@example.org").of(user_id))
        .await
        .unwrap();
    service.link(user_id, "github", "7").await.unwrap();
    let code = app.bind_code(&mut ann, EMAIL).await;
    ann.confirm(EMAIL, &code, "").await.unwrap();

    assert_eq!(app.queued("ANN@example.org").await, [""; 0]);
    assert_eq!(app.queued(EMAIL).await, ["code.bind"]);
}

#[tokio::test]
async fn p43_a_call_that_fails_sends_nothing() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given(EMAIL, ""), "").await;
    app.join(
        pb::Account {
            username: Some("taken.name".to_owned()),
            ..Default::default()
        },
        "",
    )
    .await;
    let code = app.bind_code(&mut ann, PHONE).await;

    let asks = Asks::phone(PHONE)
        .new_code(&code)
        .and(Asks::username("taken.name"));
    let refused = fault(ann.update(asks).await);

    assert_eq!(refused.reason, "USERNAME_TAKEN");
    assert_eq!(app.queued(EMAIL).await, [""; 0]);
}

#[tokio::test]
async fn p46_a_notice_is_in_the_language_of_the_profile() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let mut request = pb::CreateUserRequest {
        account: Some(given("", PHONE)),
        ..person("王芳")
    };
    request.profile.as_mut().unwrap().language = "zh_CN".to_owned();
    let user_id = service.create(request).await.unwrap().user_id;

    service
        .update(Asks::password(PASSWORD).of(user_id))
        .await
        .unwrap();

    assert!(
        app.newest(PHONE).await.contains('密'),
        "{}",
        app.newest(PHONE).await
    );
}

#[tokio::test]
async fn p35_a_changed_or_cleared_username_and_a_linked_connection_are_told() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let account = pb::Account {
        username: Some("ann.mixed".to_owned()),
        ..given(EMAIL, "")
    };
    let (user_id, mut ann) = app.join(account, "").await;

    ann.update(Asks::username("ann.mixed")).await.unwrap();
    ann.update(Asks::username("ann.other")).await.unwrap();
    ann.update(Asks::clear("username")).await.unwrap();
    service.link(user_id, "github", "7").await.unwrap();
    service.link(user_id, "github", "7").await.unwrap();

    let told = [
        "notice.username_changed",
        "notice.username_changed",
        "notice.connection_linked",
    ];
    assert_eq!(app.queued(EMAIL).await, told);
    assert!(
        app.newest(EMAIL)
            .await
            .contains("A connected account was linked to your account.")
    );
}

#[tokio::test]
async fn p35_more_than_five_an_hour_are_summed_up_in_one() {
    let app = TestApp::new().await;
    let (user_id, _) = app.join(given(EMAIL, ""), "").await;
    let service = app.service().await;
    let rename = async |number: usize| {
        service
            .clone()
            .update(Asks::username(&format!("ann.name-{number}")).of(user_id))
            .await
            .unwrap();
    };

    for number in 0..9 {
        rename(number).await;
    }
    let queued = app.queued(EMAIL).await;
    app.clock.advance(chrono::TimeDelta::hours(1));
    let summary = app.newest(EMAIL).await;
    // The summary is one of the next hour's five.
    for number in 10..16 {
        rename(number).await;
    }

    let mut told = vec!["notice.username_changed"; 5];
    told.push("notice.more_changes");
    assert_eq!(queued, told);
    assert!(
        summary.contains("Your account was changed 4 more times"),
        "{summary}"
    );
    told.extend(["notice.username_changed"; 4]);
    told.push("notice.more_changes");
    assert_eq!(app.queued(EMAIL).await, told);
}

#[tokio::test]
async fn p35_text_messages_go_to_allowed_countries_within_the_daily_cap() {
    let app = TestApp::configured(|config| {
        config.sms.allowed_country_codes = vec!["86".to_owned()];
        config.sms.daily_cap = 2;
    })
    .await;
    let mut service = app.service().await;
    let abroad = "+4915112345678";
    let (abroad_id, mut ben) = app.join(given("", abroad), "").await;
    let (ann_id, mut ann) = app.join(given("", PHONE), "").await;

    service
        .update(Asks::password(PASSWORD).of(abroad_id))
        .await
        .unwrap();
    let code = fault(app.user(abroad_id).await.send_bind("+4915112345679").await);
    service
        .update(Asks::password(PASSWORD).of(ann_id))
        .await
        .unwrap();
    let mut ann_again = app.user(ann_id).await;
    ann_again.send_bind("+8613900139000").await.unwrap();
    app.clock.advance(chrono::TimeDelta::minutes(2));
    let capped = fault(ann_again.send_bind("+8613900139001").await);
    service
        .update(Asks::password("amber-harbour-51").of(ann_id))
        .await
        .unwrap();
    app.clock
        .advance(chrono::TimeDelta::hours(23) + chrono::TimeDelta::minutes(58));
    let next_day = app.user(ann_id).await.send_bind("+8613900139001").await;

    assert_eq!(app.queued(abroad).await, [""; 0]);
    assert_eq!(
        code.fields,
        [("phone".to_owned(), "FIELD_RANGE".to_owned())]
    );
    assert_eq!(
        (capped.reason.as_str(), capped.quota.as_deref()),
        ("CODE_SEND_QUOTA", Some("text_message_day"))
    );
    assert_eq!(capped.wait(), 24 * 3600 - 120);
    assert_eq!(
        app.queued(PHONE).await,
        ["notice.password_changed"],
        "the notice beyond the cap is not sent"
    );
    assert!(next_day.is_ok());
    assert!(
        ben.get(abroad_id).await.is_err() && ann.get(ann_id).await.is_err(),
        "their tokens were revoked"
    );
}
