//! Drains the outbox: leases rows that are due, sends them side by side, and notes how that ended.
//!
//! Each replica runs one. A row is leased only when its send can begin at once, so a lease need not
//! outlive more than one send; where its holder dies, the lease runs out and another worker sends
//! the row with the same Message-ID. [`Waker::wake`] saves the time until the next poll; without
//! it, only that time is lost.

mod attempt;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    sync::Notify,
    task::{self, JoinError, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    clock::{Clock, random_fraction},
    domain::db::{Db, End},
    error::Result,
    notify::{RetryClass, SendError, templates::Templates, transport::Transports},
    store::outbox::{self, CodeSeed, Leased, Outcome},
    telemetry::call,
};

/// The name of the job in log lines.
pub(crate) const JOB: &str = "outbox";

/// How often storing the result of an attempt is retried.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// The digits of a code; `None` if the key that it was derived from was removed.
pub type Digits = Arc<dyn Fn(&CodeSeed) -> Option<String> + Send + Sync>;

/// Tells a worker that something may be due.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Lets the worker poll at once, or once more if it is polling.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most sends at once.
    pub concurrency: usize,
    /// How long a row is one worker's.
    pub lease: Duration,
    /// How often it polls without being woken.
    pub poll: Duration,
    /// Longest send; half the lease where that is shorter.
    pub send_timeout: Duration,
    /// Most tries of a row.
    pub tries: u32,
    /// The pause after the first try; each later one is four times as long.
    pub backoff: Duration,
    /// How long sends in progress may take during shutdown.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            lease: Duration::from_secs(60),
            poll: Duration::from_secs(5),
            send_timeout: Duration::from_secs(30),
            tries: 5,
            backoff: Duration::from_secs(5),
            // Nearly as long as the process has: a send that is abandoned in the middle may arrive
            // twice.
            grace: Duration::from_secs(22),
        }
    }
}

/// What drains the outbox.
#[derive(Clone)]
pub struct Worker {
    pub db: Db,
    pub clock: Clock,
    pub templates: Arc<Templates>,
    pub transports: Arc<Transports>,
    pub digits: Digits,
    pub settings: Settings,
    pub waker: Waker,
}

/// A row in work, with the lease that it is held by.
#[derive(Clone, Copy)]
struct Held {
    outbox_id: i64,
    attempts: i32,
    leased_until: DateTime<Utc>,
}

/// Sends under way, and the rows that they hold.
#[derive(Default)]
struct UnderWay {
    sends: JoinSet<()>,
    held: HashMap<task::Id, Held>,
}

impl Worker {
    /// Works until `stop` is done; then waits a while for what is under way, and frees what is
    /// left.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut under_way = UnderWay::default();
        tokio::pin!(stop);
        loop {
            let is_full = self.fill(&mut under_way).await;
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = under_way.sends.join_next_with_id() => self.ended(&mut under_way, ended).await,
                () = self.waker.0.notified(), if !is_full => {}
                () = sleep(self.settings.poll), if !is_full => {}
            }
        }
        self.stop(under_way).await;
    }

    /// Begins as many sends as there is room for; true where there may be more to do than that.
    async fn fill(&self, under_way: &mut UnderWay) -> bool {
        while let Some(ended) = under_way.sends.try_join_next_with_id() {
            self.ended(under_way, ended).await;
        }
        let room = self
            .settings
            .concurrency
            .max(1)
            .saturating_sub(under_way.sends.len());
        if room == 0 {
            return true;
        }
        match self.lease(room).await {
            Ok((leased_until, rows)) => {
                let is_full = rows.len() == room;
                for (row, seed) in rows {
                    under_way.begin(self, row, seed, leased_until);
                }
                is_full
            }
            Err(error) => {
                tracing::warn!(
                    reason = error.reason().as_str(),
                    "failed to read the outbox"
                );
                false
            }
        }
    }

    /// Ends what has expired and takes up to `room` rows that are due, each with what its code is
    /// derived from.
    async fn lease(&self, room: usize) -> Result<(DateTime<Utc>, Vec<(Leased, Option<CodeSeed>)>)> {
        let now = self.clock.now();
        let leased_until = now + delta(self.settings.lease);
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        let work = async |conn: &mut diesel_async::AsyncPgConnection| {
            outbox::expire(conn, now).await?;
            let rows = outbox::lease(conn, limit, leased_until, now).await?;
            let seeds = outbox::code_seeds(conn, &rows).await?;
            Ok((rows, seeds))
        };
        let (rows, seeds) = self.db.transaction(End::Commit, work).await?;
        let mut seeds: HashMap<(i64, i64), CodeSeed> = seeds
            .into_iter()
            .map(|seed| ((seed.user_id, seed.code_id), seed))
            .collect();
        let with_seed = rows.into_iter().map(|row| {
            let seed = row
                .user_id
                .zip(row.code_id)
                .and_then(|key| seeds.remove(&key));
            (row, seed)
        });
        Ok((leased_until, with_seed.collect()))
    }

    /// Forgets a send that has come to its end; one that broke off is noted as a failed try.
    async fn ended(&self, under_way: &mut UnderWay, ended: Result<(task::Id, ()), JoinError>) {
        match ended {
            Ok((id, ())) => {
                under_way.held.remove(&id);
            }
            Err(error) => {
                let Some(held) = under_way.held.remove(&error.id()) else {
                    return;
                };
                tracing::error!(outbox.id = held.outbox_id, "a send task panicked");
                let outcome =
                    self.after_error(held.attempts, SendError::retry("the send task panicked"));
                self.settle(&held, outcome).await;
            }
        }
    }

    /// What follows a failed try: another one later, unless it cannot help or was the last.
    fn after_error(&self, attempts: i32, error: SendError) -> Outcome {
        let tried = u32::try_from(attempts)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let what = error.what.into_owned();
        if error.class == RetryClass::Permanent || tried >= self.settings.tries {
            return Outcome::Failed { error: what };
        }
        let pause = backoff(self.settings.backoff, tried, random_fraction());
        Outcome::Retry {
            at: self.clock.now() + delta(pause),
            error: what,
        }
    }

    /// Notes the end of a try; again and again while the lease lasts, for an accepted mail that is
    /// not noted comes twice.
    async fn settle(&self, held: &Held, outcome: Outcome) {
        if let Outcome::Failed { error } = &outcome {
            tracing::warn!(outbox.id = held.outbox_id, error, "message delivery failed");
        }
        loop {
            let now = self.clock.now();
            let (id, lease, outcome) = (held.outbox_id, held.leased_until, outcome.clone());
            let noted = self
                .db
                .run(async |conn| Ok(outbox::settle(conn, id, lease, outcome, now).await?))
                .await;
            match noted {
                Ok(true) => return,
                Ok(false) => {
                    tracing::warn!(
                        outbox.id = id,
                        "send finished after its lease expired or its row was deleted"
                    );
                    return;
                }
                Err(error) if now >= lease => {
                    let reason = error.reason().as_str();
                    tracing::warn!(
                        outbox.id = id,
                        reason,
                        "failed to record the result of a send"
                    );
                    return;
                }
                Err(_) => sleep(SETTLE_PAUSE).await,
            }
        }
    }

    async fn stop(&self, mut under_way: UnderWay) {
        let drained = timeout(self.settings.grace, async {
            while let Some(ended) = under_way.sends.join_next_with_id().await {
                self.ended(&mut under_way, ended).await;
            }
        });
        if drained.await.is_ok() {
            return;
        }
        under_way.sends.abort_all();
        let (ids, leases): (Vec<i64>, Vec<DateTime<Utc>>) = under_way
            .held
            .values()
            .map(|held| (held.outbox_id, held.leased_until))
            .unzip();
        let count = ids.len();
        let freed = self
            .db
            .run(async |conn| Ok(outbox::free(conn, ids, leases).await?))
            .await;
        match freed {
            Ok(_) => tracing::info!(count, "in-flight sends abandoned; their leases released"),
            Err(error) => tracing::warn!(
                reason = error.reason().as_str(),
                count,
                "failed to release leases"
            ),
        }
    }
}

impl UnderWay {
    fn begin(
        &mut self,
        worker: &Worker,
        row: Leased,
        seed: Option<CodeSeed>,
        leased_until: DateTime<Utc>,
    ) {
        let held = Held {
            outbox_id: row.outbox_id,
            attempts: row.attempts,
            leased_until,
        };
        let worker = worker.clone();
        let send = self.sends.spawn(call::job(JOB, async move {
            let outcome = worker.attempt(&row, seed.as_ref()).await;
            worker.settle(&held, outcome).await;
        }));
        self.held.insert(send.id(), held);
    }
}

/// The pause after the `tried`-th try: four times the previous one, give or take a fifth, so that
/// what failed together does not come back together.
fn backoff(first: Duration, tried: u32, fraction: f64) -> Duration {
    let grown = first.saturating_mul(4_u32.saturating_pow(tried.saturating_sub(1).min(8)));
    grown.mul_f64(0.8 + 0.4 * fraction)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_five_tries_fit_into_the_life_of_a_code() {
        let first = Settings::default().backoff;
        let shortest: Vec<u64> = (1..5)
            .map(|tried| backoff(first, tried, 0.0).as_secs())
            .collect();
        let longest: Vec<u64> = (1..5)
            .map(|tried| backoff(first, tried, 1.0).as_secs())
            .collect();
        assert_eq!(shortest, [4, 16, 64, 256]);
        assert_eq!(longest, [6, 24, 96, 384]);
        assert!(longest.iter().sum::<u64>() < 600);
    }
}
