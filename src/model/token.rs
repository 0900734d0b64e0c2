//! Opaque tokens: their form, and the hash that is kept of them.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use diesel::Queryable;
use sha2::{Digest, Sha256};

/// SHA-256 of a token, by which it is found.
pub type TokenHash = [u8; 32];

/// The service name of an operator at the command line.
pub const OPERATOR: &str = "operator";

/// The service name of the bootstrap token.
pub const BOOTSTRAP: &str = "bootstrap";

/// Characters of the longest name of a service, however its caller is authenticated.
pub const MAX_SERVICE_NAME: usize = 255;

/// Who a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Service(String),
    User(i64),
}

impl Subject {
    /// Whether the name belongs to the service itself, so that no token may bear it.
    pub fn is_reserved(&self) -> bool {
        matches!(self, Subject::Service(name) if name == OPERATOR || name == BOOTSTRAP)
    }
}

/// The name in records of who issued a token: `services/<name>`, `users/<user_id>` or `operator`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Service(name) if name == OPERATOR => f.write_str(OPERATOR),
            Subject::Service(name) => write!(f, "services/{name}"),
            Subject::User(user_id) => write!(f, "users/{user_id}"),
        }
    }
}

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
    /// Who issued it, as [`Subject`] is displayed; `None` for a token from before this was
    /// recorded.
    pub issued_by: Option<String>,
}

impl Token {
    /// Who it speaks for.
    pub fn subject(&self) -> Subject {
        match (&self.service, self.user_id) {
            (None, Some(user_id)) => Subject::User(user_id),
            (service, _) => Subject::Service(
                service
                    .clone()
                    .expect("valid: the table demands one of both"),
            ),
        }
    }
}

/// Tokens that count no more, in the text by which replicas tell each other of them: a hash in hex,
/// `user:` and an id, `service:` and a name, or `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    Token(TokenHash),
    /// All of a user.
    User(i64),
    /// All of a service.
    Service(String),
    /// So many that every verdict is looked up again.
    Many,
}

const MANY: &str = "all";

impl Revoked {
    /// Reads the text; `None` for what is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(user_id) = text.strip_prefix("user:") {
            return user_id.parse().ok().map(Revoked::User);
        }
        if let Some(name) = text.strip_prefix("service:") {
            return Some(Revoked::Service(name.to_owned()));
        }
        if text == MANY {
            return Some(Revoked::Many);
        }
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let bytes =
            (0..32).map(|place| u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).ok());
        Some(Revoked::Token(
            bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()?,
        ))
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Revoked::Token(hash) => hash.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Revoked::User(user_id) => write!(f, "user:{user_id}"),
            Revoked::Service(name) => write!(f, "service:{name}"),
            Revoked::Many => f.write_str(MANY),
        }
    }
}

/// A new secret from 32 random bytes. The prefix tells people and secret scanners what it is.
pub fn secret(random: [u8; 32]) -> String {
    format!("us_{}", URL_SAFE_NO_PAD.encode(random))
}

/// The hash of a secret.
pub fn hash(secret: &str) -> TokenHash {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_is_read_as_it_is_told() {
        let services =
            ["billing", "all", "user:42", ""].map(|name| Revoked::Service(name.to_owned()));
        for revoked in [
            Revoked::Token(hash("us_x")),
            Revoked::User(42),
            Revoked::Many,
        ]
        .into_iter()
        .chain(services)
        {
            assert_eq!(Revoked::parse(&revoked.to_string()), Some(revoked));
        }
        for other in [
            "",
            "user:",
            "user:x",
            "0123",
            &"é".repeat(32),
            &"g".repeat(64),
        ] {
            assert_eq!(Revoked::parse(other), None, "{other}");
        }
    }
}
