//! Configuration: defaults, then a TOML file, then `USER_SERVICE__SECTION__KEY` variables.
//!
//! A secret may come from a file: `USER_SERVICE__DATABASE__URL_FILE` names one that holds
//! `database.url`, and so for all of [`FROM_FILES`].

mod read;
mod sections;
mod warnings;

pub use read::{FROM_FILES, inspect, is_set};
pub use sections::*;
pub use warnings::warnings;

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{caller_limits, net, rest};

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub database: Database,
    pub grpc: Grpc,
    pub rest: rest::Config,
    pub limits: net::Limits,
    pub secrets: Secrets,
    pub auth: Auth,
    pub callers: caller_limits::Config,
    pub tokens: Tokens,
    pub pages: Pages,
    pub deadlines: Deadlines,
    pub fields: Fields,
    pub accounts: Accounts,
    pub codes: Codes,
    pub email_change: EmailChange,
    pub passwords: Passwords,
    pub mail: Mail,
    pub sms: Sms,
    pub operations: Operations,
    pub telemetry: Telemetry,
}

/// The bytes of a key in base64.
pub fn key_bytes(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

/// A key in base64.
pub fn key_text(bytes: [u8; 32]) -> String {
    STANDARD.encode(bytes)
}

/// Reads all layers and checks them whole.
///
/// # Errors
/// One report of all errors.
pub fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    let (config, errors) = inspect(file)?;
    if errors.is_empty() {
        Ok(config)
    } else {
        Err(report(errors))
    }
}

/// Section `[telemetry]` alone, for the logs, which begin before everything else. [`load`] reports
/// its errors.
pub fn telemetry(file: Option<&Path>) -> Telemetry {
    let section = read::layers(file)
        .ok()
        .and_then(|layers| layers.extract_inner("telemetry").ok());
    let section: Telemetry = section.unwrap_or_default();
    let mut errors = Vec::new();
    section.errors(&mut errors);
    if errors.is_empty() {
        section
    } else {
        Telemetry::default()
    }
}

/// The error of an invalid configuration.
pub fn report(errors: Vec<String>) -> anyhow::Error {
    let lines: Vec<String> = errors
        .into_iter()
        .map(|error| format!("- {error}"))
        .collect();
    anyhow::anyhow!("the configuration is invalid:\n{}", lines.join("\n"))
}

impl Config {
    /// What is wrong with it as a whole.
    fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        self.database.errors(&mut errors);
        self.grpc.errors(&mut errors);
        self.secrets.errors(&mut errors);
        errors.extend(self.rest.errors());
        errors.extend(self.limits.errors());
        self.auth.errors(&mut errors);
        errors.extend(self.callers.errors());
        self.tokens.errors(&mut errors);
        self.pages.errors(&mut errors);
        self.deadlines.errors(&mut errors);
        self.accounts.errors(&mut errors);
        self.codes.errors(&mut errors);
        self.passwords.errors(&mut errors);
        self.mail.errors(&mut errors);
        self.sms.errors(&mut errors);
        self.operations.errors(&mut errors);
        self.telemetry.errors(&mut errors);
        errors
    }
}

/// The configuration as TOML, secrets masked.
///
/// # Errors
/// None that a configuration of ours can meet.
pub fn printed(config: &Config) -> anyhow::Result<String> {
    let mut shown = config.clone();
    for url in std::iter::once(&mut shown.database.url).chain(shown.database.listen_url.as_mut()) {
        *url = Secret(without_password(&url.0));
    }
    let keys = shown.secrets.keys.iter_mut().map(|key| &mut key.key);
    let password = shown
        .mail
        .smtp
        .as_mut()
        .and_then(|smtp| smtp.password.as_mut());
    for secret in keys
        .chain(shown.auth.bootstrap_token.as_mut())
        .chain(password)
        .chain(shown.sms.secret.as_mut())
    {
        MASK.clone_into(&mut secret.0);
    }
    let jwks = shown.auth.issuers.iter_mut().map(|issuer| &mut issuer.jwks);
    for url in jwks
        .chain(shown.sms.url.as_mut())
        .chain(shown.telemetry.otlp_endpoint.as_mut())
    {
        *url = without_credentials(url);
    }
    Ok(toml::to_string(&shown)?)
}

const MASK: &str = "***";

/// A URL without who signs in with it, and without its query, which may hold a key.
fn without_credentials(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed)
            if parsed.password().is_some()
                || !parsed.username().is_empty()
                || parsed.query().is_some() =>
        {
            // A URL that cannot have them has none.
            parsed
                .set_username("")
                .and_then(|()| parsed.set_password(None))
                .unwrap_or_default();
            parsed.set_query(parsed.query().map(|_| MASK));
            parsed.into()
        }
        _ => url.to_owned(),
    }
}

/// The URL of a database, or of several that stand for each other, without its password. Where the
/// password may stand anywhere, nothing is shown.
pub fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if !rest.contains("password") => match rest.rsplit_once('@') {
            Some((user, place)) => match user.split_once(':') {
                Some((name, _)) => format!("{scheme}://{name}:{MASK}@{place}"),
                None => url.to_owned(),
            },
            None => url.to_owned(),
        },
        None if url.is_empty() => String::new(),
        _ => MASK.to_owned(),
    }
}
