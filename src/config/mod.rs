//! Configuration: defaults, then a TOML file, then `USER_SERVICE__SECTION__KEY` variables.
//!
//! A secret may come from a file: `USER_SERVICE__DATABASE__URL_FILE` names one that holds `database.url`, and so for
//! all of [`FROM_FILES`].

mod sections;

pub use sections::*;

use std::path::Path;

use anyhow::{Context, bail};
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

/// Reads all layers, and tells what is wrong with them. No fault shows the value of a secret.
///
/// # Errors
/// A file that is no TOML.
pub fn inspect(file: Option<&Path>) -> anyhow::Result<(Config, Vec<String>)> {
    let mut faults = Faults::default();
    let mut layers = layers(file)?;
    for key in FROM_FILES {
        match secret(key) {
            Ok(Some(text)) => layers = layers.merge((*key, value(key, &text))),
            Ok(None) => {}
            Err(error) => {
                let told = format!("{} names a file that cannot be read: {error}", file_variable(key));
                faults.misread((*key).to_owned(), told);
            }
        }
    }
    let config = read(&layers, &mut faults);
    faults.broken_rules(config.faults());
    Ok((config, faults.told))
}

/// The text that a variable gives a secret, itself or by a file.
fn secret(key: &str) -> std::io::Result<Option<String>> {
    if let Some(path) = std::env::var_os(file_variable(key)) {
        return std::fs::read_to_string(path).map(|text| Some(text.trim().to_owned()));
    }
    Ok(std::env::var(variable(key)).ok())
}

/// A secret is text, whatever it looks like; keys are a list.
fn value(key: &str, text: &str) -> Value {
    match key {
        "secrets.keys" => text.parse().expect("valid: any text is some value"),
        _ => Value::from(text),
    }
}

/// What is wrong with a configuration.
#[derive(Default)]
struct Faults {
    told: Vec<String>,
    /// Keys that were left out as unreadable.
    misread: Vec<String>,
}

impl Faults {
    fn misread(&mut self, key: String, fault: String) {
        self.misread.push(key);
        self.told.push(fault);
    }

    /// Rules that the rest breaks; what was left out is not missing too.
    fn broken_rules(&mut self, faults: Vec<String>) {
        let names = |fault: &str, key: &str| {
            let mut words = fault.split(|c: char| !(c.is_ascii_alphanumeric() || "._".contains(c)));
            words.any(|word| word.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        };
        let is_new = |fault: &String| !self.misread.iter().any(|key| names(fault, key));
        self.told.extend(faults.into_iter().filter(is_new));
    }
}

/// Reads all that can be read.
fn read(layers: &Figment, faults: &mut Faults) -> Config {
    let mut value: Value = match layers.extract() {
        Ok(value) => value,
        Err(error) => {
            faults.misread(String::new(), error.to_string());
            return Config::default();
        }
    };
    loop {
        match value.deserialize::<Config>() {
            Ok(config) => return config,
            // One at a time is told. What it is about is taken away, a list as a whole, and the rest read again.
            Err(error) => {
                let is_name = |name: &&String| name.parse::<usize>().is_err();
                let path: Vec<String> = error.path.iter().take_while(is_name).cloned().collect();
                faults.misread(path.join("."), fault(&error.path.join("."), &error.kind));
                if !remove(&mut value, &path) {
                    return Config::default();
                }
            }
        }
    }
}

fn fault(key: &str, kind: &Kind) -> String {
    let is_secret = FROM_FILES.iter().any(|secret| key.starts_with(secret));
    let told = match kind {
        Kind::UnknownField(_, known) => format!("{key} is no key; there are {}", known.join(", ")),
        Kind::MissingField(name) => format!("{key}.{name} is missing"),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if is_secret => {
            format!("{key}: expected {expected}")
        }
        _ if is_secret => format!("{key} cannot be read"),
        kind => format!("{key}: {kind}"),
    };
    if is_set(key) { format!("{told} ({})", variable(key)) } else { told }
}

/// Takes away what stands at a path; tells whether anything did.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let (Some((key, rest)), Value::Dict(_, entries)) = (path.split_first(), value) else { return false };
    match rest {
        [] => entries.remove(key).is_some(),
        rest => entries.get_mut(key).is_some_and(|inner| remove(inner, rest)),
    }
}

/// Section `[telemetry]` alone, for the logs, which begin before everything else. [`load`] reports its faults.
pub fn telemetry(file: Option<&Path>) -> Telemetry {
    let section = layers(file).ok().and_then(|layers| layers.extract_inner("telemetry").ok());
    let section: Telemetry = section.unwrap_or_default();
    let mut faults = Vec::new();
    section.faults(&mut faults);
    if faults.is_empty() { section } else { Telemetry::default() }
}

/// All layers but the secrets that variables give.
///
/// # Errors
/// A file that cannot be read or is no TOML; the text of the line is not told, for it may be a secret's.
fn layers(file: Option<&Path>) -> anyhow::Result<Figment> {
    let mut layers = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        if let Err(error) = toml::from_str::<toml::Table>(&text) {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            bail!("{}: line {line}: {}", file.display(), error.message());
        }
        layers = layers.merge(Toml::string(&text));
    }
    let apart = FROM_FILES.iter().flat_map(|key| [variable(key), file_variable(key)]);
    let apart: Vec<String> = apart.map(|name| name[PREFIX.len()..].to_owned()).collect();
    let variables =
        Env::prefixed(PREFIX).filter(move |key| !apart.iter().any(|name| name.eq_ignore_ascii_case(key.as_str())));
    Ok(layers.merge(variables.split("__")))
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
