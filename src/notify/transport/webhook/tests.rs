use std::{convert::Infallible, sync::Arc};

use chrono::DateTime;
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::*;
use crate::{clock::ManualClock, notify::RetryClass};

type Seen = (http::HeaderMap, String);

/// A receiver that answers each message with the next of the statuses, over TLS where it is given.
async fn receiver(
    statuses: &'static [u16],
    tls: Option<TlsAcceptor>,
) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!(
        "{scheme}://localhost:{}/texts",
        listener.local_addr().unwrap().port()
    );
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        match tls {
            // A client that does not trust the certificate hangs up.
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => answer(stream, statuses, tell).await,
                Err(_) => drop(tell),
            },
            None => answer(stream, statuses, tell).await,
        }
    });
    (url, seen)
}

async fn answer<S>(stream: S, statuses: &'static [u16], tell: mpsc::UnboundedSender<Seen>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let next = std::sync::Mutex::new(statuses.iter());
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        tell.send((head.headers, String::from_utf8(body.to_vec()).unwrap()))
            .unwrap();
        let status = *next.lock().unwrap().next().unwrap();
        let answer = Response::builder()
            .status(status)
            .body(Full::<Bytes>::default());
        Ok::<_, Infallible>(answer.unwrap())
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .unwrap_or_default();
}

/// A certificate for `localhost` as a PEM text, and a server's side of TLS with it.
fn tls() -> (String, TlsAcceptor) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    (cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

fn webhook(url: &str) -> Result<Webhook, WebhookSettingsError> {
    webhook_with(url, None)
}

fn webhook_with(url: &str, ca_file: Option<PathBuf>) -> Result<Webhook, WebhookSettingsError> {
    let settings = WebhookSettings {
        url: url.to_owned(),
        secret: SecretString::from("shared secret"),
        ca_file,
    };
    let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    Webhook::new(&settings, Clock::Manual(ManualClock::new(start)))
}

fn text() -> Message<Text> {
    Message {
        message_id: Uuid::nil(),
        created_at: DateTime::UNIX_EPOCH,
        recipient: "+8613800138000".to_owned(),
        content: Text("您好 \"123456\"".to_owned()),
    }
}

#[tokio::test]
async fn a_text_is_posted_once_and_signed() {
    let (url, mut seen) = receiver(&[202], None).await;

    webhook(&url).unwrap().send(&text()).await.unwrap();

    let (headers, body) = seen.recv().await.unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        parsed,
        json!({"id": Uuid::nil(), "to": "+8613800138000", "text": "您好 \"123456\""})
    );
    assert_eq!(headers["x-signature-timestamp"], "1700000000");
    assert_eq!(
        headers["x-signature"],
        signature(b"shared secret", "1700000000", &body)
    );
    assert_eq!(headers["idempotency-key"], Uuid::nil().to_string());
}

#[tokio::test]
async fn https_asks_for_a_certificate_of_a_trusted_authority() {
    let (pem, acceptor) = tls();
    let (url, _seen) = receiver(&[200], Some(acceptor.clone())).await;
    let error = webhook(&url).unwrap().send(&text()).await.unwrap_err();
    assert_eq!(error, SendError::retry("http connection"));

    let ca_file = std::env::temp_dir().join(format!("webhook-ca-{}.pem", Uuid::new_v4()));
    std::fs::write(&ca_file, pem).unwrap();
    let (url, mut seen) = receiver(&[200], Some(acceptor)).await;
    let trusting = webhook_with(&url, Some(ca_file.clone()));
    std::fs::remove_file(ca_file).unwrap();
    trusting.unwrap().send(&text()).await.unwrap();
    assert!(seen.recv().await.is_some());
}

#[tokio::test]
async fn the_status_decides_whether_it_is_tried_again() {
    let (url, _seen) = receiver(&[503, 429, 400, 302], None).await;
    let webhook = webhook(&url).unwrap();
    for (status, class) in [
        (503, RetryClass::Retry),
        (429, RetryClass::Retry),
        (400, RetryClass::Permanent),
        (302, RetryClass::Permanent),
    ] {
        let error = webhook.send(&text()).await.unwrap_err();
        assert_eq!(
            (error.class, error.what),
            (class, format!("http {status}").into())
        );
    }
}

#[tokio::test]
async fn nobody_there_may_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = webhook(&url).unwrap().send(&text()).await.unwrap_err();
    assert_eq!(error.class, RetryClass::Retry);
}

#[test]
fn the_signature_is_what_other_programs_compute() {
    // printf '1700000000.{"to":"+1"}' | openssl dgst -sha256 -hmac 'shared secret'
    assert_eq!(
        signature(b"shared secret", "1700000000", r#"{"to":"+1"}"#),
        "sha256=8e3648cc1268f48864e965fbbf0de769057360f158bc72b179fbfb5ff044475b"
    );
}

#[test]
fn other_urls_are_refused() {
    for url in [
        "",
        "ftp://a.example",
        "a.example/texts",
        "/texts",
        "https://",
        "http://a.example",
        "http://10.0.0.1/",
    ] {
        assert!(webhook(url).is_err(), "{url:?}");
    }
    for url in [
        "https://a.example/texts",
        "http://localhost:80",
        "http://127.0.0.1",
        "http://[::1]:8080/texts",
    ] {
        assert!(webhook(url).is_ok(), "{url:?}");
    }
}
