//! SendEmailCode, SendPhoneCode and GetDelivery: to whom, how often, and what no one learns by it.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Bytea, Text};
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use tonic::Code;
use user_service::{
    convert::pb::{self, CodePurpose},
    domain::codes,
    model::{
        code,
        delivery::Channel,
        keys::{Key, Keys},
        scope::Scope,
        token::Subject,
    },
    store::sql::Sql,
};

use crate::support::{Asks, Client, TestApp, fault, given, patiently};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";

/// The digits of the newest code of a user and purpose, for codes that no mail carries.
pub async fn digits(app: &TestApp, user_id: i64, purpose: &'static str) -> String {
    let mut conn = app.database.connect().await;
    let statement = Sql::<(Text, Text, Bytea)>::new(
        "select channel, address, nonce from codes where user_id = ",
    );
    let statement = statement
        .bind(user_id)
        .push(" and purpose = ")
        .bind(purpose);
    let newest = statement
        .push(" order by code_id desc limit 1")
        .get_result(&mut conn)
        .await;
    let (channel, address, nonce): (String, String, Vec<u8>) = newest.unwrap();
    let seed = code::seed(
        user_id,
        Channel::parse(&channel).unwrap(),
        purpose,
        &address,
        &nonce,
    );
    codes::digits(
        &Keys::new(vec![Key {
            id: "test".to_owned(),
            bytes: [7; 32],
        }]),
        "test",
        &seed,
    )
    .unwrap()
}

fn seconds(time: Option<prost_types::Timestamp>, since: DateTime<Utc>) -> i64 {
    time.unwrap().seconds - since.timestamp()
}

/// A user who asks for codes: with a verified email, and another of the same kind.
async fn two(app: &TestApp) -> (Client, Client) {
    let (_, ann) = app
        .join(given("ann@example.org", "+8613800138000"), "")
        .await;
    let (_, ben) = app
        .join(given("ben@example.org", "+8613800138001"), "")
        .await;
    (ann, ben)
}

#[tokio::test]
async fn p37_a_code_lives_ten_minutes_and_says_so() {
    let app = TestApp::new().await;
    let (mut ann, _) = two(&app).await;
    let now = crate::support::start_time();

    let sent = ann
        .send_mail(CodePurpose::Bind, "new@example.org")
        .await
        .unwrap();
    let mail = app.newest("new@example.org").await;

    assert_eq!(
        (
            seconds(sent.expires_at, now),
            seconds(sent.resend_after, now)
        ),
        (600, 60)
    );
    assert!(mail.contains("10 minutes"), "{mail}");
    assert_eq!(app.newest_code("new@example.org").await.len(), 6);
}

#[tokio::test]
async fn p36_the_bound_address_gets_the_codes_of_the_other_purposes() {
    let app = TestApp::new().await;
    let (mut ann, _) = two(&app).await;
    let purposes = [
        CodePurpose::Replace,
        CodePurpose::Password,
        CodePurpose::WalletPassword,
        CodePurpose::Unlink,
    ];

    for purpose in &purposes[..3] {
        ann.send_mail(*purpose, "").await.unwrap();
        ann.send_text(*purpose, "").await.unwrap();
    }
    app.all_sent().await;
    app.clock.advance(TimeDelta::hours(1));
    ann.send_text(purposes[3], "").await.unwrap();
    let given = fault(ann.send_mail(purposes[3], "other@example.org").await);

    assert_eq!(
        app.queued("ann@example.org").await,
        ["code.replace", "code.password", "code.wallet_password"]
    );
    app.all_sent().await;
    let texts = app.texts.received();
    assert!(texts.iter().all(|text| text.to == "+8613800138000"));
    let ids: std::collections::HashSet<&str> = texts.iter().map(|text| text.id.as_str()).collect();
    assert_eq!(
        (texts.len(), ids.len()),
        (4, 4),
        "each was taken once by the webhook, which checks the signature"
    );
    assert_eq!(
        given.fields,
        [("email".to_owned(), "FIELD_FORMAT".to_owned())]
    );
}

#[tokio::test]
async fn p36_a_purpose_needs_an_address_that_is_bound_and_for_secrets_a_verified_one() {
    let app = TestApp::new().await;
    let account = pb::Account {
        email_verified: false,
        ..given("cid@example.org", "")
    };
    let (_, mut cid) = app.join(account, "").await;

    let text = fault(cid.send_text(CodePurpose::Replace, "").await);
    let secret = fault(cid.send_mail(CodePurpose::Password, "").await);
    let replace = cid.send_mail(CodePurpose::Replace, "").await;
    let (_, mut ben) = two(&app).await;
    let unchanged = fault(ben.send_mail(CodePurpose::Bind, "Ben@EXAMPLE.org").await);

    assert_eq!(
        (text.code, text.reason.as_str()),
        (Code::FailedPrecondition, "ADDRESS_NOT_BOUND")
    );
    assert_eq!(
        (text.preconditions, secret.reason.as_str()),
        (vec!["phone".to_owned()], "ADDRESS_NOT_BOUND")
    );
    assert!(replace.is_ok());
    assert_eq!(
        (unchanged.reason.as_str(), unchanged.preconditions),
        ("ADDRESS_UNCHANGED", vec!["email".to_owned()])
    );
}

#[tokio::test]
async fn p38_a_lost_reply_is_given_again_and_nothing_is_sent_twice() {
    let app = TestApp::new().await;
    let (ann, _) = two(&app).await;
    let request = pb::SendEmailCodeRequest {
        email: "new@example.org".to_owned(),
        request_id: ID.to_owned(),
        ..Default::default()
    };

    let tries = (0..10).map(|_| {
        let (mut ann, request) = (ann.clone(), request.clone());
        async move { ann.users.send_email_code(request).await }
    });
    let mut replies = Vec::new();
    for answer in join_all(tries).await {
        match answer {
            Ok(reply) => replies.push(reply.into_inner()),
            Err(_) => assert_eq!(fault(answer).reason, "REQUEST_IN_PROGRESS"),
        }
    }
    app.clock.advance(TimeDelta::hours(23));
    let mut ann = ann;
    replies.push(
        ann.users
            .send_email_code(request.clone())
            .await
            .unwrap()
            .into_inner(),
    );
    let queued = app.queued("new@example.org").await;
    app.clock.advance(TimeDelta::hours(1));
    let new = ann
        .users
        .send_email_code(request)
        .await
        .unwrap()
        .into_inner();

    assert!(
        replies.iter().all(|reply| *reply == replies[0]),
        "{replies:?}"
    );
    assert_eq!(queued, ["code.bind"]);
    assert_ne!(
        new.delivery_id, replies[0].delivery_id,
        "after a day the id is free again"
    );
}

#[tokio::test]
async fn p41_the_cooldown_is_of_user_channel_and_purpose_and_tells_the_wait() {
    let app = TestApp::new().await;
    let (mut ann, mut ben) = two(&app).await;
    ann.send_mail(CodePurpose::Bind, "one@example.org")
        .await
        .unwrap();

    app.clock.advance(TimeDelta::seconds(20));
    let soon = fault(ann.send_mail(CodePurpose::Bind, "two@example.org").await);
    ann.send_mail(CodePurpose::Replace, "").await.unwrap();
    ann.send_text(CodePurpose::Bind, "+8613900139000")
        .await
        .unwrap();
    ben.send_mail(CodePurpose::Bind, "two@example.org")
        .await
        .unwrap();
    app.clock.advance(TimeDelta::seconds(39));
    let still = fault(ann.send_mail(CodePurpose::Bind, "two@example.org").await);
    app.clock.advance(TimeDelta::seconds(1));
    ann.send_mail(CodePurpose::Bind, "two@example.org")
        .await
        .unwrap();

    assert_eq!(
        (soon.code, soon.reason.as_str()),
        (Code::ResourceExhausted, "CODE_SEND_COOLDOWN")
    );
    assert_eq!(
        (soon.quota.as_deref(), soon.wait(), still.wait()),
        (Some("code_send_cooldown"), 40, 1)
    );
}

#[tokio::test]
async fn p41_six_an_hour_for_a_user_hold_over_replicas_and_slide() {
    let app = TestApp::new().await;
    let (ann_id, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let replica = app.replica().await;
    let mut other = replica.user(ann_id).await;
    for number in 0..3 {
        ann.send_mail(CodePurpose::Bind, &format!("a{number}@example.org"))
            .await
            .unwrap();
        app.clock.advance(TimeDelta::minutes(2));
        other
            .send_mail(CodePurpose::Bind, &format!("b{number}@example.org"))
            .await
            .unwrap();
        app.clock.advance(TimeDelta::minutes(2));
    }

    let refused = fault(ann.send_mail(CodePurpose::Replace, "").await);
    app.clock.advance(TimeDelta::minutes(48));
    let sent = other.send_mail(CodePurpose::Replace, "").await.unwrap();

    assert_eq!(
        (refused.reason.as_str(), refused.quota.as_deref()),
        ("CODE_SEND_QUOTA", Some("code_send_user_hour"))
    );
    assert_eq!(refused.wait(), 48 * 60);
    let now = crate::support::start_time() + TimeDelta::hours(1);
    assert_eq!(
        seconds(sent.resend_after, now),
        120,
        "the quota is in it: the next place is free in two minutes"
    );
}

#[tokio::test]
async fn p41_twenty_a_day_for_a_user() {
    let app = TestApp::new().await;
    let (mut ann, _) = two(&app).await;
    for _ in 0..20 {
        ann.send_mail(CodePurpose::Replace, "").await.unwrap();
        app.clock.advance(TimeDelta::minutes(11));
    }

    let refused = fault(ann.send_text(CodePurpose::Replace, "").await);

    assert_eq!(
        (refused.reason.as_str(), refused.quota.as_deref()),
        ("CODE_SEND_QUOTA", Some("code_send_user_day"))
    );
    assert_eq!(refused.wait(), (24 * 60 - 220) * 60);
}

#[tokio::test]
async fn p41_three_an_hour_for_an_address_and_its_owner_is_never_silenced() {
    let app = TestApp::new().await;
    let mut strangers = Vec::new();
    for number in 0..4 {
        strangers.push(
            app.join(given(&format!("s{number}@example.org"), ""), "")
                .await
                .1,
        );
    }
    let account = pb::Account {
        email_verified: false,
        ..given("ann@example.org", "")
    };
    let (_, mut ann) = app.join(account, "").await;
    for stranger in &mut strangers[..3] {
        stranger
            .send_mail(CodePurpose::Bind, "ANN@example.org")
            .await
            .unwrap();
    }

    let refused = fault(
        strangers[3]
            .send_mail(CodePurpose::Bind, "ann@example.org")
            .await,
    );
    let replace = ann.send_mail(CodePurpose::Replace, "").await;
    let verify = ann.send_mail(CodePurpose::Bind, "ann@example.org").await;

    assert_eq!(
        (refused.reason.as_str(), refused.quota.as_deref()),
        ("CODE_SEND_QUOTA", Some("code_send_address_hour"))
    );
    assert!(replace.is_ok() && verify.is_ok());
}

#[tokio::test]
async fn p41_parallel_sends_are_one_send() {
    let app = TestApp::new().await;
    let (ann, _) = two(&app).await;

    let tries = (0..20).map(|_| {
        let mut ann = ann.clone();
        async move {
            patiently(async || ann.send_mail(CodePurpose::Bind, "new@example.org").await).await
        }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!(
        (won.len(), app.queued("new@example.org").await.len()),
        (1, 1)
    );
    assert!(
        lost.into_iter()
            .all(|answer| fault(answer).reason == "CODE_SEND_COOLDOWN")
    );
}

/// What a caller sees of a send: everything but the number of the delivery and the moment.
async fn seen(app: &TestApp, client: &mut Client, address: &str) -> (i64, i64, i32, i32, String) {
    let before = crate::support::start_time();
    let (expires_at, resend_after, delivery_id) = if address.contains('@') {
        let sent = client.send_mail(CodePurpose::Bind, address).await.unwrap();
        (sent.expires_at, sent.resend_after, sent.delivery_id)
    } else {
        let sent = client.send_text(CodePurpose::Bind, address).await.unwrap();
        (sent.expires_at, sent.resend_after, sent.delivery_id)
    };
    app.all_sent().await;
    let request = pb::GetDeliveryRequest { delivery_id };
    let mut blind = app.service_with(&[Scope::CodesSend]).await;
    assert_eq!(
        fault(blind.admin.get_delivery(request).await).reason,
        "DELIVERY_NOT_FOUND",
        "it is another's"
    );
    let mut service = app.service().await;
    let delivery = service
        .admin
        .get_delivery(request)
        .await
        .unwrap()
        .into_inner();
    let again = if address.contains('@') {
        fault(client.send_mail(CodePurpose::Bind, address).await)
    } else {
        fault(client.send_text(CodePurpose::Bind, address).await)
    };
    (
        seconds(expires_at, before),
        seconds(resend_after, before),
        delivery.state,
        delivery.attempts,
        again.reason,
    )
}

#[tokio::test]
async fn p42_nobody_learns_whose_an_address_is() {
    let app = TestApp::new().await;
    let (_, mut ben) = two(&app).await;
    let (_, mut cid) = app
        .join(given("cid@example.org", "+8613800138002"), "")
        .await;

    let of_owner = seen(&app, &mut ben, "ann@example.org").await;
    let of_nobody = seen(&app, &mut cid, "nobody@example.org").await;
    let phone_of_owner = seen(&app, &mut ben, "+8613800138000").await;
    let phone_of_nobody = seen(&app, &mut cid, "+8613900139000").await;

    assert_eq!(
        (of_owner.2, of_owner.3),
        (pb::DeliveryState::Accepted.into(), 1)
    );
    assert_eq!((of_owner, phone_of_owner), (of_nobody, phone_of_nobody));
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.address_in_use"]
    );
    assert!(
        app.newest("ann@example.org")
            .await
            .contains("Someone tried to")
    );
    let text = app.newest("+8613800138000").await;
    assert!(
        text.contains("Someone tried to add this phone number"),
        "{text}"
    );
}

#[tokio::test]
async fn p42_the_conflict_shows_only_after_the_right_code() {
    let app = TestApp::new().await;
    let (_, mut ben) = two(&app).await;
    let ben_id = ben.account(0).await.user_id;
    ben.send_bind("+8613800138000").await.unwrap();
    let right = digits(&app, ben_id, "bind").await;

    let guessed = fault(
        ben.update(Asks::phone("+8613800138000").new_code(&crate::support::wrong(&right)))
            .await,
    );
    // Ben's own verified number needs its code too.
    let code = app
        .code(&mut ben, CodePurpose::Replace, "+8613800138001")
        .await;
    let wrong = Asks::phone("+8613800138000")
        .code(&code)
        .new_code(&crate::support::wrong(&right));
    let guessed_again = fault(ben.update(wrong).await);
    let taken = fault(
        ben.update(Asks::phone("+8613800138000").code(&code).new_code(&right))
            .await,
    );
    let again = fault(
        ben.update(Asks::phone("+8613800138000").code(&code).new_code(&right))
            .await,
    );

    assert_eq!(guessed.reason, "CURRENT_CODE_REQUIRED");
    assert_eq!(
        guessed_again.told(),
        ("CODE_INVALID", vec!["proof.new_code"])
    );
    assert_eq!(
        (taken.code, taken.told()),
        (Code::AlreadyExists, ("PHONE_TAKEN", vec!["account.phone"]))
    );
    assert_eq!(again.reason, "PHONE_TAKEN", "the codes were not burnt");
}

#[tokio::test]
async fn p42_a_service_learns_it_with_accounts_write_alone() {
    let app = TestApp::new().await;
    let (_, mut ben) = two(&app).await;
    let user_id = ben.account(0).await.user_id;
    let request = |email: &str| pb::SendEmailCodeRequest {
        user_id,
        email: email.to_owned(),
        ..Default::default()
    };

    let mut knowing = app
        .service_with(&[Scope::CodesSend, Scope::AccountsWrite])
        .await;
    let taken = fault(
        knowing
            .users
            .send_email_code(request("ANN@example.org"))
            .await,
    );
    let mut blind = app.service_with(&[Scope::CodesSend]).await;
    blind
        .users
        .send_email_code(request("ann@example.org"))
        .await
        .unwrap();

    assert_eq!(
        (taken.code, taken.told()),
        (Code::AlreadyExists, ("EMAIL_TAKEN", vec!["email"]))
    );
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.address_in_use"]
    );
}

#[tokio::test]
async fn p45_the_state_is_told_and_an_unknown_or_foreign_delivery_is_none() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (ann_id, _) = app.join(given("ann@example.org", ""), "").await;
    service
        .update(
            Asks::username("ann.mixed")
                .and(Asks::password("violet-lantern-93"))
                .of(ann_id),
        )
        .await
        .unwrap();
    app.all_sent().await;
    let mut conn = app.database.connect().await;
    let newest = Sql::<BigInt>::new("select max(outbox_id) from outbox");
    let notice: i64 = newest.get_result(&mut conn).await.unwrap();

    let ask = |delivery_id| pb::GetDeliveryRequest { delivery_id };
    let notice = fault(service.admin.get_delivery(ask(notice)).await);
    let unknown = fault(service.admin.get_delivery(ask(999)).await);
    let zero = fault(service.admin.get_delivery(ask(0)).await);

    assert_eq!(
        (notice.code, notice.reason.as_str()),
        (Code::NotFound, "DELIVERY_NOT_FOUND")
    );
    assert_eq!(
        (unknown.reason.as_str(), unknown.resource.as_deref()),
        ("DELIVERY_NOT_FOUND", Some("deliveries/999"))
    );
    assert_eq!(zero.paths(), ["delivery_id"]);
}

#[tokio::test]
async fn p45_a_service_sees_the_deliveries_that_it_requested() {
    let app = TestApp::new().await;
    let (_, ben) = two(&app).await;
    let user_id = ben.clone().account(0).await.user_id;
    let named = async |name: &str, scopes: &[Scope]| {
        let subject = Subject::Service(name.to_owned());
        let (_, secret) = app
            .api
            .tokens()
            .issue(&subject, scopes, TimeDelta::days(1))
            .await
            .unwrap();
        app.client(&secret)
    };
    let mut sender = named("sender", &[Scope::CodesSend]).await;
    let mut other = named("other", &[Scope::CodesSend]).await;
    let mut support = named("support", &[Scope::CodesSend, Scope::AccountsWrite]).await;
    let send = async |sender: &mut Client, email: &str| {
        let request = pb::SendEmailCodeRequest {
            user_id,
            email: email.to_owned(),
            ..Default::default()
        };
        sender
            .users
            .send_email_code(request)
            .await
            .unwrap()
            .into_inner()
            .delivery_id
    };

    let taken = send(&mut sender, "ann@example.org").await;
    // A newer code would take its place before it is sent.
    app.all_sent().await;
    app.clock.advance(TimeDelta::seconds(61));
    let free = send(&mut sender, "nobody@example.org").await;
    app.all_sent().await;

    for delivery_id in [taken, free] {
        let request = pb::GetDeliveryRequest { delivery_id };
        let own = sender
            .admin
            .get_delivery(request)
            .await
            .unwrap()
            .into_inner();
        let foreign = fault(other.admin.get_delivery(request).await);
        let knowing = support
            .admin
            .get_delivery(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (own.state(), own.attempts),
            (pb::DeliveryState::Accepted, 1)
        );
        assert_eq!(
            (foreign.code, foreign.reason.as_str()),
            (Code::NotFound, "DELIVERY_NOT_FOUND")
        );
        assert_eq!(knowing.state, own.state);
    }
}

#[tokio::test]
async fn p46_the_language_falls_back_and_the_application_is_named() {
    let app = TestApp::new().await;
    let (_, mut ann) = app.join(given("ann@example.org", ""), "").await;
    let (_, mut ben) = app.join(given("ben@example.org", ""), "").await;
    let request = |language: &str| pb::SendEmailCodeRequest {
        email: format!("{}@example.org", language.to_lowercase()),
        language: language.to_owned(),
        app_name: "Rosé & Co".to_owned(),
        ..Default::default()
    };

    ann.users
        .send_email_code(request("zh-Hant-TW"))
        .await
        .unwrap();
    let chinese = app.newest("zh-hant-tw@example.org").await;
    ben.users.send_email_code(request("fr")).await.unwrap();
    let english = app.newest("fr@example.org").await;

    assert!(
        chinese
            .to_lowercase()
            .contains("content-transfer-encoding: base64"),
        "{chinese}"
    );
    assert!(
        english.contains("The code expires in 10 minutes"),
        "{english}"
    );
    assert!(english.contains("Ros=C3=A9 & Co"), "{english}");
}

#[tokio::test]
async fn p46_no_header_and_no_link_comes_in_by_a_request() {
    let app = TestApp::new().await;
    let (mut ann, _) = two(&app).await;
    let bad = [
        ("a@example.org\r\nBcc: b@example.org", "Shop", "en"),
        ("a@example.org", "Shop\r\nBcc: b@example.org", "en"),
        ("a@example.org", "Shop\tBcc", "en"),
        ("a@example.org", "Shop\u{2028}Bcc", "en"),
        ("a@example.org", "=?utf-8?q?Shop?=", "en"),
        ("a@example.org", "https://evil.example", "en"),
        ("a@example.org", "Call 123456", "en"),
        ("a@example.org", "Shop", "en\r\nBcc: b@example.org"),
    ];
    let told = |(email, _, language): (&str, &str, &str)| match (email, language) {
        ("a@example.org", "en") => "app_name",
        ("a@example.org", _) => "language",
        _ => "email",
    };
    for (email, app_name, language) in bad {
        let request = pb::SendEmailCodeRequest {
            email: email.to_owned(),
            app_name: app_name.to_owned(),
            language: language.to_owned(),
            ..Default::default()
        };
        let refused = fault(ann.users.send_email_code(request).await);
        let path = told((email, app_name, language));
        assert_eq!(
            refused.fields,
            [(path.to_owned(), "FIELD_FORMAT".to_owned())],
            "{email} {app_name} {language}"
        );
    }
}
