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

use serde::{Deserialize, Serialize};

use self::{claims::Rules, compact::Compact};
use super::{
    Grant,
    jwks::{Jwks, Signed, Source},
};
use crate::{
    clock::Clock,
    error::{Error, Reason, Result},
    tls::client_config,
};

/// Bytes of the largest token.
const MAX_BYTES: usize = 8192;

/// Section `[[auth.issuers]]`: one issuer of signed tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// With `service_value`, the claim that makes a token a service's; by default, `client_id` equal to `sub` does.
    pub service_claim: Option<String>,
    /// What `service_claim` must be, or contain where it is a list.
    pub service_value: Option<String>,
}

impl JwtIssuer {
    /// What is wrong with these, without a look at files.
    pub fn faults(issuers: &[JwtIssuer]) -> Vec<String> {
        let (mut faults, mut names) = (Vec::new(), HashSet::new());
        for config in issuers {
            let name = &config.issuer;
            match config.fault() {
                Some(fault) => faults.push(format!("auth.issuers: {name}: {fault}")),
                None if !names.insert(name) => faults.push(format!("auth.issuers: {name} is there twice")),
                None => {}
            }
        }
        faults
    }

    fn fault(&self) -> Option<String> {
        if self.issuer.is_empty() {
            return Some("issuer is missing".to_owned());
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Some("audiences is missing: it needs one name at least".to_owned());
        }
        if self.service_claim.is_some() != self.service_value.is_some() {
            return Some("service_claim and service_value go together".to_owned());
        }
        Source::uri(&self.jwks).err().map(|fault| format!("jwks {fault}"))
    }

    fn build(&self, clock: &Clock) -> Result<Issuer, String> {
        let told = |fault| format!("auth.issuers: {}: {fault}", self.issuer);
        let tls = client_config(self.ca.as_deref()).map_err(|error| told(format!("ca: {error:#}")))?;
        let source = Source::parse(&self.jwks, tls).map_err(|fault| told(format!("jwks {fault}")))?;
        Ok(Issuer {
            rules: Rules {
                audiences: self.audiences.clone(),
                service: self.service_claim.clone().zip(self.service_value.clone()),
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
}

struct Issuer {
    rules: Rules,
    jwks: Arc<Jwks>,
}

impl Jwts {
    /// Checks tokens of these issuers. Their keys are read when the first token comes.
    ///
    /// # Errors
    /// All faults of the configuration, a sentence each.
    pub fn new(configs: &[JwtIssuer], clock: Clock) -> Result<Self, Vec<String>> {
        let mut issuers = HashMap::new();
        let mut faults = JwtIssuer::faults(configs);
        let sound = if faults.is_empty() { configs } else { &[] };
        for config in sound {
            match config.build(&clock) {
                Ok(issuer) => drop(issuers.insert(config.issuer.clone(), issuer)),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { issuers: Arc::new(issuers), clock })
    }

    /// Whether a token has the three parts of a signed one, and there are issuers of such.
    pub fn take(&self, token: &str) -> bool {
        !self.issuers.is_empty() && token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// TOKEN_MALFORMED where it is too large, TOKEN_EXPIRED, TOKEN_INVALID for all other faults;
    /// AUTH_BACKEND_UNAVAILABLE where the keys that would tell cannot be read.
    pub async fn verify(&self, token: &str) -> Result<Grant> {
        if token.len() > MAX_BYTES {
            return Err(Error::new(Reason::TokenMalformed));
        }
        let compact = Compact::parse(token).ok_or_else(|| invalid("it has not the form of a signed token"))?;
        let issuer = compact
            .claims
            .text("iss")
            .and_then(|name| self.issuers.get(name))
            .ok_or_else(|| invalid("the issuer is not known"))?;
        issuer
            .jwks
            .check(Signed {
                key_id: compact.key_id.as_deref(),
                algorithm: compact.algorithm,
                message: compact.message.as_bytes(),
                signature: &compact.signature,
            })
            .await?;
        issuer.rules.grant(&compact.claims, self.clock.now())
    }
}

/// The refusal of a token; why is told to logs alone.
fn invalid(why: &'static str) -> Error {
    Error::new(Reason::TokenInvalid).with_source(why)
}
