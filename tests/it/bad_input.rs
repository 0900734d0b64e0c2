//! What no client of ours would send, at each surface: the error of the surface that was addressed,
//! always JSON.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    TestApp, given,
    rest::{Caller, Reply},
};

/// A surface, with a call of its own that has a body.
struct Flavor {
    name: &'static str,
    caller: Caller,
    method: &'static str,
    path: String,
    /// A body that would be good.
    body: &'static str,
}

/// One call of each surface, by one user.
async fn surfaces(app: &TestApp) -> [Flavor; 4] {
    let (user_id, _) = app.join(given("ann@example.org", ""), "").await;
    let (service, user) = (Caller::service(app).await, Caller::user(app, user_id).await);
    let flavor = |name, caller: &Caller, method, path: String, body| Flavor {
        name,
        caller: caller.with("content-type", "application/json"),
        method,
        path,
        body,
    };
    let profile = format!("/v1/users/{user_id}/profile");
    let account = format!("/oserve/v2.1/miniapp/user/account/{user_id}/");
    let native = r#"{"profile": {"nickname": "Ann"}, "updateMask": "nickname"}"#;
    [
        flavor("native", &service, "PATCH", profile, native),
        flavor(
            "minapp",
            &service,
            "PUT",
            account,
            r#"{"username": "ann.lee"}"#,
        ),
        flavor(
            "fresns",
            &user,
            "POST",
            "/api/fresns/user/edit".to_owned(),
            r#"{"codeType": 1}"#,
        ),
        flavor(
            "lancens",
            &user,
            "PUT",
            "/v1/api/user".to_owned(),
            r#"{"realm": "Ann"}"#,
        ),
    ]
}

impl Flavor {
    /// Holds a reply to the form of this surface's errors, and to a status; Fresns tells a number
    /// instead.
    fn holds(&self, reply: &Reply, status: u16, number: i64, what: &str) {
        let what = format!("{what} at {}: {reply:?}", self.name);
        assert_eq!(reply.headers["content-type"], "application/json", "{what}");
        let body = &reply.body;
        match self.name {
            "native" => {
                assert_eq!(body["error"]["code"], reply.status.as_u16(), "{what}");
                assert!(
                    !reply.reason().is_empty() && !reply.detail("RequestInfo").is_null(),
                    "{what}"
                );
            }
            "minapp" => assert_eq!(
                (&body["status"], body["error_msg"].is_string()),
                (&json!("error"), true),
                "{what}"
            ),
            "fresns" => assert_eq!(
                (&body["code"], body["message"].is_string()),
                (&json!(number), true),
                "{what}"
            ),
            _ => assert_eq!(
                (
                    body.as_object().map(|body| body.len()),
                    body["error"].is_string()
                ),
                (Some(1), true),
                "{what}"
            ),
        }
        let expected = if self.name == "fresns" && number != 30000 && status < 404 {
            200
        } else {
            status
        };
        assert_eq!(reply.status.as_u16(), expected, "{what}");
    }

    async fn send(&self, body: impl Into<bytes::Bytes>) -> Reply {
        self.caller.send(self.method, &self.path, body).await
    }
}

#[tokio::test]
async fn the_calls_themselves_are_good() {
    let app = TestApp::new().await;
    for flavor in surfaces(&app).await {
        let reply = flavor.send(flavor.body).await;
        assert!(reply.status.is_success(), "{}: {reply:?}", flavor.name);
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_object() {
    let app = TestApp::new().await;
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let nested = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let bodies: [&[u8]; 17] = [
        b"{",
        b"}",
        b"[]",
        b"7",
        b"\"x\"",
        b"null",
        b"{\"a\": 1,}",
        b"{'a': 1}",
        b"{\"a\": NaN}",
        b"{\"a\": 01}",
        b"{} {}",
        b"\xff\xfe",
        b"{\"a\": \"\xc3\"}",
        b"{\"a\": \"\\ud800\"}",
        b"a=1&b=2",
        deep.as_bytes(),
        nested.as_bytes(),
    ];
    for flavor in surfaces(&app).await {
        for body in bodies {
            let reply = flavor.send(body.to_vec()).await;
            flavor.holds(
                &reply,
                400,
                30014,
                &String::from_utf8_lossy(&body[..body.len().min(40)]),
            );
        }
    }
}

#[tokio::test]
async fn bodies_of_wrong_types_unknown_names_and_names_twice() {
    let app = TestApp::new().await;
    for flavor in surfaces(&app).await {
        let bodies: &[&str] = match flavor.name {
            "native" => &[
                r#"{"profile": [], "updateMask": "nickname"}"#,
                r#"{"profile": {"nickname": 7}, "updateMask": "nickname"}"#,
                r#"{"profile": {"gender": "GENDER_NONE"}, "updateMask": "gender"}"#,
                r#"{"profile": {"groupIds": [9007199254740993]}, "updateMask": "groupIds"}"#,
                r#"{"validateOnly": "true"}"#,
                r#"{"nickname": "Ann"}"#,
                r#"{"profile": {"nikname": "Ann"}, "updateMask": "nickname"}"#,
                r#"{"profile": {"nickname": "a", "nickname": "b"}, "updateMask": "nickname"}"#,
                r#"{"updateMask": "nickname", "update_mask": "city", "profile": {}}"#,
                r#"{"customFields": {"a": 1, "a": 2}}"#,
                r#"{"userId": "77", "profile": {"nickname": "Ann"}, "updateMask": "nickname"}"#,
            ],
            "minapp" => &[
                r#"{"username": 7}"#,
                r#"{"username": ["ann.lee"]}"#,
                r#"{"nickname": "Ann"}"#,
                r#"{"username": "ann.lee", "username": "ann.two"}"#,
            ],
            "fresns" => &[
                r#"{"codeType": {}}"#,
                r#"{"codeType": 1.5}"#,
                r#"{"verifyCode": 1, "verifyCode": 2}"#,
            ],
            _ => &[
                r#"{"realm": 7}"#,
                r#"{"realm": {}}"#,
                r#"{"realm": "a", "realm": "b"}"#,
                r#"{"unknown": "a"}"#,
            ],
        };
        for body in bodies {
            flavor.holds(&flavor.send(*body).await, 400, 30014, body);
        }
    }
}

#[tokio::test]
async fn bodies_that_are_too_large_are_told_so_and_the_connection_lives() {
    let app = TestApp::new().await;
    for flavor in surfaces(&app).await {
        for size in [1024 * 1024 + 1, 5 * 1024 * 1024] {
            let reply = flavor.send(vec![b' '; size]).await;
            flavor.holds(&reply, 413, 30014, &format!("{size} bytes"));
        }
    }
}

/// Writes bytes as they are, and gives what comes back until the connection rests or ends.
async fn raw(rest: SocketAddr, bytes: &[u8], patience: Duration) -> String {
    let mut stream = TcpStream::connect(rest).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        let mut piece = [0; 4096];
        while let Ok(size @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..size]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            if text.contains("\r\n\r\n") && text.ends_with('}') {
                break;
            }
        }
    };
    tokio::time::timeout(patience, read)
        .await
        .unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bodies_that_do_not_come_are_waited_for_ten_seconds() {
    let app = TestApp::new().await;
    let began = Instant::now();
    let waiting = surfaces(&app).await.map(|flavor| async move {
        let headers = flavor
            .caller
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let head: String = headers.collect();
        let request = format!(
            "{} {} HTTP/1.1\r\nhost: x\r\n{head}content-length: 50\r\n\r\n{{\"a\":",
            flavor.method, flavor.path
        );
        (
            flavor.name,
            raw(
                flavor.caller.rest,
                request.as_bytes(),
                Duration::from_secs(30),
            )
            .await,
        )
    });
    for (name, answer) in futures_util::future::join_all(waiting).await {
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{name}: {answer}"));
        assert!(head.starts_with("HTTP/1.1 408 "), "{name}: {answer}");
        let body: Value = serde_json::from_str(body).unwrap();
        let told = match name {
            "native" => body["error"]["status"] == "DEADLINE_EXCEEDED",
            "minapp" => body["status"] == "error",
            "fresns" => body["code"] == 30000,
            _ => body["error"] == "paramer error",
        };
        assert!(told, "{name}: {body}");
    }
    assert!(
        (10..25).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn queries_with_broken_encoding_and_a_where_that_is_no_json() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let native = |query: &str| format!("/v1/profiles?{query}");
    let minapp = |query: &str| format!("/oserve/v2.2/miniapp/user_profile/?{query}");
    for query in [
        "%",
        "%4",
        "%zz=1",
        "a=%ff",
        "%c3=1",
        "page_size=1&page_size=2",
        "nothing=1",
        "=1",
    ] {
        let reply = service.get(&native(query)).await;
        assert_eq!(
            (reply.status.as_u16(), reply.reason()),
            (400, "INVALID_REQUEST"),
            "{query}"
        );
        let reply = service.get(&minapp(query)).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body["status"]),
            (400, &json!("error")),
            "{query}"
        );
    }
    assert_eq!(
        service.get(&native("filter=%5B%5D")).await.status.as_u16(),
        400
    );
    for given in [
        "",
        "%7B",
        "%5B7%5D",
        "7",
        "%7B%22a%22%3A1%2C%22a%22%3A2%7D",
        "%EF%BB%BF%7B%7D",
        "undefined",
    ] {
        let reply = service.get(&native(&format!("filter={given}"))).await;
        assert_eq!(reply.status.as_u16(), 400, "{given}: {}", reply.body);
        let reply = service.get(&minapp(&format!("where={given}"))).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body["status"]),
            (400, &json!("error")),
            "{given}"
        );
    }
    assert_eq!(
        service.get(&minapp("where=null")).await.status.as_u16(),
        400
    );
    // At the edge, but good.
    for (path, nickname) in [
        (
            minapp("where=%7b%22nickname%22%3a%22a%2Bb%25%26c%22%7d"),
            "a+b%&c",
        ),
        (
            minapp("&&where=%7B%22nickname%22:%22%E5%AE%89+x%22%7D&"),
            "安 x",
        ),
        (
            native("filter=%7B%22nickname%22%3A%22%E5%AE%89%20x%22%7D&"),
            "安 x",
        ),
    ] {
        let user = json!({ "profile": { "nickname": nickname } });
        service.good("POST", "/v1/users", user).await;
        let found = service.get(&path).await;
        assert_eq!(found.status.as_u16(), 200, "{path}: {}", found.body);
        let list = found
            .body
            .get("objects")
            .or(found.body.get("profiles"))
            .unwrap_or_else(|| panic!("{path}"));
        assert_eq!(list[0]["nickname"], nickname, "{path}");
    }
}

#[tokio::test]
async fn paths_with_broken_encoding() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    for path in [
        "/v1/users/%zz/profile",
        "/v1/users/%ff/profile",
        "/v1/fields/%",
    ] {
        let reply = service.send("PATCH", path, "{}").await;
        assert!(
            [400, 404].contains(&reply.status.as_u16()) && !reply.reason().is_empty(),
            "{path}: {reply:?}"
        );
    }
    for path in [
        "/oserve/v2.2/miniapp/user_profile/%ff/",
        "/oserve/v2.2/miniapp/user_profile/%zz/",
    ] {
        let reply = service.get(path).await;
        assert!(
            [400, 404].contains(&reply.status.as_u16()),
            "{path}: {reply:?}"
        );
        assert_eq!(reply.body["status"], "error", "{path}");
    }
    let reply = service.get("/v1/users/%31/profile").await;
    assert_eq!(reply.reason(), "USER_NOT_FOUND", "an id may be encoded");
}

#[tokio::test]
async fn both_token_headers_at_once_and_one_of_them_twice() {
    let app = TestApp::new().await;
    for flavor in surfaces(&app).await {
        let other = match flavor.name {
            "native" | "minapp" => ("token", "us_x"),
            _ => ("authorization", "Bearer us_x"),
        };
        let own = match flavor.name {
            "native" | "minapp" => "authorization",
            _ => "token",
        };
        let twice = flavor.caller.header(own).to_owned();
        for (name, value) in [other, (own, &twice)] {
            let caller = flavor.caller.with(name, value);
            let reply = caller.send(flavor.method, &flavor.path, flavor.body).await;
            flavor.holds(&reply, 401, 30113, name);
        }
    }
}

#[tokio::test]
async fn methods_and_paths_that_do_not_exist() {
    let app = TestApp::new().await;
    for flavor in surfaces(&app).await {
        let nowhere = match flavor.name {
            "native" => "/v1/nothing",
            "minapp" => "/oserve/v9/nothing",
            "fresns" => "/api/fresns/nothing",
            _ => "/v1/api/nothing",
        };
        flavor.holds(
            &flavor.caller.send(flavor.method, nowhere, "{}").await,
            404,
            30014,
            nowhere,
        );
        for method in ["DELETE", "OPTIONS", "TRACE", "BREW"] {
            let reply = flavor.caller.send(method, &flavor.path, "").await;
            flavor.holds(&reply, 405, 30014, method);
            assert!(
                reply.headers["allow"]
                    .to_str()
                    .unwrap()
                    .contains(flavor.method),
                "{reply:?}"
            );
        }
    }
    let head = Caller::service(&app)
        .await
        .send("HEAD", "/v1/profiles", "")
        .await;
    assert_eq!(head.status, StatusCode::OK);
}

#[tokio::test]
async fn heads_that_are_no_http() {
    let app = TestApp::new().await;
    let patience = Duration::from_secs(5);
    let long = format!(
        "GET /v1/profiles?page_token={} HTTP/1.1\r\nhost: x\r\n\r\n",
        "x".repeat(20_000)
    );
    let answer = raw(app.rest(), long.as_bytes(), patience).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    for request in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9\r\n\r\n",
        "GET /v1/profiles HTTP/1.1\r\nbad header\r\n\r\n",
    ] {
        let answer = raw(app.rest(), request.as_bytes(), patience).await;
        assert!(!answer.contains("<html"), "{answer}");
    }
    assert_eq!(
        Caller::stranger(&app)
            .get("/v1/profiles")
            .await
            .status
            .as_u16(),
        401,
        "the service goes on"
    );
}
