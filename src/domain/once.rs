//! Requests that count once: a repeated request id gets the first reply and changes nothing.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{caller::Caller, db::Db, keys::Keys},
    error::{Error, Fault, Reason, Result},
    store::idempotency,
};

/// How long a reply is kept.
pub const LIFE: TimeDelta = TimeDelta::hours(24);

/// A request with an id of its own.
#[derive(Clone)]
pub struct Once {
    caller: String,
    rpc: &'static str,
    request_id: Uuid,
    body: Vec<u8>,
    keys: Keys,
    clock: Clock,
}

impl Once {
    /// The request; `None` where it bears no id, or one that is no UUID, which its reader reports.
    pub fn of(
        caller: &Caller,
        rpc: &'static str,
        request_id: &str,
        body: Vec<u8>,
        keys: &Keys,
        clock: &Clock,
    ) -> Option<Self> {
        let request_id = Uuid::parse_str(request_id).ok()?;
        Some(Self { caller: caller.to_string(), rpc, request_id, body, keys: keys.clone(), clock: clock.clone() })
    }

    /// The reply of the first time, if there was one.
    ///
    /// # Errors
    /// REQUEST_ID_REUSED where it came with another body.
    pub async fn kept(&self, db: &Db) -> Result<Option<Vec<u8>>> {
        db.run(async |conn| self.find(conn).await).await
    }

    async fn find(&self, conn: &mut AsyncPgConnection) -> Result<Option<Vec<u8>>> {
        let since = self.clock.now() - LIFE;
        let found = idempotency::find(conn, &self.caller, self.rpc, self.request_id, since).await?;
        let Some((key_id, fingerprint, reply)) = found else {
            return Ok(None);
        };
        if self.keys.sign_with(&key_id, "fingerprint", &self.body).as_deref() == Some(&fingerprint) {
            return Ok(Some(reply));
        }
        Err(Error::new(Reason::RequestIdReused).with_violation(
            "request_id",
            Fault::Format,
            "was used with another body",
        ))
    }

    /// Takes the request in its transaction; gives the reply of another who came first.
    ///
    /// # Errors
    /// REQUEST_IN_PROGRESS while another runs it.
    pub async fn begin(&self, conn: &mut AsyncPgConnection) -> Result<Option<Vec<u8>>> {
        let name = format!("{}/{}/{}", self.caller, self.rpc, self.request_id);
        let hash = crate::model::token::hash(&name);
        let number = i64::from_le_bytes(hash[..8].try_into().expect("valid: eight of 32 bytes"));
        if !idempotency::try_lock(conn, number).await? {
            return Err(Error::new(Reason::RequestInProgress));
        }
        self.find(conn).await
    }

    /// Keeps the reply in the transaction of the work.
    pub async fn end(&self, conn: &mut AsyncPgConnection, user_id: Option<i64>, reply: Vec<u8>) -> Result<()> {
        let fingerprint = self.keys.sign("fingerprint", &self.body);
        let (key_id, now) = (self.keys.current(), self.clock.now());
        idempotency::insert(conn, &self.caller, self.rpc, self.request_id, user_id, key_id, fingerprint, reply, now)
            .await?;
        Ok(())
    }
}

type Name = (String, &'static str, Uuid);

/// The requests that this replica is at. A call whose proofs are counted before its transaction begins is noted here
/// first: repeats of it that come together are one try, not many.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<HashSet<Name>>>);

/// A request under way, until this is dropped.
pub struct Run {
    running: Running,
    name: Name,
}

impl Running {
    /// Notes that the request is under way.
    ///
    /// # Errors
    /// REQUEST_IN_PROGRESS where it is already.
    pub fn enter(&self, once: &Once) -> Result<Run> {
        let name = (once.caller.clone(), once.rpc, once.request_id);
        let is_new = self.0.lock().expect("valid: no holder panics").insert(name.clone());
        if is_new { Ok(Run { running: self.clone(), name }) } else { Err(Error::new(Reason::RequestInProgress)) }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.running.0.lock().expect("valid: no holder panics").remove(&self.name);
    }
}

/// A write's outcome: done now, or the kept reply of the first time.
pub enum Outcome<T> {
    New(T),
    Kept(Vec<u8>),
}
