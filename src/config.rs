//! Configuration: defaults, then a TOML file, then `USER_SERVICE__SECTION__KEY` variables.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

use crate::rest;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub database: Database,
    pub grpc: Grpc,
    pub rest: rest::Config,
    pub secrets: Secrets,
    pub fields: Fields,
}

/// Section `[fields]`: how changes of field definitions spread over replicas.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// How old a replica's definitions may be.
    pub cache_seconds: u64,
    /// How long the second step of a change waits: the cache's age and the longest write.
    pub wait_seconds: u32,
}

impl Default for Fields {
    fn default() -> Self {
        Self { cache_seconds: 5, wait_seconds: 30 }
    }
}

/// Section `[database]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `postgres://user:password@host:port/name`.
    pub url: String,
    /// Most connections of one replica.
    pub pool_size: u32,
    /// Certificates to trust besides the machine's own, in PEM.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("url", &"***").field("pool_size", &self.pool_size).finish()
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: String::new(), pool_size: 16, ca_file: None }
    }
}

/// Section `[grpc]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Where the port listens.
    pub address: SocketAddr,
}

impl Default for Grpc {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 50051)) }
    }
}

/// Section `[secrets]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// The first signs, all verify.
    pub keys: Vec<SecretKey>,
}

/// One key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    pub id: String,
    /// 32 bytes in base64.
    pub key: String,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").field("id", &self.id).field("key", &"***").finish()
    }
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
/// One report of all faults.
pub fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    let mut layers = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = file {
        layers = layers.merge(Toml::file_exact(file));
    }
    let config: Config = layers.merge(Env::prefixed("USER_SERVICE__").split("__")).extract().map_err(|errors| {
        let lines: Vec<String> = errors.into_iter().map(|error| format!("- {error}")).collect();
        anyhow::anyhow!("the configuration has faults:\n{}", lines.join("\n"))
    })?;
    let mut faults = Vec::new();
    if config.database.url.is_empty() {
        faults.push("- database.url is missing".to_owned());
    }
    if config.database.pool_size == 0 {
        faults.push("- database.pool_size must be at least 1".to_owned());
    }
    if config.secrets.keys.is_empty() {
        faults.push("- secrets.keys is missing: it needs one key at least".to_owned());
    }
    for key in config.secrets.keys.iter().filter(|key| key_bytes(&key.key).is_none()) {
        faults.push(format!("- secrets.keys: {} is not 32 bytes in base64", key.id));
    }
    faults.extend(config.rest.faults().into_iter().map(|fault| format!("- {fault}")));
    if faults.is_empty() {
        return Ok(config);
    }
    anyhow::bail!("the configuration has faults:\n{}", faults.join("\n"))
}

/// The configuration as TOML, secrets masked.
///
/// # Errors
/// None that a configuration of ours can meet.
pub fn printed(config: &Config) -> anyhow::Result<String> {
    let mut shown = config.clone();
    if let Ok(mut url) = url::Url::parse(&shown.database.url)
        && url.password().is_some()
    {
        // Only a URL without a host refuses a password, and this one has one.
        url.set_password(Some("***")).unwrap_or_default();
        shown.database.url = url.to_string();
    }
    for key in &mut shown.secrets.keys {
        "***".clone_into(&mut key.key);
    }
    Ok(toml::to_string(&shown)?)
}
