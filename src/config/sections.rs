//! The sections of the configuration, with their defaults and their rules.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    auth::{
        jwt::{self, JwtIssuer},
        tls::Tls,
    },
    call_guard::{self, MAX_TOKEN},
    config::key_bytes,
    model::{
        page::PageLimits,
        password::Lengths,
        password_hash::HashParameters,
        rate_limit::{
            CODE_WRONG_DAY, CodeLimits, NOTICE_DAY, NOTICE_HOUR, PasswordLimits, SEND_ADDRESS_HOUR,
            SEND_COOLDOWN, SEND_USER_DAY, SEND_USER_HOUR, Window,
        },
        username,
    },
    notify::transport::smtp,
};

/// A text that no log and no print shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Section `[database]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `postgres://user:password@host:port/name`, with `?sslmode=require` for TLS.
    pub url: Secret,
    /// The same database without a pooler, for the one connection that listens; `url` where it is
    /// absent.
    pub listen_url: Option<Secret>,
    /// Most connections of one replica.
    pub pool_size: u32,
    /// Certificates to trust besides the machine's own, in PEM.
    pub ca_file: Option<PathBuf>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            listen_url: None,
            pool_size: 16,
            ca_file: None,
        }
    }
}

/// Section `[grpc]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Where the port listens.
    pub address: SocketAddr,
    /// Whether reflection answers, which needs no token.
    pub reflection: bool,
    /// Whether large responses are compressed for callers that accept gzip or zstd. Compressed
    /// requests are always accepted.
    pub compression: bool,
    /// TLS at the port; without it, none.
    pub tls: Option<Tls>,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 50051)),
            reflection: true,
            compression: true,
            tls: None,
        }
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    pub id: String,
    /// 32 bytes in base64.
    pub key: Secret,
}

/// Section `[auth]`: who may call besides those with tokens of our own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// A token with every scope, for the first call of a deployment.
    pub bootstrap_token: Option<Secret>,
    /// The maximum length of a token of any kind, in bytes.
    pub max_token_bytes: usize,
    /// Issuers of signed tokens.
    pub issuers: Vec<JwtIssuer>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            bootstrap_token: None,
            max_token_bytes: jwt::MAX_BYTES,
            issuers: Vec::new(),
        }
    }
}

/// Section `[tokens]`: the longest lifetimes of opaque tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// The longest lifetime of a user token.
    pub user_max_days: u32,
    /// The longest lifetime of a service token.
    pub service_max_days: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            user_max_days: 90,
            service_max_days: 365,
        }
    }
}

/// Section `[pages]`: pages of profiles and tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pages {
    /// Items on a page if the request names no size.
    pub default_size: u32,
    /// The maximum number of items on a page; a larger size is reduced to it.
    pub max_size: u32,
    /// How long a page token can be used, in days.
    pub token_days: u32,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            default_size: 20,
            max_size: 1_000,
            token_days: 3,
        }
    }
}

/// Section `[deadlines]`: how long a call may take if its caller sets no shorter deadline. An
/// import has no limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// For every method but the following, in seconds.
    pub call_seconds: u32,
    /// For BulkUpdateFields, in seconds.
    pub bulk_seconds: u32,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            call_seconds: 10,
            bulk_seconds: 20,
        }
    }
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
        Self {
            cache_seconds: 5,
            wait_seconds: 30,
        }
    }
}

/// Section `[accounts]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accounts {
    /// How long a username, email or phone that a user token released stays reserved for that user;
    /// 0 disables it.
    pub release_hold_days: u32,
    /// How long an unverified address that is a user's only login method can't be claimed by
    /// another user who proves it.
    pub unverified_hold_days: u32,
    /// Minimum length of a username, in characters.
    pub username_min_length: usize,
    /// Maximum length of a username, in characters.
    pub username_max_length: usize,
    /// The symbols that a username may contain besides letters, combining marks and digits.
    pub username_symbols: String,
    /// Usernames that are reserved, with all that look the same.
    pub reserved_usernames: Vec<String>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            release_hold_days: 30,
            unverified_hold_days: 30,
            username_min_length: 6,
            username_max_length: 32,
            username_symbols: username::SYMBOLS.to_owned(),
            reserved_usernames: username::RESERVED
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        }
    }
}

/// Section `[codes]`: verification codes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Codes {
    /// How long a code can be used, in seconds.
    pub lifetime_seconds: u32,
    /// Attempts per code.
    pub attempts: u32,
    /// Wrong codes per day, user and purpose.
    pub wrong_per_day: u32,
    /// Seconds between two codes of one user, channel and purpose.
    pub cooldown_seconds: u32,
    /// Codes sent per hour and user.
    pub user_sends_per_hour: u32,
    /// Codes sent per day and user.
    pub user_sends_per_day: u32,
    /// BIND codes sent per hour and address, over all callers.
    pub address_sends_per_hour: u32,
}

impl Default for Codes {
    fn default() -> Self {
        Self {
            lifetime_seconds: 600,
            attempts: 5,
            wrong_per_day: 10,
            cooldown_seconds: 60,
            user_sends_per_hour: 6,
            user_sends_per_day: 20,
            address_sends_per_hour: 3,
        }
    }
}

/// Section `[email_change]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmailChange {
    /// Whether a verified email is replaced only with the code that was sent to it.
    pub require_current_code: bool,
}

impl Default for EmailChange {
    fn default() -> Self {
        Self {
            require_current_code: true,
        }
    }
}

/// Section `[passwords]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passwords {
    /// Threads that hash; without it, half of the cores.
    pub threads: Option<usize>,
    /// Passwords that users can't choose, one per line.
    pub blocklist_file: Option<PathBuf>,
    /// Minimum length of a new login password, in characters.
    pub min_length: u32,
    /// Minimum length of a new wallet password, in characters.
    pub wallet_min_length: u32,
    /// Maximum length of a new password, in characters.
    pub max_length: u32,
    /// Wrong attempts per account and secret; with VerifyPassword, per client.
    pub wrong_attempts: u32,
    /// The seconds within which they count.
    pub wrong_attempts_seconds: u32,
    /// Wrong attempts per hour and account over all clients of VerifyPassword.
    pub account_attempts_per_hour: u32,
    /// Wrong attempts per hour and client of VerifyPassword over all accounts.
    pub client_attempts_per_hour: u32,
    /// How many clients that logged in are remembered per account.
    pub known_clients: u32,
    /// How many days they are remembered after their last login.
    pub known_client_days: u32,
    /// Memory of a new hash (Argon2id), in KiB. Older hashes are upgraded at the next login.
    pub argon2_memory_kib: u32,
    /// Passes over that memory.
    pub argon2_iterations: u32,
    /// Lanes of a new hash.
    pub argon2_lanes: u32,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            threads: None,
            blocklist_file: None,
            min_length: 8,
            wallet_min_length: 6,
            max_length: 128,
            wrong_attempts: 5,
            wrong_attempts_seconds: 900,
            account_attempts_per_hour: 50,
            client_attempts_per_hour: 100,
            known_clients: 20,
            known_client_days: 90,
            argon2_memory_kib: 19_456,
            argon2_iterations: 2,
            argon2_lanes: 1,
        }
    }
}

/// Section `[mail]`. Without `smtp` and `folder` mails fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// Who mails are from, `Name <user@domain>`.
    pub from: String,
    /// The application's name in mails where a request gives none.
    pub app_name: String,
    /// Texts that override the built-in ones, or add languages.
    pub templates: Option<PathBuf>,
    pub smtp: Option<Smtp>,
    /// Mails are kept as files here instead, for development.
    pub folder: Option<PathBuf>,
    /// Security notices per hour and account; further changes are summarized in one message.
    pub notices_per_hour: u32,
    /// Security notices per day and account.
    pub notices_per_day: u32,
    /// How long a message is one replica's. Where that one dies, another sends the message after
    /// this time; a send takes half of it at most.
    pub lease_seconds: u32,
}

impl Default for Mail {
    fn default() -> Self {
        let (from, app_name) = (
            "user-service <no-reply@localhost>".to_owned(),
            "user-service".to_owned(),
        );
        Self {
            from,
            app_name,
            templates: None,
            smtp: None,
            folder: None,
            notices_per_hour: 5,
            notices_per_day: 20,
            lease_seconds: 60,
        }
    }
}

/// Section `[mail.smtp]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Smtp {
    pub host: String,
    /// Without it, the usual one of `tls`.
    pub port: Option<u16>,
    pub tls: smtp::Tls,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Certificates to trust besides the machine's own, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The name that EHLO gives to the relay; by default the host name of the machine.
    pub hello_name: Option<String>,
}

/// Section `[sms]`. Without `url` and `log` text messages fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sms {
    /// The webhook that sends text messages.
    pub url: Option<String>,
    /// What requests to it are signed with.
    pub secret: Option<Secret>,
    /// Certificates to trust besides the machine's own, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Writes text messages to stderr instead, for development.
    pub log: bool,
    /// Country codes, without a plus sign, that text messages may be sent to; an empty list allows
    /// all.
    pub allowed_country_codes: Vec<String>,
    /// The maximum number of text messages of the deployment per day; 0 for no limit.
    pub daily_cap: u32,
}

impl Default for Sms {
    fn default() -> Self {
        let (url, secret, ca_file) = (None, None, None);
        Self {
            url,
            secret,
            ca_file,
            log: false,
            allowed_country_codes: Vec::new(),
            daily_cap: 10_000,
        }
    }
}

/// Section `[operations]`: what those who run the service look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operations {
    /// Where `/livez`, `/readyz` and `/metrics` are, over HTTP without TLS; without it, nowhere.
    pub address: Option<SocketAddr>,
    /// Connections to that port, which don't count as connections of callers; the oldest is closed
    /// to make room for a new one.
    pub connections: usize,
    /// Between two pings of the database. Health is lost after three that fail, and back after one.
    pub ping_seconds: u64,
    /// How long new calls are still taken after the stop was asked for, until every balancer has
    /// heard of it.
    pub drain_seconds: u64,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            address: None,
            connections: 32,
            ping_seconds: 5,
            drain_seconds: 5,
        }
    }
}

/// Section `[telemetry]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The form of the log on stderr.
    pub log_format: LogFormat,
    /// The collector that takes traces and metrics over OTLP's gRPC, for example
    /// `http://collector:4317`; without it, none are sent.
    pub otlp_endpoint: Option<String>,
}

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Database {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        if self.url.0.is_empty() {
            errors.push("database.url is missing".to_owned());
        } else if !crate::store::connector::is_url(&self.url.0) {
            // What is wrong with it may be told by a part of the password.
            errors.push(
                "database.url must be postgres://user:password@host:port/name?option=value"
                    .to_owned(),
            );
        }
        if self
            .listen_url
            .as_ref()
            .is_some_and(|url| !crate::store::connector::is_url(&url.0))
        {
            errors.push(
                "database.listen_url is no postgres://user:password@host:port/name?option=value"
                    .to_owned(),
            );
        }
        if self.pool_size == 0 {
            errors.push("database.pool_size must be at least 1".to_owned());
        }
    }
}

impl Grpc {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        errors.extend(self.tls.iter().flat_map(|tls| tls.errors("grpc.tls")));
    }
}

impl Secrets {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        if self.keys.is_empty() {
            errors.push("secrets.keys must contain at least one key".to_owned());
        }
        for (place, key) in self.keys.iter().enumerate() {
            if key_bytes(&key.key.0).is_none() {
                errors.push(format!(
                    "secrets.keys.{place}.key must be 32 bytes in base64"
                ));
            }
            if key.id.is_empty()
                || self.keys[..place]
                    .iter()
                    .any(|earlier| earlier.id == key.id)
            {
                errors.push(format!("secrets.keys.{place}.id is empty or duplicate"));
            }
        }
    }
}

impl Auth {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        if let Some(Secret(token)) = &self.bootstrap_token
            && let Err(why) = crate::auth::bootstrap::Bootstrap::parse(token)
        {
            errors.push(format!("auth.bootstrap_token: {why}"));
        }
        if !(1024..=MAX_TOKEN).contains(&self.max_token_bytes) {
            errors.push(format!("auth.max_token_bytes must be 1024 to {MAX_TOKEN}"));
        }
        errors.extend(JwtIssuer::errors(&self.issuers));
    }
}

impl Tokens {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        for (key, days) in [
            ("user_max_days", self.user_max_days),
            ("service_max_days", self.service_max_days),
        ] {
            if !(1..=3650).contains(&days) {
                errors.push(format!("tokens.{key} must be 1 to 3650"));
            }
        }
    }
}

impl Pages {
    /// The limits on pages.
    pub fn limits(&self) -> PageLimits {
        PageLimits {
            default_size: i64::from(self.default_size),
            max_size: i64::from(self.max_size),
            token_lifetime: TimeDelta::days(i64::from(self.token_days)),
        }
    }

    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        let values = [
            ("default_size", self.default_size, 1..=1_000),
            ("max_size", self.max_size, 1..=1_000),
            ("token_days", self.token_days, 1..=30),
        ];
        check_bounds("pages", values, errors);
        if self.default_size > self.max_size {
            errors.push("pages.default_size must not be greater than pages.max_size".to_owned());
        }
    }
}

impl Deadlines {
    /// The deadlines of calls.
    pub fn limits(&self) -> call_guard::Deadlines {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        call_guard::Deadlines {
            call: seconds(self.call_seconds),
            bulk: seconds(self.bulk_seconds),
        }
    }

    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        let values = [
            ("call_seconds", self.call_seconds, 1..=60),
            ("bulk_seconds", self.bulk_seconds, 1..=60),
        ];
        check_bounds("deadlines", values, errors);
    }
}

impl Accounts {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        if !(1..=self.username_max_length).contains(&self.username_min_length)
            || self.username_max_length > 128
        {
            errors.push(
                "accounts.username_min_length must be at least 1, and username_max_length from there to 128".to_owned(),
            );
        }
        if self
            .username_symbols
            .chars()
            .any(|c| c.is_alphanumeric() || c.is_control())
        {
            errors.push(
                "accounts.username_symbols must hold no letters, digits or control characters"
                    .to_owned(),
            );
        }
    }
}

/// Adds an error for each value outside of its bounds.
fn check_bounds<const N: usize>(
    section: &str,
    values: [(&str, u32, RangeInclusive<u32>); N],
    errors: &mut Vec<String>,
) {
    for (key, value, bounds) in values {
        if !bounds.contains(&value) {
            errors.push(format!(
                "{section}.{key} must be between {} and {}",
                bounds.start(),
                bounds.end()
            ));
        }
    }
}

impl Codes {
    /// The limits on codes.
    pub fn limits(&self) -> CodeLimits {
        CodeLimits {
            lifetime: TimeDelta::seconds(i64::from(self.lifetime_seconds)),
            attempts: self.attempts.cast_signed(),
            cooldown: Window {
                span: TimeDelta::seconds(i64::from(self.cooldown_seconds)),
                ..SEND_COOLDOWN
            },
            user: [
                SEND_USER_DAY.with_limit(self.user_sends_per_day as usize),
                SEND_USER_HOUR.with_limit(self.user_sends_per_hour as usize),
            ],
            address: SEND_ADDRESS_HOUR.with_limit(self.address_sends_per_hour as usize),
            wrong: CODE_WRONG_DAY.with_limit(self.wrong_per_day as usize),
        }
    }

    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        let values = [
            ("lifetime_seconds", self.lifetime_seconds, 60..=3_600),
            ("attempts", self.attempts, 1..=20),
            ("wrong_per_day", self.wrong_per_day, 1..=1_000),
            ("cooldown_seconds", self.cooldown_seconds, 1..=3_600),
            ("user_sends_per_hour", self.user_sends_per_hour, 1..=1_000),
            ("user_sends_per_day", self.user_sends_per_day, 1..=1_000),
            (
                "address_sends_per_hour",
                self.address_sends_per_hour,
                1..=1_000,
            ),
        ];
        check_bounds("codes", values, errors);
    }
}

impl Passwords {
    /// The lengths of new passwords.
    pub fn lengths(&self) -> Lengths {
        Lengths {
            min: self.min_length as usize,
            wallet_min: self.wallet_min_length as usize,
            max: self.max_length as usize,
        }
    }

    /// The parameters of new hashes.
    pub fn hash_parameters(&self) -> HashParameters {
        HashParameters {
            memory_kib: self.argon2_memory_kib,
            iterations: self.argon2_iterations,
            lanes: self.argon2_lanes,
        }
    }

    /// The limits on wrong passwords.
    pub fn limits(&self) -> PasswordLimits {
        PasswordLimits {
            known_clients: i64::from(self.known_clients),
            known_for: TimeDelta::days(i64::from(self.known_client_days)),
            ..PasswordLimits::new(
                self.wrong_attempts as usize,
                TimeDelta::seconds(i64::from(self.wrong_attempts_seconds)),
                self.account_attempts_per_hour as usize,
                self.client_attempts_per_hour as usize,
            )
        }
    }

    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        let values = [
            ("min_length", self.min_length, 6..=64),
            ("wallet_min_length", self.wallet_min_length, 4..=64),
            ("max_length", self.max_length, 64..=1024),
            ("wrong_attempts", self.wrong_attempts, 1..=100),
            (
                "wrong_attempts_seconds",
                self.wrong_attempts_seconds,
                60..=86_400,
            ),
            (
                "account_attempts_per_hour",
                self.account_attempts_per_hour,
                1..=10_000,
            ),
            (
                "client_attempts_per_hour",
                self.client_attempts_per_hour,
                1..=1_000_000,
            ),
            ("known_clients", self.known_clients, 0..=1_000),
            ("known_client_days", self.known_client_days, 1..=3_650),
            ("argon2_memory_kib", self.argon2_memory_kib, 7_168..=262_144),
            ("argon2_iterations", self.argon2_iterations, 1..=10),
            ("argon2_lanes", self.argon2_lanes, 1..=4),
        ];
        check_bounds("passwords", values, errors);
        if self
            .threads
            .is_some_and(|threads| !(1..=256).contains(&threads))
        {
            errors.push("passwords.threads must be between 1 and 256".to_owned());
        }
        if let Some(file) = &self.blocklist_file
            && let Err(error) = std::fs::read_to_string(file)
        {
            errors.push(format!(
                "passwords.blocklist_file: cannot read {}: {error}",
                file.display()
            ));
        }
    }
}

impl Mail {
    /// The limits on security notices.
    pub fn notice_limits(&self) -> [Window; 2] {
        [
            NOTICE_DAY.with_limit(self.notices_per_day as usize),
            NOTICE_HOUR.with_limit(self.notices_per_hour as usize),
        ]
    }

    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        if let Err(why) = crate::notify::transport::Sender::parse(&self.from) {
            errors.push(format!("mail.from: {why}"));
        }
        let values = [
            ("notices_per_hour", self.notices_per_hour, 1..=1_000),
            ("notices_per_day", self.notices_per_day, 1..=1_000),
        ];
        check_bounds("mail", values, errors);
        if self.lease_seconds == 0 {
            errors.push("mail.lease_seconds must be at least 1".to_owned());
        }
        if self.smtp.as_ref().is_some_and(|smtp| smtp.host.is_empty()) {
            errors.push("mail.smtp.host is missing".to_owned());
        } else if self
            .smtp
            .as_ref()
            .is_some_and(|smtp| !smtp::is_host(&smtp.host))
        {
            let why = "without a scheme, a port or a path; the port is mail.smtp.port";
            errors.push(format!(
                "mail.smtp.host must be a host name or an IP address, {why}"
            ));
        }
        let hello = self
            .smtp
            .as_ref()
            .and_then(|smtp| smtp.hello_name.as_deref());
        if hello.is_some_and(|name| !smtp::is_host(name)) {
            errors.push("mail.smtp.hello_name must be a host name".to_owned());
        }
        if self.smtp.is_some() && self.folder.is_some() {
            errors.push("mail.smtp and mail.folder are mutually exclusive".to_owned());
        }
        if let Some(smtp) = &self.smtp
            && smtp.username.is_some() != smtp.password.is_some()
        {
            errors
                .push("mail.smtp.username and mail.smtp.password must be set together".to_owned());
        }
    }
}

impl Sms {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        if self.url.is_some() != self.secret.is_some() {
            errors.push("sms.url and sms.secret must be set together".to_owned());
        }
        if self.url.is_some() && self.log {
            errors.push("sms.url and sms.log are mutually exclusive".to_owned());
        }
        let is_code = |code: &String| {
            (1..=7).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !self.allowed_country_codes.iter().all(is_code) {
            errors.push(
                "sms.allowed_country_codes must be digits without a plus sign, such as \"86\""
                    .to_owned(),
            );
        }
    }
}

impl Operations {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        if !(1..=10_000).contains(&self.connections) {
            errors.push("operations.connections must be between 1 and 10000".to_owned());
        }
        if self.ping_seconds == 0 {
            errors.push("operations.ping_seconds must be at least 1".to_owned());
        }
    }
}

impl Telemetry {
    pub(super) fn errors(&self, errors: &mut Vec<String>) {
        let is_url = |text: &String| {
            url::Url::parse(text)
                .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
        };
        if !self.otlp_endpoint.as_ref().is_none_or(is_url) {
            errors.push(
                "telemetry.otlp_endpoint must be a URL like http://collector:4317".to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_outside_of_their_bounds_are_named() {
        let mut errors = Vec::new();
        let codes = Codes {
            lifetime_seconds: 59,
            attempts: 0,
            wrong_per_day: 1_001,
            ..Codes::default()
        };
        codes.errors(&mut errors);
        Pages {
            default_size: 20,
            max_size: 10,
            token_days: 31,
        }
        .errors(&mut errors);
        Deadlines {
            call_seconds: 0,
            bulk_seconds: 61,
        }
        .errors(&mut errors);
        let passwords = Passwords {
            argon2_memory_kib: 1_024,
            argon2_lanes: 5,
            ..Passwords::default()
        };
        passwords.errors(&mut errors);
        let mail = Mail {
            notices_per_day: 0,
            ..Mail::default()
        };
        mail.errors(&mut errors);

        assert_eq!(
            errors,
            [
                "codes.lifetime_seconds must be between 60 and 3600",
                "codes.attempts must be between 1 and 20",
                "codes.wrong_per_day must be between 1 and 1000",
                "pages.token_days must be between 1 and 30",
                "pages.default_size must not be greater than pages.max_size",
                "deadlines.call_seconds must be between 1 and 60",
                "deadlines.bulk_seconds must be between 1 and 60",
                "passwords.argon2_memory_kib must be between 7168 and 262144",
                "passwords.argon2_lanes must be between 1 and 4",
                "mail.notices_per_day must be between 1 and 1000",
            ]
        );
    }
}
