//! Tokens as messages.

use chrono::TimeDelta;

use crate::{
    domain::caller::Subject,
    error::{Fault, Violations},
    model::{scope::Scope, text, token::Token},
    wire::{pb, timestamp},
};

/// A token's message, without its secret.
pub fn message(token: &Token) -> pb::Token {
    let subject = match (&token.service, token.user_id) {
        (Some(service), _) => Some(pb::token::Subject::Service(service.clone())),
        (None, user_id) => user_id.map(pb::token::Subject::UserId),
    };
    pb::Token {
        token_id: token.token_id,
        subject,
        scopes: token.scopes.clone(),
        created_at: Some(timestamp(token.created_at)),
        expires_at: Some(timestamp(token.expires_at)),
        last_used_at: token.last_used_at.map(timestamp),
    }
}

/// Reads a service's name or a user's id.
pub fn subject(given: Result<String, i64>, faults: &mut Violations) -> Option<Subject> {
    match given {
        Ok(name) => {
            let name = faults.check("service", text::line(name, 1, 64, "must have 1 to 64 characters"))?;
            Some(Subject::Service(name))
        }
        Err(user_id) if user_id > 0 => Some(Subject::User(user_id)),
        Err(_) => {
            faults.add("user_id", Fault::Range, "must be positive");
            None
        }
    }
}

/// Reads scopes; kept in the order of the table, without repeats.
pub fn scopes(given: &[String], faults: &mut Violations) -> Vec<Scope> {
    for name in given.iter().filter(|name| Scope::parse(name).is_none()) {
        faults.add("scopes", Fault::Unknown, format!("unknown scope {}", text::cut(name, 64)));
    }
    Scope::ALL.iter().copied().filter(|scope| given.iter().any(|name| name == scope.as_str())).collect()
}

/// Reads how long a token is good: by default 30 days for a user and 365 for a service, at most ten years.
pub fn ttl(given: Option<prost_types::Duration>, subject: Option<&Subject>, faults: &mut Violations) -> TimeDelta {
    let default = match subject {
        Some(Subject::User(_)) => TimeDelta::days(30),
        _ => TimeDelta::days(365),
    };
    let Some(given) = given else { return default };
    let asked = TimeDelta::try_seconds(given.seconds).map(|ttl| ttl + TimeDelta::nanoseconds(i64::from(given.nanos)));
    match asked.filter(|ttl| *ttl > TimeDelta::zero() && *ttl <= TimeDelta::days(3650)) {
        Some(ttl) => ttl,
        None => {
            faults.add("ttl", Fault::Range, "must be positive and at most ten years");
            default
        }
    }
}
