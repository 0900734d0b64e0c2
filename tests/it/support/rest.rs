//! A caller of the REST gateway.

use std::{net::SocketAddr, process::Stdio};

use bytes::Bytes;
use chrono::TimeDelta;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::process::Command;
use user_service::model::{scope::Scope, token::Subject};

use super::TestApp;

/// Who calls, by the headers that every call carries.
#[derive(Clone)]
pub struct Caller {
    pub rest: SocketAddr,
    pub headers: Vec<(&'static str, String)>,
}

/// What came back; a body that is no JSON is null.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    /// The reason of a native error; empty where it is none.
    pub fn reason(&self) -> &str {
        self.detail("ErrorInfo")["reason"]
            .as_str()
            .unwrap_or_default()
    }

    /// A detail of a native error by its type; null where there is none.
    pub fn detail(&self, name: &str) -> &Value {
        let details = self.body["error"]["details"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let is_wanted = |detail: &&Value| {
            detail["@type"]
                .as_str()
                .is_some_and(|told| told.ends_with(name))
        };
        details.iter().find(is_wanted).unwrap_or(&Value::Null)
    }
}

impl Caller {
    /// A service with every scope.
    pub async fn service(app: &TestApp) -> Self {
        Self::service_with(app, Scope::ALL).await
    }

    /// A service with these scopes.
    pub async fn service_with(app: &TestApp, scopes: &[Scope]) -> Self {
        let subject = Subject::Service("test".to_owned());
        let (_, secret) = app
            .api
            .tokens()
            .issue(&subject, scopes, TimeDelta::days(1))
            .await
            .unwrap();
        Self {
            rest: app.rest(),
            headers: vec![("authorization", format!("Bearer {secret}"))],
        }
    }

    /// A user of one of the two surfaces whose token has a header of its own.
    pub async fn user(app: &TestApp, user_id: i64) -> Self {
        let secret = app.user_token(user_id).await;
        Self {
            rest: app.rest(),
            headers: vec![("token", secret), ("uid", user_id.to_string())],
        }
    }

    /// Who has no token.
    pub fn stranger(app: &TestApp) -> Self {
        Self {
            rest: app.rest(),
            headers: Vec::new(),
        }
    }

    /// With one more header.
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.push((name, value.to_owned()));
        Self {
            rest: self.rest,
            headers,
        }
    }

    /// Without the headers of this name.
    pub fn without(&self, name: &str) -> Self {
        let headers = self
            .headers
            .iter()
            .filter(|(known, _)| *known != name)
            .cloned();
        Self {
            rest: self.rest,
            headers: headers.collect(),
        }
    }

    /// The value of a header that every call carries.
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }

    pub async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.rest));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let reply = client
            .request(request.body(Full::new(body.into())).unwrap())
            .await
            .unwrap();
        let (parts, body) = reply.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "").await
    }

    /// A call that succeeds; gives its body.
    pub async fn good(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.send(method, path, body.to_string()).await;
        assert!(
            reply.status.is_success(),
            "{method} {path} gave {} {}",
            reply.status,
            reply.body
        );
        reply.body
    }
}

/// Runs a line of curl as a document prints it, with these texts replaced; gives status and body.
pub async fn curl(line: &str, replaced: &[(&str, &str)]) -> (u16, Value) {
    let arguments = line.trim().strip_prefix("curl ").expect("a line of curl");
    let mut line = format!("curl -sS --max-time 20 -w '\\n%{{http_code}}' {arguments}");
    for (from, to) in replaced {
        assert!(line.contains(from), "{from} does not stand in {line}");
        line = line.replace(from, to);
    }
    let output = Command::new("bash")
        .args(["-euc", &line])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{line}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = String::from_utf8(output.stdout).unwrap();
    let (body, status) = answer.rsplit_once('\n').unwrap();
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).unwrap()
    };
    (status.parse().unwrap(), body)
}

/// Makes a user with this nickname.
pub async fn make_user(service: &Caller, nickname: &str) -> i64 {
    let made = service
        .good(
            "POST",
            "/v1/users",
            json!({ "profile": { "nickname": nickname } }),
        )
        .await;
    made["profile"]["userId"].as_str().unwrap().parse().unwrap()
}
