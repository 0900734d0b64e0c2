//! What the service tells of each call, and what it never tells.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus::Serving;
use user_service::convert::{POOL, SERVICES, pb};

use crate::support::{
    Client, TestDatabase,
    collector::{Collector, attributes, hex},
    folder::Folder,
    person,
    serve::{Serve, TOKEN, get, send},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

#[tokio::test]
async fn p57_a_trace_goes_on_from_grpc_and_from_http() {
    let (database, collector) = (TestDatabase::new().await, Collector::new().await);
    let mut serve = Serve::start_with(&database, &[("TELEMETRY__OTLP_ENDPOINT", &collector.url())]);
    serve.wait_for(Serving).await;
    let mut client = serve.client().await;
    let ann = client.create_named("Ann").await;
    let update = pb::UpdateProfileRequest {
        user_id: ann.user_id,
        custom_fields: Some(crate::support::json(json!({}))),
        validate_only: true,
        ..Default::default()
    };
    let mut update = Request::new(update);
    update
        .metadata_mut()
        .insert("traceparent", traceparent().parse().unwrap());
    update
        .metadata_mut()
        .insert("x-request-id", "of-grpc".parse().unwrap());

    client.users.update_profile(update).await.unwrap_err();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("traceparent", &*traceparent()),
        ("authorization", &bearer),
        ("x-request-id", "of-http"),
    ];
    get(
        serve.rest().await,
        &format!("/v1/users/{}/profile", ann.user_id),
        &headers,
    )
    .await;
    serve.signal("TERM");
    serve.ended().await;

    for (id, method, system, code) in [
        ("of-grpc", "UpdateProfile", "grpc", "INVALID_ARGUMENT"),
        ("of-http", "GetProfile", "http", "OK"),
    ] {
        let span = collector
            .span(|span| attributes(span).get("request_id").map(String::as_str) == Some(id))
            .await;
        let told = attributes(&span);
        assert_eq!(
            (hex(&span.trace_id), hex(&span.parent_span_id)),
            (TRACE.to_owned(), PARENT.to_owned())
        );
        assert_eq!(span.name, format!("userservice.v1.UserService/{method}"));
        assert_eq!(
            (&*told["rpc.system.name"], &*told["rpc.method"]),
            (system, &*span.name)
        );
        assert_eq!(
            (&*told["rpc.response.status_code"], told.get("error.type")),
            (code, None)
        );
        let line = serve.logged(|line| line["request_id"] == id).await;
        assert_eq!(line["trace_id"], TRACE);
    }
    let read = collector
        .span(|span| span.name == "SELECT" && hex(&span.trace_id) == TRACE)
        .await;
    let told = attributes(&read);
    assert_eq!(
        (&*told["db.system.name"], &*told["db.operation.name"]),
        ("postgresql", "SELECT")
    );
    assert!(told["db.query.text"].contains("from users"), "{told:?}");
    for name in [
        "rpc.server.call.duration",
        "user_service.serving",
        "user_service.db.pool.connections",
    ] {
        collector.metric(name).await;
    }
}

#[tokio::test]
async fn p57_logs_are_for_people_unless_json_is_asked_for() {
    let database = TestDatabase::new().await;
    let json = Serve::start(&database);
    let text = Serve::start_with(&database, &[("TELEMETRY__LOG_FORMAT", "text")]);
    let mut client = json.client().await;
    let mut request = Request::new(pb::GetProfileRequest::default());
    request
        .metadata_mut()
        .insert("x-request-id", "call-7".parse().unwrap());

    let refused = client.users.get_profile(request).await.unwrap_err();

    let line = json.logged(|line| line["request_id"] == "call-7").await;
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.metadata().get("x-request-id").unwrap(), "call-7");
    assert_eq!(
        (&line["level"], &line["reason"], &line["code"]),
        (&json!("INFO"), &json!("INVALID_REQUEST"), &json!(3))
    );
    assert_eq!(
        (&line["rpc"], &line["caller"]),
        (
            &json!("userservice.v1.UserService/GetProfile"),
            &json!("service:bootstrap")
        )
    );
    assert!(
        json.log()
            .iter()
            .all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()))
    );
    let serving = text
        .line(|line| line.contains("listening for gRPC").then(|| line.to_owned()))
        .await;
    assert!(
        serving.contains(" INFO ") && !serving.contains('{') && !serving.contains('\u{1b}'),
        "{serving}"
    );
}

/// The code of the mail to this address; waits for the line that tells its file.
async fn code(serve: &Serve, address: &str) -> String {
    serve
        .line(|line| {
            let mail = fs::read_to_string(line.strip_prefix("mail: ")?).unwrap();
            let is_code =
                |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
            let code = mail.lines().map(str::trim).find(is_code)?;
            mail.contains(&format!("To: {address}"))
                .then(|| code.to_owned())
        })
        .await
}

const OLD: &str = "mara.quill@example.com";
const NEW: &str = "mara.new@example.org";
const PHONE: &str = "+8613800138000";
const OTHER_PHONE: &str = "+8613900139000";
const PASSWORD: &str = "violet-lantern-93";
const NEXT_PASSWORD: &str = "amber-harbour-41";
const WRONG_PASSWORD: &str = "wrong-guess-0077";
const NICKNAME: &str = "Quillmara";

/// Calls of a login and a change of email, over gRPC; gives the secrets that came up.
async fn change_email(service: &mut Client, serve: &Serve) -> (i64, Vec<String>) {
    let mut mara = person(NICKNAME);
    mara.account = Some(pb::Account {
        email: Some(OLD.to_owned()),
        email_verified: true,
        phone: Some(PHONE.to_owned()),
        phone_verified: true,
        ..Default::default()
    });
    mara.password = PASSWORD.to_owned();
    let user_id = service.create(mara).await.unwrap().user_id;
    let issue = |user_id| pb::IssueTokenRequest {
        subject: Some(pb::issue_token_request::Subject::UserId(user_id)),
        ..Default::default()
    };
    let token = service
        .admin
        .issue_token(issue(user_id))
        .await
        .unwrap()
        .into_inner()
        .secret;
    let mut user = Client::new(serve.grpc().await, Some(&token));
    let send = |purpose: pb::CodePurpose, email: &str| pb::SendEmailCodeRequest {
        purpose: purpose.into(),
        email: email.to_owned(),
        ..Default::default()
    };
    user.users
        .send_email_code(send(pb::CodePurpose::Replace, ""))
        .await
        .unwrap();
    user.users
        .send_email_code(send(pb::CodePurpose::Bind, NEW))
        .await
        .unwrap();
    user.users
        .send_email_code(send(pb::CodePurpose::Bind, NEW))
        .await
        .unwrap_err();
    let (old, new) = (code(serve, OLD).await, code(serve, NEW).await);
    let wrong = if new == "135790" { "097531" } else { "135790" };
    let confirm = |code: &str| pb::ConfirmEmailChangeRequest {
        email: NEW.to_owned(),
        code: code.to_owned(),
        current_email_code: old.clone(),
        ..Default::default()
    };
    user.users
        .confirm_email_change(confirm(wrong))
        .await
        .unwrap_err();
    user.users
        .confirm_email_change(confirm(&new))
        .await
        .unwrap();
    for password in [PASSWORD, WRONG_PASSWORD] {
        let key = pb::verify_password_request::Key::Email(NEW.to_owned());
        let verify = pb::VerifyPasswordRequest {
            key: Some(key),
            password: password.to_owned(),
            ..Default::default()
        };
        assert_eq!(
            service.admin.verify_password(verify).await.is_ok(),
            password == PASSWORD
        );
    }
    service
        .get_by(pb::get_profile_request::Key::Email(NEW.to_owned()))
        .await
        .unwrap();
    service
        .get_by(pb::get_profile_request::Key::Phone(OTHER_PHONE.to_owned()))
        .await
        .unwrap_err();
    let mut stranger = Client::new(serve.grpc().await, Some("no-such-token-4711"));
    stranger.get(user_id).await.unwrap_err();
    (
        user_id,
        vec![
            token,
            old,
            new,
            wrong.to_owned(),
            "no-such-token-4711".to_owned(),
        ],
    )
}

/// All other calls, over REST.
fn other_calls(user_id: i64) -> Vec<(String, Value)> {
    let user = format!("/v1/users/{user_id}");
    let calls = [
        (
            "GET /v1/profiles:lookup?email=nobody%40example.com".to_owned(),
            json!(null),
        ),
        (
            "POST /v1/profiles:batchGet".to_owned(),
            json!({"keys": [{"email": NEW}, {"phone": OTHER_PHONE}]}),
        ),
        (
            "POST /v1/profiles:list".to_owned(),
            json!({"filter": {"account.email": NEW}}),
        ),
        (
            format!("PATCH {user}/profile"),
            json!({"profile": {"nickname": NICKNAME}, "updateMask": "nickname"}),
        ),
        (
            "POST /v1/fields".to_owned(),
            json!({"name": "motto", "type": "FIELD_TYPE_STRING"}),
        ),
        ("GET /v1/fields".to_owned(), json!(null)),
        (
            format!("PATCH {user}/profile"),
            json!({"customFields": {"motto": PASSWORD, "nothing": OLD}}),
        ),
        (
            "POST /v1/profiles:bulkUpdateFields".to_owned(),
            json!({"filter": {"account.email": NEW}, "customFields": {"motto": "x"}}),
        ),
        (
            "PATCH /v1/fields/motto".to_owned(),
            json!({"field": {"description": NEW}, "updateMask": "description"}),
        ),
        ("DELETE /v1/fields/motto".to_owned(), json!(null)),
        (
            format!("PATCH {user}/account"),
            json!({"account": {"phone": OTHER_PHONE}, "updateMask": "phone", "newPassword": NEXT_PASSWORD}),
        ),
        (
            format!("PATCH {user}/account"),
            json!({"account": {"email": "no address at all"}, "updateMask": "email", "newPassword": "short"}),
        ),
        (
            format!("POST {user}/account:sendEmailCode"),
            json!({"purpose": "CODE_PURPOSE_UNLINK"}),
        ),
        (
            format!("POST {user}/account:sendPhoneCode"),
            json!({"purpose": "CODE_PURPOSE_BIND", "phone": OTHER_PHONE}),
        ),
        (
            format!("POST {user}/account:confirmPhoneChange"),
            json!({"phone": OTHER_PHONE, "code": "135790", "currentPhoneCode": "097531"}),
        ),
        (
            format!("POST {user}/connections"),
            json!({"provider": "github", "subject": "subject-of-mara"}),
        ),
        (
            "POST /v1/users:import".to_owned(),
            json!({"account": {"email": "other.one@example.com"}, "password": PASSWORD}),
        ),
        (
            "POST /v1/users:verifyPassword".to_owned(),
            json!({"phone": PHONE, "password": WRONG_PASSWORD}),
        ),
        ("GET /v1/tokens?service=nobody".to_owned(), json!(null)),
        ("DELETE /v1/tokens/1".to_owned(), json!(null)),
        (
            "POST /v1/tokens:revoke".to_owned(),
            json!({"service": "nobody"}),
        ),
        ("GET /v1/deliveries/1".to_owned(), json!(null)),
        (format!("DELETE {user}"), json!(null)),
    ];
    calls.into()
}

#[tokio::test]
async fn p57_no_log_and_no_span_holds_a_secret_after_a_run_of_every_rpc() {
    let (database, collector, mails) = (
        TestDatabase::new().await,
        Collector::new().await,
        Folder::new(),
    );
    let more = [
        ("TELEMETRY__OTLP_ENDPOINT", &*collector.url()),
        ("MAIL__FOLDER", mails.0.to_str().unwrap()),
    ];
    let mut serve = Serve::start_with(&database, &more);
    serve.wait_for(Serving).await;
    let mut service = serve.client().await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];

    let (user_id, mut secrets) = change_email(&mut service, &serve).await;
    for (what, body) in other_calls(user_id) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, said) = send(serve.rest().await, &what, &headers, &body).await;
        assert!(status < 500, "{what}: {said}");
    }
    serve.signal("TERM");
    assert!(serve.ended().await.success());

    let (log, spans) = (serve.log(), collector.spans());
    let of_calls: BTreeSet<String> = log
        .iter()
        .filter_map(|line| {
            Some(
                serde_json::from_str::<Value>(line).ok()?["rpc"]
                    .as_str()?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(of_calls, every_rpc());
    let named: BTreeSet<String> = spans
        .iter()
        .map(|span| span.name.clone())
        .filter(|name| name.contains('/'))
        .collect();
    assert_eq!(named, every_rpc());
    secrets.extend(
        [
            TOKEN,
            OLD,
            NEW,
            PHONE,
            OTHER_PHONE,
            PASSWORD,
            NEXT_PASSWORD,
            WRONG_PASSWORD,
        ]
        .map(str::to_owned),
    );
    secrets.extend(
        [
            "13800138000",
            "13900139000",
            "mara.",
            "@example",
            NICKNAME,
            "subject-of",
        ]
        .map(str::to_owned),
    );
    let told: Vec<String> = log
        .into_iter()
        .chain(spans.iter().map(|span| format!("{span:?}")))
        .collect();
    for secret in secrets {
        let holds = told.iter().find(|told| told.contains(&secret));
        assert!(holds.is_none(), "{secret} stands in {}", holds.unwrap());
    }
}

fn every_rpc() -> BTreeSet<String> {
    let services = SERVICES
        .iter()
        .map(|name| POOL.get_service_by_name(name).unwrap());
    services
        .flat_map(|service| {
            let methods: Vec<String> = service
                .methods()
                .map(|method| method.name().to_owned())
                .collect();
            methods
                .into_iter()
                .map(move |method| format!("{}/{method}", service.full_name()))
        })
        .collect()
}
