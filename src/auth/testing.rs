//! A source of keys, a signer and a verifier, for the tests of signed tokens.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::State, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::jwt::{JwtIssuer, Jwts, Verified};
use crate::{
    clock::{Clock, ManualClock},
    domain::caller::Grant,
    error::Reason,
};

pub(super) const ISSUER: &str = "https://issuer.test";

pub(super) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_100, 0).unwrap()
}

/// A key with the claims that everything starts from.
pub(super) struct Signer {
    pub id: String,
    pub key: Ed25519KeyPair,
}

impl Signer {
    pub(super) fn new(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            id: id.to_owned(),
            key: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(),
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x})
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_with(
            &json!({"alg": "EdDSA", "kid": self.id}).to_string(),
            &claims.to_string(),
        )
    }

    pub(super) fn sign_with(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

pub(super) fn message(header: &str, claims: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

pub(super) fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "user-service", "sub": "42", "iat": start().timestamp() - 60, "exp": start().timestamp() + 3600})
}

pub(super) fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// A server of keys that counts how often it is asked.
#[derive(Clone, Default)]
pub(super) struct Server {
    document: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    pub(super) async fn start(&self) -> String {
        let app = Router::new()
            .route(
                "/jwks",
                get(async |State(server): State<Server>| {
                    server.asked.fetch_add(1, Ordering::SeqCst);
                    server
                        .document
                        .lock()
                        .unwrap()
                        .clone()
                        .ok_or("no set of keys")
                }),
            )
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/jwks")
    }

    pub(super) fn serves(&self, keys: &[Value]) {
        *self.document.lock().unwrap() = Some(set(keys));
    }

    pub(super) fn serves_text(&self, document: String) {
        *self.document.lock().unwrap() = Some(document);
    }

    pub(super) fn is_down(&self) {
        *self.document.lock().unwrap() = None;
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

pub(super) fn issuer(jwks: &str) -> JwtIssuer {
    JwtIssuer {
        issuer: ISSUER.to_owned(),
        audiences: vec!["user-service".to_owned()],
        jwks: jwks.to_owned(),
        ..JwtIssuer::default()
    }
}

pub(super) struct Bench {
    pub server: Server,
    pub signer: Signer,
    pub clock: ManualClock,
    pub jwts: Jwts,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl Fn(&mut JwtIssuer)) -> Self {
        let (server, signer) = (Server::default(), Signer::new("first"));
        server.serves(&[signer.jwk()]);
        let mut config = issuer(&server.start().await);
        change(&mut config);
        let clock = ManualClock::new(start());
        let jwts = Jwts::new(&[config], Clock::Manual(clock.clone())).unwrap();
        Self {
            server,
            signer,
            clock,
            jwts,
        }
    }

    /// What a valid token grants, if the token itself states its subject.
    pub(super) async fn grant(&self, token: &str) -> Grant {
        match self.jwts.verify(token).await.unwrap() {
            Verified::Known(grant) => grant,
            Verified::Linked(linked) => panic!("{linked:?}"),
        }
    }

    pub(super) async fn reason(&self, token: &str) -> Reason {
        self.jwts.verify(token).await.unwrap_err().reason()
    }

    pub(super) async fn refuses(&self, claims: &Value) {
        assert_eq!(
            self.reason(&self.signer.sign(claims)).await,
            Reason::TokenInvalid,
            "{claims}"
        );
    }
}
