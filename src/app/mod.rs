//! The composition root: configuration in, use cases and background work out.

mod background;
mod delivery;

pub use background::Background;

use std::time::Duration;

use anyhow::{Context, anyhow};
use chrono::TimeDelta;

use crate::{
    api::{Api, Parts},
    auth::{authenticator::Authenticator, bootstrap::Bootstrap, cache::Cache, jwt::Jwts},
    call_guard::Deadlines,
    caller_limits::CallerLimits,
    clock::Clock,
    config::Config,
    domain::{
        accounts::{Accounts, Policy},
        backfill::BackfillWorker,
        batch_loader::BatchLoader,
        bulk::Bulk,
        codes::Codes,
        db::Db,
        deliveries::Deliveries,
        fields::Fields,
        hash_kinds::HashKinds,
        housekeeping::Housekeeping,
        idempotency::{Idempotency, StoredQuotas},
        names::NamePolicy,
        page_tokens::PageTokens,
        passwords::Passwords,
        profiles::Profiles,
        texts::TextLimits,
        tokens::{MaxLifetimes, Tokens},
        users::Users,
    },
    health::Probe,
    model::{
        keys::{Key, Keys},
        password_strength::Blocklist,
        username::UsernameRules,
    },
    notify::worker::{Waker, Worker},
    store::connector::Connector,
    threads::half_of_cores,
};

/// How long the answer of a code waits for its file, in development.
const LINGER: Duration = Duration::from_millis(100);

/// The service without its transports.
#[derive(Clone)]
pub struct App {
    /// The use cases, as the transports call them.
    pub api: Api,
    /// The limits of single callers, for the transports.
    pub callers: CallerLimits,
    /// The deadlines of calls, for the transports.
    pub deadlines: Deadlines,
    /// Does the second steps of field definitions.
    pub field_worker: BackfillWorker,
    /// Removes what is old.
    pub housekeeping: Housekeeping,
    /// Sends what lies in the outbox.
    pub mail_worker: Worker,
    pub waker: Waker,
    /// Between two looks at the database.
    pub ping_every: Duration,
    fields: Fields,
    authenticator: Authenticator,
    clock: Clock,
    url: String,
    /// By which the listener connects.
    listen_url: String,
    connector: Connector,
}

impl App {
    /// What asks the database whether it is there.
    pub fn probe(&self) -> Probe {
        Probe::new(self.url.clone(), self.connector.clone())
    }
}

/// Builds the service over the configured database; nothing runs yet.
///
/// # Errors
/// What of the configuration only shows when it is used: keys, certificates, templates, issuers.
pub fn build(config: &Config, clock: Clock) -> anyhow::Result<App> {
    let keys = keys(config)?;
    let connector = Connector::new(config.database.ca_file.as_deref())?;
    let url = config.database.url.0.clone();
    let listen_url = config
        .database
        .listen_url
        .as_ref()
        .map_or_else(|| url.clone(), |url| url.0.clone());
    let db = Db::new(&url, connector.clone(), config.database.pool_size);
    let page_tokens = PageTokens::new(
        keys.clone(),
        clock.clone(),
        config.pages.limits().token_lifetime,
    );
    let fields = Fields::new(
        db.clone(),
        clock.clone(),
        Duration::from_secs(config.fields.cache_seconds),
        page_tokens.clone(),
    );
    let passwords = passwords(config)?;
    let hash_kinds = HashKinds::new(db.clone(), passwords.clone());
    let lifetimes = MaxLifetimes {
        user: TimeDelta::days(i64::from(config.tokens.user_max_days)),
        service: TimeDelta::days(i64::from(config.tokens.service_max_days)),
    };
    let tokens = Tokens::new(db.clone(), clock.clone(), lifetimes, page_tokens.clone());
    let authenticator = authenticator(config, tokens.clone(), &clock)?;
    let linger = if config.mail.folder.is_some() {
        LINGER
    } else {
        Duration::ZERO
    };
    let days = |days: u32| TimeDelta::days(i64::from(days));
    let names = NamePolicy {
        release_hold: days(config.accounts.release_hold_days),
        unverified_hold: days(config.accounts.unverified_hold_days),
    };
    let daily_cap = Some(i64::from(config.sms.daily_cap)).filter(|cap| *cap > 0);
    let texts = TextLimits::new(&config.sms.allowed_country_codes, daily_cap);
    let requires_current_code = config.email_change.require_current_code;
    let password_limits = config.passwords.limits();
    let code_limits = config.codes.limits();
    let policy = Policy {
        requires_current_code,
        names,
        texts: texts.clone(),
        password_limits,
        code_limits,
        notices: config.mail.notice_limits(),
    };
    let usernames = UsernameRules::new(
        config.accounts.username_min_length,
        config.accounts.username_max_length,
        &config.accounts.username_symbols,
        config
            .accounts
            .reserved_usernames
            .iter()
            .map(String::as_str),
    );
    let waker = Waker::default();
    let mail_worker = delivery::worker(
        config,
        db.clone(),
        clock.clone(),
        keys.clone(),
        waker.clone(),
    )?;
    let wait = TimeDelta::seconds(i64::from(config.fields.wait_seconds));
    let deliveries = Deliveries::new(db.clone(), clock.clone());
    let reads = BatchLoader::new(&url, &connector);
    let quotas = StoredQuotas {
        service: u64::from(config.callers.service_stored_mib) * 1024 * 1024,
        user: u64::from(config.callers.user_stored_mib) * 1024 * 1024,
    };
    let api = Api::new(Parts {
        accounts: Accounts::new(
            db.clone(),
            clock.clone(),
            keys.clone(),
            (passwords.clone(), hash_kinds.clone()),
            policy,
        ),
        authenticator: authenticator.clone(),
        bulk: Bulk::new(
            db.clone(),
            clock.clone(),
            reads.clone(),
            page_tokens.clone(),
        ),
        codes: Codes::new(
            db.clone(),
            clock.clone(),
            keys.clone(),
            deliveries.clone(),
            texts,
            code_limits,
            linger,
        ),
        deliveries,
        fields: fields.clone(),
        passwords,
        hash_kinds,
        password_lengths: config.passwords.lengths(),
        pages: config.pages.limits(),
        profiles: Profiles::new(db.clone(), clock.clone(), reads, page_tokens),
        tokens,
        users: Users::new(db.clone(), clock.clone(), names),
        usernames,
        db: db.clone(),
        clock: clock.clone(),
        idempotency: Idempotency::new(db.clone(), clock.clone(), keys, quotas),
    });
    let housekeeping = Housekeeping::new(
        db.clone(),
        clock.clone(),
        config.passwords.limits().known_for,
    );
    let field_worker = BackfillWorker::new(db, clock.clone(), wait);
    let ping_every = Duration::from_secs(config.operations.ping_seconds);
    Ok(App {
        api,
        callers: CallerLimits::new(&config.callers),
        deadlines: config.deadlines.limits(),
        field_worker,
        housekeeping,
        mail_worker,
        waker,
        ping_every,
        fields,
        authenticator,
        clock,
        url,
        listen_url,
        connector,
    })
}

fn passwords(config: &Config) -> anyhow::Result<Passwords> {
    let list = match &config.passwords.blocklist_file {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("passwords.blocklist_file: cannot read {}", file.display()))?,
        None => String::new(),
    };
    let blocklist = Blocklist::new(&["user-service", &config.mail.app_name], &list);
    let threads = config.passwords.threads.unwrap_or_else(half_of_cores);
    Passwords::new(threads, blocklist, config.passwords.hash_parameters())
        .context("the threads that hash cannot be started")
}

fn keys(config: &Config) -> anyhow::Result<Keys> {
    let keys = config.secrets.keys.iter().map(|key| {
        let bytes = crate::config::key_bytes(&key.key.0)
            .context("secrets.keys: each key is 32 bytes in base64")?;
        Ok(Key {
            id: key.id.clone(),
            bytes,
        })
    });
    Ok(Keys::new(keys.collect::<anyhow::Result<Vec<_>>>()?))
}

fn authenticator(config: &Config, tokens: Tokens, clock: &Clock) -> anyhow::Result<Authenticator> {
    let jwts = Jwts::new(&config.auth.issuers, clock.clone()).map_err(crate::config::report)?;
    let max_bytes = config.auth.max_token_bytes;
    let bootstrap = config
        .auth
        .bootstrap_token
        .as_ref()
        .map(|token| Bootstrap::parse(&token.0))
        .transpose();
    let bootstrap = bootstrap.map_err(|why| anyhow!("auth.bootstrap_token: {why}"))?;
    Ok(Authenticator::new(
        tokens,
        jwts.with_max_bytes(max_bytes),
        bootstrap,
        Cache::new(clock.clone()),
    ))
}
