//! Many callers who read and write without a pause.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};
use tonic::Status;

use super::Client;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Callers at work, each on a user of its own; they end with the test.
pub struct Load {
    callers: JoinSet<()>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    is_over: AtomicBool,
    reads: watch::Sender<u64>,
    writes: watch::Sender<u64>,
    failures: Mutex<Vec<Status>>,
}

impl Load {
    /// So many callers over one channel.
    pub async fn start(mut client: Client, callers: usize) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            told: Arc::default(),
        };
        for _ in 0..callers {
            let user = client.create_named("load").await;
            load.callers
                .spawn(work(client.clone(), user.user_id, load.told.clone()));
        }
        load
    }

    /// Waits until so many more reads, and as many writes, have succeeded.
    pub async fn more(&self, count: u64) {
        for kind in [&self.told.reads, &self.told.writes] {
            let mut succeeded = kind.subscribe();
            let goal = *succeeded.borrow() + count;
            let reached = succeeded.wait_for(|succeeded| *succeeded >= goal);
            tokio::time::timeout(PATIENCE, reached)
                .await
                .expect("calls that succeed")
                .unwrap();
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

async fn note(told: &Told, succeeded: &watch::Sender<u64>, done: Result<(), Status>) -> bool {
    match done {
        Ok(()) => {
            succeeded.send_modify(|succeeded| *succeeded += 1);
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
