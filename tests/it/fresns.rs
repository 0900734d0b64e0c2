//! Fresns' own page: each header, each parameter, each answer and each rule of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use user_service::{convert::pb, store::sql::Sql};

use crate::support::{Asks, Client, TestApp, given, rest::Caller, start_time, wrong};

const EDIT: &str = "/api/fresns/user/edit";
const SEND: &str = "/api/fresns/info/sendVerifyCode";
const EMAIL: &str = "ann@example.org";
const NEW: &str = "new@example.org";
const PHONE: &str = "+8613800138000";
const NEW_PHONE: &str = "+8613900139000";
const PASSWORD: &str = "violet-lantern-93";
const WALLET: &str = "four-brass-keys";
const BETTER: &str = "amber-harbour-51";

/// A service, and a user whose token it is.
struct Bench {
    app: TestApp,
    user: Caller,
    client: Client,
    user_id: i64,
}

fn secret(text: &str) -> String {
    STANDARD.encode(text)
}

impl Bench {
    /// A user with these verified addresses and a password; an empty one is none.
    async fn new(email: &str, phone: &str, password: &str) -> Self {
        let app = TestApp::new().await;
        let (user_id, client) = app.join(given(email, phone), password).await;
        let user = Caller::user(&app, user_id).await;
        Self {
            app,
            user,
            client,
            user_id,
        }
    }

    /// The number that an edit answers; the status is 200 whatever it is.
    async fn edit(&self, body: Value) -> i64 {
        number(&self.user, EDIT, body).await
    }

    /// Asks for a code by `type`, `useType`, `templateId` and more, and reads it where it arrives.
    async fn code(&self, ask: Value, address: &str) -> String {
        assert_eq!(number(&self.user, SEND, ask.clone()).await, 0, "{ask}");
        self.app.newest_code(address).await
    }

    /// The code that binds an address.
    async fn bind_code(&self, address: &str) -> String {
        let ask = match address.strip_prefix("+86") {
            Some(number) => {
                json!({ "type": 2, "useType": 3, "templateId": 4, "account": number, "countryCode": 86 })
            }
            None => json!({ "type": 1, "useType": 3, "templateId": 4, "account": address }),
        };
        self.code(ask, address).await
    }

    /// A code to the bound address.
    async fn own_code(&self, template: i32, address: &str) -> String {
        let channel = if address.contains('@') { 1 } else { 2 };
        self.code(
            json!({ "type": channel, "useType": 4, "templateId": template }),
            address,
        )
        .await
    }

    async fn set_wallet(&self) {
        let wallet = Asks::wallet_password(WALLET).of(self.user_id);
        self.app.service().await.update(wallet).await.unwrap();
    }

    /// Whether this is the password now.
    async fn has_password(&self, password: &str, wallet: bool) -> bool {
        let key = Some(pb::verify_password_request::Key::UserId(self.user_id));
        let request = pb::VerifyPasswordRequest {
            key,
            password: password.to_owned(),
            wallet,
            client: "t".to_owned(),
        };
        self.app
            .service()
            .await
            .admin
            .verify_password(request)
            .await
            .is_ok()
    }
}

async fn number(caller: &Caller, path: &str, body: Value) -> i64 {
    let reply = caller.send("POST", path, body.to_string()).await;
    assert_eq!(reply.status.as_u16(), 200, "{body}: {}", reply.body);
    assert!(reply.body["message"].is_string(), "{}", reply.body);
    reply.body["code"].as_i64().unwrap()
}

// Headers, as the page lists them.

#[tokio::test]
async fn the_path_since_v1_5_is_the_same_operation() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    let later = "/api/fresns/account/edit";
    let change = json!({ "password": secret(PASSWORD), "editPassword": secret(BETTER) });
    assert_eq!(number(&bench.user, later, change).await, 0);
    assert!(bench.has_password(BETTER, false).await);
    assert_eq!(
        number(&bench.user.without("token"), later, json!({})).await,
        30109
    );
}

#[tokio::test]
async fn header_uid_is_needed_and_the_tokens_own() {
    let bench = Bench::new(EMAIL, "", "").await;
    let (ben, _) = bench.app.join(given("", ""), "").await;
    let without = bench.user.without("uid");
    assert_eq!(number(&without, EDIT, json!({})).await, 30107);
    assert_eq!(
        number(&without.with("uid", ""), EDIT, json!({})).await,
        30107
    );
    for (uid, told) in [
        (ben.to_string(), 30113),
        ("77777".to_owned(), 30113),
        ("ann".to_owned(), 30111),
    ] {
        assert_eq!(
            number(&without.with("uid", &uid), EDIT, json!({})).await,
            told,
            "{uid}"
        );
    }
    // The verdict on the token is still good, for no one told of the change.
    assert_eq!(bench.edit(json!({})).await, 0);
    let mut conn = bench.app.database.connect().await;
    Sql::<()>::new("delete from users")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(bench.edit(json!({})).await, 30111);
}

#[tokio::test]
async fn a_token_whose_user_was_deleted_is_told_apart_from_an_unknown_one() {
    let bench = Bench::new(EMAIL, "", "").await;
    assert_eq!(bench.edit(json!({})).await, 0);

    let delete = pb::DeleteUserRequest {
        user_id: bench.user_id,
        ..Default::default()
    };
    bench
        .app
        .service()
        .await
        .admin
        .delete_user(delete)
        .await
        .unwrap();

    assert_eq!(bench.edit(json!({})).await, 30111);
    bench.app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(
        bench.edit(json!({})).await,
        30111,
        "the first refusal is not in the cache any more"
    );
    let unknown = bench.user.without("token").with("token", "us_unknown");
    assert_eq!(number(&unknown, EDIT, json!({})).await, 30113);
}

#[tokio::test]
async fn header_mid_may_be_there_and_may_be_absent() {
    let bench = Bench::new(EMAIL, "", "").await;
    assert_eq!(
        number(&bench.user.with("mid", "12"), EDIT, json!({})).await,
        0
    );
    assert_eq!(bench.edit(json!({})).await, 0);
}

#[tokio::test]
async fn header_token_is_needed_and_must_be_good() {
    let mut bench = Bench::new(EMAIL, "", "").await;
    let (without, token) = (
        bench.user.without("token"),
        bench.user.header("token").to_owned(),
    );
    assert_eq!(number(&without, EDIT, json!({})).await, 30109);
    let wrong = without.with("token", &token.replace(char::is_numeric, "0"));
    assert_eq!(number(&wrong, EDIT, json!({})).await, 30113);
    let service = Caller::service(&bench.app).await;
    let service = without.with(
        "token",
        service
            .header("authorization")
            .strip_prefix("Bearer ")
            .unwrap(),
    );
    assert_eq!(number(&service, EDIT, json!({})).await, 30113);
    bench
        .app
        .service()
        .await
        .update(Asks::password(BETTER).of(bench.user_id))
        .await
        .unwrap();
    assert_eq!(
        bench.edit(json!({})).await,
        30115,
        "a change of the password disables it"
    );
    bench.user = Caller::user(&bench.app, bench.user_id).await;
    bench.app.clock.advance(TimeDelta::days(31));
    assert_eq!(bench.edit(json!({})).await, 30113);
}

// Answers, as the page shows them.

#[tokio::test]
async fn success_is_code_0_and_ok() {
    let bench = Bench::new(EMAIL, "", "").await;
    let reply = bench.user.send("POST", EDIT, "{}").await;
    assert_eq!(
        (reply.status.as_u16(), reply.body),
        (200, json!({ "code": 0, "message": "ok" }))
    );
}

#[tokio::test]
async fn failure_is_a_number_and_its_message_in_the_callers_language() {
    let bench = Bench::new(EMAIL, "", "").await;
    let body = json!({ "editEmail": "nobody" }).to_string();
    let english = bench.user.send("POST", EDIT, body.clone()).await.body;
    let chinese = bench
        .user
        .with("langTag", "zh-Hans")
        .send("POST", EDIT, body)
        .await
        .body;
    assert_eq!(
        english,
        json!({ "code": 30221, "message": "The email address is invalid" })
    );
    assert_eq!(chinese, json!({ "code": 30221, "message": "邮箱格式错误" }));
}

// Parameters, as the page lists them.

#[tokio::test]
async fn each_parameter_may_be_left_empty_and_then_changes_nothing() {
    let mut bench = Bench::new(EMAIL, PHONE, PASSWORD).await;
    let before = bench.client.account(0).await;
    for name in [
        "codeType",
        "verifyCode",
        "editEmail",
        "editPhone",
        "editCountryCode",
        "newVerifyCode",
        "password",
        "editPassword",
        "walletPassword",
        "editWalletPassword",
        "deleteConnectId",
        "editLastLoginTime",
    ] {
        assert_eq!(bench.edit(json!({ name: "" })).await, 0, "{name}");
        assert_eq!(bench.edit(json!({ name: null })).await, 0, "{name}");
    }
    assert_eq!(bench.client.account(0).await, before);
}

#[tokio::test]
async fn each_parameter_of_another_type_is_a_fault() {
    let bench = Bench::new(EMAIL, PHONE, PASSWORD).await;
    for (body, told) in [
        (json!({ "codeType": 3 }), 30014),
        (json!({ "codeType": "x" }), 30014),
        (json!({ "verifyCode": 123456 }), 30014),
        (
            json!({ "editEmail": "x@y.example", "newVerifyCode": "12345a", "verifyCode": "123456" }),
            30008,
        ),
        (json!({ "editEmail": 7 }), 30221),
        (
            json!({ "editPhone": "1380013800x", "editCountryCode": 86 }),
            30225,
        ),
        (
            json!({ "editPhone": "13800138000", "editCountryCode": "+86" }),
            30228,
        ),
        (json!({ "password": "not base64!" }), 30014),
        (json!({ "editPassword": "YWJj" }), 30204),
        (json!({ "walletPassword": 7 }), 30014),
        (json!({ "editWalletPassword": "!" }), 30014),
        (json!({ "deleteConnectId": 18 }), 30014),
        (json!({ "deleteConnectId": 0 }), 30014),
        (json!({ "editLastLoginTime": "2026-01-01" }), 30014),
    ] {
        assert_eq!(bench.edit(body.clone()).await, told, "{body}");
    }
}

// Rules, as the page tells them.

#[tokio::test]
async fn rule_edit_email_without_a_mail_needs_the_new_code_alone() {
    let mut bench = Bench::new("", PHONE, "").await;
    assert_eq!(bench.edit(json!({ "editEmail": EMAIL })).await, 30015);
    let code = bench.bind_code(EMAIL).await;
    let other = json!({ "editEmail": NEW, "newVerifyCode": code });
    assert_eq!(
        bench.edit(other).await,
        30008,
        "it is checked against the very mail"
    );
    assert_eq!(
        bench
            .edit(json!({ "editEmail": EMAIL, "newVerifyCode": code }))
            .await,
        0
    );
    let account = bench.client.account(0).await;
    assert_eq!(
        (account.email.as_deref(), account.email_verified),
        (Some(EMAIL), true)
    );
}

#[tokio::test]
async fn rule_edit_email_with_a_mail_needs_both_codes() {
    let mut bench = Bench::new(EMAIL, "", "").await;
    let (new, old) = (bench.bind_code(NEW).await, bench.own_code(4, EMAIL).await);
    let edit = |old: &str, new: &str| json!({ "codeType": 1, "editEmail": NEW, "verifyCode": old, "newVerifyCode": new });
    assert_eq!(bench.edit(edit("", &new)).await, 30015);
    assert_eq!(bench.edit(edit(&old, "")).await, 30015);
    assert_eq!(bench.edit(edit(&wrong(&old), &new)).await, 30008);
    assert_eq!(bench.edit(edit(&old, &wrong(&new))).await, 30008);
    assert_eq!(bench.client.account(0).await.email.as_deref(), Some(EMAIL));
    assert_eq!(bench.edit(edit(&old, &new)).await, 0);
    assert_eq!(bench.client.account(0).await.email.as_deref(), Some(NEW));
}

#[tokio::test]
async fn rule_edit_phone_without_a_phone_needs_country_code_and_new_code() {
    let mut bench = Bench::new(EMAIL, "", "").await;
    let code = bench.bind_code(PHONE).await;
    let edit = json!({ "editPhone": "13800138000", "newVerifyCode": code });
    assert_eq!(bench.edit(edit).await, 30228);
    assert_eq!(
        bench
            .edit(json!({ "editPhone": "13800138000", "editCountryCode": 86 }))
            .await,
        30015
    );
    let edit = json!({ "editPhone": "13800138000", "editCountryCode": 86, "newVerifyCode": code });
    assert_eq!(bench.edit(edit).await, 0);
    assert_eq!(bench.client.account(0).await.phone.as_deref(), Some(PHONE));
}

#[tokio::test]
async fn rule_edit_phone_with_a_phone_needs_both_codes() {
    let mut bench = Bench::new("", PHONE, "").await;
    let (new, old) = (
        bench.bind_code(NEW_PHONE).await,
        bench.own_code(4, PHONE).await,
    );
    let edit = |old: &str, new: &str| {
        json!({ "codeType": 2, "editPhone": "13900139000", "editCountryCode": 86, "verifyCode": old,
                "newVerifyCode": new })
    };
    assert_eq!(bench.edit(edit("", &new)).await, 30015);
    assert_eq!(bench.edit(edit(&wrong(&old), &new)).await, 30008);
    assert_eq!(bench.edit(edit(&old, &new)).await, 0);
    assert_eq!(
        bench.client.account(0).await.phone.as_deref(),
        Some(NEW_PHONE)
    );
}

#[tokio::test]
async fn rule_edit_password_by_a_mailed_code() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    let code = bench.own_code(5, EMAIL).await;
    let edit =
        |code: &str| json!({ "codeType": 1, "verifyCode": code, "editPassword": secret(BETTER) });
    assert_eq!(bench.edit(edit(&wrong(&code))).await, 30008);
    assert_eq!(bench.edit(edit(&code)).await, 0);
    assert!(bench.has_password(BETTER, false).await);
}

#[tokio::test]
async fn rule_edit_password_by_a_texted_code() {
    let bench = Bench::new(EMAIL, PHONE, PASSWORD).await;
    let code = bench.own_code(5, PHONE).await;
    let edit = |channel: i32| json!({ "codeType": channel, "verifyCode": code, "editPassword": secret(BETTER) });
    assert_eq!(
        bench.edit(edit(1)).await,
        30008,
        "it is matched with the address of its kind"
    );
    assert_eq!(bench.edit(edit(2)).await, 0);
    assert!(bench.has_password(BETTER, false).await);
}

#[tokio::test]
async fn rule_edit_password_by_the_password() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    let edit =
        |current: &str| json!({ "password": secret(current), "editPassword": secret(BETTER) });
    assert_eq!(bench.edit(edit("something-else")).await, 30242);
    assert_eq!(bench.edit(edit(PASSWORD)).await, 0);
    assert!(bench.has_password(BETTER, false).await);
    assert_eq!(
        bench.edit(json!({})).await,
        0,
        "the caller's own token stays"
    );
}

#[tokio::test]
async fn rule_edit_password_without_any_proof_is_refused_and_two_proofs_are_both_checked() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    assert_eq!(
        bench.edit(json!({ "editPassword": secret(BETTER) })).await,
        30015
    );
    let code = bench.own_code(5, EMAIL).await;
    let both = |code: &str, current: &str| json!({ "codeType": 1, "verifyCode": code, "password": secret(current), "editPassword": secret(BETTER) });
    assert_eq!(bench.edit(both(&code, "something-else")).await, 30242);
    assert_eq!(bench.edit(both(&wrong(&code), PASSWORD)).await, 30008);
    assert_eq!(bench.edit(both(&code, PASSWORD)).await, 0);
}

#[tokio::test]
async fn rule_edit_wallet_password_as_the_login_password() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    bench.set_wallet().await;
    let by_old = |current: &str, new: &str| json!({ "walletPassword": secret(current), "editWalletPassword": secret(new) });
    assert_eq!(
        bench
            .edit(json!({ "editWalletPassword": secret(BETTER) }))
            .await,
        30015
    );
    assert_eq!(bench.edit(by_old("something-else", BETTER)).await, 30242);
    assert_eq!(bench.edit(by_old(WALLET, BETTER)).await, 0);
    assert!(bench.has_password(BETTER, true).await);
    let code = bench.own_code(6, EMAIL).await;
    let by_code =
        json!({ "codeType": 1, "verifyCode": code, "editWalletPassword": secret(WALLET) });
    assert_eq!(bench.edit(by_code).await, 0);
    assert!(bench.has_password(WALLET, true).await);
}

#[tokio::test]
async fn rule_edit_wallet_password_needs_a_wallet() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    let edit = json!({ "walletPassword": secret(WALLET), "editWalletPassword": secret(BETTER) });
    assert_eq!(bench.edit(edit).await, 30262);
}

#[tokio::test]
async fn rule_delete_connect_id_needs_a_code_and_takes_all_links_of_the_provider() {
    let mut bench = Bench::new(EMAIL, "", "").await;
    let mut service = bench.app.service().await;
    for (provider, subject) in [("github", "one"), ("github", "two"), ("google", "three")] {
        service
            .link(bench.user_id, provider, subject)
            .await
            .unwrap();
    }
    let delete =
        |code: &str, id: i32| json!({ "codeType": 1, "verifyCode": code, "deleteConnectId": id });
    assert_eq!(bench.edit(json!({ "deleteConnectId": 2 })).await, 30015);
    let code = bench.own_code(3, EMAIL).await;
    assert_eq!(bench.edit(delete(&wrong(&code), 2)).await, 30008);
    assert_eq!(
        bench.edit(delete(&code, 13)).await,
        30014,
        "not linked, and the code is not burnt"
    );
    assert_eq!(bench.client.account(0).await.connections.len(), 3);
    let before = bench.client.account(0).await.etag.parse::<i64>().ok();
    assert_eq!(bench.edit(delete(&code, 2)).await, 0);
    let account = bench.client.account(0).await;
    let left: Vec<&str> = account
        .connections
        .iter()
        .map(|link| link.provider.as_str())
        .collect();
    assert_eq!(left, ["google"]);
    assert_eq!(
        account.etag.parse::<i64>().ok(),
        before.map(|before| before + 1),
        "one change"
    );
    assert_eq!(
        bench.edit(delete(&code, 3)).await,
        30008,
        "a code counts once"
    );
}

#[tokio::test]
async fn rule_delete_connect_id_leaves_a_way_to_log_in_or_everything() {
    let mut bench = Bench::new("", "", PASSWORD).await;
    let mut service = bench.app.service().await;
    for subject in ["one", "two"] {
        service
            .link(bench.user_id, "github", subject)
            .await
            .unwrap();
    }
    let delete = json!({ "deleteConnectId": 2, "password": secret(PASSWORD) });
    assert_eq!(bench.edit(delete.clone()).await, 30014);
    assert_eq!(bench.client.account(0).await.connections.len(), 2);
    service
        .link(bench.user_id, "google", "three")
        .await
        .unwrap();
    assert_eq!(
        bench.edit(json!({ "deleteConnectId": 2 })).await,
        30015,
        "without an address the password proves it"
    );
    assert_eq!(bench.edit(delete).await, 0);
    assert_eq!(bench.client.account(0).await.connections.len(), 1);
}

#[tokio::test]
async fn rule_edit_last_login_time_needs_the_token_alone_and_is_read_in_the_callers_zone() {
    let mut bench = Bench::new(EMAIL, "", PASSWORD).await;
    let last = async |client: &mut Client| client.account(0).await.last_login_at.unwrap().seconds;
    let zero = start_time().timestamp();
    assert_eq!(
        bench
            .edit(json!({ "editLastLoginTime": "2026-01-01 07:00:00" }))
            .await,
        0
    );
    assert_eq!(
        last(&mut bench.client).await,
        zero - 3600,
        "eight hours east without a header"
    );
    let zoned = bench.user.with("timezone", "-3");
    assert_eq!(
        number(
            &zoned,
            EDIT,
            json!({ "editLastLoginTime": "2025-12-31 20:30:00" })
        )
        .await,
        0
    );
    assert_eq!(last(&mut bench.client).await, zero - 1800);
    assert_eq!(
        bench
            .edit(json!({ "editLastLoginTime": "2026-01-01 09:00:00" }))
            .await,
        30014,
        "an hour ahead"
    );
}

#[tokio::test]
async fn rule_uniqueness_a_mail_or_phone_of_anybody_is_refused_and_no_code_is_burnt() {
    let bench = Bench::new("", "", PASSWORD).await;
    let (mail, text) = (bench.bind_code(EMAIL).await, bench.bind_code(PHONE).await);
    bench.app.join(given(EMAIL, PHONE), "").await;
    for _ in 0..2 {
        assert_eq!(
            bench
                .edit(json!({ "editEmail": EMAIL, "newVerifyCode": mail }))
                .await,
            30220
        );
        let edit =
            json!({ "editPhone": "13800138000", "editCountryCode": 86, "newVerifyCode": text });
        assert_eq!(bench.edit(edit).await, 30224);
    }
}

#[tokio::test]
async fn rule_uniqueness_ones_own_mail_and_phone_are_bound_already() {
    let bench = Bench::new(EMAIL, PHONE, PASSWORD).await;
    let (mail, text) = (
        bench.own_code(4, EMAIL).await,
        bench.own_code(4, PHONE).await,
    );
    let edit = json!({ "editEmail": EMAIL, "verifyCode": mail, "newVerifyCode": "123456" });
    assert!([30223, 30008].contains(&bench.edit(edit).await));
    let edit = json!({ "editPhone": "13800138000", "editCountryCode": 86, "verifyCode": text });
    assert_eq!(bench.edit(edit).await, 30227);
    let ask = json!({ "type": 1, "useType": 3, "templateId": 4, "account": EMAIL });
    assert_eq!(number(&bench.user, SEND, ask).await, 30223);
}

#[tokio::test]
async fn rule_phone_value_is_country_code_and_number() {
    let mut bench = Bench::new(EMAIL, "", "").await;
    let ask = json!({ "type": 2, "useType": 3, "templateId": 4, "account": "30123456", "countryCode": 49 });
    let code = bench.code(ask, "+4930123456").await;
    let edit = json!({ "editPhone": "30123456", "editCountryCode": "49", "newVerifyCode": code });
    assert_eq!(bench.edit(edit).await, 0);
    assert_eq!(
        bench.client.account(0).await.phone.as_deref(),
        Some("+4930123456")
    );
}

#[tokio::test]
async fn rule_mail_and_phone_in_one_call_are_refused_where_both_need_codes() {
    let mut bench = Bench::new(EMAIL, PHONE, "").await;
    let (new, old) = (bench.bind_code(NEW).await, bench.own_code(4, EMAIL).await);
    let edit = json!({ "editEmail": NEW, "editPhone": "13900139000", "editCountryCode": 86, "verifyCode": old,
                       "newVerifyCode": new });
    assert_eq!(bench.edit(edit).await, 30015);
    assert_eq!(bench.client.account(0).await.email.as_deref(), Some(EMAIL));
}

#[tokio::test]
async fn rule_code_type_must_be_that_of_the_field() {
    let bench = Bench::new(EMAIL, PHONE, "").await;
    for body in [
        json!({ "codeType": 2, "editEmail": NEW, "verifyCode": "123456", "newVerifyCode": "123456" }),
        json!({ "codeType": 1, "editPhone": "13900139000", "editCountryCode": 86, "verifyCode": "123456",
                "newVerifyCode": "123456" }),
    ] {
        assert_eq!(bench.edit(body.clone()).await, 30014, "{body}");
    }
}

#[tokio::test]
async fn rule_processing_order_all_of_a_call_or_none() {
    let mut bench = Bench::new("", "", PASSWORD).await;
    let before = bench.client.account(0).await;
    let code = bench.bind_code(EMAIL).await;
    let edit = |code: &str| {
        json!({ "editEmail": EMAIL, "newVerifyCode": code, "password": secret(PASSWORD), "editPassword": secret(BETTER),
                "editLastLoginTime": "2026-01-01 07:00:00" })
    };
    assert_eq!(bench.edit(edit(&wrong(&code))).await, 30008);
    assert_eq!(bench.client.account(0).await, before);
    assert_eq!(bench.edit(edit(&code)).await, 0);
    let account = bench.app.service().await.account(bench.user_id).await;
    assert_eq!(account.email.as_deref(), Some(EMAIL));
    assert!(account.last_login_at.is_some() && bench.has_password(BETTER, false).await);
}

#[tokio::test]
async fn rule_base64_is_strict() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    for text in ["YW1iZXI", "YW1i ZXI=", "YW1iZXI=\n", "YW1i-_8=", "/w=="] {
        let edit = json!({ "password": secret(PASSWORD), "editPassword": text });
        assert_eq!(bench.edit(edit).await, 30014, "{text:?}");
    }
}

#[tokio::test]
async fn rule_password_policy_short_long_and_common_ones_are_refused() {
    let bench = Bench::new(EMAIL, "", PASSWORD).await;
    for (new, told) in [
        ("a", 30204),
        ("seven77", 30204),
        ("password", 30014),
        (&"x".repeat(129), 30014),
    ] {
        let edit = json!({ "password": secret(PASSWORD), "editPassword": secret(new) });
        assert_eq!(bench.edit(edit).await, told, "{new}");
    }
    assert!(bench.has_password(PASSWORD, false).await);
}

#[tokio::test]
async fn rule_an_empty_request_changes_nothing() {
    let mut bench = Bench::new(EMAIL, PHONE, PASSWORD).await;
    let before = bench.client.account(0).await;
    for body in ["", "{}"] {
        let reply = bench.user.send("POST", EDIT, body).await;
        assert_eq!(
            reply.body,
            json!({ "code": 0, "message": "ok" }),
            "{body:?}"
        );
    }
    assert_eq!(bench.client.account(0).await, before);
}

#[tokio::test]
async fn rule_of_codes_each_is_of_one_use_and_of_ten_minutes() {
    let bench = Bench::new("", PHONE, "").await;
    let code = bench.bind_code(EMAIL).await;
    bench.app.clock.advance(TimeDelta::minutes(11));
    assert_eq!(
        bench
            .edit(json!({ "editEmail": EMAIL, "newVerifyCode": code }))
            .await,
        30008
    );
    let again = json!({ "editEmail": EMAIL, "newVerifyCode": bench.bind_code(EMAIL).await });
    assert_eq!(bench.edit(again.clone()).await, 0);
    let used = bench.edit(again).await;
    assert_ne!(used, 0);
}

#[tokio::test]
async fn rule_of_sending_one_a_minute_and_what_is_not_served() {
    let bench = Bench::new("", PHONE, "").await;
    let ask = json!({ "type": 1, "useType": 3, "templateId": 4, "account": EMAIL });
    assert_eq!(number(&bench.user, SEND, ask.clone()).await, 0);
    assert_eq!(number(&bench.user, SEND, ask).await, 30008);
    for (ask, told) in [
        (json!({}), 30014),
        (json!({ "type": 3, "useType": 3, "account": EMAIL }), 30014),
        (json!({ "type": 1, "useType": 2, "account": EMAIL }), 30014),
        (
            json!({ "type": 2, "useType": 3, "countryCode": 86, "account": "139-0013-9000" }),
            30225,
        ),
        (json!({ "type": 1, "useType": 3, "account": 7 }), 30221),
        (json!({ "type": 1, "useType": 4, "templateId": 4 }), 30014),
        (json!({ "type": 2, "useType": 4, "templateId": 9 }), 0),
        (
            json!({ "type": 2, "useType": 3, "account": "13900139000" }),
            30228,
        ),
    ] {
        assert_eq!(number(&bench.user, SEND, ask.clone()).await, told, "{ask}");
    }
}

#[tokio::test]
async fn p65_a_phone_bound_by_its_code_alone_is_bound_as_before_and_opens_nothing() {
    let mut bench = Bench::new("", "", PASSWORD).await;
    let code = bench.bind_code(PHONE).await;
    let bind = json!({ "codeType": 2, "editPhone": "13800138000", "editCountryCode": 86, "newVerifyCode": code });

    assert_eq!(bench.edit(bind).await, 0);
    let bound = bench.client.account(0).await;
    let sent = number(
        &bench.user,
        SEND,
        json!({ "type": 2, "useType": 4, "templateId": 5 }),
    )
    .await;
    let by_code = json!({ "codeType": 2, "verifyCode": "123456", "editPassword": secret(BETTER) });
    let by_code = bench.edit(by_code).await;
    let confirm =
        json!({ "editPhone": "13800138000", "editCountryCode": 86, "password": secret(PASSWORD) });
    let confirmed = bench.edit(confirm).await;

    assert_eq!(
        (
            bound.phone.as_deref(),
            bound.phone_verified,
            bound.phone_confirmed
        ),
        (Some(PHONE), true, false)
    );
    assert_eq!((sent, by_code, confirmed), (30014, 30014, 0));
    assert!(bench.client.account(0).await.phone_confirmed);
    assert!(bench.has_password(PASSWORD, false).await);
}

#[tokio::test]
async fn p65_the_password_replaces_a_phone_that_is_not_confirmed() {
    let mut bench = Bench::new("", "", PASSWORD).await;
    let code = bench.bind_code(PHONE).await;
    let bind = json!({ "editPhone": "13800138000", "editCountryCode": 86, "newVerifyCode": code });
    assert_eq!(bench.edit(bind).await, 0);
    bench.app.clock.advance(TimeDelta::minutes(2));
    let code = bench.bind_code(NEW_PHONE).await;
    let replace =
        json!({ "editPhone": "13900139000", "editCountryCode": 86, "newVerifyCode": code });
    let with_password = json!({ "editPhone": "13900139000", "editCountryCode": 86, "newVerifyCode": code,
                                "password": secret(PASSWORD) });

    assert_eq!(bench.edit(replace).await, 30015);
    assert_eq!(bench.edit(with_password).await, 0);

    let account = bench.client.account(0).await;
    assert_eq!(
        (account.phone.as_deref(), account.phone_confirmed),
        (Some(NEW_PHONE), true)
    );
}
