//! Lancens' own document: its lines of curl as they are printed, and each text of its vocabulary of
//! errors.

use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde_json::{Value, json};
use user_service::store::sql::Sql;

use crate::support::{
    Client, TestApp, given,
    rest::{Caller, curl},
};

const HOST: &str = "https://weixin.lancens.com:6443";
const TOKEN: &str = r#""token":"token""#;
const NEW: &str = "new@example.org";

const REALM: &str = r#"curl -X PUT "https://weixin.lancens.com:6443/v1/api/user" -H  "accept: application/json" -H  "content-type: application/json" -H "token":"token" -d "{  \"realm\": \"string\"}""#;
const USERNAME: &str = r#"curl -X PUT "https://weixin.lancens.com:6443/v1/api/user/username" -H  "accept: application/json" -H  "content-type: application/json" -H "token":"token" -d "{  \"username\": \"string\"}""#;
const EMAIL_CODE: &str = r#"curl -X PUT "https://weixin.lancens.com:6443/v1/api/user/emailcode/email" -H  "accept: application/json" -H  "content-type: application/json" -H "token":"token" -d "{  \"email\": \"string\"}""#;
const EMAILS: &str = r#"curl -X PUT "https://weixin.lancens.com:6443/v1/api/user/emails" -H  "accept: application/json" -H  "content-type: application/json" -H "token":"token" -d "{  \"code\": \"string\",  \"email\": \"string\"}""#;

/// A service, and a user whose token it is.
struct Bench {
    app: TestApp,
    user: Caller,
    client: Client,
}

impl Bench {
    async fn new() -> Self {
        Self::with(TestApp::new().await, "").await
    }

    /// A user who has this verified email, unless it is empty.
    async fn with(app: TestApp, email: &str) -> Self {
        let (user_id, client) = app.join(given(email, ""), "").await;
        let user = Caller::user(&app, user_id).await.without("uid");
        Self { app, user, client }
    }

    /// A line of the document, with host and token replaced, and these words of it.
    async fn curl(&self, line: &str, words: &[(&str, &str)]) -> (u16, Value) {
        let (host, token) = (
            format!("http://{}", self.user.rest),
            format!(r#""token":"{}""#, self.user.header("token")),
        );
        let own = [(HOST, host.as_str()), (TOKEN, token.as_str())];
        curl(line, &[&own, words].concat()).await
    }

    /// The text that rejects a call.
    async fn refused(&self, path: &str, body: Value) -> String {
        refused(&self.user, path, body).await
    }

    /// Has a code sent to an address, and reads it there.
    async fn code(&self, email: &str) -> String {
        let sent = self
            .user
            .send(
                "PUT",
                "/v1/api/user/emailcode/email",
                json!({ "email": email }).to_string(),
            )
            .await;
        assert_eq!(sent.status.as_u16(), 204, "{}", sent.body);
        self.app.newest_code(email).await
    }
}

async fn refused(caller: &Caller, path: &str, body: Value) -> String {
    let reply = caller.send("PUT", path, body.to_string()).await;
    assert!(!reply.status.is_success(), "{path} {body} is taken");
    let told = reply
        .body
        .as_object()
        .unwrap_or_else(|| panic!("no object: {reply:?}"));
    assert_eq!(told.len(), 1, "{told:?}");
    told["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_line_of_the_nickname_works() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.curl(REALM, &[]).await, (204, Value::Null));
    let profile = bench.client.get_own().await;
    assert_eq!(profile.nickname, "string");
}

#[tokio::test]
async fn the_line_of_the_username_works() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.curl(USERNAME, &[]).await, (204, Value::Null));
    assert_eq!(
        bench.client.account(0).await.username.as_deref(),
        Some("string")
    );
}

#[tokio::test]
async fn the_lines_of_the_email_work_with_an_address_and_its_code() {
    let mut bench = Bench::new().await;
    let string = r#"\"string\"}"#;
    let verbatim = bench.curl(EMAIL_CODE, &[]).await;
    assert_eq!(verbatim, (400, json!({ "error": "email format error" })));
    let email = format!(r#"\"{NEW}\"}}"#);
    assert_eq!(
        bench.curl(EMAIL_CODE, &[(string, &email)]).await,
        (204, Value::Null)
    );

    let verbatim = bench.curl(EMAILS, &[]).await;
    assert_eq!(verbatim.0, 400);
    let code = format!(r#"\"code\": \"{}\""#, bench.app.newest_code(NEW).await);
    let words = [
        (string, email.as_str()),
        (r#"\"code\": \"string\""#, code.as_str()),
    ];
    assert_eq!(bench.curl(EMAILS, &words).await, (204, Value::Null));
    let account = bench.client.account(0).await;
    assert_eq!(
        (account.email.as_deref(), account.email_verified),
        (Some(NEW), true)
    );
}

#[tokio::test]
async fn appname_and_language_show_in_the_mail() {
    let bench = Bench::new().await;
    let body = json!({ "email": NEW, "appname": "Lancens", "language": "zh" });
    let sent = bench
        .user
        .send("PUT", "/v1/api/user/emailcode/email", body.to_string())
        .await;
    assert_eq!(sent.status.as_u16(), 204);
    let mail = bench.app.newest(NEW).await;
    assert!(mail.contains("Lancens"), "{mail}");
    bench.app.clock.advance(chrono::TimeDelta::minutes(2));
    bench.code(NEW).await;
    assert_ne!(
        subject(&bench.app.newest(NEW).await),
        subject(&mail),
        "English is the language of who names none"
    );
}

fn subject(mail: &str) -> &str {
    mail.lines()
        .find(|line| line.starts_with("Subject:"))
        .unwrap()
}

#[tokio::test]
async fn a_new_mail_unbinds_the_old_one_where_one_code_is_enough() {
    let app = TestApp::configured(|config| config.email_change.require_current_code = false).await;
    let mut bench = Bench::with(app, "old@example.org").await;
    let code = bench.code(NEW).await;
    let done = bench
        .user
        .send(
            "PUT",
            "/v1/api/user/emails",
            json!({ "code": code, "email": NEW }).to_string(),
        )
        .await;
    assert_eq!(done.status.as_u16(), 204, "{}", done.body);
    assert_eq!(bench.client.account(0).await.email.as_deref(), Some(NEW));
}

#[tokio::test]
async fn undefined_x_is_a_parameter_that_is_missing() {
    let bench = Bench::new().await;
    for (path, body, told) in [
        ("/v1/api/user", json!({}), "undefined realm"),
        ("/v1/api/user", json!({ "realm": null }), "undefined realm"),
        (
            "/v1/api/user/username",
            json!({ "user": "x" }),
            "undefined username",
        ),
        ("/v1/api/user/emailcode/email", json!({}), "undefined email"),
        (
            "/v1/api/user/emails",
            json!({ "email": NEW }),
            "undefined code",
        ),
        (
            "/v1/api/user/emails",
            json!({ "code": "123456" }),
            "undefined email",
        ),
    ] {
        assert_eq!(
            bench.refused(path, body.clone()).await,
            told,
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn no_token_is_a_header_that_is_missing() {
    let bench = Bench::new().await;
    for path in [
        "/v1/api/user",
        "/v1/api/user/username",
        "/v1/api/user/emailcode/email",
        "/v1/api/user/emails",
    ] {
        let reply = Caller::stranger(&bench.app).send("PUT", path, "{}").await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body),
            (401, &json!({ "error": "no token" })),
            "{path}"
        );
    }
}

#[tokio::test]
async fn invalid_token_is_one_that_is_wrong_old_or_not_a_users() {
    let bench = Bench::new().await;
    let body = json!({ "realm": "Ann" });
    let stranger = Caller::stranger(&bench.app);
    let secret = bench.user.header("token").to_owned();
    let wrong = stranger.with("token", &secret.replace(char::is_numeric, "0"));
    assert_eq!(
        refused(&wrong, "/v1/api/user", body.clone()).await,
        "invalid token"
    );
    assert_eq!(
        refused(&stranger.with("token", ""), "/v1/api/user", body.clone()).await,
        "invalid token"
    );
    let service = Caller::service(&bench.app).await;
    let service = stranger.with(
        "token",
        service
            .header("authorization")
            .strip_prefix("Bearer ")
            .unwrap(),
    );
    assert_eq!(
        refused(&service, "/v1/api/user", body.clone()).await,
        "invalid token"
    );
    bench.app.clock.advance(chrono::TimeDelta::days(31));
    assert_eq!(bench.refused("/v1/api/user", body).await, "invalid token");
}

#[tokio::test]
async fn x_length_error_is_a_length_out_of_range() {
    let bench = Bench::new().await;
    for (path, body, told) in [
        ("/v1/api/user", json!({ "realm": "" }), "realm length error"),
        (
            "/v1/api/user",
            json!({ "realm": "x".repeat(33) }),
            "realm length error",
        ),
        (
            "/v1/api/user/username",
            json!({ "username": "short" }),
            "username length error",
        ),
        (
            "/v1/api/user/username",
            json!({ "username": "x".repeat(33) }),
            "username length error",
        ),
        (
            "/v1/api/user/username",
            json!({ "username": "" }),
            "username length error",
        ),
    ] {
        assert_eq!(
            bench.refused(path, body.clone()).await,
            told,
            "{path} {body}"
        );
    }
    // One more of each is as long as may be.
    for (path, body) in [
        ("/v1/api/user", json!({ "realm": "安".repeat(32) })),
        ("/v1/api/user/username", json!({ "username": "sixsix" })),
        (
            "/v1/api/user/username",
            json!({ "username": "x".repeat(32) }),
        ),
    ] {
        assert_eq!(
            bench
                .user
                .send("PUT", path, body.to_string())
                .await
                .status
                .as_u16(),
            204,
            "{body}"
        );
    }
}

#[tokio::test]
async fn x_format_error_is_a_wrong_type_or_shape() {
    let bench = Bench::new().await;
    for (path, body, told) in [
        ("/v1/api/user", json!({ "realm": 7 }), "realm format error"),
        (
            "/v1/api/user",
            json!({ "realm": "a\u{7}" }),
            "realm format error",
        ),
        (
            "/v1/api/user/username",
            json!({ "username": "123456" }),
            "username format error",
        ),
        (
            "/v1/api/user/username",
            json!({ "username": ["string"] }),
            "username format error",
        ),
        (
            "/v1/api/user/emailcode/email",
            json!({ "email": "nobody" }),
            "email format error",
        ),
        (
            "/v1/api/user/emailcode/email",
            json!({ "email": NEW, "appname": "a<b>" }),
            "appname format error",
        ),
        (
            "/v1/api/user/emailcode/email",
            json!({ "email": NEW, "language": "not a tag" }),
            "language format error",
        ),
        (
            "/v1/api/user/emails",
            json!({ "email": NEW, "code": "12345" }),
            "code format error",
        ),
        (
            "/v1/api/user/emails",
            json!({ "email": NEW, "code": 123456 }),
            "code format error",
        ),
    ] {
        assert_eq!(
            bench.refused(path, body.clone()).await,
            told,
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn x_error_is_a_code_that_does_not_hold() {
    let bench = Bench::new().await;
    let code = bench.code(NEW).await;
    let wrong = json!({ "email": NEW, "code": crate::support::wrong(&code) });
    assert_eq!(
        bench.refused("/v1/api/user/emails", wrong).await,
        "code error"
    );
    bench.app.clock.advance(chrono::TimeDelta::minutes(11));
    let late = json!({ "email": NEW, "code": code });
    assert_eq!(
        bench.refused("/v1/api/user/emails", late).await,
        "code error"
    );
    let again = bench.code(NEW).await;
    let right = json!({ "email": NEW, "code": again });
    let done = bench
        .user
        .send("PUT", "/v1/api/user/emails", right.to_string())
        .await;
    assert_eq!(done.status.as_u16(), 204);
    assert_eq!(
        bench.refused("/v1/api/user/emails", right).await,
        "code error",
        "a code counts once"
    );
}

#[tokio::test]
async fn x_error_is_also_that_one_code_is_not_enough_here() {
    let bench = Bench::with(TestApp::new().await, "old@example.org").await;
    let code = bench.code(NEW).await;
    assert_eq!(
        bench
            .refused("/v1/api/user/emails", json!({ "email": NEW, "code": code }))
            .await,
        "code error"
    );
}

#[tokio::test]
async fn x_exist_is_a_name_or_an_address_that_is_taken() {
    let bench = Bench::with(TestApp::new().await, "own@example.org").await;
    let other = user_service::convert::pb::Account {
        username: Some("taken.name".to_owned()),
        ..given(NEW, "")
    };
    bench.app.join(other, "").await;
    let taken = bench
        .user
        .send(
            "PUT",
            "/v1/api/user/username",
            r#"{"username": "TAKEN.name"}"#,
        )
        .await;
    assert_eq!(
        (taken.status.as_u16(), taken.body),
        (409, json!({ "error": "username exist" }))
    );
    let own = bench
        .refused(
            "/v1/api/user/emailcode/email",
            json!({ "email": "own@example.org" }),
        )
        .await;
    assert_eq!(own, "email exist");
}

#[tokio::test]
async fn email_exist_shows_after_the_right_code_alone() {
    let bench = Bench::new().await;
    bench.code(NEW).await;
    bench.app.join(given(NEW, ""), "").await;
    let code = bench.app.newest_code(NEW).await;
    assert_eq!(
        bench
            .refused("/v1/api/user/emails", json!({ "email": NEW, "code": code }))
            .await,
        "email exist"
    );
}

#[tokio::test]
async fn no_data_error_is_a_user_who_is_gone() {
    let mut bench = Bench::new().await;
    bench.client.get_own().await;
    // Its verdict on the token is still good, for no one told of the change.
    assert_eq!(
        bench
            .user
            .send("PUT", "/v1/api/user", r#"{"realm": "Ann"}"#)
            .await
            .status
            .as_u16(),
        204
    );
    let mut conn = bench.app.database.connect().await;
    Sql::<()>::new("delete from users")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(
        bench
            .refused("/v1/api/user", json!({ "realm": "Ann" }))
            .await,
        "no data error"
    );
}

#[tokio::test]
async fn no_data_error_is_a_user_who_was_deleted() {
    let mut bench = Bench::new().await;
    let user_id = bench.client.get_own().await.user_id;
    assert_eq!(
        bench
            .user
            .send("PUT", "/v1/api/user", r#"{"realm": "Ann"}"#)
            .await
            .status
            .as_u16(),
        204
    );

    let delete = user_service::convert::pb::DeleteUserRequest {
        user_id,
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

    let gone = bench
        .user
        .send("PUT", "/v1/api/user", r#"{"realm": "Ann"}"#)
        .await;
    assert_eq!(
        (gone.status.as_u16(), gone.body),
        (404, json!({ "error": "no data error" }))
    );
}

#[tokio::test]
async fn a_number_is_a_database_that_cannot_be_reached() {
    let bench = Bench::new().await;
    assert_eq!(
        bench
            .user
            .send("PUT", "/v1/api/user", r#"{"realm": "Ann"}"#)
            .await
            .status
            .as_u16(),
        204
    );
    let mut server = user_service::store::schema::connect(crate::support::server_url(), None)
        .await
        .unwrap();
    let url = url::Url::parse(&bench.app.database.url()).unwrap();
    let name = url.path().trim_start_matches('/');
    let gone = format!(
        "alter database {name} allow_connections false;
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    );
    server.batch_execute(&gone).await.unwrap();
    let reply = bench
        .user
        .send("PUT", "/v1/api/user", r#"{"realm": "Ann"}"#)
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body),
        (503, &json!({ "error": "10001" }))
    );
    let unknown = bench
        .user
        .without("token")
        .with("token", "us_that_nobody_looked_up")
        .send("PUT", "/v1/api/user", "{}")
        .await;
    assert_eq!(
        (unknown.status.as_u16(), &unknown.body),
        (503, &json!({ "error": "10001" }))
    );
    server
        .batch_execute(&format!("alter database {name} allow_connections true"))
        .await
        .unwrap();
}

#[tokio::test]
async fn paramer_error_is_anything_else() {
    let bench = Bench::new().await;
    for body in ["{", "[]", "\"x\"", "null", "{\"realm\": }"] {
        let reply = bench.user.send("PUT", "/v1/api/user", body).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body),
            (400, &json!({ "error": "paramer error" })),
            "{body}"
        );
    }
    assert_eq!(
        bench.refused("/v1/api/nothing", json!({})).await,
        "paramer error"
    );
}

#[tokio::test]
async fn not_applying_is_a_code_of_another_mail() {
    let bench = Bench::new().await;
    let code = bench.code(NEW).await;
    let body = json!({ "email": "other@example.org", "code": code });
    assert_eq!(
        bench.refused("/v1/api/user/emails", body).await,
        "not applying"
    );
}

#[tokio::test]
async fn send_error_is_a_code_asked_for_too_often() {
    let bench = Bench::new().await;
    bench.code(NEW).await;
    let reply = bench
        .user
        .send(
            "PUT",
            "/v1/api/user/emailcode/email",
            json!({ "email": NEW }).to_string(),
        )
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body),
        (429, &json!({ "error": "send error" }))
    );
    assert_eq!(reply.headers["retry-after"], "60");
}

#[tokio::test]
async fn the_same_name_again_is_no_change_and_no_fault() {
    let mut bench = Bench::new().await;
    for _ in 0..2 {
        assert_eq!(bench.curl(USERNAME, &[]).await.0, 204);
    }
    assert_eq!(
        bench.client.account(0).await.username.as_deref(),
        Some("string")
    );
}
