//! Tokens as messages.

use chrono::TimeDelta;

use crate::{
    convert::{pb, timestamp},
    error::{FieldError, Violations},
    model::{
        scope::Scope,
        text,
        token::{MAX_SERVICE_NAME, Subject, Token},
    },
};

/// A token's message, without its secret.
pub fn message(token: &Token) -> pb::Token {
    let subject = match token.subject() {
        Subject::Service(name) => pb::token::Subject::Service(name),
        Subject::User(user_id) => pb::token::Subject::UserId(user_id),
    };
    pb::Token {
        token_id: token.token_id,
        subject: Some(subject),
        scopes: token.scopes.clone(),
        created_at: Some(timestamp(token.created_at)),
        expires_at: Some(timestamp(token.expires_at)),
        last_used_at: token.last_used_at.map(timestamp),
        issued_by: token.issued_by.clone().unwrap_or_default(),
    }
}

/// Checks the subject of a token to issue. A token with the name of the operator or of the
/// bootstrap token would appear under it in every record.
pub fn new_subject(given: Option<Subject>, violations: &mut Violations) -> Option<Subject> {
    let subject = subject(given, 64, "must have 1 to 64 characters", violations)?;
    if subject.is_reserved() {
        violations.add("service", FieldError::Format, "is a reserved name");
        return None;
    }
    Some(subject)
}

/// Checks the subject of existing tokens. A service from an identity provider may have a longer
/// name.
pub fn known_subject(given: Option<Subject>, violations: &mut Violations) -> Option<Subject> {
    subject(
        given,
        MAX_SERVICE_NAME,
        "must have 1 to 255 characters",
        violations,
    )
}

fn subject(
    given: Option<Subject>,
    max: usize,
    length: &'static str,
    violations: &mut Violations,
) -> Option<Subject> {
    let error = match given {
        Some(Subject::Service(name)) => {
            let name = violations.check("service", text::line(name, 1, max, length))?;
            return Some(Subject::Service(name));
        }
        Some(Subject::User(user_id)) if user_id > 0 => return given,
        Some(Subject::User(_)) => ("user_id", FieldError::Range, "must be positive"),
        None => (
            "service",
            FieldError::Required,
            "must set service or user_id",
        ),
    };
    violations.add(error.0, error.1, error.2);
    None
}

/// Reads scopes; kept in the order of the table, without repeats.
pub fn scopes(given: &[String], violations: &mut Violations) -> Vec<Scope> {
    for name in given.iter().filter(|name| Scope::parse(name).is_none()) {
        violations.add(
            "scopes",
            FieldError::Unknown,
            format!("unknown scope {}", text::cut(name, 64)),
        );
    }
    Scope::ALL
        .iter()
        .copied()
        .filter(|scope| given.iter().any(|name| name == scope.as_str()))
        .collect()
}

/// Parses the lifetime of a token: by default 30 days for a user and 365 for a service, at most
/// `max`.
pub fn ttl(
    given: Option<prost_types::Duration>,
    subject: Option<&Subject>,
    max: TimeDelta,
    violations: &mut Violations,
) -> TimeDelta {
    let default = match subject {
        Some(Subject::User(_)) => TimeDelta::days(30),
        Some(Subject::Service(_)) | None => TimeDelta::days(365),
    };
    let default = default.min(max);
    let Some(given) = given else { return default };
    let nanos = TimeDelta::nanoseconds(i64::from(given.nanos));
    let asked = TimeDelta::try_seconds(given.seconds).and_then(|ttl| ttl.checked_add(&nanos));
    match asked.filter(|ttl| *ttl > TimeDelta::zero() && *ttl <= max) {
        Some(ttl) => ttl,
        None => {
            violations.add(
                "ttl",
                FieldError::Range,
                format!("must be positive and at most {} days", max.num_days()),
            );
            default
        }
    }
}
