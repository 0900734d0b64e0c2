//! What the claims of a token grant, once its signature is known to be good.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{compact::Object, invalid};
use crate::{
    domain::caller::{Caller, Grant},
    error::{Error, Reason, Result},
    model::{
        account::parse_subject,
        scope::Scope,
        token::{MAX_SERVICE_NAME, Subject},
    },
};

/// What the clocks of an issuer and ours may differ by.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// Claims that name the client that a token was issued to. If one equals `sub`, the token has no
/// user.
const CLIENT_CLAIMS: &[&str] = &["client_id", "azp", "appid", "cid"];

/// An issuer's rules.
pub(super) struct Rules {
    pub audiences: Vec<String>,
    /// The claim and its value that make a token a service's; without them `client_id` equal to
    /// `sub` does.
    pub service: Option<(String, String)>,
    /// The services that it may issue tokens for; `None` for all.
    pub services: Option<Vec<String>>,
    /// The scopes that it may grant to them; `None` for all.
    pub scopes: Option<Vec<Scope>>,
    pub users: Users,
    /// The longest time from issue to expiry.
    pub max_lifetime: TimeDelta,
}

/// The users that an issuer may issue tokens for.
pub(super) enum Users {
    None,
    /// `sub` is the user ID.
    ById,
    /// `sub` is the subject of a connection with this provider.
    ByConnection(String),
}

/// What a signed token grants, as far as the token itself states it.
#[derive(Clone, Debug)]
pub enum Verified {
    Known(Grant),
    Linked(Linked),
}

/// A token of the user with this connection.
#[derive(Clone, Debug)]
pub struct Linked {
    pub provider: String,
    /// The user's id at the provider.
    pub subject: String,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl Linked {
    /// What the token grants, after its user is found.
    pub fn grant(self, user_id: i64) -> Grant {
        let caller = Caller::new(Subject::User(user_id), Vec::new()).into();
        Grant {
            caller,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        }
    }
}

/// The subject of the claims.
enum Who {
    Caller(Caller),
    Connection(String, String),
}

impl Rules {
    /// Who the claims speak for.
    ///
    /// # Errors
    /// TOKEN_INVALID, TOKEN_EXPIRED.
    pub(super) fn verify(&self, claims: &Object, now: DateTime<Utc>) -> Result<Verified> {
        let is_for_us = claims
            .get("aud")
            .is_some_and(|given| self.audiences.iter().any(|audience| names(given, audience)));
        if !is_for_us {
            return Err(invalid("it is for another audience"));
        }
        let issued_at = moment(claims, "iat")?;
        let not_before = moment(claims, "nbf")?;
        // One from the future would outlast a revocation of everything issued before now.
        if [issued_at, not_before]
            .iter()
            .flatten()
            .any(|moment| *moment > now + LEEWAY)
        {
            return Err(invalid("it is not yet valid"));
        }
        let expires_at = moment(claims, "exp")?.ok_or_else(|| invalid("it never expires"))?;
        // A token without an issue time has at least the remaining lifetime.
        if expires_at - issued_at.unwrap_or(now) > self.max_lifetime {
            return Err(invalid("its lifetime is too long"));
        }
        let expires_at = expires_at + LEEWAY;
        let who = self.who(claims)?;
        if expires_at <= now {
            return Err(Error::new(Reason::TokenExpired));
        }
        let issued_at = issued_at.unwrap_or(DateTime::UNIX_EPOCH);
        Ok(match who {
            Who::Caller(caller) => Verified::Known(Grant {
                caller: caller.into(),
                issued_at,
                expires_at,
            }),
            Who::Connection(provider, subject) => Verified::Linked(Linked {
                provider,
                subject,
                issued_at,
                expires_at,
            }),
        })
    }

    fn who(&self, claims: &Object) -> Result<Who> {
        let subject = claims
            .text("sub")
            .ok_or_else(|| invalid("it has no subject"))?;
        if self.is_service(claims, subject) {
            return self.service(claims, subject).map(Who::Caller);
        }
        if is_like_a_services(claims, subject) {
            return Err(invalid(
                "it is like a service's, and lacks the claim that makes it one",
            ));
        }
        match &self.users {
            Users::None => Err(invalid("its issuer speaks for no user")),
            Users::ById => {
                let user_id = user_id(subject).ok_or_else(|| invalid("its subject is no user"))?;
                Ok(Who::Caller(Caller::new(Subject::User(user_id), Vec::new())))
            }
            // Connections are stored in NFC. Two subjects of an issuer must not become one of ours.
            Users::ByConnection(provider) => match parse_subject(subject.to_owned()) {
                Ok(stored) if stored == subject => Ok(Who::Connection(provider.clone(), stored)),
                _ => Err(invalid("its subject is none that a connection can have")),
            },
        }
    }

    fn service(&self, claims: &Object, name: &str) -> Result<Caller> {
        let subject = Subject::Service(name.to_owned());
        let is_name =
            !name.is_empty() && name.len() <= MAX_SERVICE_NAME && !name.contains(char::is_control);
        if !is_name || subject.is_reserved() {
            return Err(invalid("its subject is no name of a service"));
        }
        if self
            .services
            .as_ref()
            .is_some_and(|services| !services.iter().any(|service| service == name))
        {
            return Err(invalid("its issuer does not speak for that service"));
        }
        let mut scopes = scopes(claims)?;
        scopes.retain(|scope| {
            self.scopes
                .as_ref()
                .is_none_or(|granted| granted.contains(scope))
        });
        Ok(Caller::new(subject, scopes))
    }

    fn is_service(&self, claims: &Object, subject: &str) -> bool {
        match &self.service {
            Some((claim, value)) => claims.get(claim).is_some_and(|given| names(given, value)),
            None => claims.text("client_id") == Some(subject),
        }
    }
}

/// Whether a token was issued to a client without a user, by the claims of common providers: a
/// client that is its own subject, `idtyp` of Entra, `gty` of Auth0. A numeric client id must not
/// count as a user ID.
fn is_like_a_services(claims: &Object, subject: &str) -> bool {
    CLIENT_CLAIMS
        .iter()
        .any(|claim| claims.text(claim) == Some(subject))
        || claims.text("idtyp") == Some("app")
        || claims.text("gty") == Some("client-credentials")
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
pub(super) fn moment(claims: &Object, name: &str) -> Result<Option<DateTime<Utc>>> {
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
