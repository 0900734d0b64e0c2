//! Opaque tokens: their form, and the hash that is kept of them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use diesel::Queryable;
use sha2::{Digest, Sha256};

/// SHA-256 of a token, by which it is found.
pub type TokenHash = [u8; 32];

/// What is kept of an opaque token.
#[derive(Clone, Debug, Queryable)]
pub struct Token {
    pub token_id: i64,
    pub service: Option<String>,
    pub user_id: Option<i64>,
    pub scopes: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A new secret from 32 random bytes. The prefix tells people and secret scanners what it is.
pub fn secret(random: [u8; 32]) -> String {
    format!("us_{}", URL_SAFE_NO_PAD.encode(random))
}

/// The hash of a secret.
pub fn hash(secret: &str) -> TokenHash {
    Sha256::digest(secret.as_bytes()).into()
}

/// A hash in hex, as replicas tell it to each other.
pub fn hash_text(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash out of its hex; `None` where it is none.
pub fn parse_hash(text: &str) -> Option<TokenHash> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let bytes = (0..32).map(|place| u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}
