use std::convert::Infallible;

use chrono::DateTime;
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};
use uuid::Uuid;

use super::*;
use crate::{clock::ManualClock, mail::Class};

type Seen = (http::HeaderMap, String);

/// A receiver that answers each message with the next of the statuses.
async fn receiver(statuses: &'static [u16]) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/texts", listener.local_addr().unwrap());
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let next = std::sync::Mutex::new(statuses.iter());
        let service = service_fn(async |request: Request<Incoming>| {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            tell.send((head.headers, String::from_utf8(body.to_vec()).unwrap()))
                .unwrap();
            let status = *next.lock().unwrap().next().unwrap();
            let answer = Response::builder()
                .status(status)
                .body(Full::<Bytes>::default())
                .unwrap();
            Ok::<_, Infallible>(answer)
        });
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap();
    });
    (url, seen)
}

fn webhook(url: &str) -> Result<Webhook, WebhookSettingsError> {
    let settings = WebhookSettings {
        url: url.to_owned(),
        secret: SecretString::from("shared secret"),
        ca_file: None,
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
    let (url, mut seen) = receiver(&[202]).await;

    webhook(&url).unwrap().send(&text()).await.unwrap();

    let (headers, body) = seen.recv().await.unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        parsed,
        json!({"id": Uuid::nil(), "to": "+8613800138000", "text": "您好 \"123456\""})
    );
    assert_eq!(headers["x-signature-timestamp"], "1700000000");
    assert_eq!(headers["x-signature"], signature(b"shared secret", "1700000000", &body));
    assert_eq!(headers["idempotency-key"], Uuid::nil().to_string());
}

#[tokio::test]
async fn the_status_decides_whether_it_is_tried_again() {
    let (url, _seen) = receiver(&[503, 429, 400, 302]).await;
    let webhook = webhook(&url).unwrap();
    for (status, class) in [
        (503, Class::Retry),
        (429, Class::Retry),
        (400, Class::Permanent),
        (302, Class::Permanent),
    ] {
        let error = webhook.send(&text()).await.unwrap_err();
        assert_eq!((error.class, error.what), (class, format!("http {status}").into()));
    }
}

#[tokio::test]
async fn nobody_there_may_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = webhook(&url).unwrap().send(&text()).await.unwrap_err();
    assert_eq!(error.class, Class::Retry);
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
    for url in ["", "ftp://a.example", "a.example/texts", "/texts", "https://"] {
        assert!(webhook(url).is_err(), "{url:?}");
    }
}
