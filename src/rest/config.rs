//! Section `[rest]` of the configuration.

use std::net::SocketAddr;

use axum::http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::auth::tls::Tls;

/// What the REST gateway serves, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the port listens; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// TLS at the port; without it, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Serves `/openapi.json`, and `/docs`, a page over it; neither asks for a token.
    pub docs: bool,
    /// Serves the clients of minapp.
    pub minapp: bool,
    /// Serves the clients of Fresns.
    pub fresns: bool,
    /// Serves the clients of Lancens.
    pub lancens: bool,
    /// Origins whose pages may call, for example `https://app.example.com`; `*` stands for all.
    pub cors_origins: Vec<String>,
    /// Country code, without `+`, of phone numbers that minapp's clients write without one.
    pub country_code: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: None,
            tls: None,
            docs: true,
            minapp: false,
            fresns: false,
            lancens: false,
            cors_origins: Vec::new(),
            country_code: "86".to_owned(),
        }
    }
}

impl Config {
    /// With all three older surfaces.
    pub fn with_legacy_flavors(self) -> Self {
        Self {
            minapp: true,
            fresns: true,
            lancens: true,
            ..self
        }
    }

    /// What is wrong with it, one sentence per error.
    pub fn errors(&self) -> Vec<String> {
        let mut errors: Vec<String> = self
            .tls
            .iter()
            .flat_map(|tls| tls.errors("rest.tls"))
            .collect();
        if !is_country_code(&self.country_code) {
            errors.push("rest.country_code must be one to three digits, without \"+\"".to_owned());
        }
        for origin in &self.cors_origins {
            let is_origin =
                origin == "*" || (origin.contains("://") && HeaderValue::from_str(origin).is_ok());
            if !is_origin || origin.ends_with('/') {
                errors.push(format!(
                    "rest.cors_origins: {origin:?} is not an origin such as https://app.example.com"
                ));
            }
        }
        errors
    }
}

/// Whether this is a country code without its plus sign.
pub(super) fn is_country_code(given: &str) -> bool {
    (1..=3).contains(&given.len())
        && given.bytes().all(|byte| byte.is_ascii_digit())
        && !given.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_faults_and_no_older_surface() {
        let config = Config::default();
        assert!(config.errors().is_empty() && !config.minapp && !config.fresns && !config.lancens);
    }

    #[test]
    fn faults_are_told_one_by_one() {
        let config = Config {
            country_code: "+86".to_owned(),
            cors_origins: vec![
                "app.example.com".to_owned(),
                "https://app.example.com".to_owned(),
            ],
            ..Config::default()
        };
        assert_eq!(config.errors().len(), 2);
    }
}
