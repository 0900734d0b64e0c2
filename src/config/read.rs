//! Reading the layers: a TOML file, variables, and files that variables name.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use anyhow::{Context, bail};
use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Serialized, Toml},
    value::Value,
};

use super::Config;

const PREFIX: &str = "USER_SERVICE__";

/// Keys whose value may stand in a file that a variable with `_FILE` at its end names.
pub const FROM_FILES: &[&str] = &[
    "database.url",
    "database.listen_url",
    "secrets.keys",
    "auth.bootstrap_token",
    "mail.smtp.password",
    "sms.secret",
];

/// The variable of a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The variable that names the file of a key.
fn file_variable(key: &str) -> String {
    format!("{}_FILE", variable(key))
}

/// The value of a variable, in whatever case its name is written.
fn environment(name: &str) -> Option<OsString> {
    let is_it = |found: &OsStr| {
        found
            .to_str()
            .is_some_and(|found| found.eq_ignore_ascii_case(name))
    };
    std::env::vars_os().find_map(|(found, value)| is_it(&found).then_some(value))
}

/// Whether a variable, or one that names a file, sets this key.
pub fn is_set(key: &str) -> bool {
    environment(&variable(key)).is_some() || environment(&file_variable(key)).is_some()
}

/// Reads all layers, and returns what is wrong with them. No error shows the value of a secret.
///
/// # Errors
/// A file that is no TOML.
pub fn inspect(file: Option<&Path>) -> anyhow::Result<(Config, Vec<String>)> {
    let mut errors = Errors::default();
    let mut layers = layers(file)?;
    for key in FROM_FILES {
        match secret(key) {
            Ok(Some(text)) => layers = layers.merge((*key, value(key, &text))),
            Ok(None) => {}
            Err(error) => errors.misread((*key).to_owned(), error),
        }
    }
    let config = match read(&layers, &mut errors) {
        Some(config) => {
            errors.broken_rules(config.errors());
            config
        }
        None => Config::default(),
    };
    Ok((config, errors.told))
}

/// What is wrong with a configuration.
#[derive(Default)]
struct Errors {
    told: Vec<String>,
    /// Keys that were left out as unreadable.
    misread: Vec<String>,
}

impl Errors {
    fn misread(&mut self, key: String, error: String) {
        self.misread.push(key);
        self.told.push(error);
    }

    /// Rules that the rest breaks; what was left out is not missing too.
    fn broken_rules(&mut self, errors: Vec<String>) {
        let names = |error: &str, key: &str| {
            let mut words = error.split(|c: char| !(c.is_ascii_alphanumeric() || "._".contains(c)));
            words.any(|word| {
                word.strip_prefix(key)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let is_new = |error: &String| !self.misread.iter().any(|key| names(error, key));
        self.told.extend(errors.into_iter().filter(is_new));
    }
}

/// Reads all that can be read; `None` where nothing can.
fn read(layers: &Figment, errors: &mut Errors) -> Option<Config> {
    let mut value: Value = match layers.extract() {
        Ok(value) => value,
        Err(error) => {
            errors.misread(String::new(), error.to_string());
            return None;
        }
    };
    loop {
        match value.deserialize::<Config>() {
            Ok(config) => return Some(config),
            // serde reports one error at a time. Its value is removed, a list as a whole, and the
            // rest read again.
            Err(error) => {
                let is_name = |name: &&String| name.parse::<usize>().is_err();
                let path: Vec<String> = error.path.iter().take_while(is_name).cloned().collect();
                errors.misread(path.join("."), describe(&error.path.join("."), &error.kind));
                if !remove(&mut value, &path) {
                    return None;
                }
            }
        }
    }
}

fn describe(key: &str, kind: &Kind) -> String {
    // A value in the place of a section may be a secret too.
    let is_secret = FROM_FILES
        .iter()
        .any(|secret| key.starts_with(secret) || secret.starts_with(&format!("{key}.")));
    let told = match kind {
        Kind::UnknownField(_, known) => {
            format!("unknown key {key}; valid keys: {}", known.join(", "))
        }
        Kind::MissingField(name) => format!("{key}.{name} is missing"),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if is_secret => {
            format!("{key}: expected {expected}")
        }
        _ if is_secret => format!("{key} cannot be read"),
        Kind::UnknownVariant(found, known) => {
            format!(
                "{key}: unknown value `{found}`; valid values: {}",
                known.join(", ")
            )
        }
        kind => format!("{key}: {kind}"),
    };
    match [variable(key), file_variable(key)]
        .into_iter()
        .find(|name| environment(name).is_some())
    {
        Some(name) => format!("{told} ({name})"),
        None => told,
    }
}

/// Removes the value at a path; returns whether there was one.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let (Some((key, rest)), Value::Dict(_, entries)) = (path.split_first(), value) else {
        return false;
    };
    match rest {
        [] => entries.remove(key).is_some(),
        rest => entries
            .get_mut(key)
            .is_some_and(|inner| remove(inner, rest)),
    }
}

/// The text that a variable gives a secret, itself or by a file.
///
/// # Errors
/// A sentence for the report.
fn secret(key: &str) -> Result<Option<String>, String> {
    let (name, file) = (variable(key), file_variable(key));
    let text = match (environment(&file), environment(&name)) {
        (Some(path), _) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the file in {file}: {error}"))?,
        (None, Some(value)) => value
            .into_string()
            .map_err(|_| format!("{name} is not valid UTF-8"))?,
        (None, None) => return Ok(None),
    };
    Ok(Some(text.trim().to_owned()))
}

/// A secret is text, in quotes or not, whatever it looks like; keys are a list.
fn value(key: &str, text: &str) -> Value {
    match (key, text.parse().expect("valid: any text is some value")) {
        ("secrets.keys", value) | (_, value @ Value::String(..)) => value,
        _ => Value::from(text),
    }
}

/// All layers but the secrets that variables give.
///
/// # Errors
/// A file that cannot be read or is no TOML; the text of the line is not told, for it may be a
/// secret's.
pub(super) fn layers(file: Option<&Path>) -> anyhow::Result<Figment> {
    let mut layers = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        if let Err(error) = toml::from_str::<toml::Table>(&text) {
            let line = error
                .span()
                .map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            bail!("{}: line {line}: {}", file.display(), error.message());
        }
        layers = layers.merge(Toml::string(&text));
    }
    let apart = FROM_FILES
        .iter()
        .flat_map(|key| [variable(key), file_variable(key)]);
    let apart: Vec<String> = apart.map(|name| name[PREFIX.len()..].to_owned()).collect();
    let variables = Env::prefixed(PREFIX).filter(move |key| {
        !apart
            .iter()
            .any(|name| name.eq_ignore_ascii_case(key.as_str()))
    });
    Ok(layers.merge(variables.split("__")))
}
