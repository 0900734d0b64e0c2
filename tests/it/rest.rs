//! The REST gateway itself: etags, imports, CORS, and the form of each surface.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt;
use user_service::{door::Door, rest};

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
    assert_eq!(etag, format!("\"{}\"", read.body["profile"]["etag"].as_str().unwrap()));

    let change = json!({ "profile": { "nickname": "Anna" }, "updateMask": "nickname" });
    let changed = service.with("if-match", &etag).good("PATCH", &path, change.clone()).await;
    assert_eq!(changed["profile"]["nickname"], "Anna");
    let stale = service.with("if-match", &etag).send("PATCH", &path, change.to_string()).await;
    assert_eq!((stale.status, &stale.body["error"]["status"]), (StatusCode::PRECONDITION_FAILED, &json!("ABORTED")));
}

#[tokio::test]
async fn an_import_tells_each_bad_line_by_its_index() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let lines = "{\"profile\": {\"nickname\": \"A\"}}\nno json\n\n{\"profile\": {\"gender\": 7}}\n{}";
    let told = service.send("POST", "/v1/users:import", lines).await.body;
    assert_eq!((&told["created"], &told["failed"], &told["nextIndex"]), (&json!("2"), &json!("2"), &json!("4")));
    let failures: Vec<&Value> = told["failures"].as_array().unwrap().iter().map(|failure| &failure["index"]).collect();
    assert_eq!(failures, [&json!("1"), &json!("2")]);
}

#[tokio::test]
async fn an_import_has_no_limit_of_size() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    // Space after a value is part of its line.
    let line = format!("{{\"profile\": {{\"nickname\": \"A\"}}}}{}\n", " ".repeat(512 * 1024));
    let count = 6;
    let told = service.send("POST", "/v1/users:import", line.repeat(count)).await;
    assert_eq!(told.body["created"], count.to_string());
}

#[tokio::test]
async fn each_surface_refuses_in_its_own_form() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let user = Caller::user(&app, make_user(&service, "Ann").await).await;
    let large = "x".repeat(1024 * 1024 + 1);

    let native = service.send("PATCH", "/v1/users/1/profile", large.clone()).await;
    assert_eq!((native.status.as_u16(), &native.body["error"]["code"]), (413, &json!(413)));
    let minapp = service.send("PUT", "/oserve/v2.6/miniapp/user_profile/1/", large.clone()).await;
    assert_eq!((minapp.status.as_u16(), &minapp.body["status"]), (413, &json!("error")));
    let fresns = user.send("POST", "/api/fresns/user/edit", large.clone()).await;
    assert_eq!((fresns.status.as_u16(), &fresns.body["code"]), (413, &json!(30014)));
    let lancens = user.send("PUT", "/v1/api/user", large).await;
    assert_eq!((lancens.status.as_u16(), &lancens.body), (413, &json!({ "error": "paramer error" })));

    let both = user.with("authorization", &service.headers[0].1);
    let native = both.get("/v1/users/1/profile").await;
    assert_eq!(
        (native.status.as_u16(), &native.body["error"]["details"][0]["reason"]),
        (401, &json!("TOKEN_MALFORMED"))
    );
    assert_eq!(both.get("/oserve/v1/user/info/").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(both.send("POST", "/api/fresns/user/edit", "").await.body["code"], 30113);
    assert_eq!(both.send("PUT", "/v1/api/user", "{}").await.body["error"], "invalid token");
}

#[tokio::test]
async fn pages_of_a_known_origin_may_call() {
    let app = TestApp::new().await;
    let config = rest::Config { cors_origins: vec!["https://app.example.com".to_owned()], ..Default::default() };
    let router = rest::router(Door::new(app.api.clone()), &config);
    let ask = async |origin: &str| {
        let request = Request::builder()
            .method("OPTIONS")
            .uri("/v1/users/1/profile")
            .header("origin", origin)
            .header("access-control-request-method", "PATCH")
            .header("access-control-request-headers", "authorization,if-match");
        router.clone().oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
    };
    let known = ask("https://app.example.com").await;
    assert_eq!(known.headers()["access-control-allow-origin"], "https://app.example.com");
    assert_eq!(known.headers()["access-control-allow-headers"], "authorization,if-match");
    assert!(!ask("https://other.example.com").await.headers().contains_key("access-control-allow-origin"));
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
        seen.extend(page["objects"].as_array().unwrap().iter().map(|object| object["nickname"].clone()));
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
    assert_eq!((done.status, done.body), (StatusCode::NO_CONTENT, Value::Null));
    let read = service.get(&format!("/v1/users/{user_id}/profile")).await;
    assert_eq!(read.body["profile"]["nickname"], "安");
    let refused = user.send("PUT", "/v1/api/user", json!({ "realm": "x".repeat(33) }).to_string()).await;
    assert_eq!(refused.body, json!({ "error": "realm length error" }));
}

#[tokio::test]
async fn fresns_takes_an_empty_edit_of_its_own_user_alone() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let (ann, ben) = (make_user(&service, "Ann").await, make_user(&service, "Ben").await);
    let user = Caller::user(&app, ann).await;
    assert_eq!(user.send("POST", "/api/fresns/user/edit", "{}").await.body, json!({ "code": 0, "message": "ok" }));
    let other = Caller { rest: user.rest, headers: vec![user.headers[0].clone(), ("uid", ben.to_string())] };
    let refused = other.with("langTag", "zh-Hans").send("POST", "/api/fresns/user/edit", "{}").await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::OK, &json!(30113)));
    assert!(!refused.body["message"].as_str().unwrap().is_ascii());
}

#[tokio::test]
async fn the_readmes_table_of_routes_is_that_of_the_service() {
    let app = TestApp::new().await;
    let document = Caller::stranger(&app).get("/openapi.json").await.body;
    let mut routes = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let rpc = operation["operationId"].as_str().unwrap().split('_').next().unwrap();
            routes.insert((rpc.to_owned(), format!("`{} {path}`", method.to_uppercase())));
        }
    }
    let readme = std::fs::read_to_string("README.md").unwrap();
    let table = readme.split("| RPC | route |\n|---|---|\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let told = table.lines().flat_map(|line| {
        let (rpc, routes) = line.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        routes.split(", ").map(move |route| (rpc.trim_matches('`').to_owned(), route.to_owned()))
    });
    assert_eq!(told.collect::<BTreeSet<_>>(), routes);
}

#[tokio::test]
async fn p56_a_body_is_kept_for_those_who_may_call_alone() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let too_large = "x".repeat((1 << 20) + 1);

    let stranger = service.without("authorization").send("POST", "/v1/users", too_large.clone()).await;
    let known = service.send("POST", "/v1/users", too_large.clone()).await;
    let nowhere = service.send("POST", "/v1/nowhere", too_large).await;

    assert_eq!((stranger.status.as_u16(), stranger.reason()), (401, "TOKEN_MISSING"));
    assert_eq!((known.status.as_u16(), known.reason()), (413, "MESSAGE_TOO_LARGE"));
    assert_eq!((nowhere.status.as_u16(), nowhere.reason()), (404, "ROUTE_NOT_FOUND"));
}

#[tokio::test]
async fn an_import_counts_all_failures_and_tells_ten_thousand() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;

    let told = service.send("POST", "/v1/users:import", "x\n".repeat(10_001)).await.body;

    assert_eq!((&told["failed"], &told["nextIndex"]), (&json!("10001"), &json!("10001")));
    assert_eq!(told["failures"].as_array().unwrap().len(), 10_000);
}
