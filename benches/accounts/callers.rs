//! Callers, and how long they waited.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::JoinSet};

/// How long calls took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Vec<Duration>);

impl Waits {
    pub(crate) fn add(&mut self, wait: Duration) {
        self.0.push(wait);
    }

    pub(crate) fn append(&mut self, other: Waits) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The wait that this share of all does not pass, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() as f64 * share) as usize;
        sorted
            .get(place)
            .or(sorted.last())
            .map_or(f64::NAN, |wait| wait.as_secs_f64() * 1000.0)
    }
}

/// When callers stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// That many calls were sent.
    Calls(usize),
    /// That much time has passed.
    Time(Duration),
}

/// Each of so many callers asks the next when it has its answer.
///
/// # Errors
/// The first call that fails.
pub(crate) async fn closed<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
    callers: usize,
    until: Until,
    ask: impl Fn(usize) -> F + Clone + Send + 'static,
) -> anyhow::Result<Waits> {
    let (next, begin) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (next, ask) = (Arc::clone(&next), ask.clone());
        tasks.spawn(async move {
            let mut waits = Waits::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let is_over = match until {
                    Until::Calls(calls) => number >= calls,
                    Until::Time(time) => begin.elapsed() >= time,
                };
                if is_over {
                    return anyhow::Ok(waits);
                }
                let sent = Instant::now();
                ask(number).await?;
                waits.add(sent.elapsed());
            }
        });
    }
    let mut all = Waits::default();
    while let Some(waits) = tasks.join_next().await {
        all.append(waits??);
    }
    Ok(all)
}

/// So many calls a second, whatever the answers do; a wait counts from when its call was due, so
/// that a stall is seen by all whom it keeps waiting.
///
/// # Errors
/// The first call that fails.
pub(crate) async fn paced<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
    rate: f64,
    time: Duration,
    ask: impl Fn(usize) -> F + Send + 'static,
) -> anyhow::Result<Waits> {
    let runtime = Handle::current();
    // On a thread of its own, whose sleep is finer than the runtime's.
    let sending = tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let calls = (time.as_secs_f64() * rate) as usize;
        let mut tasks = JoinSet::new();
        for number in 0..calls {
            let due = begin + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let call = ask(number);
            tasks.spawn_on(async move { call.await.map(|()| due.elapsed()) }, &runtime);
        }
        tasks
    });
    let mut tasks = sending.await?;
    let mut waits = Waits::default();
    while let Some(wait) = tasks.join_next().await {
        waits.add(wait??);
    }
    Ok(waits)
}
