//! Settings that are valid, but that an operator should reconsider.

use std::{collections::HashMap, net::IpAddr};

use super::{Config, key_bytes};
use crate::{
    auth::{bootstrap::Bootstrap, jwks::Source},
    notify::transport::smtp,
    store::connector,
};

/// Minimum number of distinct bytes in a key of 32 bytes; a random key has fewer with a probability
/// below 10⁻¹⁰.
const DISTINCT_BYTES: usize = 16;
/// Minimum entropy of a bootstrap token in bits, as estimated from its characters.
const BOOTSTRAP_BITS: f64 = 80.0;

/// One sentence per warning. None contains the value of a secret.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (place, key) in config.secrets.keys.iter().enumerate() {
        if let Some(why) = key_bytes(&key.key.0).and_then(|bytes| weakness(&bytes)) {
            warnings.push(format!(
                "secrets.keys.{place}.key {why}: use 32 random bytes"
            ));
        }
    }
    if let Some(token) = &config.auth.bootstrap_token
        && Bootstrap::parse(&token.0).is_ok()
    {
        if bits(token.0.trim()) < BOOTSTRAP_BITS {
            warnings
                .push("auth.bootstrap_token can be guessed: use 32 random characters".to_owned());
        }
        warnings
            .push("auth.bootstrap_token never expires and has every scope: remove it after the first call".to_owned());
    }
    let urls = [
        ("url", Some(&config.database.url)),
        ("listen_url", config.database.listen_url.as_ref()),
    ];
    for (key, _) in urls
        .iter()
        .filter(|(_, url)| url.is_some_and(|url| connector::may_be_plain(&url.0)))
    {
        warnings.push(format!(
            "database.{key} does not require TLS to another host, which is then without it or can be made to be: add \
             ?sslmode=require"
        ));
    }
    if config
        .mail
        .smtp
        .as_ref()
        .is_some_and(|smtp| smtp.password.is_some() && smtp.tls == smtp::Tls::None)
    {
        warnings.push(
            "mail.smtp.password is sent without TLS: set mail.smtp.tls to starttls or tls"
                .to_owned(),
        );
    }
    if config.rest.cors_origins.iter().any(|origin| origin == "*") {
        warnings.push(
            "rest.cors_origins allows the pages of every site to call: name the origins".to_owned(),
        );
    }
    for issuer in &config.auth.issuers {
        if is_plain_and_remote(&issuer.jwks) {
            warnings.push(format!(
                "auth.issuers: {}: jwks is read over http from another host, and an attacker who changes it on the way signs \
                 tokens: use https",
                issuer.issuer
            ));
        }
    }
    warnings
}

/// Why a key doesn't look random.
fn weakness(key: &[u8; 32]) -> Option<&'static str> {
    if key.iter().all(|byte| *byte == 0) {
        return Some("is all zero");
    }
    let step = key[1].wrapping_sub(key[0]);
    if key
        .windows(2)
        .all(|pair| pair[1].wrapping_sub(pair[0]) == step)
    {
        return Some("is a sequence of numbers");
    }
    let distinct = key.iter().collect::<std::collections::HashSet<_>>().len();
    if distinct < DISTINCT_BYTES {
        return Some("repeats few bytes");
    }
    key.iter()
        .all(|byte| matches!(byte, b' '..=b'~'))
        .then_some("is text")
}

/// The entropy of a text in bits, if its characters were drawn with the frequencies that they have
/// in it.
fn bits(text: &str) -> f64 {
    let mut counts: HashMap<char, f64> = HashMap::new();
    text.chars()
        .for_each(|c| *counts.entry(c).or_default() += 1.0);
    let length = text.chars().count() as f64;
    counts
        .values()
        .map(|count| count * (length / count).log2())
        .sum()
}

/// Whether a key set is read over plain HTTP from another machine.
fn is_plain_and_remote(jwks: &str) -> bool {
    let Ok(Some(uri)) = Source::uri(jwks) else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    let is_local = host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("http") && !is_local
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::jwt::JwtIssuer,
        config::{Secret, SecretKey, Smtp, key_text},
    };

    fn told(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        warnings(&config).join("\n")
    }

    fn with_key(bytes: [u8; 32]) -> String {
        let key = SecretKey {
            id: "1".to_owned(),
            key: Secret(key_text(bytes)),
        };
        told(|config| config.secrets.keys = vec![key])
    }

    #[test]
    fn p58_weak_keys_are_told() {
        let sequence: [u8; 32] = std::array::from_fn(|place| place as u8);
        let few: [u8; 32] = std::array::from_fn(|place| [7, 200, 31][place % 3]);
        for (weak, why) in [
            ([0; 32], "all zero"),
            ([9; 32], "sequence"),
            (sequence, "sequence"),
            (few, "few bytes"),
            (*b"correct horse battery staple 123", "text"),
        ] {
            assert!(with_key(weak).contains(why), "{why}: {}", with_key(weak));
        }
        assert_eq!(with_key(crate::model::token::hash("a random one")), "");
    }

    #[test]
    fn p58_a_bootstrap_token_is_told_of_as_long_as_it_is_there() {
        let with = |token: &str| {
            told(|config| config.auth.bootstrap_token = Some(Secret(token.to_owned())))
        };
        let strong = with("kT3vYw9QpL0sXz7Rb2NhUc5MfJd8GaEo");
        assert!(
            strong.contains("remove it") && !strong.contains("guessed"),
            "{strong}"
        );
        for weak in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abababababababababababab",
            "0123456789abcdef",
        ] {
            assert!(with(weak).contains("guessed"), "{weak}");
            assert!(!with(weak).contains(weak));
        }
    }

    #[test]
    fn p58_keys_of_an_issuer_over_http_from_another_host_are_told() {
        let with = |jwks: &str| {
            let issuer = JwtIssuer {
                issuer: "https://id.example.com".to_owned(),
                jwks: jwks.to_owned(),
                ..Default::default()
            };
            told(|config| config.auth.issuers = vec![issuer])
        };
        for plain in [
            "http://id.example.com/jwks",
            "http://10.0.0.7/jwks",
            "http://localhost.example.com/",
        ] {
            assert!(with(plain).contains("use https"), "{plain}");
        }
        for fine in [
            "https://id.example.com/jwks",
            "http://127.0.0.1:8080/jwks",
            "http://[::1]/",
            "http://localhost/",
            "keys.json",
        ] {
            assert_eq!(with(fine), "", "{fine}");
        }
    }
    #[test]
    fn p58_a_database_on_another_host_without_required_tls_is_told() {
        let with = |url: &str| told(|config| config.database.url = Secret(url.to_owned()));
        for plain in [
            "postgres://me:hidden@db/users",
            "postgres://me:hidden@10.0.0.7/users?sslmode=prefer",
            "postgres://me:hidden@db/users?sslmode=disable",
            "postgres://me:hidden@localhost,db/users",
            "postgres://me:hidden@localhost/users?hostaddr=10.0.0.7",
        ] {
            let told = with(plain);
            assert!(
                told.contains("database.url") && !told.contains("hidden"),
                "{plain}: {told}"
            );
        }
        for fine in [
            "postgres://me@db/users?sslmode=require",
            "postgres://me@db/users?sslmode=verify-full",
            "postgres://me@localhost/users",
            "postgres://me@127.0.0.1:5432/users",
            "postgres://me@[::1]/users",
            "host=/run/postgresql user=me",
            "",
        ] {
            assert_eq!(with(fine), "", "{fine}");
        }
    }

    #[test]
    fn p58_a_password_to_a_relay_without_tls_is_told() {
        let with = |tls, password: Option<&str>| {
            let password = password.map(|password| Secret(password.to_owned()));
            told(|config| {
                config.mail.smtp = Some(Smtp {
                    tls,
                    password,
                    ..Smtp::default()
                })
            })
        };
        assert!(with(smtp::Tls::None, Some("hidden")).contains("mail.smtp.password"));
        assert!(!with(smtp::Tls::None, Some("hidden")).contains("hidden"));
        assert_eq!(with(smtp::Tls::None, None), "");
        for fine in [smtp::Tls::StartTls, smtp::Tls::Tls] {
            assert_eq!(with(fine, Some("hidden")), "");
        }
    }

    #[test]
    fn p58_an_open_cors_list_is_told() {
        let with = |origin: &str| told(|config| config.rest.cors_origins = vec![origin.to_owned()]);
        assert!(with("*").contains("rest.cors_origins"));
        assert_eq!(with("https://app.example.com"), "");
    }
}
