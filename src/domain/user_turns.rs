//! Serializes concurrent writes of one user in this process, before they acquire a connection.
//!
//! Such writes wait for the user's row lock anyway. If they waited for it in the database, each
//! with a connection, a caller that sends a hundred concurrent changes of one user would exhaust
//! the pool, and writes of all other users would fail with OVERLOADED.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Reason, Result};

/// The maximum wait for a turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

type Queues = Arc<Mutex<HashMap<i64, Arc<Semaphore>>>>;

/// The queues of all users with a write in progress. Clones share them.
#[derive(Clone)]
pub(super) struct UserTurns {
    queues: Queues,
    max_wait: Duration,
}

impl Default for UserTurns {
    fn default() -> Self {
        Self {
            queues: Queues::default(),
            max_wait: MAX_WAIT,
        }
    }
}

/// The turn of one write; the next one begins when it is dropped.
pub(super) struct UserTurn {
    queues: Queues,
    user_id: i64,
    permit: Option<OwnedSemaphorePermit>,
}

impl UserTurns {
    /// Waits until no other write of the user is in progress in this process. Writes run in the
    /// order of the calls.
    ///
    /// # Errors
    /// WRITE_CONFLICT after five seconds.
    pub(super) async fn wait(&self, user_id: i64) -> Result<UserTurn> {
        let queue = {
            let mut queues = self.queues.lock();
            Arc::clone(
                queues
                    .entry(user_id)
                    .or_insert_with(|| Arc::new(Semaphore::new(1))),
            )
        };
        // Created before the wait, so that a call that ends during the wait leaves no empty queue
        // behind.
        let mut turn = UserTurn {
            queues: Arc::clone(&self.queues),
            user_id,
            permit: None,
        };
        let acquired = tokio::time::timeout(self.max_wait, queue.acquire_owned()).await;
        let acquired = acquired.map_err(|_| Error::new(Reason::WriteConflict))?;
        turn.permit = Some(acquired.expect("valid: never closed"));
        Ok(turn)
    }
}

impl Drop for UserTurn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut queues = self.queues.lock();
        // A waiting or running write has a second reference: clones are only created under this
        // lock.
        if queues
            .get(&self.user_id)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            queues.remove(&self.user_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writes_of_one_user_take_turns_and_leave_nothing_behind() {
        let turns = UserTurns::default();
        let first = turns.wait(1).await.unwrap();
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.wait(1).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(turns.wait(2).await.unwrap());

        drop(first);

        second.await.unwrap().unwrap();
        assert!(turns.queues.lock().is_empty());
    }

    #[tokio::test]
    async fn a_wait_is_bounded() {
        let turns = UserTurns {
            max_wait: Duration::ZERO,
            ..Default::default()
        };
        let first = turns.wait(1).await.unwrap();

        let error = turns.wait(1).await.err().unwrap();

        assert_eq!(error.reason(), Reason::WriteConflict);
        drop(first);
        assert!(turns.queues.lock().is_empty());
    }
}
