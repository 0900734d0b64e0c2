//! An identity provider: keys behind a URL, and tokens signed by them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::State, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};
use serde_json::{Value, json};
use user_service::auth::jwt::JwtIssuer;

/// What its tokens name as their issuer.
pub const ISSUER: &str = "https://issuer.test";
/// Whom its tokens are for.
pub const AUDIENCE: &str = "user-service";

/// A key under an id.
pub struct Signer {
    id: String,
    key: Key,
}

enum Key {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Es384(EcdsaKeyPair),
}

impl Signer {
    /// A new key for EdDSA.
    pub fn eddsa(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            id: id.to_owned(),
            key: Key::EdDsa(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()),
        }
    }

    /// A new key for ES256.
    pub fn es256(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            key: Key::Es256(on_curve(&ECDSA_P256_SHA256_FIXED_SIGNING)),
        }
    }

    /// A new key for ES384.
    pub fn es384(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            key: Key::Es384(on_curve(&ECDSA_P384_SHA384_FIXED_SIGNING)),
        }
    }

    /// Its public half, bare.
    pub fn public(&self) -> &[u8] {
        match &self.key {
            Key::EdDsa(key) => key.public_key().as_ref(),
            Key::Es256(key) | Key::Es384(key) => key.public_key().as_ref(),
        }
    }

    /// Its public half as a set of keys has it.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            Key::EdDsa(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": text(self.public())})
            }
            Key::Es256(_) => {
                let (x, y) = self.public()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": text(x), "y": text(y)})
            }
            Key::Es384(_) => {
                let (x, y) = self.public()[1..].split_at(48);
                json!({"kty": "EC", "crv": "P-384", "kid": self.id, "x": text(x), "y": text(y)})
            }
        }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let algorithm = match self.key {
            Key::EdDsa(_) => "EdDSA",
            Key::Es256(_) => "ES256",
            Key::Es384(_) => "ES384",
        };
        self.sign_with(&json!({"alg": algorithm, "kid": self.id}), claims)
    }

    /// A token with these claims under this header.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = match &self.key {
            Key::EdDsa(key) => URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())),
            Key::Es256(key) | Key::Es384(key) => {
                URL_SAFE_NO_PAD.encode(key.sign(&SystemRandom::new(), message.as_bytes()).unwrap())
            }
        };
        format!("{message}.{signature}")
    }
}

fn on_curve(scheme: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(scheme, document.as_ref(), &random).unwrap()
}

/// What a signature is made over.
pub fn message(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

/// The provider, which counts how often its keys are asked for.
pub struct Issuer {
    url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    document: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl Issuer {
    /// One on a free port, without any key.
    pub async fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let serve = async |State(shared): State<Arc<Shared>>| {
            shared.asked.fetch_add(1, Ordering::SeqCst);
            shared
                .document
                .lock()
                .unwrap()
                .clone()
                .ok_or("there is no set of keys")
        };
        let router = Router::new()
            .route("/jwks", get(serve))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// How a service is told of it.
    pub fn config(&self) -> JwtIssuer {
        JwtIssuer {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            jwks: self.url.clone(),
            ..Default::default()
        }
    }

    /// These are its keys from now on.
    pub fn serves(&self, keys: &[Value]) {
        *self.shared.document.lock().unwrap() = Some(json!({ "keys": keys }).to_string());
    }

    /// Its keys cannot be had any more.
    pub fn goes_down(&self) {
        *self.shared.document.lock().unwrap() = None;
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}
