use std::sync::atomic::AtomicUsize;

use tokio::sync::Notify;

use super::*;
use crate::{
    clock::ManualClock,
    domain::caller::Caller,
    error::{Error, Reason},
    model::token::hash,
};

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn clock() -> (ManualClock, Clock) {
    let clock = ManualClock::new(start());
    (clock.clone(), Clock::Manual(clock))
}

/// A verifier that counts its look-ups.
#[derive(Default)]
struct Verifier {
    asked: AtomicUsize,
}

impl Verifier {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn good(&self) -> Result<Grant> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(grant(3600))
    }

    async fn bad(&self, reason: Reason) -> Result<Grant> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(reason))
    }
}

fn grant(seconds: i64) -> Grant {
    Grant {
        caller: Caller::new(Subject::User(42), Vec::new()).into(),
        issued_at: start(),
        expires_at: start() + TimeDelta::seconds(seconds),
    }
}

#[tokio::test]
async fn p50_a_good_verdict_counts_for_30_seconds() {
    let (time, clock) = clock();
    let (cache, verifier) = (Cache::new(clock), Verifier::default());
    for (seconds, asked) in [(0, 1), (29, 1), (1, 2), (29, 2)] {
        time.advance(TimeDelta::seconds(seconds));
        let grant = cache.get(hash("a"), || verifier.good()).await.unwrap();
        assert_eq!(grant.caller.user(), Some(42));
        assert_eq!(verifier.asked(), asked);
    }
}

#[tokio::test]
async fn p50_a_good_verdict_never_counts_past_expiry() {
    let (time, clock) = clock();
    let cache = Cache::new(clock);
    cache
        .get(hash("a"), || async { Ok(grant(3)) })
        .await
        .unwrap();
    time.advance(TimeDelta::seconds(3));
    let expired = cache
        .get(hash("a"), || async {
            Err(Error::new(Reason::TokenExpired))
        })
        .await;
    assert_eq!(expired.unwrap_err().reason(), Reason::TokenExpired);
}

#[tokio::test]
async fn p50_a_bad_verdict_counts_for_5_seconds() {
    let (time, clock) = clock();
    let (cache, verifier) = (Cache::new(clock), Verifier::default());
    for (seconds, asked) in [(0, 1), (4, 1), (1, 2)] {
        time.advance(TimeDelta::seconds(seconds));
        let refused = cache
            .get(hash("a"), || verifier.bad(Reason::TokenRevoked))
            .await;
        assert_eq!(refused.unwrap_err().reason(), Reason::TokenRevoked);
        assert_eq!(verifier.asked(), asked);
    }
}

#[tokio::test]
async fn p50_that_nobody_could_tell_is_not_kept() {
    let (_, clock) = clock();
    let (cache, verifier) = (Cache::new(clock), Verifier::default());
    for reason in [
        Reason::AuthBackendUnavailable,
        Reason::Overloaded,
        Reason::DeadlineExceeded,
        Reason::Internal,
    ] {
        let refused = cache.get(hash("a"), || verifier.bad(reason)).await;
        assert_eq!(refused.unwrap_err().reason(), reason);
    }
    assert!(cache.get(hash("a"), || verifier.good()).await.is_ok());
    assert_eq!(verifier.asked(), 5);
}

#[tokio::test]
async fn p50_one_look_up_at_a_time_for_a_token() {
    let (_, clock) = clock();
    let (cache, verifier) = (Cache::new(clock), Verifier::default());
    let slow = || async {
        tokio::task::yield_now().await;
        verifier.good().await
    };
    let all = futures_util::future::join_all((0..50).map(|_| cache.get(hash("a"), slow))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(verifier.asked(), 1);
}

#[tokio::test]
async fn p50_a_caller_who_leaves_leaves_the_look_up_to_the_next() {
    let (_, clock) = clock();
    let (cache, verifier) = (Cache::new(clock), Verifier::default());
    let never = cache.get(hash("a"), std::future::pending);
    let left = tokio::time::timeout(std::time::Duration::from_millis(1), never).await;
    assert!(left.is_err());
    assert!(cache.get(hash("a"), || verifier.good()).await.is_ok());
}

#[tokio::test]
async fn p50_revocations_reach_the_token_or_the_user_alone() {
    let (_, clock) = clock();
    let (cache, verifier) = (Cache::new(clock), Verifier::default());
    let ask = |token| cache.get(hash(token), || verifier.good());
    ask("a").await.unwrap();
    ask("b").await.unwrap();

    cache.invalidate(hash("a"));
    cache.invalidate_user(43);
    ask("b").await.unwrap();
    assert_eq!(verifier.asked(), 2);
    ask("a").await.unwrap();
    ask("a").await.unwrap();
    assert_eq!(verifier.asked(), 3);

    cache.invalidate_user(42);
    ask("a").await.unwrap();
    ask("b").await.unwrap();
    assert_eq!(verifier.asked(), 5);

    cache.clear();
    ask("a").await.unwrap();
    ask("b").await.unwrap();
    assert_eq!(verifier.asked(), 7);
}

#[tokio::test]
async fn p67_a_revocation_reaches_all_tokens_of_its_service_alone() {
    let (time, clock) = clock();
    let (cache, asked) = (Cache::new(clock), AtomicUsize::new(0));
    let ask = async |name: &str| {
        let look_up = || async {
            asked.fetch_add(1, Ordering::SeqCst);
            let caller = Caller::new(Subject::Service(name.to_owned()), Vec::new()).into();
            Ok(Grant {
                caller,
                ..grant(3600)
            })
        };
        cache.get(hash(name), look_up).await.unwrap();
        asked.load(Ordering::SeqCst)
    };
    ask("billing").await;
    assert_eq!(ask("shipping").await, 2);

    cache.invalidate_service("billing".to_owned());
    assert_eq!(ask("shipping").await, 2);
    assert_eq!(ask("billing").await, 3);

    // Sweeping old marks doesn't remove verdicts that were added later.
    for number in 0..2 * MIN_SWEEP {
        cache.invalidate_service(number.to_string());
        time.advance(TimeDelta::milliseconds(20));
    }
    assert!(cache.revocations.marks.read().len() < 2 * MIN_SWEEP);
    assert_eq!(
        ask("billing").await,
        4,
        "it is older than 30 seconds by now"
    );
}

/// How a revocation is announced.
type Revoke = fn(&Cache);

#[tokio::test]
async fn p50_a_verdict_whose_look_up_began_before_a_revocation_is_not_kept() {
    let revocations: [Revoke; 3] = [
        |cache| cache.invalidate(hash("a")),
        |cache| cache.invalidate_user(42),
        Cache::clear,
    ];
    for revoke in revocations {
        let (_, clock) = clock();
        let cache = Cache::new(clock);
        let (began, go_on) = (Notify::new(), Notify::new());
        let first = cache.get(hash("a"), || async {
            began.notify_one();
            go_on.notified().await;
            Ok(grant(3600))
        });
        let later = async {
            began.notified().await;
            revoke(&cache);
            let asked_later = cache.get(hash("a"), || async {
                Err(Error::new(Reason::TokenRevoked))
            });
            let release = async { go_on.notify_one() };
            tokio::join!(asked_later, release).0
        };
        let (first, later) = tokio::join!(first, later);
        assert!(first.is_ok());
        assert_eq!(later.unwrap_err().reason(), Reason::TokenRevoked);
        let kept = cache.get(hash("a"), || async { Ok(grant(3600)) }).await;
        assert_eq!(kept.unwrap_err().reason(), Reason::TokenRevoked);
    }
}

#[tokio::test]
async fn p50_the_cache_is_bounded() {
    let (time, clock) = clock();
    let (cache, verifier) = (Cache::with_capacity(clock, 100), Verifier::default());
    for n in 0..2000 {
        cache
            .get(hash(&n.to_string()), || verifier.bad(Reason::TokenInvalid))
            .await
            .unwrap_err();
    }
    cache.verdicts.run_pending_tasks().await;
    assert!(cache.verdicts.entry_count() <= 100);

    for n in 0..5000 {
        cache.invalidate_user(n);
    }
    time.advance(TimeDelta::seconds(30));
    for n in 0..5000 {
        cache.invalidate(hash(&n.to_string()));
    }
    assert!(cache.revocations.marks.read().len() <= 8000);
    for n in 0..=i64::try_from(MAX_MARKS).unwrap() {
        cache.invalidate_user(n);
    }
    assert!(cache.revocations.marks.read().len() <= MAX_MARKS);
}

#[tokio::test]
async fn p50_swept_marks_are_not_missed_when_the_clock_is_set_back() {
    let (time, clock) = clock();
    let (cache, verifier) = (Cache::new(clock), Verifier::default());
    cache.get(hash("a"), || verifier.good()).await.unwrap();
    time.advance(TimeDelta::seconds(-20));
    cache.invalidate(hash("a"));
    time.advance(TimeDelta::seconds(45));
    for n in 0..2000 {
        cache.invalidate_user(n);
    }
    cache.get(hash("a"), || verifier.good()).await.unwrap();
    assert_eq!(verifier.asked(), 2);
}
