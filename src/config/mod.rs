//! Configuration: defaults, then a TOML file, then `USER_SERVICE__SECTION__KEY` variables.
//!
//! A secret may come from a file: `USER_SERVICE__DATABASE__URL_FILE` names one that holds `database.url`, and so for
//! all of [`FROM_FILES`].

mod sections;

pub use sections::*;

use std::path::Path;

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Serialized, Toml},
    value::Value,
};
use serde::{Deserialize, Serialize};

use crate::rest;

const PREFIX: &str = "USER_SERVICE__";

/// Keys whose value may stand in a file that a variable with `_FILE` at its end names.
pub const FROM_FILES: &[&str] =
    &["database.url", "secrets.keys", "auth.bootstrap_token", "mail.smtp.password", "sms.secret"];

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub database: Database,
    pub grpc: Grpc,
    pub rest: rest::Config,
    pub secrets: Secrets,
    pub auth: Auth,
    pub fields: Fields,
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

/// The variable of a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The variable that names the file of a key.
fn file_variable(key: &str) -> String {
    format!("{}_FILE", variable(key))
}

/// Whether a variable, or one that names a file, sets this key.
pub fn is_set(key: &str) -> bool {
    std::env::var_os(variable(key)).is_some() || std::env::var_os(file_variable(key)).is_some()
}

/// Reads all layers and checks them whole.
///
/// # Errors
/// One report of all faults.
pub fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    let (config, faults) = inspect(file)?;
    if faults.is_empty() { Ok(config) } else { Err(report(faults)) }
}

/// Reads all layers, and tells what is wrong with them.
///
/// # Errors
/// What cannot be read at all.
pub fn inspect(file: Option<&Path>) -> anyhow::Result<(Config, Vec<String>)> {
    let mut layers = layers(file);
    for key in FROM_FILES {
        if let Some(path) = std::env::var_os(file_variable(key)) {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{} names a file that cannot be read", file_variable(key)))?;
            let value: Value = text.trim().parse().expect("valid: any text is some value");
            layers = layers.merge((*key, value));
        }
    }
    let (config, misread) = read(layers)?;
    // What was left out as unreadable is not missing too.
    let is_new = |fault: &String| !misread.iter().any(|(key, _)| fault.starts_with(key.as_str()));
    let of_rules: Vec<String> = config.faults().into_iter().filter(is_new).collect();
    let faults = misread.into_iter().map(|(_, fault)| fault).chain(of_rules).collect();
    Ok((config, faults))
}

/// Reads all that can be read, with the keys that cannot, and why.
fn read(layers: Figment) -> anyhow::Result<(Config, Vec<(String, String)>)> {
    let mut value: Value = layers.extract().map_err(|error| report(vec![error.to_string()]))?;
    let mut faults = Vec::new();
    loop {
        match value.deserialize::<Config>() {
            Ok(config) => return Ok((config, faults)),
            // One at a time is told. What it is about is taken away, and the rest read again.
            Err(error) => {
                let key = error.path.join(".");
                faults.push((key.clone(), fault(&key, &error.kind)));
                if !remove(&mut value, &error.path) {
                    return Err(report(faults.into_iter().map(|(_, fault)| fault).collect()));
                }
            }
        }
    }
}

fn fault(key: &str, kind: &Kind) -> String {
    let told = match kind {
        Kind::UnknownField(_, known) => format!("{key} is no key; there are {}", known.join(", ")),
        Kind::MissingField(name) => format!("{key}.{name} is missing"),
        kind => format!("{key}: {kind}"),
    };
    if is_set(key) { format!("{told} ({})", variable(key)) } else { told }
}

/// Takes away what stands at a path; tells whether anything did.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((key, rest)) = path.split_first() else { return false };
    match value {
        Value::Dict(_, entries) if rest.is_empty() => entries.remove(key).is_some(),
        Value::Dict(_, entries) => entries.get_mut(key).is_some_and(|inner| remove(inner, rest)),
        Value::Array(_, items) => match key.parse::<usize>() {
            Ok(place) if place < items.len() && rest.is_empty() => {
                items.remove(place);
                true
            }
            Ok(place) => items.get_mut(place).is_some_and(|inner| remove(inner, rest)),
            Err(_) => false,
        },
        _ => false,
    }
}

/// Section `[telemetry]` alone, for the logs, which begin before everything else. [`load`] reports its faults.
pub fn telemetry(file: Option<&Path>) -> Telemetry {
    let section: Telemetry = layers(file).extract_inner("telemetry").unwrap_or_default();
    let mut faults = Vec::new();
    section.faults(&mut faults);
    if faults.is_empty() { section } else { Telemetry::default() }
}

/// All layers but the files of secrets.
fn layers(file: Option<&Path>) -> Figment {
    let mut layers = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = file {
        layers = layers.merge(Toml::file_exact(file));
    }
    let of_files: Vec<String> = FROM_FILES.iter().map(|key| file_variable(key)[PREFIX.len()..].to_owned()).collect();
    let variables = Env::prefixed(PREFIX)
        .filter(move |key| !of_files.iter().any(|name| name.eq_ignore_ascii_case(key.as_str())))
        .split("__");
    layers.merge(variables)
}

/// The error of a configuration with these faults.
pub fn report(faults: Vec<String>) -> anyhow::Error {
    let lines: Vec<String> = faults.into_iter().map(|fault| format!("- {fault}")).collect();
    anyhow::anyhow!("the configuration has faults:\n{}", lines.join("\n"))
}

impl Config {
    /// What is wrong with it as a whole.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.database.faults(&mut faults);
        self.grpc.faults(&mut faults);
        self.secrets.faults(&mut faults);
        faults.extend(self.rest.faults());
        self.auth.faults(&mut faults);
        self.mail.faults(&mut faults);
        self.sms.faults(&mut faults);
        self.operations.faults(&mut faults);
        self.telemetry.faults(&mut faults);
        faults
    }
}

/// The configuration as TOML, secrets masked.
///
/// # Errors
/// None that a configuration of ours can meet.
pub fn printed(config: &Config) -> anyhow::Result<String> {
    let mut shown = config.clone();
    shown.database.url = Secret(without_password(&shown.database.url.0));
    let keys = shown.secrets.keys.iter_mut().map(|key| &mut key.key);
    let password = shown.mail.smtp.as_mut().and_then(|smtp| smtp.password.as_mut());
    for secret in keys.chain(shown.auth.bootstrap_token.as_mut()).chain(password).chain(shown.sms.secret.as_mut()) {
        MASK.clone_into(&mut secret.0);
    }
    Ok(toml::to_string(&shown)?)
}

const MASK: &str = "***";

/// The URL of a database, or of several that stand for each other, without its password. Where the password may stand
/// anywhere, nothing is shown.
fn without_password(url: &str) -> String {
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
