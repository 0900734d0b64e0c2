//! Page tokens: opaque to callers, signed, bound to their query and valid for a limited time.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    error::{Error, FieldError, Reason, Result, Violations},
    model::keys::Keys,
};

/// Profiles on a page if the request names no size, by default.
pub const DEFAULT_SIZE: i64 = 20;
/// The maximum number of profiles on a page that a deployment can configure.
pub const MAX_SIZE: i64 = 1000;
/// Most profiles that may be passed over.
pub const MAX_SKIP: i64 = 100_000;

/// What a deployment permits of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Items on a page if the request names no size.
    pub default_size: i64,
    /// The maximum number of items on a page; a larger size is reduced to it.
    pub max_size: i64,
    /// How long a page token can be used.
    pub token_lifetime: TimeDelta,
}

impl PageLimits {
    /// The number of items that a request asks for.
    pub fn size(&self, given: i32, violations: &mut Violations) -> i64 {
        size_within(given, self.default_size, self.max_size, violations)
    }
}

/// How many are asked for, as a request says it; `default` where it does not, and at most `max`.
pub fn size_within(given: i32, default: i64, max: i64, violations: &mut Violations) -> i64 {
    if given < 0 {
        violations.add("page_size", FieldError::Range, "must not be negative");
    }
    match i64::from(given) {
        0 => default,
        size => size.min(max),
    }
}

/// How many are passed over before the first page, as a request says it.
pub fn skip(given: i32, violations: &mut Violations) -> i64 {
    let skip = i64::from(given);
    if !(0..=MAX_SKIP).contains(&skip) {
        violations.add("skip", FieldError::Range, "must be between 0 and 100000");
    }
    skip
}

#[derive(Serialize, Deserialize)]
struct Content {
    /// Unix seconds of its making.
    at: i64,
    /// Hash of the query.
    query: String,
    /// The order keys of the last row.
    after: Vec<Value>,
}

/// A token for the rows after `after`.
pub fn write(keys: &Keys, query: &str, after: Vec<Value>, now: DateTime<Utc>) -> String {
    let content = Content {
        at: now.timestamp(),
        query: query.to_owned(),
        after,
    };
    let body = serde_json::to_vec(&content).expect("valid: plain JSON");
    let mut token = keys.sign("page", &body);
    token.extend(body);
    URL_SAFE_NO_PAD.encode(token)
}

fn rejected(reason: Reason) -> Error {
    Error::new(reason).with_violation("page_token", FieldError::Format, reason.message())
}

/// The error of a token that is not of this query.
pub fn mismatch() -> Error {
    rejected(Reason::PageTokenMismatch)
}

/// The order keys of the last row that was given.
///
/// # Errors
/// PAGE_TOKEN_INVALID, PAGE_TOKEN_MISMATCH or PAGE_TOKEN_EXPIRED.
pub fn read(
    keys: &Keys,
    query: &str,
    token: &str,
    lifetime: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Vec<Value>> {
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| rejected(Reason::PageTokenInvalid))?;
    let body = keys
        .verify("page", &bytes)
        .ok_or_else(|| rejected(Reason::PageTokenInvalid))?;
    let content: Content =
        serde_json::from_slice(body).map_err(|_| rejected(Reason::PageTokenInvalid))?;
    if content.query != query {
        return Err(mismatch());
    }
    if now.timestamp() - content.at > lifetime.num_seconds() {
        return Err(rejected(Reason::PageTokenExpired));
    }
    Ok(content.after)
}
