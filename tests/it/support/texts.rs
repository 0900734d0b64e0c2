//! A real receiver of text messages, which checks their signatures as its documentation tells.

use std::{fmt::Write, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::{net::TcpListener, task::JoinHandle};

/// A text message that arrived.
#[derive(Clone, Debug)]
pub struct Text {
    /// The same over all tries.
    pub id: String,
    pub to: String,
    pub text: String,
}

/// The receiver, which ends with the test.
pub struct Texts {
    port: u16,
    received: Arc<std::sync::Mutex<Vec<Text>>>,
    serving: JoinHandle<()>,
}

impl Texts {
    /// What requests are signed with.
    pub const SECRET: &'static str = "a secret of both";

    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::<std::sync::Mutex<Vec<Text>>>::default();
        let routes = Router::new()
            .route("/texts", post(receive))
            .with_state(Arc::clone(&received));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            port,
            received,
            serving,
        }
    }

    /// Where messages are posted to.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/texts", self.port)
    }

    /// The messages so far, oldest first.
    pub fn received(&self) -> Vec<Text> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Texts {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Received = State<Arc<std::sync::Mutex<Vec<Text>>>>;

async fn receive(State(received): Received, headers: HeaderMap, body: String) -> StatusCode {
    let timestamp = headers["x-signature-timestamp"].to_str().unwrap();
    if headers["x-signature"] != signature(timestamp, &body) {
        return StatusCode::FORBIDDEN;
    }
    let message: serde_json::Value = serde_json::from_str(&body).unwrap();
    let part = |name: &str| message[name].as_str().unwrap().to_owned();
    assert_eq!(headers["idempotency-key"], part("id"));
    received.lock().unwrap().push(Text {
        id: part("id"),
        to: part("to"),
        text: part("text"),
    });
    StatusCode::ACCEPTED
}

fn signature(timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(Texts::SECRET.as_bytes()).unwrap();
    mac.update(format!("{timestamp}.{body}").as_bytes());
    mac.finalize()
        .into_bytes()
        .iter()
        .fold("sha256=".to_owned(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
}
