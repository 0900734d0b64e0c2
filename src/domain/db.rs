//! The pool, and how a use case gets a connection or a transaction from it.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::{Duration, Instant},
};

use bb8::{ManageConnection, Pool, PooledConnection, QueueStrategy, RunError};
use diesel::ConnectionError;
use diesel_async::{
    AsyncConnection, AsyncPgConnection, TransactionManager, pooled_connection::PoolableConnection,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    domain::user_turns::{UserTurn, UserTurns},
    error::{Error, Reason, Result},
    store::{connection_driver::ConnectionDriver, connector::Connector},
    telemetry::metrics::Connections,
};

/// How long a call waits for a connection.
const WAIT: Duration = Duration::from_secs(1);
/// Between two requests to cancel an abandoned statement.
const CANCEL_AGAIN: Duration = Duration::from_millis(50);
/// How often a transaction is retried after a deadlock or a serialization failure.
const RETRIES: usize = 3;
/// Only a transaction that failed this early is retried: one that waited for a lock without success
/// has used its time.
const RETRY_WITHIN: Duration = Duration::from_secs(2);

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// What a transaction ends with where its work went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    /// Nothing stays: the work was done to see what would come of it.
    DryRun,
}

/// Which connections a use case may acquire, so that one kind of work doesn't starve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Token checks, which every call needs: any connection.
    Tokens,
    /// Calls for single users, and all other work: all connections except those reserved for token
    /// checks.
    Calls,
    /// Lists and bulk updates, whose statements may take seconds: at most half of the connections.
    Searches,
}

/// The connections that each lane may acquire.
struct Lanes {
    searches: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    /// One permit per connection, granted in the order of the requests. The pool itself isn't fair.
    all: Arc<Semaphore>,
}

impl Lanes {
    fn new(size: u32) -> Self {
        let size = size as usize;
        // A pool of fewer than four connections has none to spare.
        let kept = if size < 4 { 0 } else { (size / 8).max(1) };
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits));
        Self {
            searches: semaphore((size / 2).max(1)),
            calls: semaphore(size - kept),
            all: semaphore(size),
        }
    }

    /// Waits for a connection of this lane.
    async fn acquire(&self, lane: Lane) -> [Option<OwnedSemaphorePermit>; 3] {
        let is_search = lane == Lane::Searches;
        let is_call = is_search || lane == Lane::Calls;
        // Always in this order, to avoid deadlocks.
        [
            acquire_if(is_search, &self.searches).await,
            acquire_if(is_call, &self.calls).await,
            acquire_if(true, &self.all).await,
        ]
    }
}

async fn acquire_if(is_needed: bool, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if !is_needed {
        return None;
    }
    Some(
        Arc::clone(permits)
            .acquire_owned()
            .await
            .expect("valid: never closed"),
    )
}

/// The database.
#[derive(Clone)]
pub struct Db {
    pool: Pool<PgManager>,
    lanes: Arc<Lanes>,
    lane: Lane,
    turns: UserTurns,
    /// The user that these writes belong to, if they belong to one user.
    user_id: Option<i64>,
    size: u32,
    connector: Connector,
    failure: Failure,
}

/// Makes the pool's connections.
struct PgManager {
    url: String,
    connector: Connector,
    failure: Failure,
}

/// Why the last attempt to connect that has ended failed; `None` where it did not.
type Failure = Arc<Mutex<Option<String>>>;

/// A connection, which its user drives.
struct PgConnection {
    conn: AsyncPgConnection,
    driver: ConnectionDriver,
    /// Its call left in the middle, so that the pool closes it.
    is_abandoned: bool,
}

impl PgConnection {
    async fn drive<T>(&mut self, work: impl AsyncFnOnce(&mut AsyncPgConnection) -> T) -> T {
        self.driver.drive(work(&mut self.conn)).await
    }
}

impl ManageConnection for PgManager {
    type Connection = PgConnection;
    type Error = ConnectionError;

    async fn connect(&self) -> Result<PgConnection, ConnectionError> {
        let tell = |why| *self.failure.lock() = why;
        let made = self.connector.establish_driven(&self.url).await;
        tell(made.as_ref().err().map(ToString::to_string));
        let (conn, driver) = made?;
        Ok(PgConnection {
            conn,
            driver,
            is_abandoned: false,
        })
    }

    async fn is_valid(&self, pooled: &mut PgConnection) -> Result<(), ConnectionError> {
        if pooled.driver.is_open().await {
            Ok(())
        } else {
            Err(ConnectionError::BadConnection(
                "the server closed it".to_owned(),
            ))
        }
    }

    fn has_broken(&self, pooled: &mut PgConnection) -> bool {
        std::thread::panicking() || pooled.is_abandoned || pooled.conn.is_broken()
    }
}

impl Db {
    /// A pool of at most `size` connections; none is opened before it is needed.
    pub fn new(url: &str, connector: Connector, size: u32) -> Self {
        let failure = Failure::default();
        let sessions = PgManager {
            url: url.to_owned(),
            connector: connector.clone(),
            failure: failure.clone(),
        };
        let pool = Pool::builder()
            .max_size(size)
            .connection_timeout(WAIT)
            // The one that was used last has its statements and its server process at hand.
            .queue_strategy(QueueStrategy::Lifo)
            .build_unchecked(sessions);
        Self {
            pool,
            lanes: Arc::new(Lanes::new(size)),
            lane: Lane::Calls,
            turns: UserTurns::default(),
            user_id: None,
            size,
            connector,
            failure,
        }
    }

    /// The same database, through the connections of another lane.
    pub fn in_lane(&self, lane: Lane) -> Self {
        Self {
            lane,
            ..self.clone()
        }
    }

    /// The same database for writes of one user. Those writes run one at a time, and wait before
    /// they acquire a connection.
    pub fn of_user(&self, user_id: i64) -> Self {
        Self {
            user_id: Some(user_id),
            ..self.clone()
        }
    }

    async fn lease(&self) -> Result<Lease<'_>> {
        let user_turn = match self.user_id {
            Some(user_id) => Some(self.turns.wait(user_id).await?),
            None => None,
        };
        let taking = async {
            let permits = self.lanes.acquire(self.lane).await;
            self.pool.get_owned().await.map(|pooled| {
                (
                    pooled,
                    Held {
                        _permits: permits,
                        _user_turn: user_turn,
                    },
                )
            })
        };
        let taken = tokio::time::timeout(WAIT, taking)
            .await
            .unwrap_or(Err(RunError::TimedOut));
        let taken = taken.map_err(|error| {
            let reason = match &error {
                RunError::TimedOut if self.pool.state().connections > 0 => Reason::Overloaded,
                RunError::TimedOut | RunError::User(_) => Reason::DatabaseUnavailable,
            };
            match self.failure.lock().clone() {
                Some(why) if reason == Reason::DatabaseUnavailable => {
                    Error::new(reason).with_source(why)
                }
                _ => Error::new(reason).with_source(error),
            }
        })?;
        Ok(Lease {
            taken: Some(taken),
            connector: &self.connector,
            is_finished: false,
        })
    }

    /// Runs single statements on one connection.
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T>,
    ) -> Result<T> {
        // On the heap, as in `transaction`: a call that may come to a statement, and mostly does
        // not, stays small.
        let run = Box::pin(async {
            let mut lease = self.lease().await?;
            let done = lease.drive(work).await;
            lease.finish();
            done
        });
        run.await
    }

    /// Runs the work in one transaction, up to three times more where others were in its way.
    ///
    /// # Errors
    /// What the work fails with; WRITE_CONFLICT when the tries are spent.
    pub async fn transaction<T>(
        &self,
        end: End,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T> + Clone,
    ) -> Result<T> {
        Box::pin(self.begin(end, work)).await
    }

    async fn begin<T>(
        &self,
        end: End,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T> + Clone,
    ) -> Result<T> {
        let mut lease = self.lease().await?;
        let done = lease
            .drive(async |conn| try_transaction(conn, end, work).await)
            .await;
        lease.finish();
        done
    }

    /// The connections of the pool at this moment.
    pub fn connections(&self) -> Connections {
        let state = self.pool.state();
        let used = state.connections.saturating_sub(state.idle_connections);
        Connections {
            used,
            idle: state.idle_connections,
            unopened: self.size.saturating_sub(state.connections),
        }
    }
}

/// Runs the work in a transaction, again where others were in its way.
async fn try_transaction<T>(
    conn: &mut AsyncPgConnection,
    end: End,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T> + Clone,
) -> Result<T> {
    let started = Instant::now();
    let mut tries = 0;
    loop {
        Transactions::begin_transaction(conn).await?;
        let done = match work.clone()(conn).await {
            Ok(value) if end == End::Commit => Transactions::commit_transaction(conn)
                .await
                .map(|()| value)
                .map_err(Error::from),
            outcome => match Transactions::rollback_transaction(conn).await {
                Ok(()) => outcome,
                Err(error) => outcome.and(Err(error.into())),
            },
        };
        match done {
            Err(error)
                if error.reason() == Reason::WriteConflict
                    && tries < RETRIES
                    && started.elapsed() < RETRY_WITHIN =>
            {
                tries += 1;
            }
            done => return done,
        }
    }
}

/// A connection in use. If its call ends early, the statement is cancelled in the database, and the
/// connection is closed when the server has answered.
struct Lease<'a> {
    taken: Option<(PooledConnection<'static, PgManager>, Held)>,
    connector: &'a Connector,
    is_finished: bool,
}

/// What a connection in use holds, until it is returned to the pool.
struct Held {
    _permits: [Option<OwnedSemaphorePermit>; 3],
    _user_turn: Option<UserTurn>,
}

impl Lease<'_> {
    /// The work came to its end: there is nothing to cancel.
    fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Deref for Lease<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.taken.as_ref().expect("valid: taken on drop alone").0
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.taken.as_mut().expect("valid: taken on drop alone").0
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some((mut pooled, held)) = self.taken.take().filter(|_| !self.is_finished) else {
            return;
        };
        pooled.is_abandoned = true;
        let connector = self.connector.clone();
        tokio::spawn(async move {
            let token = pooled.conn.cancel_token();
            // A request to cancel that comes before the server has begun is lost, so it is
            // repeated.
            let cancelling = async {
                loop {
                    if let Err(error) = connector.cancel(&token).await {
                        tracing::debug!(%error, "failed to cancel an abandoned statement");
                    }
                    tokio::time::sleep(CANCEL_AGAIN).await;
                }
            };
            // The server has answered when it has come to this. A request to cancel is another
            // connection's and may come later still, when it would end the next call's statement:
            // so this one is closed.
            let answered = pooled.drive(async |conn| Transactions::begin_transaction(conn).await);
            tokio::select! {
                answered = answered => if let Err(error) = answered {
                    tracing::debug!(%error, "an abandoned connection did not respond");
                },
                () = cancelling => {}
            }
            drop(pooled);
            drop(held);
        });
    }
}
