//! Time and randomness, which everything else takes as parameters.

use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use parking_lot::Mutex;
use rand::Rng;

/// A source of the present moment, in microseconds as Postgres keeps them.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's own.
    System,
    /// A clock that moves only when a test moves it.
    Manual(ManualClock),
}

impl Clock {
    /// The present moment.
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place where time comes from"
            )]
            Clock::System => Utc::now()
                .duration_trunc(TimeDelta::microseconds(1))
                .expect("valid: within chrono's range"),
            Clock::Manual(clock) => clock.now(),
        }
    }
}

/// A clock for tests.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

impl ManualClock {
    /// Starts at `start`.
    pub fn new(start: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves on.
    pub fn advance(&self, by: TimeDelta) {
        let mut now = self.0.lock();
        *now += by;
    }

    fn now(&self) -> DateTime<Utc> {
        // Each look moves it by a microsecond, so that two writes never bear the same time.
        let mut now = self.0.lock();
        *now += TimeDelta::microseconds(1);
        *now
    }
}

/// Fresh random bytes from the operating system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where randomness comes from"
    )]
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A fraction in 0..1, for jitter.
pub fn random_fraction() -> f64 {
    f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX)
}
