//! How many bytes of stored responses each caller may add. A response is stored for a day, so a
//! caller with a new `request_id` per call could fill the database.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use crate::error::{Error, Reason, Result};

/// The period of a quota.
const WINDOW: TimeDelta = TimeDelta::hours(1);
/// The number of callers at which those without a current window are removed.
const SWEEP_FROM: usize = 1024;

/// Counts stored bytes per caller, in one replica. Clones share the counts.
#[derive(Clone, Default)]
pub(super) struct StoredBytes(Arc<Mutex<HashMap<String, Window>>>);

/// What one caller has stored since a given time.
#[derive(Clone, Copy)]
struct Window {
    since: DateTime<Utc>,
    bytes: u64,
}

impl StoredBytes {
    /// Counts the bytes to be stored for a caller with this quota per hour.
    ///
    /// # Errors
    /// RATE_LIMITED until the hour is over.
    pub(super) fn add(
        &self,
        caller: &str,
        bytes: usize,
        quota: u64,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let mut windows = self.0.lock();
        if windows.len() >= SWEEP_FROM && windows.len() == windows.capacity() {
            windows.retain(|_, window| now - window.since < WINDOW);
        }
        let window = windows.entry(caller.to_owned()).or_insert(Window {
            since: now,
            bytes: 0,
        });
        if now - window.since >= WINDOW {
            *window = Window {
                since: now,
                bytes: 0,
            };
        }
        let total = window.bytes + bytes as u64;
        if total > quota {
            let wait = (window.since + WINDOW - now).to_std().unwrap_or_default();
            return Err(Error::new(Reason::RateLimited).with_quota("stored_responses", wait));
        }
        window.bytes = total;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_counts_for_an_hour_and_one_caller() {
        let (stored, start) = (StoredBytes::default(), DateTime::UNIX_EPOCH);
        stored.add("user:1", 60, 100, start).unwrap();

        let rejected = stored
            .add("user:1", 60, 100, start + TimeDelta::minutes(59))
            .unwrap_err();

        assert_eq!(
            (rejected.reason(), rejected.quota()),
            (Reason::RateLimited, Some("stored_responses"))
        );
        assert_eq!(
            rejected.retry_after(),
            Some(std::time::Duration::from_secs(60))
        );
        stored
            .add("user:1", 40, 100, start + TimeDelta::minutes(59))
            .unwrap();
        stored.add("user:2", 60, 100, start).unwrap();
        stored
            .add("user:1", 60, 100, start + TimeDelta::minutes(60))
            .unwrap();
    }
}
