//! Idempotency keys: a request that is repeated with its `request_id` gets the stored response and
//! changes nothing.
//!
//! A write with a `request_id` is a call of [`respond`], whose work runs in [`write()`], or in
//! [`transaction`] if several requests share one. No write looks up, locks or stores a response
//! itself.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
};

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;
use parking_lot::Mutex;
use prost::Message;
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{
        caller::Caller,
        db::{Db, End},
        stored_bytes::StoredBytes,
    },
    error::{Error, FieldError, Reason, Result},
    model::keys::Keys,
    model::token,
    store::idempotency::{self, RequestKey, StoredResponse},
};

/// How long a response is stored.
pub(crate) const STORED_FOR: TimeDelta = TimeDelta::hours(24);

/// The bytes of responses that one caller may have stored per hour, for its request ids.
#[derive(Clone, Copy, Debug)]
pub struct StoredQuotas {
    /// Of a service.
    pub service: u64,
    /// Of a user.
    pub user: u64,
}

/// Makes the idempotency keys of requests. Clones share what is in flight and what is stored.
#[derive(Clone)]
pub struct Idempotency(Arc<Shared>);

/// What all keys of a replica share.
struct Shared {
    db: Db,
    clock: Clock,
    keys: Keys,
    quotas: StoredQuotas,
    stored: StoredBytes,
    in_flight: Mutex<HashSet<RequestKey>>,
}

/// What a repeated request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// The stored response.
    Response,
    /// A new one: the request runs again, and its work undoes what the earlier call did.
    RunsAgain,
}

/// The idempotency key of one request, with the canonical body that a repeat must have too.
pub struct IdempotencyKey {
    key: RequestKey,
    body: Vec<u8>,
    repeat: Repeat,
    /// The quota of the caller for stored responses.
    bytes_per_hour: u64,
    shared: Arc<Shared>,
}

/// The result of a write: of this call, or the response stored by an earlier one.
#[derive(Debug)]
pub(crate) enum Outcome<T, R = T> {
    /// This call did the work.
    New(T),
    /// An earlier call with the same key did it; this one changed nothing.
    Stored(R),
}

impl<R> Outcome<R> {
    /// The response, whichever call it comes from.
    pub(crate) fn into_response(self) -> R {
        match self {
            Self::New(response) | Self::Stored(response) => response,
        }
    }
}

impl Idempotency {
    /// Keys whose responses are stored in this database, within these quotas.
    pub fn new(db: Db, clock: Clock, keys: Keys, quotas: StoredQuotas) -> Self {
        let (stored, in_flight) = (StoredBytes::default(), Mutex::default());
        Self(Arc::new(Shared {
            db,
            clock,
            keys,
            quotas,
            stored,
            in_flight,
        }))
    }

    /// The key of a request. `None` if it has no `request_id`, or one that isn't a UUID or is the
    /// nil UUID: the conversion of the request reports these. `canonical` gives the same bytes for
    /// requests with the same meaning.
    pub fn key(
        &self,
        caller: &Caller,
        rpc: &'static str,
        request_id: &str,
        canonical: impl FnOnce() -> Vec<u8>,
    ) -> Option<IdempotencyKey> {
        let request_id = Uuid::parse_str(request_id)
            .ok()
            .filter(|request_id| !request_id.is_nil())?;
        let StoredQuotas { service, user } = self.0.quotas;
        Some(IdempotencyKey {
            key: RequestKey {
                request_id,
                caller: caller.to_string(),
                rpc,
            },
            body: canonical(),
            repeat: Repeat::Response,
            bytes_per_hour: if caller.user().is_some() {
                user
            } else {
                service
            },
            shared: Arc::clone(&self.0),
        })
    }
}

impl IdempotencyKey {
    /// The key of a write whose response can't be stored, so that a repeat runs again. What the
    /// work stores instead is given to the repeat's work, by [`Responses::find`].
    pub fn that_runs_again(self) -> Self {
        Self {
            repeat: Repeat::RunsAgain,
            ..self
        }
    }

    /// The response that a repeat gets, if one is stored.
    ///
    /// # Errors
    /// REQUEST_ID_REUSED if it was stored for another body.
    async fn find_response<R: Message + Default>(&self) -> Result<Option<R>> {
        let Shared { db, clock, .. } = &*self.shared;
        let since = clock.now() - STORED_FOR;
        let found = db
            .run(async |conn| Ok(idempotency::find(conn, &[&self.key], since).await?))
            .await?;
        let stored = found
            .into_values()
            .next()
            .map(|stored| self.check(stored))
            .transpose()?;
        match self.repeat {
            Repeat::Response => stored.map(|response| decode(&response)).transpose(),
            Repeat::RunsAgain => Ok(None),
        }
    }

    /// The bytes of a stored response, which must be of the same body.
    fn check(&self, stored: StoredResponse) -> Result<Vec<u8>> {
        let signed = self
            .shared
            .keys
            .sign_with(&stored.key_id, "fingerprint", &self.body);
        if signed.as_ref() == Some(&stored.fingerprint) {
            Ok(stored.reply)
        } else {
            Err(reused())
        }
    }

    /// Marks the request as in flight on this replica.
    ///
    /// # Errors
    /// REQUEST_IN_PROGRESS if it already is.
    fn enter(&self) -> Result<InFlightGuard<'_>> {
        let is_new = self.shared.in_flight.lock().insert(self.key.clone());
        if is_new {
            Ok(InFlightGuard(self))
        } else {
            Err(Error::new(Reason::RequestInProgress))
        }
    }

    /// The number that identifies the request among the advisory locks of the database.
    fn lock_number(&self) -> i64 {
        let RequestKey {
            caller,
            rpc,
            request_id,
        } = &self.key;
        let hash = token::hash(&format!("{caller}/{rpc}/{request_id}"));
        i64::from_le_bytes(hash[..8].try_into().expect("valid: eight of 32 bytes"))
    }
}

/// A request in flight, until this is dropped.
struct InFlightGuard<'a>(&'a IdempotencyKey);

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        let IdempotencyKey { key, shared, .. } = self.0;
        shared.in_flight.lock().remove(key);
    }
}

/// Responds to a write that may have an idempotency key: with the stored response of an earlier
/// call, else with that of `call`, which checks the request and does its work in [`write()`] or
/// [`transaction`].
///
/// Of concurrent calls with one key, one runs. The others get its response if it is stored by the
/// time they end, and else REQUEST_IN_PROGRESS: those on this replica before they do anything, so
/// that together they count as one attempt of a password or a code, and those on other replicas
/// when their transaction begins.
///
/// # Errors
/// REQUEST_ID_REUSED if the key belongs to a request with another body; REQUEST_IN_PROGRESS; those
/// of `call`.
pub(crate) async fn respond<R: Message + Default>(
    key: Option<&IdempotencyKey>,
    call: impl Future<Output = Result<R>>,
) -> Result<R> {
    // Pinned here, so that the two places that await it don't each reserve room for it.
    let mut call = pin!(call);
    let Some(key) = key else { return call.await };
    let done = match key.enter() {
        Ok(_in_flight) => match key.find_response().await? {
            Some(stored) => return Ok(stored),
            None => call.as_mut().await,
        },
        Err(in_progress) => Err(in_progress),
    };
    match done {
        // The earlier call may have committed after the lookup, and so be the cause of the error:
        // its new password made the current one wrong, for example.
        Err(error) => match key.find_response().await {
            Ok(Some(stored)) => Ok(stored),
            Ok(None) | Err(_) => Err(error),
        },
        done => done,
    }
}

/// Does the work of one request in a transaction, and stores the response in it if the request has
/// a key. The response is deleted together with the user of `user_id`, if it contains data of one.
///
/// # Errors
/// REQUEST_IN_PROGRESS while another replica runs the request; REQUEST_ID_REUSED; RATE_LIMITED if
/// the caller has stored too much; those of `work`.
pub(crate) async fn write<R: Message + Default>(
    db: &Db,
    end: End,
    key: Option<&IdempotencyKey>,
    user_id: Option<i64>,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<R> + Clone,
) -> Result<Outcome<R>> {
    transaction(db, end, &[key], async |conn, responses| {
        if let Some(stored) = responses.find(0)? {
            return Ok(Outcome::Stored(stored));
        }
        let response = work.clone()(conn).await?;
        responses.store(0, user_id, || response.encode_to_vec());
        Ok(Outcome::New(response))
    })
    .await
}

/// Does the work of several requests in one transaction, as [`write()`] does that of one. The work
/// asks `Responses` for the earlier response of each request, by its place in `keys`, and gives it
/// the new ones.
///
/// # Errors
/// RATE_LIMITED if a caller has stored too much; those of `work`.
pub(crate) async fn transaction<T>(
    db: &Db,
    end: End,
    keys: &[Option<&IdempotencyKey>],
    work: impl AsyncFnOnce(&mut AsyncPgConnection, &mut Responses<'_>) -> Result<T> + Clone,
) -> Result<T> {
    db.transaction(end, async |conn| {
        let mut responses = Responses::begin(conn, keys).await?;
        let done = work.clone()(conn, &mut responses).await?;
        responses.insert(conn).await?;
        Ok(done)
    })
    .await
}

/// The responses of the requests of one transaction.
pub(crate) struct Responses<'a> {
    keys: &'a [Option<&'a IdempotencyKey>],
    /// Locks that this transaction holds, one for each request that no other transaction runs.
    locked: HashSet<i64>,
    /// By the place of the request.
    earlier: HashMap<usize, StoredResponse>,
    new: HashMap<&'a RequestKey, NewResponse<'a>>,
}

/// A response to be stored at the end of the transaction.
struct NewResponse<'a> {
    key: &'a IdempotencyKey,
    user_id: Option<i64>,
    response: Vec<u8>,
}

impl<'a> Responses<'a> {
    /// Locks the requests until the transaction ends, and reads what is stored for them.
    async fn begin(
        conn: &mut AsyncPgConnection,
        keys: &'a [Option<&'a IdempotencyKey>],
    ) -> Result<Self> {
        let mut begun = Self {
            keys,
            locked: HashSet::new(),
            earlier: HashMap::new(),
            new: HashMap::new(),
        };
        let given = keys
            .iter()
            .enumerate()
            .filter_map(|(place, key)| key.map(|key| (place, key)));
        let (places, given): (Vec<usize>, Vec<&IdempotencyKey>) = given.unzip();
        let Some(first) = given.first() else {
            return Ok(begun);
        };
        let since = first.shared.clock.now() - STORED_FOR;
        // Locked first: what another transaction stored before it gave up the lock is visible to
        // the next statement.
        begun.locked =
            idempotency::try_lock(conn, given.iter().map(|key| key.lock_number()).collect())
                .await?;
        let requests: Vec<&RequestKey> = given.iter().map(|key| &key.key).collect();
        let found = idempotency::find(conn, &requests, since).await?;
        begun.earlier = found
            .into_iter()
            .map(|(index, stored)| (places[index], stored))
            .collect();
        Ok(begun)
    }

    /// What was stored for this request by an earlier call, or by an earlier request of this
    /// transaction.
    ///
    /// # Errors
    /// REQUEST_IN_PROGRESS while another transaction runs the request; REQUEST_ID_REUSED.
    pub(crate) fn find<R: Message + Default>(&mut self, place: usize) -> Result<Option<R>> {
        let Some(key) = self.keys[place] else {
            return Ok(None);
        };
        if !self.locked.contains(&key.lock_number()) {
            return Err(Error::new(Reason::RequestInProgress));
        }
        if let Some(earlier) = self.new.get(&key.key) {
            return if earlier.key.body == key.body {
                decode(&earlier.response).map(Some)
            } else {
                Err(reused())
            };
        }
        let earlier = self
            .earlier
            .remove(&place)
            .map(|stored| key.check(stored))
            .transpose()?;
        earlier.map(|response| decode(&response)).transpose()
    }

    /// Stores the encoded response of a request that has a key, when the work is done. It is
    /// deleted together with the user of `user_id`.
    pub(crate) fn store(
        &mut self,
        place: usize,
        user_id: Option<i64>,
        encode: impl FnOnce() -> Vec<u8>,
    ) {
        if let Some(key) = self.keys[place] {
            self.new.insert(
                &key.key,
                NewResponse {
                    key,
                    user_id,
                    response: encode(),
                },
            );
        }
    }

    async fn insert(self, conn: &mut AsyncPgConnection) -> Result<()> {
        let Some(now) = self
            .new
            .values()
            .next()
            .map(|new| new.key.shared.clock.now())
        else {
            return Ok(());
        };
        for NewResponse { key, response, .. } in self.new.values() {
            key.shared
                .stored
                .add(&key.key.caller, response.len(), key.bytes_per_hour, now)?;
        }
        let stored = self.new.into_values().map(
            |NewResponse {
                 key,
                 user_id,
                 response,
             }| {
                let keys = &key.shared.keys;
                let (key_id, fingerprint) = (
                    keys.current().to_owned(),
                    keys.sign("fingerprint", &key.body),
                );
                (
                    &key.key,
                    user_id,
                    StoredResponse {
                        key_id,
                        fingerprint,
                        reply: response,
                    },
                )
            },
        );
        idempotency::insert(conn, stored.collect(), now).await?;
        Ok(())
    }
}

fn decode<R: Message + Default>(response: &[u8]) -> Result<R> {
    R::decode(response).map_err(Error::internal)
}

fn reused() -> Error {
    Error::new(Reason::RequestIdReused).with_violation(
        "request_id",
        FieldError::Format,
        "was already used with a different request body",
    )
}
