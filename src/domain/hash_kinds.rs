//! Which kinds of password hashes the database holds, over replicas and restarts.

use std::{collections::HashSet, sync::Arc, time::Duration};

use diesel_async::AsyncPgConnection;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    domain::{db::Db, passwords::Passwords},
    error::Result,
    model::password_hash::{HashKind, PasswordHash},
    store::hash_kinds,
};

/// How long what was read may be used.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The kinds that are stored, for wrong passwords to take as long as the slowest of them.
#[derive(Clone)]
pub struct HashKinds {
    db: Db,
    passwords: Passwords,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    read_at: Option<Instant>,
    stored: HashSet<HashKind>,
}

impl HashKinds {
    /// Over this database, for these threads.
    pub fn new(db: Db, passwords: Passwords) -> Self {
        Self {
            db,
            passwords,
            state: Arc::default(),
        }
    }

    /// Reads what other replicas stored, unless that was done recently.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh(&self, conn: &mut AsyncPgConnection) -> Result<()> {
        let now = Instant::now();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < MAX_AGE;
        if self.state.lock().read_at.is_some_and(is_fresh) {
            return Ok(());
        }
        let kinds: Vec<HashKind> = hash_kinds::list(conn)
            .await?
            .into_iter()
            .map(HashKind::stored)
            .collect();
        self.passwords.know(kinds.iter().cloned());
        let mut state = self.state.lock();
        state.read_at = Some(now);
        state.stored.extend(kinds);
        Ok(())
    }

    /// Stores the kind of a hash, before the hash itself is written: the database never holds one
    /// of another kind. A hash that was written by an older binary is noted when it is seen.
    ///
    /// # Errors
    /// The database's.
    pub async fn note(&self, hash: &str) -> Result<()> {
        let Some(kind) = PasswordHash::parse(hash).ok().and_then(|hash| hash.kind()) else {
            return Ok(());
        };
        let is_stored = self.state.lock().stored.contains(&kind);
        if is_stored || kind == self.passwords.current_kind() {
            return Ok(());
        }
        self.db
            .run(async |conn| Ok(hash_kinds::insert_if_missing(conn, kind.as_str()).await?))
            .await?;
        self.passwords.know([kind.clone()]);
        self.state.lock().stored.insert(kind);
        Ok(())
    }
}
