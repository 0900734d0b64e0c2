//! Many callers who read and write without a pause.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::task::JoinSet;
use tonic::Status;

use super::{Client, eventually};

/// Callers at work, each on a user of its own; they end with the test.
pub struct Load {
    callers: JoinSet<()>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    is_over: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
    failures: Mutex<Vec<Status>>,
}

impl Load {
    /// So many callers over one channel.
    pub async fn start(mut client: Client, callers: usize) -> Self {
        let mut load = Self { callers: JoinSet::new(), told: Arc::default() };
        for _ in 0..callers {
            let user = client.create_named("load").await;
            load.callers.spawn(work(client.clone(), user.user_id, load.told.clone()));
        }
        load
    }

    /// Waits until so many more reads, and as many writes, have succeeded.
    pub async fn more(&self, count: u64) {
        for kind in [&self.told.reads, &self.told.writes] {
            let goal = kind.load(Ordering::Relaxed) + count;
            eventually("calls that succeed", async || (kind.load(Ordering::Relaxed) >= goal).then_some(())).await;
        }
    }

    /// Calls that failed so far.
    pub fn failures(&self) -> Vec<Status> {
        self.told.failures.lock().unwrap().clone()
    }

    /// Lets every call under way end; gives all that failed.
    pub async fn stop(mut self) -> Vec<Status> {
        self.told.is_over.store(true, Ordering::Relaxed);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        self.failures()
    }
}

async fn work(mut client: Client, user_id: i64, told: Arc<Told>) {
    let mut turn = 0;
    while !told.is_over.load(Ordering::Relaxed) {
        let nickname = turn.to_string();
        let wrote = client.rename(user_id, &nickname).await;
        let is_good = note(&told, &told.writes, wrote.map(drop)).await;
        let read = client.get(user_id).await;
        // What was acknowledged is what is read.
        if let (true, Ok(read)) = (is_good, &read) {
            assert_eq!(read.nickname, nickname);
        }
        note(&told, &told.reads, read.map(drop)).await;
        turn += 1;
    }
}

async fn note(told: &Told, succeeded: &AtomicU64, done: Result<(), Status>) -> bool {
    match done {
        Ok(()) => {
            succeeded.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(status) => {
            told.failures.lock().unwrap().push(status);
            // Where nothing else can go on, the next try comes at once.
            tokio::task::yield_now().await;
            false
        }
    }
}
