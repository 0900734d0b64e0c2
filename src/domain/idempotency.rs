//! Requests that count once: a repeated request id gets the first reply and changes nothing.

use std::{collections::HashSet, sync::Arc};

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{caller::Caller, db::Db, stored_bytes::StoredBytes},
    error::{Error, FieldError, Reason, Result},
    model::keys::Keys,
    model::token,
    store::idempotency::{self, RequestKey, StoredResponse},
};

/// How long a reply is kept.
pub const STORED_FOR: TimeDelta = TimeDelta::hours(24);

/// A request with an id of its own.
#[derive(Clone)]
pub struct IdempotencyKey {
    key: RequestKey,
    body: Vec<u8>,
    keys: Keys,
    clock: Clock,
    quota: Quota,
}

/// How much of its responses a caller may have stored.
#[derive(Clone)]
pub struct Quota {
    /// What all callers have stored.
    pub stored: StoredBytes,
    /// The bytes per hour of this caller.
    pub bytes_per_hour: u64,
}

impl IdempotencyKey {
    /// The request; `None` where it bears no id, or one that is no UUID or the nil UUID, which its reader reports. The
    /// body is canonical: what means the same has the same bytes.
    pub fn of(
        caller: &Caller,
        rpc: &'static str,
        request_id: &str,
        body: Vec<u8>,
        keys: &Keys,
        clock: &Clock,
        quota: Quota,
    ) -> Option<Self> {
        let request_id = Uuid::parse_str(request_id).ok().filter(|request_id| !request_id.is_nil())?;
        let key = RequestKey { request_id, caller: caller.to_string(), rpc };
        Some(Self { key, body, keys: keys.clone(), clock: clock.clone(), quota })
    }

    /// Which request it is.
    pub fn key(&self) -> &RequestKey {
        &self.key
    }

    /// The reply of the first time, if there was one.
    ///
    /// # Errors
    /// REQUEST_ID_REUSED where it came with another body.
    pub async fn stored(&self, db: &Db) -> Result<Option<Vec<u8>>> {
        let since = self.clock.now() - STORED_FOR;
        let found = db.run(async |conn| Ok(idempotency::find(conn, &[&self.key], since).await?)).await?;
        found.into_values().next().map(|kept| self.reply_of(kept)).transpose()
    }

    fn reply_of(&self, kept: StoredResponse) -> Result<Vec<u8>> {
        let is_same = self.keys.sign_with(&kept.key_id, "fingerprint", &self.body).as_ref() == Some(&kept.fingerprint);
        if is_same { Ok(kept.reply) } else { Err(reused()) }
    }

    /// The reply that a repeat of this request gets.
    ///
    /// # Errors
    /// REQUEST_ID_REUSED where it comes with another body.
    pub fn repeat(&self, repeat: &IdempotencyKey, reply: &[u8]) -> Result<Vec<u8>> {
        if self.body == repeat.body { Ok(reply.to_vec()) } else { Err(reused()) }
    }

    /// Takes the request in its transaction; gives the reply of another who came first.
    ///
    /// # Errors
    /// REQUEST_IN_PROGRESS while another runs it.
    pub async fn begin(&self, conn: &mut AsyncPgConnection) -> Result<Option<Vec<u8>>> {
        begin(conn, &[self]).await?.pop().expect("valid: one for each")
    }

    /// Keeps the reply in the transaction of the work.
    pub async fn end(&self, conn: &mut AsyncPgConnection, user_id: Option<i64>, reply: Vec<u8>) -> Result<()> {
        end(conn, vec![(self, user_id, reply)]).await
    }

    /// The id of the request's advisory lock.
    fn lock_number(&self) -> i64 {
        let RequestKey { caller, rpc, request_id } = &self.key;
        let hash = token::hash(&format!("{caller}/{rpc}/{request_id}"));
        i64::from_le_bytes(hash[..8].try_into().expect("valid: eight of 32 bytes"))
    }
}

fn reused() -> Error {
    Error::new(Reason::RequestIdReused).with_violation(
        "request_id",
        FieldError::Format,
        "was already used with a different request body",
    )
}

/// Takes requests in their transaction, as [`IdempotencyKey::begin`] does one; gives for each what it gives.
pub async fn begin(conn: &mut AsyncPgConnection, requests: &[&IdempotencyKey]) -> Result<Vec<Result<Option<Vec<u8>>>>> {
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let locked = idempotency::try_lock(conn, requests.iter().map(|once| once.lock_number()).collect()).await?;
    let keys: Vec<&RequestKey> = requests.iter().map(|once| &once.key).collect();
    let mut found = idempotency::find(conn, &keys, first.clock.now() - STORED_FOR).await?;
    let begun = requests.iter().enumerate().map(|(place, once)| match found.remove(&place) {
        _ if !locked.contains(&once.lock_number()) => Err(Error::new(Reason::RequestInProgress)),
        kept => kept.map(|kept| once.reply_of(kept)).transpose(),
    });
    Ok(begun.collect())
}

/// Keeps replies in the transaction of the work: whose data each holds, and the reply.
///
/// # Errors
/// RATE_LIMITED where a caller has too much stored, and the database's.
pub async fn end(conn: &mut AsyncPgConnection, replies: Vec<(&IdempotencyKey, Option<i64>, Vec<u8>)>) -> Result<()> {
    let Some((first, ..)) = replies.first() else { return Ok(()) };
    let now = first.clock.now();
    for (once, _, reply) in &replies {
        let Quota { stored, bytes_per_hour } = &once.quota;
        stored.add(&once.key.caller, reply.len(), *bytes_per_hour, now)?;
    }
    let kept = replies.into_iter().map(|(once, user_id, reply)| {
        let (key_id, fingerprint) = (once.keys.current().to_owned(), once.keys.sign("fingerprint", &once.body));
        (&once.key, user_id, StoredResponse { key_id, fingerprint, reply })
    });
    idempotency::insert(conn, kept.collect(), now).await?;
    Ok(())
}

/// The requests that this replica is at. A call whose proofs are counted before its transaction begins is noted here
/// first: repeats of it that come together are one try, not many.
#[derive(Clone, Default)]
pub struct InFlightRequests(Arc<Mutex<HashSet<RequestKey>>>);

/// A request under way, until this is dropped.
pub struct InFlightGuard {
    running: InFlightRequests,
    key: RequestKey,
}

impl InFlightRequests {
    /// Notes that the request is under way.
    ///
    /// # Errors
    /// REQUEST_IN_PROGRESS where it is already.
    pub fn enter(&self, once: &IdempotencyKey) -> Result<InFlightGuard> {
        let key = once.key.clone();
        let is_new = self.0.lock().insert(key.clone());
        if is_new {
            Ok(InFlightGuard { running: self.clone(), key })
        } else {
            Err(Error::new(Reason::RequestInProgress))
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.running.0.lock().remove(&self.key);
    }
}

/// A write's outcome: done now, or the kept reply of the first time.
pub enum Outcome<T> {
    New(T),
    Stored(Vec<u8>),
}
