//! Text messages through a webhook, by which any provider can be reached.
//!
//! One `POST` a message, with the body `{"id": "<uuid>", "to": "+8613800138000", "text": "…"}`. The
//! id is the same over all attempts, and is in the header `Idempotency-Key` too; a receiver sends
//! what it has an id of once.
//!
//! `X-Signature-Timestamp` holds the time in Unix seconds and `X-Signature` holds `sha256=` with
//! the lower-case hex of HMAC-SHA256 under the shared secret over the timestamp, a dot, and the
//! body as it came. A receiver compares it in constant time and rejects a timestamp that is more
//! than five minutes off.
//!
//! Any 2xx says that the message was taken. 408, 425, 429, 5xx and a broken connection are tried
//! again; any other answer, a redirect too, rejects the message for good.

use std::{
    fmt::{self, Write},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request, Uri, header};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::Sha256;

use crate::{
    clock::Clock,
    notify::{Message, SendError, Text},
    tls,
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Where text messages go, and how.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// `https://…`, or `http://…` for a receiver on the same machine.
    pub url: String,
    /// What the signatures are made with.
    pub secret: SecretString,
    /// PEM file of authorities that are trusted beside the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// Why the webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSettingsError {
    #[error(
        "webhook: the URL must start with https:// and contain a host; http:// is allowed only for a loopback host"
    )]
    Url,
    #[error("webhook: TLS: {0:#}")]
    Tls(anyhow::Error),
}

/// A receiver of text messages.
pub struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    secret: SecretString,
    clock: Clock,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.url.host())
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// Prepares; connects to nothing.
    ///
    /// # Errors
    /// A URL of another kind, and a file of authorities that cannot be read.
    pub fn new(settings: &WebhookSettings, clock: Clock) -> Result<Self, WebhookSettingsError> {
        let url: Uri = settings
            .url
            .parse()
            .map_err(|_| WebhookSettingsError::Url)?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_near = host == "localhost"
            || host
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback());
        match url.scheme_str() {
            Some("https") if !host.is_empty() => {}
            Some("http") if is_near => {}
            _ => return Err(WebhookSettingsError::Url),
        }
        let tls =
            tls::client_config(settings.ca_file.as_deref()).map_err(WebhookSettingsError::Tls)?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Ok(Self {
            client,
            url,
            secret: settings.secret.clone(),
            clock,
        })
    }

    /// Hands a text message to the receiver.
    ///
    /// # Errors
    /// As the module says.
    pub async fn send(&self, text: &Message<Text>) -> Result<(), SendError> {
        let Text(words) = &text.content;
        let body = json!({"id": text.message_id, "to": text.recipient, "text": words}).to_string();
        let timestamp = self.clock.now().timestamp().to_string();
        let signature = signature(self.secret.expose_secret().as_bytes(), &timestamp, &body);
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("user-service/", env!("CARGO_PKG_VERSION")),
            )
            .header("idempotency-key", text.message_id.to_string())
            .header("x-signature-timestamp", timestamp)
            .header("x-signature", signature)
            .body(Full::from(body))
            .expect("valid: every header is plain ASCII");
        let answer = self.client.request(request).await;
        let status = answer
            .map_err(|_| SendError::retry("http connection"))?
            .status()
            .as_u16();
        match status {
            200..=299 => Ok(()),
            408 | 425 | 429 | 500..=599 => Err(SendError::retry(format!("http {status}"))),
            _ => Err(SendError::permanent(format!("http {status}"))),
        }
    }
}

/// The signature of a body, as the header holds it.
fn signature(secret: &[u8], timestamp: &str, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).expect("valid: HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    mac.finalize()
        .into_bytes()
        .iter()
        .fold("sha256=".to_owned(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("valid: a String takes any text");
            hex
        })
}

#[cfg(test)]
mod tests;
