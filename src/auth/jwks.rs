//! The keys of an issuer, from a file or URL, read again as they change.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt;

use super::jwk::{Algorithm, KeySet};
use crate::{
    clock::Clock,
    error::{Error, Reason, Result},
    telemetry::metrics,
};

/// Between two readings once there are keys.
const PAUSE: TimeDelta = TimeDelta::seconds(30);
/// Between two readings as long as there never were keys.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(2);
/// How long keys are used without a look whether the issuer has withdrawn one.
const MAX_AGE: TimeDelta = TimeDelta::minutes(5);
/// The longest that a reading may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the largest set.
const MAX_BYTES: usize = 256 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A signature to be checked.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub key_id: Option<&'a str>,
    /// The issue time in the token.
    pub issued_at: Option<DateTime<Utc>>,
    pub algorithm: Algorithm,
    pub message: &'a [u8],
    pub signature: &'a [u8],
}

impl Signed<'_> {
    fn is_by(&self, keys: &KeySet) -> bool {
        keys.verifies(self.key_id, self.algorithm, self.message, self.signature)
    }

    /// Whether the signature may be from a key that the issuer introduced after its keys were read.
    fn may_be_by_newer(&self, read_at: Option<DateTime<Utc>>) -> bool {
        self.key_id.is_some()
            && self
                .issued_at
                .is_none_or(|issued_at| read_at.is_none_or(|read_at| issued_at > read_at))
    }
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    Url(
        Uri,
        Box<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    ),
}

impl Source {
    /// A `http://` or `https://` URL, else a file; a server's certificate is checked by `tls`.
    ///
    /// # Errors
    /// A sentence for the report of the configuration.
    pub fn parse(text: &str, tls: ClientConfig) -> Result<Self, String> {
        let Some(uri) = Self::uri(text)? else {
            return Ok(Self::File(PathBuf::from(text)));
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        // Readings are far apart: a kept connection would mostly be found closed.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self::Url(uri, Box::new(client)))
    }

    /// The URL; `None` for a file.
    ///
    /// # Errors
    /// As [`Source::parse`].
    pub fn uri(text: &str) -> Result<Option<Uri>, String> {
        match text {
            "" => Err("is missing".to_owned()),
            text if !text.starts_with("http://") && !text.starts_with("https://") => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|error| format!("is no URL: {error}")),
        }
    }

    async fn read(&self) -> Result<KeySet, BoxError> {
        let document = tokio::time::timeout(TIMEOUT, self.document()).await??;
        Ok(KeySet::parse(&document)?)
    }

    async fn document(&self) -> Result<Bytes, BoxError> {
        match self {
            Self::File(path) => {
                let mut document = Vec::new();
                let file = tokio::fs::File::open(path).await?;
                file.take(MAX_BYTES as u64 + 1)
                    .read_to_end(&mut document)
                    .await?;
                if document.len() > MAX_BYTES {
                    return Err("the file is too large".into());
                }
                Ok(document.into())
            }
            Self::Url(uri, client) => {
                let response = client.get(uri.clone()).await?;
                if !response.status().is_success() {
                    return Err(format!("the answer is {}", response.status()).into());
                }
                Ok(Limited::new(response.into_body(), MAX_BYTES)
                    .collect()
                    .await?
                    .to_bytes())
            }
        }
    }
}

/// The keys of one issuer.
pub struct Jwks {
    issuer: String,
    source: Source,
    clock: Clock,
    held: Mutex<Held>,
    /// One reading at a time.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Held {
    /// The last good set.
    keys: Option<Arc<KeySet>>,
    tried_at: Option<DateTime<Utc>>,
    /// When `keys` came.
    read_at: Option<DateTime<Utc>>,
    /// Whether the last reading failed.
    is_down: bool,
}

/// Whether the caller hasn't seen this version of the keys yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    New,
    /// The keys were read too recently to read them again.
    Throttled,
}

impl Held {
    fn may_read(&self, now: DateTime<Utc>) -> bool {
        let pause = if self.keys.is_some() {
            PAUSE
        } else {
            FIRST_PAUSE
        };
        self.tried_at.is_none_or(|tried_at| now - tried_at >= pause)
    }

    fn is_old(&self, now: DateTime<Utc>) -> bool {
        self.read_at.is_some_and(|read_at| now - read_at >= MAX_AGE)
    }
}

impl Jwks {
    /// Keys of `issuer`; nothing is read before a token needs them.
    pub fn new(issuer: String, source: Source, clock: Clock) -> Self {
        Self {
            issuer,
            source,
            clock,
            held: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Checks a signature; an unknown key id has the keys read again, where the last reading is
    /// long enough ago.
    ///
    /// # Errors
    /// TOKEN_INVALID, where no key of the issuer made it. AUTH_BACKEND_UNAVAILABLE, where the keys
    /// that would tell cannot be read, or not yet again: a token that was issued after the last
    /// reading may be by a newer key.
    pub async fn check(self: &Arc<Self>, signed: Signed<'_>) -> Result<()> {
        let held = self.held();
        if let Some(keys) = &held.keys {
            let now = self.clock.now();
            if held.is_old(now) && held.may_read(now) {
                // This call does not wait for it: the keys at hand still count.
                drop(tokio::spawn(Arc::clone(self).reread(held.keys.clone())));
            }
            if signed.is_by(keys) {
                return Ok(());
            }
            if signed.key_id.is_some_and(|id| keys.knows(id)) {
                return Err(Error::new(Reason::TokenInvalid).with_source("the signature is wrong"));
            }
        }
        // A task of its own, so that a caller who leaves does not break off a reading that others
        // wait for.
        let unavailable = |why| Error::new(Reason::AuthBackendUnavailable).with_source(why);
        let (newer, freshness) = tokio::spawn(Arc::clone(self).reread(held.keys))
            .await
            .map_err(|error| Error::new(Reason::AuthBackendUnavailable).with_source(error))?;
        match newer.keys {
            Some(keys) if signed.is_by(&keys) => Ok(()),
            Some(_) if newer.is_down => Err(unavailable("the keys of the issuer cannot be read")),
            // A token that was issued before the keys were read is signed with one of them, or not
            // by the issuer.
            Some(_)
                if freshness == Freshness::Throttled && signed.may_be_by_newer(newer.read_at) =>
            {
                Err(unavailable(
                    "the key is unknown, and may be newer than the last reading of the issuer's keys",
                ))
            }
            Some(_) => Err(Error::new(Reason::TokenInvalid)
                .with_source("no key of the issuer made the signature")),
            None => Err(unavailable("the keys of the issuer cannot be read")),
        }
    }

    /// Reads the keys, unless others than `seen` are there by now or the last reading is too
    /// recent.
    async fn reread(self: Arc<Self>, seen: Option<Arc<KeySet>>) -> (Held, Freshness) {
        let _turn = self.reading.lock().await;
        let mut held = self.held();
        let is_newer = held.keys.as_ref().map(Arc::as_ptr) != seen.as_ref().map(Arc::as_ptr);
        let now = self.clock.now();
        if is_newer {
            return (held, Freshness::New);
        }
        if !held.may_read(now) {
            return (held, Freshness::Throttled);
        }
        held.tried_at = Some(now);
        self.hold(&held);
        // A set without a usable key is a mistake of the issuer: withdrawing a key leaves other
        // keys.
        let is_usable = |keys: &KeySet| !keys.is_empty() || held.keys.is_none();
        let read = match self.source.read().await {
            Ok(keys) if is_usable(&keys) => Ok(keys),
            Ok(_) => Err("the set has no key that can be used".into()),
            Err(error) => Err(error),
        };
        match read {
            Ok(keys) => {
                held.keys = Some(Arc::new(keys));
                held.read_at = Some(now);
                held.is_down = false;
            }
            Err(error) => {
                tracing::warn!(
                    jwt.issuer = self.issuer,
                    error = error.to_string(),
                    is_kept = held.keys.is_some(),
                    "failed to load the issuer's JWKS; those of the last good reading stay in use"
                );
                metrics::jwks_failure(&self.issuer);
                held.is_down = true;
            }
        }
        // The pause begins at the end, so that those who waited for a slow reading do not each
        // begin another.
        held.tried_at = Some(self.clock.now());
        self.hold(&held);
        (held, Freshness::New)
    }

    fn hold(&self, held: &Held) {
        self.held.lock().clone_from(held);
    }

    fn held(&self) -> Held {
        self.held.lock().clone()
    }
}

#[cfg(test)]
mod tests;
