//! Keys by which a request names a user.

use crate::{
    convert::pb::{self, profile_key::Key},
    error::{FieldError, Violations},
    model::{
        account::{UserKey, connection_key, fold_email, fold_username, is_provider, parse_subject},
        text,
    },
};

/// Maximum number of keys in a batch.
const MAX_KEYS: usize = 500;

/// Longest lookup key that is normalized; no stored key is longer, so longer input can't match.
const MAX_KEY: usize = 1024;

/// A single read identifies its user in the same way as a batch.
impl From<pb::get_profile_request::Key> for Key {
    fn from(key: pb::get_profile_request::Key) -> Self {
        use pb::get_profile_request::Key as Given;
        match key {
            Given::UserId(user_id) => Key::UserId(user_id),
            Given::Username(username) => Key::Username(username),
            Given::Email(email) => Key::Email(email),
            Given::Phone(phone) => Key::Phone(phone),
            Given::Openid(openid) => Key::Openid(openid),
            Given::Unionid(unionid) => Key::Unionid(unionid),
            Given::Connection(connection) => Key::Connection(connection),
        }
    }
}

/// Whether the key is part of the account, which requires more scopes.
pub fn is_of_account(key: &Key) -> bool {
    match key {
        Key::Username(_) | Key::Email(_) | Key::Phone(_) | Key::Connection(_) => true,
        Key::UserId(_) | Key::Openid(_) | Key::Unionid(_) => false,
    }
}

/// Parses a key; the violations have paths such as `email`.
pub fn read(given: Key, violations: &mut Violations) -> Option<UserKey> {
    match given {
        Key::UserId(0) => {
            violations.add("user_id", FieldError::Required, "is required");
            None
        }
        Key::UserId(user_id) if user_id < 0 => {
            violations.add("user_id", FieldError::Range, "must not be negative");
            None
        }
        Key::UserId(user_id) => Some(UserKey::Id(user_id)),
        Key::Username(given) => unique("username", &given, violations),
        Key::Email(given) => unique("email", &given, violations),
        Key::Phone(given) => unique("phone", &given, violations),
        Key::Openid(given) => unique("openid", &given, violations),
        Key::Unionid(given) => unique("unionid", &given, violations),
        Key::Connection(given) => {
            let provider = value("connection.provider", &given.provider, violations);
            let subject = value("connection.subject", &given.subject, violations);
            Some(connection(&provider?, subject?))
        }
    }
}

/// Parses the keys of a batch; the violations have paths such as `keys[3].email`.
pub fn batch(given: Vec<pb::ProfileKey>, violations: &mut Violations) -> Vec<UserKey> {
    if given.is_empty() {
        violations.add("keys", FieldError::Required, "is required");
    }
    if given.len() > MAX_KEYS {
        // So many keys aren't validated one by one.
        violations.add("keys", FieldError::Length, "must have at most 500 keys");
        return Vec::new();
    }
    let mut keys = Vec::with_capacity(given.len());
    for (index, key) in given.into_iter().enumerate() {
        match key.key {
            None => violations.add(
                format!("keys[{index}]"),
                FieldError::Required,
                "is required",
            ),
            Some(key) => {
                let mut inside = Violations::new();
                keys.extend(read(key, &mut inside));
                violations.extend_at(&format!("keys[{index}]"), inside);
            }
        }
    }
    keys
}

/// The user who holds a value of this kind, which is also the value's path.
fn unique(kind: &'static str, given: &str, violations: &mut Violations) -> Option<UserKey> {
    let text = value(kind, given, violations)?;
    let folded = match kind {
        "username" => fold_username(&text),
        "email" => fold_email(&text),
        _ => text,
    };
    Some(UserKey::Unique(kind, folded))
}

/// The user with a connection. A value that LinkConnection would reject matches no user: splitting
/// a stored key at another position must not find it, such as `a:b` and `c` for `a` and `b:c`.
fn connection(provider: &str, subject: String) -> UserKey {
    let key = match parse_subject(subject) {
        Ok(subject) if is_provider(provider) => connection_key(provider, &subject),
        // Every stored key has a provider.
        Ok(_) | Err(_) => connection_key("", ""),
    };
    UserKey::Unique("connection", key)
}

/// A part of a key, as it is compared.
fn value(path: &str, given: &str, violations: &mut Violations) -> Option<String> {
    if given.is_empty() {
        violations.add(path, FieldError::Required, "must not be empty");
        return None;
    }
    violations.check(path, text::nfc(text::cut(given, MAX_KEY)))
}
