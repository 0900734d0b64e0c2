//! Signed tokens (RFC 7519) of several issuers.

mod claims;
mod compact;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

pub use self::claims::Verified;
use self::{
    claims::{Rules, Users},
    compact::Compact,
};
use super::jwks::{Jwks, Signed, Source};
use crate::{
    clock::Clock,
    error::{Error, Reason, Result},
    model::{account::is_provider, scope::Scope, token::Subject},
    tls::client_config,
};

/// Default maximum length of a token, in bytes.
pub const MAX_BYTES: usize = 8192;
/// Default maximum lifetime, in hours.
const MAX_LIFETIME_HOURS: u32 = 24;

/// Section `[[auth.issuers]]`: one issuer of signed tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtIssuer {
    /// The exact claim `iss` of its tokens.
    pub issuer: String,
    /// What the claim `aud` must name one of.
    pub audiences: Vec<String>,
    /// Its set of keys: a file, or an `http://` or `https://` URL.
    pub jwks: String,
    /// Certificates, in PEM, that the URL's server is also trusted by.
    pub ca: Option<PathBuf>,
    /// With `service_value`, the claim that makes a token a service's; by default, `client_id`
    /// equal to `sub` does.
    pub service_claim: Option<String>,
    /// What `service_claim` must be, or contain where it is a list.
    pub service_value: Option<String>,
    /// The services that it may issue tokens for; `None` for all.
    pub services: Option<Vec<String>>,
    /// The scopes that it may grant to services; `None` for all.
    pub scopes: Option<Vec<String>>,
    /// Whether it may issue tokens for users.
    pub users: bool,
    /// The provider of the connections whose subject is `sub`; if `None`, `sub` is the user ID.
    pub user_provider: Option<String>,
    /// The longest lifetime of its tokens in hours, from `iat` to `exp`.
    pub max_lifetime_hours: u32,
}

impl Default for JwtIssuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            jwks: String::new(),
            ca: None,
            service_claim: None,
            service_value: None,
            services: None,
            scopes: None,
            users: true,
            user_provider: None,
            max_lifetime_hours: MAX_LIFETIME_HOURS,
        }
    }
}

impl JwtIssuer {
    /// What is wrong with these, without a look at files.
    pub fn errors(issuers: &[JwtIssuer]) -> Vec<String> {
        let (mut errors, mut names) = (Vec::new(), HashSet::new());
        for config in issuers {
            let name = &config.issuer;
            match config.error() {
                Some(error) => errors.push(format!("auth.issuers: {name}: {error}")),
                None if !names.insert(name) => {
                    errors.push(format!("auth.issuers: {name} is there twice"))
                }
                None => {}
            }
        }
        errors
    }

    fn error(&self) -> Option<String> {
        if self.issuer.is_empty() {
            return Some("issuer is missing".to_owned());
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Some("audiences is missing: it needs one name at least".to_owned());
        }
        if self.service_claim.is_some() != self.service_value.is_some() {
            return Some("service_claim and service_value go together".to_owned());
        }
        if let Some(unknown) = self
            .scopes
            .iter()
            .flatten()
            .find(|name| Scope::parse(name).is_none())
        {
            return Some(format!("unknown scope {unknown}"));
        }
        if let Some(name) = self
            .services
            .iter()
            .flatten()
            .find(|name| Subject::Service((*name).clone()).is_reserved())
        {
            return Some(format!("services: {name} is a reserved name"));
        }
        if let Some(provider) = &self.user_provider {
            if !self.users {
                return Some("user_provider needs users".to_owned());
            }
            if !is_provider(provider) {
                return Some("user_provider is no name of a provider".to_owned());
            }
        }
        if self.max_lifetime_hours == 0 {
            return Some("max_lifetime_hours must be at least 1".to_owned());
        }
        Source::uri(&self.jwks)
            .err()
            .map(|error| format!("jwks {error}"))
    }

    fn build(&self, clock: &Clock) -> Result<Issuer, String> {
        let told = |error| format!("auth.issuers: {}: {error}", self.issuer);
        let tls =
            client_config(self.ca.as_deref()).map_err(|error| told(format!("ca: {error:#}")))?;
        let source =
            Source::parse(&self.jwks, tls).map_err(|error| told(format!("jwks {error}")))?;
        Ok(Issuer {
            rules: Rules {
                audiences: self.audiences.clone(),
                service: self.service_claim.clone().zip(self.service_value.clone()),
                services: self.services.clone(),
                scopes: self
                    .scopes
                    .as_ref()
                    .map(|names| names.iter().filter_map(|name| Scope::parse(name)).collect()),
                users: match &self.user_provider {
                    _ if !self.users => Users::None,
                    None => Users::ById,
                    Some(provider) => Users::ByConnection(provider.clone()),
                },
                max_lifetime: TimeDelta::hours(i64::from(self.max_lifetime_hours)),
            },
            jwks: Arc::new(Jwks::new(self.issuer.clone(), source, clock.clone())),
        })
    }
}

/// Checks signed tokens.
#[derive(Clone)]
pub struct Jwts {
    issuers: Arc<HashMap<String, Issuer>>,
    clock: Clock,
    max_bytes: usize,
}

struct Issuer {
    rules: Rules,
    jwks: Arc<Jwks>,
}

impl Jwts {
    /// Checks tokens of these issuers. Their keys are read when the first token comes.
    ///
    /// # Errors
    /// All errors of the configuration, one sentence per error.
    pub fn new(configs: &[JwtIssuer], clock: Clock) -> Result<Self, Vec<String>> {
        let mut issuers = HashMap::new();
        let mut errors = JwtIssuer::errors(configs);
        let sound = if errors.is_empty() { configs } else { &[] };
        for config in sound {
            match config.build(&clock) {
                Ok(issuer) => drop(issuers.insert(config.issuer.clone(), issuer)),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            issuers: Arc::new(issuers),
            clock,
            max_bytes: MAX_BYTES,
        })
    }

    /// The same, for tokens of at most this many bytes.
    pub fn with_max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Maximum length of a token, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Whether a token has the three parts of a signed one, and there are issuers of such.
    pub fn take(&self, token: &str) -> bool {
        !self.issuers.is_empty() && token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// TOKEN_MALFORMED where it is too large, TOKEN_EXPIRED, TOKEN_INVALID for all other causes;
    /// AUTH_BACKEND_UNAVAILABLE where the keys that would tell cannot be read.
    pub async fn verify(&self, token: &str) -> Result<Verified> {
        if token.len() > self.max_bytes {
            return Err(Error::new(Reason::TokenMalformed));
        }
        let compact = Compact::parse(token)
            .ok_or_else(|| invalid("it has not the form of a signed token"))?;
        let issuer = compact
            .claims
            .text("iss")
            .and_then(|name| self.issuers.get(name))
            .ok_or_else(|| invalid("the issuer is not known"))?;
        issuer
            .jwks
            .check(Signed {
                key_id: compact.key_id.as_deref(),
                issued_at: claims::moment(&compact.claims, "iat")?,
                algorithm: compact.algorithm,
                message: compact.message.as_bytes(),
                signature: &compact.signature,
            })
            .await?;
        issuer.rules.verify(&compact.claims, self.clock.now())
    }
}

/// The error of a token that is not accepted; the cause is only logged.
fn invalid(why: &'static str) -> Error {
    Error::new(Reason::TokenInvalid).with_source(why)
}
