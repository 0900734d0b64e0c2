//! The pool, and how a use case gets a connection or a transaction from it.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use diesel_async::{
    AsyncConnection, AsyncPgConnection, TransactionManager,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, bb8::Pool},
};
use futures_util::FutureExt;

use crate::{
    error::{Error, Reason, Result},
    store::connector::Connector,
    telemetry::metrics::Connections,
};

/// How long a call waits for a connection.
const WAIT: Duration = Duration::from_secs(1);
/// How often a transaction is begun anew after a deadlock or a serialization failure.
const RETRIES: usize = 3;

type PgPool = Pool<AsyncPgConnection>;
type Pooled = diesel_async::pooled_connection::bb8::PooledConnection<'static, AsyncPgConnection>;
type Manager = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// What a transaction ends with where its work went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    /// Nothing stays: the work was done to see what would come of it.
    RollBack,
}

/// The database.
#[derive(Clone)]
pub struct Db {
    pool: PgPool,
    size: u32,
    connector: Connector,
}

impl Db {
    /// A pool of at most `size` connections; none is opened before it is needed.
    pub fn new(url: &str, connector: Connector, size: u32) -> Self {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        let setup = connector.clone();
        config.custom_setup = Box::new(move |url| {
            let (connector, url) = (setup.clone(), url.to_owned());
            async move { connector.establish(&url).await }.boxed()
        });
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(url, config);
        let pool = Pool::builder().max_size(size).connection_timeout(WAIT).build_unchecked(manager);
        Self { pool, size, connector }
    }

    async fn lease(&self) -> Result<Lease<'_>> {
        let conn = self.pool.get_owned().await.map_err(|error| {
            let reason = match &error {
                bb8::RunError::TimedOut if self.pool.state().connections > 0 => Reason::Overloaded,
                bb8::RunError::TimedOut | bb8::RunError::User(_) => Reason::DatabaseUnavailable,
            };
            Error::new(reason).with_source(error)
        })?;
        Ok(Lease { conn: Some(conn), connector: &self.connector, is_finished: false })
    }

    /// Runs single statements on one connection.
    pub async fn run<T>(&self, work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T>) -> Result<T> {
        // On the heap, as in `transaction`: a call that may come to a statement, and mostly does not, stays small.
        let run = Box::pin(async {
            let mut lease = self.lease().await?;
            let done = work(&mut lease).await;
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
        let mut tries = 0;
        loop {
            Manager::begin_transaction(&mut *lease).await?;
            let done = work.clone()(&mut lease).await;
            let done = match done {
                Ok(value) if end == End::Commit => {
                    Manager::commit_transaction(&mut *lease).await.map(|()| value).map_err(Error::from)
                }
                outcome => match Manager::rollback_transaction(&mut *lease).await {
                    Ok(()) => outcome,
                    Err(error) => outcome.and(Err(error.into())),
                },
            };
            match done {
                Err(error) if error.reason() == Reason::WriteConflict && tries < RETRIES => tries += 1,
                done => {
                    lease.finish();
                    return done;
                }
            }
        }
    }

    /// The connections of the pool at this moment.
    pub fn connections(&self) -> Connections {
        let state = self.pool.state();
        let used = state.connections.saturating_sub(state.idle_connections);
        Connections { used, idle: state.idle_connections, unopened: self.size.saturating_sub(state.connections) }
    }
}

/// A connection in use. Where its call is given up in the middle, the statement is cancelled in the database, and the
/// connection is closed when the server has answered.
struct Lease<'a> {
    conn: Option<Pooled>,
    connector: &'a Connector,
    is_finished: bool,
}

impl Lease<'_> {
    /// The work came to its end: there is nothing to cancel.
    fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Deref for Lease<'_> {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        self.conn.as_ref().expect("valid: taken on drop alone")
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.conn.as_mut().expect("valid: taken on drop alone")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take().filter(|_| !self.is_finished) else { return };
        let connector = self.connector.clone();
        tokio::spawn(async move {
            let token = conn.cancel_token();
            if let Err(error) = connector.cancel(&token).await {
                tracing::debug!(%error, "a statement that was given up could not be cancelled");
            }
            // Waits until the server has answered. The request to cancel is another connection's and may come later
            // still, when it would end the next call's statement: so the pool gets this one with a transaction open,
            // and closes it.
            if let Err(error) = Manager::begin_transaction(&mut *conn).await {
                tracing::debug!(%error, "a connection that was given up does not answer");
            }
        });
    }
}
