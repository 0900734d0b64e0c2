//! The cost of verifying each kind of hash, so that a wrong password can cost as much as the
//! slowest kind.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use ring::pbkdf2;

use crate::model::password_hash::{HashKind, PasswordHash};

/// A kind that takes longer than this is measured once, instead of as the best of three runs.
const SLOW: Duration = Duration::from_millis(100);
/// The weight of a new measurement: one in this many.
const WEIGHT: u32 = 8;
/// Iterations between two reads of the clock: about 50 µs.
const STEP: NonZeroU32 = NonZeroU32::new(200).expect("valid: above zero");
/// The input that is hashed to spend time.
const NO_PASSWORD: &str = "no password";

/// The kinds of hashes that the database may hold, with their costs on this machine.
#[derive(Clone)]
pub(super) struct Costs(Arc<Mutex<HashMap<HashKind, Cost>>>);

#[derive(Clone)]
struct Cost {
    sample: Arc<PasswordHash>,
    /// CPU time; `None` until it is measured.
    time: Option<Duration>,
}

/// The slowest kind.
pub(super) struct Slowest {
    sample: Arc<PasswordHash>,
    time: Duration,
}

impl Costs {
    /// The kind of our own hashes, which is always possible.
    pub(super) fn new(current: HashKind) -> Self {
        let costs = Self(Arc::default());
        costs.add(current);
        costs
    }

    /// Registers a kind that the database may contain.
    pub(super) fn add(&self, kind: HashKind) {
        let mut costs = self.lock();
        if costs.contains_key(&kind) {
            return;
        }
        match kind.sample() {
            Ok(sample) => drop(costs.insert(
                kind,
                Cost {
                    sample: sample.into(),
                    time: None,
                },
            )),
            // Only a newer replica supports it, so this replica can't verify its hashes.
            Err(_) => tracing::warn!(kind = kind.as_str(), "unknown kind of password hash"),
        }
    }

    /// The slowest kind. Kinds that were never measured are measured first, on this thread.
    pub(super) fn slowest(&self) -> Slowest {
        let unmeasured: Vec<_> = self
            .lock()
            .iter()
            .filter(|(_, cost)| cost.time.is_none())
            .map(clone)
            .collect();
        for (kind, cost) in unmeasured {
            let measured = measure(&cost.sample);
            if let Some(cost) = self.lock().get_mut(&kind) {
                cost.time.get_or_insert(measured);
            }
        }
        let costs = self.lock();
        let slowest = costs
            .values()
            .max_by_key(|cost| cost.time)
            .expect("valid: our own kind is always known");
        Slowest {
            sample: Arc::clone(&slowest.sample),
            time: slowest.time.unwrap_or_default(),
        }
    }

    /// Includes the measurement of a verified hash: the machine may have become slower or faster.
    pub(super) fn observe(&self, hash: &PasswordHash, took: Duration) {
        if hash.grows_with_password() {
            return;
        }
        let Some(kind) = hash.kind() else { return };
        if let Some(Cost {
            time: Some(time), ..
        }) = self.lock().get_mut(&kind)
        {
            *time = (*time * (WEIGHT - 1) + took) / WEIGHT;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HashKind, Cost>> {
        self.0.lock()
    }
}

fn clone((kind, cost): (&HashKind, &Cost)) -> (HashKind, Cost) {
    (kind.clone(), cost.clone())
}

impl Slowest {
    /// The hash to verify against if the user has none.
    pub(super) fn sample(&self) -> &PasswordHash {
        &self.sample
    }

    /// Works until this thread has used as much CPU time since `since` as `times` verifications of
    /// the slowest kind.
    pub(super) fn fill(&self, since: Duration, times: u32) {
        let end = since + self.time * times;
        // The same function as far as possible, so that whatever slows it on a busy machine slows
        // both.
        while thread_time() + self.time * 9 / 10 <= end && self.sample.verify(NO_PASSWORD).is_ok() {
        }
        while thread_time() < end {
            let mut output = [0; 32];
            pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                STEP,
                b"no salt",
                NO_PASSWORD.as_bytes(),
                &mut output,
            );
            std::hint::black_box(output);
        }
    }
}

fn measure(sample: &PasswordHash) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let since = thread_time();
        if let Err(error) = sample.verify(NO_PASSWORD) {
            tracing::warn!(%error, "a kind of password hash cannot be measured");
        }
        best = best.min(thread_time().saturating_sub(since));
        if best > SLOW {
            break;
        }
    }
    best
}

/// The CPU time of this thread, whatever else the machine runs.
#[cfg(target_os = "linux")]
pub(super) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The elapsed time: on other systems, threads have no CPU clock.
#[cfg(not(target_os = "linux"))]
pub(super) fn thread_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::password_hash::HashParameters;

    fn current() -> HashKind {
        HashKind::of(HashParameters::default())
    }

    fn kind(text: &str) -> HashKind {
        HashKind::stored(text.to_owned())
    }

    #[test]
    fn the_slowest_kind_is_the_one_that_takes_longest() {
        let costs = Costs::new(current());
        let ours = costs.slowest().time;
        costs.add(kind("$2b$04$"));
        assert!(
            costs
                .slowest()
                .sample()
                .is_current(HashParameters::default())
        );
        costs.add(kind("$argon2id$v=19$m=65536,t=4,p=1$"));
        let slowest = costs.slowest();
        assert!(!slowest.sample().is_current(HashParameters::default()));
        assert!(slowest.time > ours * 2, "{:?} {ours:?}", slowest.time);
    }

    #[test]
    fn an_unknown_kind_changes_nothing() {
        let costs = Costs::new(current());
        costs.add(kind("$argon3$x=1$"));
        assert!(
            costs
                .slowest()
                .sample()
                .is_current(HashParameters::default())
        );
    }

    #[test]
    fn what_is_missing_is_filled_up() {
        let slowest = Costs::new(current()).slowest();
        for times in [1, 2] {
            let since = thread_time();
            slowest.fill(since, times);
            let took = thread_time() - since;
            assert!(took >= slowest.time * times, "{took:?} {:?}", slowest.time);
        }
        let long_ago = thread_time();
        slowest.fill(long_ago, 1);
        let since = thread_time();
        slowest.fill(long_ago, 1);
        assert!(thread_time() - since < slowest.time, "nothing was missing");
    }

    #[test]
    fn a_slower_machine_is_noticed() {
        let costs = Costs::new(current());
        let before = costs.slowest().time;
        let hash = current().sample().map_err(|(_, why)| why).unwrap();
        for _ in 0..50 {
            costs.observe(&hash, before * 2);
        }
        let after = costs.slowest().time;
        assert!(
            after > before * 19 / 10 && after <= before * 2,
            "{before:?} {after:?}"
        );
    }
}
