//! Limits that hold over replicas and restarts.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;

use crate::{
    error::{Error, Reason, Result},
    model::rate_limit::Window,
    store::rate_limits,
};

/// A key whose times are locked in this transaction.
pub(crate) struct Bucket {
    key: String,
    hits: Vec<DateTime<Utc>>,
    /// What it is held to.
    windows: Vec<Window>,
    now: DateTime<Utc>,
}

impl Bucket {
    /// Locks a key.
    pub(crate) async fn lock(
        conn: &mut AsyncPgConnection,
        key: String,
        windows: &[Window],
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let mut hits = rate_limits::lock(conn, &key, now).await?;
        let span = windows
            .iter()
            .map(|window| window.span)
            .max()
            .unwrap_or_default();
        hits.retain(|hit| *hit > now - span);
        hits.sort_unstable();
        Ok(Self {
            key,
            hits,
            windows: windows.to_vec(),
            now,
        })
    }

    /// The window that makes one wait the longest, where any does.
    pub(crate) fn exceeded(&self) -> Option<(Window, TimeDelta)> {
        let waits = self
            .windows
            .iter()
            .map(|window| (*window, window.wait(&self.hits, self.now)));
        waits
            .filter(|(_, wait)| *wait > TimeDelta::zero())
            .max_by_key(|(_, wait)| *wait)
    }

    /// Counts one more, which has the time of this transaction.
    pub(crate) fn add(&mut self) {
        self.hits.push(self.now);
    }

    /// Counts one more, which happens at a later time.
    pub(crate) fn add_at(&mut self, at: DateTime<Utc>) {
        self.hits.push(at);
        self.hits.sort_unstable();
    }

    /// How often it may still happen.
    pub(crate) fn left(&self) -> usize {
        self.windows
            .iter()
            .map(|window| window.left(&self.hits, self.now))
            .min()
            .unwrap_or_default()
    }

    /// When it may happen next.
    pub(crate) fn next(&self) -> DateTime<Utc> {
        self.now + self.exceeded().map_or(TimeDelta::zero(), |(_, wait)| wait)
    }

    /// Takes one hit back.
    pub(crate) fn refund(&mut self, hit: DateTime<Utc>) {
        if let Some(place) = self.hits.iter().position(|kept| *kept == hit) {
            self.hits.remove(place);
        }
    }

    /// Forgets all hits.
    pub(crate) fn clear(&mut self) {
        self.hits.clear();
    }

    /// Writes it.
    pub(crate) async fn save(self, conn: &mut AsyncPgConnection) -> Result<()> {
        let span = self
            .windows
            .iter()
            .map(|window| window.span)
            .max()
            .unwrap_or_default();
        let last = self.hits.last().copied().unwrap_or(self.now).max(self.now);
        rate_limits::save(conn, &self.key, self.hits, last + span).await?;
        Ok(())
    }
}

/// The error of a limit that was hit.
pub(crate) fn exceeded(reason: Reason, window: Window, wait: TimeDelta) -> Error {
    Error::new(reason).with_quota(window.name, whole_seconds(wait))
}

/// A wait in whole seconds, rounded up, so that a caller that waits so long waits enough.
pub(crate) fn whole_seconds(wait: TimeDelta) -> Duration {
    let seconds = (wait + TimeDelta::milliseconds(999)).num_seconds().max(1);
    Duration::from_secs(seconds.unsigned_abs())
}
