//! Fairness between callers: each service and each user has a limit of calls in flight, a rate of
//! calls, and a share of the memory for request bodies.
//!
//! The limits apply per replica, and need no SQL statement. Limits that apply across replicas
//! (codes, passwords) are counted in the database instead.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    domain::caller::Caller,
    error::{Error, Reason, Result},
    model::token::Subject,
};

/// The largest request that a user token may send, in bytes.
pub const MAX_USER_BODY: usize = 128 * 1024;
/// How long a caller with too many calls in flight should wait.
const CONCURRENCY_RETRY: Duration = Duration::from_millis(100);
/// The number of callers at which idle ones are removed.
const SWEEP_FROM: usize = 1024;

/// Section `[callers]`: what one service or user may use of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The largest number of calls of one service in flight.
    pub service_concurrency: u32,
    /// The number of calls per second of one service.
    pub service_rate: u32,
    /// The largest number of calls of one user in flight.
    pub user_concurrency: u32,
    /// The number of calls per second of one user. Up to three times as many may come at once.
    pub user_rate: u32,
    /// The memory for all request bodies in flight, in MiB. One caller can use half of it.
    pub body_memory_mib: u32,
    /// The responses that are stored per hour for the request ids of one service, in MiB.
    pub service_stored_mib: u32,
    /// The responses that are stored per hour for the request ids of one user, in MiB.
    pub user_stored_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_concurrency: 384,
            service_rate: 20_000,
            user_concurrency: 64,
            user_rate: 100,
            body_memory_mib: 64,
            service_stored_mib: 1024,
            user_stored_mib: 16,
        }
    }
}

/// The largest memory for bodies that can be configured, in MiB; more than that is a mistake in the
/// unit.
const MAX_BODY_MEMORY_MIB: u32 = 4096;

impl Config {
    /// What is wrong with the section.
    pub fn errors(&self) -> Vec<String> {
        let positive = [
            ("callers.service_concurrency", self.service_concurrency),
            ("callers.service_rate", self.service_rate),
            ("callers.user_concurrency", self.user_concurrency),
            ("callers.user_rate", self.user_rate),
            ("callers.service_stored_mib", self.service_stored_mib),
            ("callers.user_stored_mib", self.user_stored_mib),
        ];
        let mut errors: Vec<String> = positive
            .into_iter()
            .filter(|(_, value)| *value == 0)
            .map(|(key, _)| format!("{key} must be at least 1"))
            .collect();
        if !(8..=MAX_BODY_MEMORY_MIB).contains(&self.body_memory_mib) {
            errors.push(format!(
                "callers.body_memory_mib must be between 8 and {MAX_BODY_MEMORY_MIB}"
            ));
        }
        errors
    }

    fn concurrency(&self, caller: &Caller) -> u32 {
        if caller.user().is_some() {
            self.user_concurrency
        } else {
            self.service_concurrency
        }
    }

    fn rate(&self, caller: &Caller) -> f64 {
        f64::from(if caller.user().is_some() {
            self.user_rate
        } else {
            self.service_rate
        })
    }
}

/// The number of seconds for which an idle caller accumulates calls.
const BURST_SECONDS: f64 = 3.0;

/// Limits the callers of one replica. Clones share their state.
#[derive(Clone)]
pub struct CallerLimits {
    config: Config,
    callers: Arc<Mutex<HashMap<Subject, Arc<Mutex<Usage>>>>>,
    body_memory: Arc<Semaphore>,
}

/// What one caller uses.
struct Usage {
    in_flight: u32,
    body_bytes: usize,
    /// Calls that may begin at once: a token bucket.
    calls: f64,
    refilled_at: Instant,
}

impl Usage {
    fn refill(&mut self, rate: f64, now: Instant) {
        let elapsed = now
            .saturating_duration_since(self.refilled_at)
            .as_secs_f64();
        self.calls = (self.calls + elapsed * rate).min(rate * BURST_SECONDS);
        self.refilled_at = now;
    }
}

impl CallerLimits {
    /// Limits without any caller yet.
    pub fn new(config: &Config) -> Self {
        let bytes = config.body_memory_mib as usize * 1024 * 1024;
        Self {
            config: config.clone(),
            callers: Arc::default(),
            body_memory: Arc::new(Semaphore::new(bytes)),
        }
    }

    /// Counts a call of this caller, before anything of its body is read. The call is in flight
    /// until the permit is dropped.
    ///
    /// # Errors
    /// RATE_LIMITED with the limit that is reached.
    pub fn acquire(&self, caller: &Caller) -> Result<CallerPermit> {
        self.acquire_at(caller, Instant::now())
    }

    fn acquire_at(&self, caller: &Caller, now: Instant) -> Result<CallerPermit> {
        let usage = self.usage(caller, now);
        let rate = self.config.rate(caller);
        let mut counted = lock(&usage);
        counted.refill(rate, now);
        if counted.in_flight >= self.config.concurrency(caller) {
            return Err(
                Error::new(Reason::RateLimited).with_quota("caller_concurrency", CONCURRENCY_RETRY)
            );
        }
        if counted.calls < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - counted.calls) / rate);
            return Err(Error::new(Reason::RateLimited).with_quota("caller_rate", wait));
        }
        counted.calls -= 1.0;
        counted.in_flight += 1;
        drop(counted);
        Ok(CallerPermit {
            usage,
            body_memory: Arc::clone(&self.body_memory),
            caller_bytes: self.config.body_memory_mib as usize * 1024 * 1024 / 2,
            held: None,
            bytes: 0,
        })
    }

    fn usage(&self, caller: &Caller, now: Instant) -> Arc<Mutex<Usage>> {
        let mut callers = lock(&self.callers);
        if let Some(usage) = callers.get(&caller.subject) {
            return Arc::clone(usage);
        }
        if callers.len() >= SWEEP_FROM && callers.len() == callers.capacity() {
            // Before the map grows: a caller with no call in flight and a full bucket has no state
            // to keep.
            callers.retain(|subject, usage| {
                let rate = self.config.rate(&Caller::new(subject.clone(), Vec::new()));
                let mut usage = lock(usage);
                usage.refill(rate, now);
                usage.in_flight > 0 || usage.calls < rate * BURST_SECONDS
            });
        }
        let calls = self.config.rate(caller) * BURST_SECONDS;
        let usage = Usage {
            in_flight: 0,
            body_bytes: 0,
            calls,
            refilled_at: now,
        };
        Arc::clone(
            callers
                .entry(caller.subject.clone())
                .or_insert(Arc::new(Mutex::new(usage))),
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// One call in flight, with the memory of its body.
pub struct CallerPermit {
    usage: Arc<Mutex<Usage>>,
    body_memory: Arc<Semaphore>,
    /// The most bytes that the caller's bodies may use together.
    caller_bytes: usize,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl CallerPermit {
    /// Reserves memory for more bytes of the body, until the permit is dropped.
    ///
    /// # Errors
    /// RATE_LIMITED if the caller's bodies use half of the memory; OVERLOADED if all bodies
    /// together use all of it.
    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        let mut usage = lock(&self.usage);
        if usage.body_bytes + bytes > self.caller_bytes {
            return Err(
                Error::new(Reason::RateLimited).with_quota("caller_body_bytes", CONCURRENCY_RETRY)
            );
        }
        let permits = u32::try_from(bytes).map_err(|_| Error::new(Reason::MessageTooLarge))?;
        let reserved = Arc::clone(&self.body_memory).try_acquire_many_owned(permits);
        let reserved = reserved.map_err(|_| Error::new(Reason::Overloaded))?;
        usage.body_bytes += bytes;
        self.bytes += bytes;
        match &mut self.held {
            Some(held) => held.merge(reserved),
            None => self.held = Some(reserved),
        }
        Ok(())
    }
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        let mut usage = lock(&self.usage);
        usage.in_flight -= 1;
        usage.body_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(configure: impl FnOnce(&mut Config)) -> CallerLimits {
        let mut config = Config::default();
        configure(&mut config);
        CallerLimits::new(&config)
    }

    fn user(user_id: i64) -> Caller {
        Caller::new(Subject::User(user_id), Vec::new())
    }

    #[test]
    fn one_caller_at_its_concurrency_leaves_the_others_alone() {
        let limits = limits(|config| config.user_concurrency = 2);
        let held = [
            limits.acquire(&user(1)).unwrap(),
            limits.acquire(&user(1)).unwrap(),
        ];

        let rejected = limits.acquire(&user(1)).err().unwrap();

        assert_eq!(
            (rejected.reason(), rejected.quota()),
            (Reason::RateLimited, Some("caller_concurrency"))
        );
        assert!(limits.acquire(&user(2)).is_ok());
        drop(held);
        assert!(limits.acquire(&user(1)).is_ok());
    }

    #[test]
    fn calls_beyond_the_rate_are_told_how_long_to_wait() {
        let limits = limits(|config| config.user_rate = 10);
        let start = Instant::now();
        let acquire = |elapsed| limits.acquire_at(&user(1), start + elapsed);
        let in_burst = (0..100)
            .take_while(|_| acquire(Duration::ZERO).is_ok())
            .count();

        let rejected = acquire(Duration::ZERO).err().unwrap();

        assert_eq!(in_burst, 30);
        assert_eq!(rejected.quota(), Some("caller_rate"));
        let wait = rejected.retry_after().unwrap();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(acquire(wait).is_ok());
        assert!(acquire(wait).is_err());
    }

    #[test]
    fn bodies_share_the_memory_and_one_caller_gets_half() {
        let limits = limits(|config| config.body_memory_mib = 8);
        let mib = 1024 * 1024;
        let mut first = limits.acquire(&user(1)).unwrap();
        first.reserve(4 * mib).unwrap();
        assert_eq!(
            first.reserve(1).err().unwrap().quota(),
            Some("caller_body_bytes")
        );
        let mut second = limits.acquire(&user(2)).unwrap();
        second.reserve(4 * mib).unwrap();

        let full = limits.acquire(&user(3)).unwrap().reserve(1).err().unwrap();

        assert_eq!(full.reason(), Reason::Overloaded);
        drop(first);
        assert!(limits.acquire(&user(3)).unwrap().reserve(1).is_ok());
    }

    #[test]
    fn idle_callers_are_removed() {
        let limits = limits(|_| {});
        let start = Instant::now();
        for number in 0..100_000_u32 {
            limits
                .acquire_at(
                    &user(number.into()),
                    start + Duration::from_millis(20) * number,
                )
                .unwrap();
        }

        assert!(lock(&limits.callers).len() < 5000);
    }
}
