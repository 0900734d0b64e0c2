//! The REST gateway itself: etags, imports, CORS, and the form of each surface.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt;
use user_service::{call_guard::CallGuard, rest};

use crate::support::{
    TestApp,
    rest::{Caller, make_user},
};

#[tokio::test]
async fn an_etag_that_was_read_is_a_condition_of_the_write() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let path = format!("/v1/users/{}/profile", make_user(&service, "Ann").await);
    let read = service.get(&path).await;
    let etag = read.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(
        etag,
        format!("\"{}\"", read.body["profile"]["etag"].as_str().unwrap())
    );

    let change = json!({ "profile": { "nickname": "Anna" }, "updateMask": "nickname" });
    let changed = service
        .with("if-match", &etag)
        .good("PATCH", &path, change.clone())
        .await;
    assert_eq!(changed["profile"]["nickname"], "Anna");
    let stale = service
        .with("if-match", &etag)
        .send("PATCH", &path, change.to_string())
        .await;
    assert_eq!(
        (stale.status, &stale.body["error"]["status"]),
        (StatusCode::PRECONDITION_FAILED, &json!("ABORTED"))
    );
}

#[tokio::test]
async fn an_import_tells_each_bad_line_by_its_index() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let lines =
        "{\"profile\": {\"nickname\": \"A\"}}\nno json\n\n{\"profile\": {\"gender\": 7}}\n{}";
    let told = service.send("POST", "/v1/users:import", lines).await.body;
    assert_eq!(
        (&told["created"], &told["failed"], &told["nextIndex"]),
        (&json!("2"), &json!("2"), &json!("5")),
        "a blank line counts"
    );
    let failures: Vec<&Value> = told["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| &failure["index"])
        .collect();
    assert_eq!(failures, [&json!("1"), &json!("3")]);
}

#[tokio::test]
async fn an_import_skips_a_byte_order_mark_and_rejects_other_formats_at_once() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let line = "{\"profile\": {\"nickname\": \"A\"}}";

    let marked = service
        .send(
            "POST",
            "/v1/users:import",
            format!("\u{feff}{line}\n{line}\n"),
        )
        .await;
    let array = service
        .send("POST", "/v1/users:import", format!("\n[{line},\n{line}]\n"))
        .await;
    let printed = service
        .send("POST", "/v1/users:import", "{\n  \"profile\": {}\n}\n")
        .await;

    assert_eq!(
        (&marked.body["created"], &marked.body["failed"]),
        (&json!("2"), &json!("0"))
    );
    for (rejected, told) in [(array, "not a JSON array"), (printed, "on one line")] {
        assert_eq!(rejected.status, StatusCode::BAD_REQUEST);
        assert!(
            rejected.body.to_string().contains(told),
            "{}",
            rejected.body
        );
    }
}

#[tokio::test]
async fn an_import_has_no_limit_of_size() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    // Space after a value is part of its line.
    let line = format!(
        "{{\"profile\": {{\"nickname\": \"A\"}}}}{}\n",
        " ".repeat(512 * 1024)
    );
    let count = 6;
    let told = service
        .send("POST", "/v1/users:import", line.repeat(count))
        .await;
    assert_eq!(told.body["created"], count.to_string());
}

#[tokio::test]
async fn each_surface_refuses_in_its_own_form() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let user = Caller::user(&app, make_user(&service, "Ann").await).await;
    let large = "x".repeat(1024 * 1024 + 1);

    let native = service
        .send("PATCH", "/v1/users/1/profile", large.clone())
        .await;
    assert_eq!(
        (native.status.as_u16(), &native.body["error"]["code"]),
        (413, &json!(413))
    );
    let minapp = service
        .send("PUT", "/oserve/v2.6/miniapp/user_profile/1/", large.clone())
        .await;
    assert_eq!(
        (minapp.status.as_u16(), &minapp.body["status"]),
        (413, &json!("error"))
    );
    let fresns = user
        .send("POST", "/api/fresns/user/edit", large.clone())
        .await;
    assert_eq!(
        (fresns.status.as_u16(), &fresns.body["code"]),
        (413, &json!(30014))
    );
    let lancens = user.send("PUT", "/v1/api/user", large).await;
    assert_eq!(
        (lancens.status.as_u16(), &lancens.body),
        (413, &json!({ "error": "paramer error" }))
    );

    let both = user.with("authorization", &service.headers[0].1);
    let native = both.get("/v1/users/1/profile").await;
    assert_eq!(
        (
            native.status.as_u16(),
            &native.body["error"]["details"][0]["reason"]
        ),
        (401, &json!("TOKEN_MALFORMED"))
    );
    assert_eq!(
        both.get("/oserve/v1/user/info/").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        both.send("POST", "/api/fresns/user/edit", "").await.body["code"],
        30113
    );
    assert_eq!(
        both.send("PUT", "/v1/api/user", "{}").await.body["error"],
        "invalid token"
    );
}

#[tokio::test]
async fn pages_of_a_known_origin_may_call() {
    let app = TestApp::new().await;
    let config = rest::Config {
        cors_origins: vec!["https://app.example.com".to_owned()],
        ..Default::default()
    };
    let router = rest::router(
        CallGuard::new(app.api.clone(), app.app.callers.clone(), app.app.deadlines),
        &config,
    );
    let ask = async |origin: &str| {
        let request = Request::builder()
            .method("OPTIONS")
            .uri("/v1/users/1/profile")
            .header("origin", origin)
            .header("access-control-request-method", "PATCH")
            .header(
                "access-control-request-headers",
                "authorization,if-match,if-none-match",
            );
        router
            .clone()
            .oneshot(request.body(Full::<Bytes>::default()).unwrap())
            .await
            .unwrap()
    };
    let known = ask("https://app.example.com").await;
    assert_eq!(
        known.headers()["access-control-allow-origin"],
        "https://app.example.com"
    );
    assert_eq!(
        known.headers()["access-control-allow-headers"],
        "authorization,if-match,if-none-match"
    );
    assert!(
        !ask("https://other.example.com")
            .await
            .headers()
            .contains_key("access-control-allow-origin")
    );
}

#[tokio::test]
async fn the_description_of_the_api_can_be_switched_off() {
    let app = TestApp::new().await;
    let ask = async |config: &rest::Config, path: &str| {
        let router = rest::router(
            CallGuard::new(app.api.clone(), app.app.callers.clone(), app.app.deadlines),
            config,
        );
        router
            .oneshot(Request::get(path).body(Full::<Bytes>::default()).unwrap())
            .await
            .unwrap()
            .status()
    };
    let (on, off) = (
        rest::Config::default(),
        rest::Config {
            docs: false,
            ..Default::default()
        },
    );
    for path in ["/docs", "/openapi.json"] {
        assert_eq!(ask(&on, path).await, StatusCode::OK, "{path}");
        assert_eq!(ask(&off, path).await, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(ask(&off, "/v1/profiles").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn minapps_next_leads_through_all_users() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    for number in 0..5 {
        make_user(&service, &format!("Tom {number}")).await;
    }
    let mut path = "/oserve/v2.2/miniapp/user_profile/?limit=2&order_by=created_at".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = service.get(&path).await.body;
        seen.extend(
            page["objects"]
                .as_array()
                .unwrap()
                .iter()
                .map(|object| object["nickname"].clone()),
        );
        match page["meta"]["next"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => break,
        }
    }
    assert_eq!(seen, ["Tom 0", "Tom 1", "Tom 2", "Tom 3", "Tom 4"]);
}

#[tokio::test]
async fn lancens_sets_the_nickname_and_says_nothing() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let user_id = make_user(&service, "Ann").await;
    let user = Caller::user(&app, user_id).await;
    let done = user.send("PUT", "/v1/api/user", r#"{"realm": "安"}"#).await;
    assert_eq!(
        (done.status, done.body),
        (StatusCode::NO_CONTENT, Value::Null)
    );
    let read = service.get(&format!("/v1/users/{user_id}/profile")).await;
    assert_eq!(read.body["profile"]["nickname"], "安");
    let refused = user
        .send(
            "PUT",
            "/v1/api/user",
            json!({ "realm": "x".repeat(33) }).to_string(),
        )
        .await;
    assert_eq!(refused.body, json!({ "error": "realm length error" }));
}

#[tokio::test]
async fn fresns_takes_an_empty_edit_of_its_own_user_alone() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let (ann, ben) = (
        make_user(&service, "Ann").await,
        make_user(&service, "Ben").await,
    );
    let user = Caller::user(&app, ann).await;
    assert_eq!(
        user.send("POST", "/api/fresns/user/edit", "{}").await.body,
        json!({ "code": 0, "message": "ok" })
    );
    let other = Caller {
        rest: user.rest,
        headers: vec![user.headers[0].clone(), ("uid", ben.to_string())],
    };
    let refused = other
        .with("langTag", "zh-Hans")
        .send("POST", "/api/fresns/user/edit", "{}")
        .await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::OK, &json!(30113))
    );
    assert!(!refused.body["message"].as_str().unwrap().is_ascii());
}

#[tokio::test]
async fn the_readmes_table_of_routes_is_that_of_the_service() {
    let app = TestApp::new().await;
    let document = Caller::stranger(&app).get("/openapi.json").await.body;
    let mut routes = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let rpc = operation["operationId"]
                .as_str()
                .unwrap()
                .split('_')
                .next()
                .unwrap();
            routes.insert((
                rpc.to_owned(),
                format!("`{} {path}`", method.to_uppercase()),
            ));
        }
    }
    let readme = std::fs::read_to_string("README.md").unwrap();
    let table = readme
        .split("| RPC | route |\n|---|---|\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let told = table.lines().flat_map(|line| {
        let (rpc, routes) = line.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        routes
            .split(", ")
            .map(move |route| (rpc.trim_matches('`').to_owned(), route.to_owned()))
    });
    assert_eq!(told.collect::<BTreeSet<_>>(), routes);
}

#[tokio::test]
async fn p56_a_body_is_kept_for_those_who_may_call_alone() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let too_large = "x".repeat((1 << 20) + 1);

    let stranger = service
        .without("authorization")
        .send("POST", "/v1/users", too_large.clone())
        .await;
    let known = service.send("POST", "/v1/users", too_large.clone()).await;
    let nowhere = service.send("POST", "/v1/nowhere", too_large).await;

    assert_eq!(
        (stranger.status.as_u16(), stranger.reason()),
        (401, "TOKEN_MISSING")
    );
    assert_eq!(
        (known.status.as_u16(), known.reason()),
        (413, "MESSAGE_TOO_LARGE")
    );
    assert_eq!(
        (nowhere.status.as_u16(), nowhere.reason()),
        (404, "ROUTE_NOT_FOUND")
    );
}

#[tokio::test]
async fn an_import_counts_all_failures_and_tells_ten_thousand() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;

    let told = service
        .send("POST", "/v1/users:import", "x\n".repeat(10_001))
        .await
        .body;

    assert_eq!(
        (&told["failed"], &told["nextIndex"]),
        (&json!("10001"), &json!("10001"))
    );
    assert_eq!(told["failures"].as_array().unwrap().len(), 10_000);
}

/// A caller with a user's token.
async fn own(app: &TestApp, user_id: i64) -> Caller {
    let token = app.user_token(user_id).await;
    Caller {
        rest: app.rest(),
        headers: vec![("authorization", format!("Bearer {token}"))],
    }
}

#[tokio::test]
async fn a_profile_that_the_caller_has_is_not_sent_again() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let (ann, ben) = (
        make_user(&service, "Ann").await,
        make_user(&service, "Ben").await,
    );
    let user = own(&app, ann).await;
    let path = format!("/v1/users/{ann}/profile");
    let etag = service.get(&path).await.headers["etag"]
        .to_str()
        .unwrap()
        .to_owned();

    let lookup = format!("/v1/profiles:lookup?user_id={ann}");
    for (caller, path) in [
        (&service, path.as_str()),
        (&service, &lookup),
        (&user, "/v1/users/me/profile"),
    ] {
        for known in [
            etag.clone(),
            format!("W/{etag}"),
            format!("\"a\", {etag}"),
            "*".to_owned(),
        ] {
            let reply = caller.with("if-none-match", &known).get(path).await;
            assert_eq!(
                (reply.status, reply.headers["etag"].to_str().unwrap()),
                (StatusCode::NOT_MODIFIED, etag.as_str()),
                "{path} {known}"
            );
            assert_eq!(
                (reply.body, reply.headers.get("content-type")),
                (Value::Null, None),
                "{path} {known}"
            );
        }
        let other = caller.with("if-none-match", "\"a\"").get(path).await;
        assert_eq!(
            (other.status, &other.body["profile"]["nickname"]),
            (StatusCode::OK, &json!("Ann")),
            "{path}"
        );
    }
    // The etag of a profile says nothing of the account.
    let whole = service
        .with("if-none-match", &etag)
        .get(&format!("{path}?read_mask=nickname,account"))
        .await;
    assert_eq!(
        (whole.status, whole.body["profile"]["account"].is_object()),
        (StatusCode::OK, true)
    );

    let any = |caller: &Caller| caller.with("if-none-match", "*");
    let reason = async |caller: Caller, path: &str| caller.get(path).await.reason().to_owned();
    assert_eq!(
        reason(any(&Caller::stranger(&app)), &path).await,
        "TOKEN_MISSING"
    );
    assert_eq!(reason(any(&own(&app, ben).await), &path).await, "NOT_OWNER");
    assert_eq!(
        reason(any(&service), "/v1/users/999999/profile").await,
        "USER_NOT_FOUND"
    );

    let change = json!({ "profile": { "nickname": "Anna" }, "updateMask": "nickname" });
    service.good("PATCH", &path, change).await;
    let changed = service.with("if-none-match", &etag).get(&path).await;
    assert_eq!(
        (changed.status, &changed.body["profile"]["nickname"]),
        (StatusCode::OK, &json!("Anna"))
    );
}

#[tokio::test]
async fn a_write_does_not_take_if_none_match() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let path = format!("/v1/users/{}/profile", make_user(&service, "Ann").await);
    let change = json!({ "profile": { "nickname": "Anna" }, "updateMask": "nickname" }).to_string();

    for (method, path, body) in [
        ("PATCH", path.as_str(), change.as_str()),
        ("POST", "/v1/users", "{}"),
        ("POST", "/v1/users:import", "{}"),
        ("DELETE", path.trim_end_matches("/profile"), ""),
    ] {
        let reply = service
            .with("if-none-match", "*")
            .send(method, path, body.to_owned())
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.reason()),
            (412, "ETAG_MISMATCH"),
            "{method} {path}"
        );
        let reply = service
            .with("if-none-match", "\"1f\"")
            .send(method, path, body.to_owned())
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.reason()),
            (400, "INVALID_REQUEST"),
            "{method} {path}"
        );
        let stranger = Caller::stranger(&app).with("if-none-match", "*");
        assert_eq!(
            stranger.send(method, path, body.to_owned()).await.reason(),
            "TOKEN_MISSING",
            "{method} {path}"
        );
    }
    assert_eq!(service.get(&path).await.body["profile"]["nickname"], "Ann");
    let list = service
        .with("if-none-match", "*")
        .send("POST", "/v1/profiles:list", "{}")
        .await;
    assert_eq!(
        (list.status, list.body["profiles"].as_array().unwrap().len()),
        (StatusCode::OK, 1)
    );
}

#[tokio::test]
async fn an_encoded_colon_is_a_colon() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let user_id = make_user(&service, "Ann").await;
    for colon in [":", "%3A", "%3a"] {
        let list = service
            .good("POST", &format!("/v1/profiles{colon}list"), json!({}))
            .await;
        assert_eq!(list["profiles"][0]["nickname"], "Ann", "{colon}");
        let found = service
            .get(&format!("/v1/profiles{colon}lookup?user_id={user_id}"))
            .await;
        assert_eq!(found.body["profile"]["nickname"], "Ann", "{colon}");
        let path = format!("/v1/users/{user_id}/account{colon}sendPhoneCode");
        assert_eq!(
            service
                .send("POST", &path, r#"{"phone": "12"}"#)
                .await
                .reason(),
            "INVALID_REQUEST",
            "{colon}"
        );
        let path = format!("/v1/users{colon}import");
        assert_eq!(
            service.send("POST", &path, "x").await.body["failed"],
            "1",
            "{colon}"
        );
        assert_eq!(
            service.get(&path).await.reason(),
            "METHOD_NOT_ALLOWED",
            "{colon}"
        );
    }
}

#[tokio::test]
async fn a_user_means_itself_by_me() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let (ann, ben) = (
        make_user(&service, "Ann").await,
        make_user(&service, "Ben").await,
    );
    let user = own(&app, ann).await;

    let change = json!({ "userId": "0", "profile": { "city": "广州" }, "updateMask": "city" });
    let changed = user.good("PATCH", "/v1/users/me/profile", change).await;
    assert_eq!(
        (&changed["profile"]["userId"], &changed["profile"]["city"]),
        (&json!(ann.to_string()), &json!("广州"))
    );
    let account = json!({ "account": { "username": "ann.lee" }, "updateMask": "username" });
    let account = user.good("PATCH", "/v1/users/me/account", account).await;
    assert_eq!(account["account"]["userId"], ann.to_string());

    for (caller, body) in [
        (&user, json!({ "userId": ben.to_string() })),
        (&service, json!({ "userId": ben.to_string() })),
    ] {
        let reply = caller
            .send("PATCH", "/v1/users/me/profile", body.to_string())
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.reason()),
            (400, "INVALID_REQUEST")
        );
        assert_eq!(
            reply.detail("BadRequest")["fieldViolations"][0]["field"],
            "user_id"
        );
    }
    for (method, path) in [("GET", "/v1/users/me/profile"), ("DELETE", "/v1/users/me")] {
        let reply = service.send(method, path, "").await;
        assert_eq!(
            (reply.status.as_u16(), reply.reason()),
            (400, "INVALID_REQUEST"),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn a_body_may_leave_the_user_to_the_path() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let user_id = make_user(&service, "Ann").await;
    let path = format!("/v1/users/{user_id}/profile");
    let change = |user_id: Value| json!({ "userId": user_id, "profile": { "city": "x" }, "updateMask": "city" });
    for unset in [
        json!("0"),
        json!(0),
        Value::Null,
        json!(user_id.to_string()),
    ] {
        let changed = service.good("PATCH", &path, change(unset)).await;
        assert_eq!(changed["profile"]["userId"], user_id.to_string());
    }
    let other = service
        .send("PATCH", &path, change(json!("999")).to_string())
        .await;
    assert_eq!(
        (other.status.as_u16(), other.reason()),
        (400, "INVALID_REQUEST")
    );

    let mask = json!({ "profile": { "city": "y" }, "updateMask": { "paths": ["city"] } });
    let refused = service.send("PATCH", &path, mask.to_string()).await;
    let violation = &refused.detail("BadRequest")["fieldViolations"][0];
    assert_eq!(
        (refused.status.as_u16(), &violation["field"]),
        (400, &json!("update_mask"))
    );
    assert!(
        violation["description"]
            .as_str()
            .unwrap()
            .contains("\"nickname,city\""),
        "{violation}"
    );
}

#[tokio::test]
async fn a_deletion_takes_its_fields_from_the_query() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let path = format!("/v1/users/{}", make_user(&service, "Ann").await);
    let refused = async |caller: &Caller, path: &str, body: &'static str| {
        let reply = caller.send("DELETE", path, body).await;
        assert_eq!(
            (reply.status.as_u16(), reply.reason()),
            (400, "INVALID_REQUEST"),
            "{path} {body}"
        );
        reply.detail("BadRequest")["fieldViolations"][0].clone()
    };
    for (query, field) in [
        ("validate_only=yes", "validate_only"),
        ("allowMissing=2", "allow_missing"),
        ("x=1", "x"),
    ] {
        assert_eq!(
            refused(&service, &format!("{path}?{query}"), "").await["field"],
            field,
            "{query}"
        );
    }
    // The header fills the same field as the parameter.
    let contradiction = refused(
        &service.with("if-match", "\"1f\""),
        &format!("{path}?etag=2f"),
        "",
    )
    .await;
    assert_eq!(contradiction["field"], "etag");
    let contradiction = refused(
        &service.with("if-match", "\"1f\""),
        "/v1/fields/level?etag=2f",
        "",
    )
    .await;
    assert_eq!(contradiction["field"], "etag");
    // A dry run that is asked for where no one reads it would delete.
    assert_eq!(
        refused(&service, &path, r#"{"validateOnly": true}"#).await["reason"],
        "UNKNOWN_FIELD"
    );
    assert_eq!(
        service.get(&format!("{path}/profile")).await.status,
        StatusCode::OK
    );
    service.good("DELETE", &path, json!({})).await;
}

#[tokio::test]
async fn a_lost_body_creates_nothing() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let user_id = make_user(&service, "Ann").await;

    for path in [
        "/v1/users",
        "/v1/users?validateOnly=false",
        "/v1/fields",
        "/v1/tokens",
    ] {
        let refused = service.send("POST", path, "").await;
        assert_eq!(
            (refused.status.as_u16(), refused.reason()),
            (400, "INVALID_REQUEST"),
            "{path}"
        );
        let violation = &refused.detail("BadRequest")["fieldViolations"][0];
        assert_eq!(violation["reason"], "FIELD_REQUIRED", "{path}");
        assert!(
            violation["description"].as_str().unwrap().contains("{}"),
            "{path}"
        );
    }
    let connection = service
        .send("POST", &format!("/v1/users/{user_id}/connections"), "")
        .await;
    assert_eq!(
        (connection.status.as_u16(), connection.reason()),
        (400, "INVALID_REQUEST")
    );
    let listed = service.send("POST", "/v1/profiles:list", "").await;
    assert_eq!(
        listed.body["profiles"].as_array().unwrap().len(),
        1,
        "a read needs no body"
    );
    let sent = service
        .send(
            "POST",
            &format!("/v1/users/{user_id}/account:sendEmailCode?email=a@b.example"),
            "",
        )
        .await;
    assert_eq!(sent.status.as_u16(), 200, "{}", sent.body);
    service.good("POST", "/v1/users", json!({})).await;
    let listed = service.get("/v1/profiles").await;
    assert_eq!(listed.body["profiles"].as_array().unwrap().len(), 2);
}
