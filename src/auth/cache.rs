//! Verdicts on tokens, kept for a while.
//!
//! A verdict knows the count of revocations at the beginning of its look-up. A revocation raises
//! the count and marks the token, or all of a user's, with it: verdicts from before the mark count
//! no more, also one whose look-up ends only later. Marks are forgotten when every verdict from
//! before them is too old anyway.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};
use moka::future::Cache as Moka;
use parking_lot::RwLock;

use super::Grant;
use crate::{
    clock::Clock,
    error::{Kind, Result},
    model::token::{Subject, TokenHash},
    telemetry::metrics::{self, Lookup},
};

/// Tokens that verdicts are kept for.
const CAPACITY: u64 = 100_000;
/// The longest that a good verdict counts.
const GOOD_FOR: TimeDelta = TimeDelta::seconds(30);
/// The longest that a bad verdict counts.
const BAD_FOR: TimeDelta = TimeDelta::seconds(5);
/// The fewest marks that are worth a sweep.
const MIN_SWEEP: usize = 1024;
/// Marks at which everything is forgotten rather than still more kept.
const MAX_MARKS: usize = 100_000;

/// The verdicts of one replica.
#[derive(Clone)]
pub struct Cache {
    verdicts: Moka<TokenHash, Verdict>,
    revocations: Arc<Revocations>,
    clock: Clock,
}

#[derive(Clone)]
struct Verdict {
    outcome: Result<Arc<Grant>>,
    began_at: DateTime<Utc>,
    /// Revocations that had arrived by then.
    revocations: u64,
}

impl Cache {
    /// An empty one.
    pub fn new(clock: Clock) -> Self {
        Self::with_capacity(clock, CAPACITY)
    }

    fn with_capacity(clock: Clock, capacity: u64) -> Self {
        Self {
            verdicts: Moka::new(capacity),
            revocations: Arc::default(),
            clock,
        }
    }

    /// The verdict on a token that is kept, if it counts still.
    pub async fn kept(&self, hash: &TokenHash) -> Option<Result<Arc<Grant>>> {
        let kept = self
            .verdicts
            .get(hash)
            .await
            .filter(|kept| self.counts(hash, kept))?;
        metrics::token_cache(Lookup::Hit);
        Some(kept.outcome)
    }

    /// The verdict on a token: a kept one, or what `look_up` says, which is called once for all who
    /// ask together.
    ///
    /// # Errors
    /// Those of `look_up`. Only verdicts about the token itself are cached; a failed lookup is not.
    pub async fn get<F>(&self, hash: TokenHash, look_up: impl Fn() -> F) -> Result<Arc<Grant>>
    where
        F: Future<Output = Result<Grant>> + Send,
    {
        if let Some(kept) = self.kept(&hash).await {
            return kept;
        }
        metrics::token_cache(Lookup::Miss);
        let asked_at = self.revocations.count();
        loop {
            let verdict = self
                .verdicts
                .entry(hash)
                .or_insert_with_if(self.judge(look_up()), |kept| !self.counts(&hash, kept))
                .await
                .into_value();
            // The verdict may be of a look-up that began before ours and before a revocation that
            // we know of.
            if verdict.revocations >= asked_at || !self.revocations.concern(&hash, &verdict) {
                return verdict.outcome;
            }
        }
    }

    /// The user whose token it was by the last verdict that is kept, which need not count any more.
    pub async fn last_user(&self, hash: &TokenHash) -> Option<i64> {
        match self.verdicts.get(hash).await?.outcome {
            Ok(grant) => grant.caller.user(),
            Err(error) => error.deleted_user(),
        }
    }

    /// Forgets the verdict on a token that was revoked, and any look-up of it that is on its way.
    pub fn invalidate(&self, hash: TokenHash) {
        self.mark(|marks| &mut marks.tokens, hash);
    }

    /// Forgets the verdicts on all tokens of a user.
    pub fn invalidate_user(&self, user_id: i64) {
        self.mark(|marks| &mut marks.users, user_id);
    }

    /// Clears the verdicts on all tokens of a service.
    pub fn invalidate_service(&self, service: String) {
        self.mark(|marks| &mut marks.services, service);
    }

    /// Forgets everything, where revocations may have been missed.
    pub fn clear(&self) {
        self.revocations.forget_all();
    }

    fn mark<K: Eq + Hash>(&self, of: impl Fn(&mut Marks) -> &mut HashMap<K, Mark>, key: K) {
        if !self.revocations.mark(of, key, self.clock.now()) {
            self.clear();
        }
    }

    async fn judge(&self, look_up: impl Future<Output = Result<Grant>> + Send) -> Verdict {
        let revocations = self.revocations.count();
        let began_at = self.clock.now();
        Verdict {
            outcome: look_up.await.map(Arc::new),
            began_at,
            revocations,
        }
    }

    fn counts(&self, hash: &TokenHash, verdict: &Verdict) -> bool {
        let now = self.clock.now();
        let age = now - verdict.began_at;
        let is_recent = match &verdict.outcome {
            Ok(grant) => age < GOOD_FOR && now < grant.expires_at,
            Err(error) => age < BAD_FOR && error.kind() == Kind::Unauthenticated,
        };
        // A negative age is a clock that was set back.
        is_recent && age >= TimeDelta::zero() && !self.revocations.concern(hash, verdict)
    }
}

#[derive(Default)]
struct Revocations {
    count: AtomicU64,
    marks: RwLock<Marks>,
}

#[derive(Default)]
struct Marks {
    /// Verdicts from before this count are invalid, whatever their token.
    floor: u64,
    tokens: HashMap<TokenHash, Mark>,
    users: HashMap<i64, Mark>,
    services: HashMap<String, Mark>,
    /// How many there must be for the next sweep; it doubles, so that sweeps stay cheap.
    sweep_at: usize,
}

#[derive(Clone, Copy)]
struct Mark {
    count: u64,
    at: DateTime<Utc>,
}

impl Revocations {
    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether one came after the verdict's look-up began.
    fn concern(&self, hash: &TokenHash, verdict: &Verdict) -> bool {
        let before =
            |mark: Option<&Mark>| mark.is_some_and(|mark| verdict.revocations < mark.count);
        let marks = self.marks.read();
        let of_subject = || match verdict.outcome.as_ref().map(|grant| &grant.caller.subject) {
            Ok(Subject::User(user_id)) => before(marks.users.get(user_id)),
            Ok(Subject::Service(name)) => before(marks.services.get(name)),
            Err(_) => false,
        };
        verdict.revocations < marks.floor || before(marks.tokens.get(hash)) || of_subject()
    }

    /// Adds a mark; false where there are too many.
    fn mark<K: Eq + Hash>(
        &self,
        of: impl Fn(&mut Marks) -> &mut HashMap<K, Mark>,
        key: K,
        now: DateTime<Utc>,
    ) -> bool {
        let mut marks = self.marks.write();
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if marks.len() >= marks.sweep_at.max(MIN_SWEEP) {
            marks.sweep(now);
        }
        of(&mut marks).insert(key, Mark { count, at: now });
        marks.len() <= MAX_MARKS
    }

    fn forget_all(&self) {
        let mut marks = self.marks.write();
        let floor = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        *marks = Marks {
            floor,
            ..Marks::default()
        };
    }
}

impl Marks {
    fn len(&self) -> usize {
        self.tokens.len() + self.users.len() + self.services.len()
    }

    /// Removes marks older than any verdict that counts; the floor replaces them.
    fn sweep(&mut self, now: DateTime<Utc>) {
        let mut floor = self.floor;
        let mut is_young = |mark: &Mark| {
            let young = now - mark.at < GOOD_FOR;
            if !young {
                floor = floor.max(mark.count);
            }
            young
        };
        self.tokens.retain(|_, mark| is_young(mark));
        self.users.retain(|_, mark| is_young(mark));
        self.services.retain(|_, mark| is_young(mark));
        self.floor = floor;
        self.sweep_at = 2 * self.len();
    }
}

#[cfg(test)]
mod tests;
