//! What the claims of a token grant, once its signature is known to be good.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{compact::Object, invalid};
use crate::{
    auth::Grant,
    domain::caller::Caller,
    error::{Error, Reason, Result},
    model::{scope::Scope, token::Subject},
};

/// What the clocks of an issuer and ours may differ by.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// Characters of the longest name of a service.
const MAX_NAME: usize = 255;

/// An issuer's rules.
pub struct Rules {
    pub audiences: Vec<String>,
    /// The claim and its value that make a token a service's; without them `client_id` equal to `sub` does.
    pub service: Option<(String, String)>,
}

impl Rules {
    /// Who the claims speak for.
    ///
    /// # Errors
    /// TOKEN_INVALID, TOKEN_EXPIRED.
    pub fn grant(&self, claims: &Object, now: DateTime<Utc>) -> Result<Grant> {
        let is_for_us =
            claims.get("aud").is_some_and(|given| self.audiences.iter().any(|audience| names(given, audience)));
        if !is_for_us {
            return Err(invalid("it is for another audience"));
        }
        let issued_at = moment(claims, "iat")?;
        let not_before = moment(claims, "nbf")?;
        // One from the future would outlast a revocation of everything issued before now.
        if [issued_at, not_before].iter().flatten().any(|moment| *moment > now + LEEWAY) {
            return Err(invalid("it is not yet valid"));
        }
        let expires_at = moment(claims, "exp")?.ok_or_else(|| invalid("it never expires"))? + LEEWAY;
        let caller = self.caller(claims)?.into();
        if expires_at <= now {
            return Err(Error::new(Reason::TokenExpired));
        }
        Ok(Grant { caller, issued_at: issued_at.unwrap_or(DateTime::UNIX_EPOCH), expires_at })
    }

    fn caller(&self, claims: &Object) -> Result<Caller> {
        let subject = claims.text("sub").ok_or_else(|| invalid("it has no subject"))?;
        if !self.is_service(claims, subject) {
            let user_id = user_id(subject).ok_or_else(|| invalid("its subject is no user"))?;
            return Ok(Caller::new(Subject::User(user_id), Vec::new()));
        }
        let is_name = !subject.is_empty() && subject.len() <= MAX_NAME && !subject.contains(char::is_control);
        if !is_name {
            return Err(invalid("its subject is no name of a service"));
        }
        Ok(Caller::new(Subject::Service(subject.to_owned()), scopes(claims)?))
    }

    fn is_service(&self, claims: &Object, subject: &str) -> bool {
        match &self.service {
            Some((claim, value)) => claims.get(claim).is_some_and(|given| names(given, value)),
            None => claims.text("client_id") == Some(subject),
        }
    }
}

/// Whether a claim is that text or truth value, or a list with that text.
fn names(claim: &Value, text: &str) -> bool {
    match claim {
        Value::String(one) => one == text,
        Value::Bool(flag) => text == if *flag { "true" } else { "false" },
        Value::Array(many) => many.iter().any(|one| one.as_str() == Some(text)),
        Value::Null | Value::Number(_) | Value::Object(_) => false,
    }
}

/// A user's id, in the one way to write it.
fn user_id(subject: &str) -> Option<i64> {
    let is_plain = subject.bytes().all(|byte| byte.is_ascii_digit()) && !subject.starts_with('0');
    subject.parse().ok().filter(|_| is_plain)
}

/// The scopes that we know, of `scope` or else `scp`, as words or as a list.
fn scopes(claims: &Object) -> Result<Vec<Scope>> {
    let words: Vec<&str> = match claims.get("scope").or_else(|| claims.get("scp")) {
        None => Vec::new(),
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err(invalid("its scopes are neither words nor a list")),
    };
    Ok(words.into_iter().filter_map(Scope::parse).collect())
}

/// A NumericDate, to the whole second.
fn moment(claims: &Object, name: &str) -> Result<Option<DateTime<Utc>>> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let wrong = || invalid("a time of it is none");
    let seconds = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => seconds,
        // The bound keeps the cast exact.
        (None, Some(seconds)) if seconds.abs() < 1e15 => seconds.floor() as i64,
        _ => return Err(wrong()),
    };
    // Far from the ends of what a time can be, so that a leeway can be added.
    let is_sane = (0..=253_402_300_799).contains(&seconds);
    let moment = DateTime::from_timestamp(seconds, 0).filter(|_| is_sane);
    moment.map(Some).ok_or_else(wrong)
}
