//! Gathers the reads of concurrent callers into few statements over few connections.
//!
//! A batch is what was asked while the one before was on its way, so that nobody waits for company and a lone read goes
//! at once. A read joins only a batch whose statement was not yet sent: its snapshot is taken after it was asked, and
//! whatever was committed before that is seen.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::{Client, error::SqlState};

use crate::{
    error::{Error, Reason, Result},
    model::profile::Profile,
    store::{
        connector::Connector,
        gathered::{self, Statements, UniqueKey},
    },
    telemetry::statement,
};

/// Connections that the reads of a replica share.
const CONNECTIONS: usize = 2;
/// Statements under way on each, so that the next is there when the server is done with one.
const PIPELINED: usize = 2;
/// Most reads in one statement.
const BATCH: usize = 64;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// What the server itself bounds a statement with; callers leave at their own deadlines.
const STATEMENT_TIMEOUT: &str = "set statement_timeout = '10s'";

type Answer<V> = oneshot::Sender<Result<Option<Arc<V>>>>;

enum Ask {
    Profile(i64, Answer<Profile>),
    Holder(UniqueKey, Answer<i64>),
}

impl Ask {
    /// Whether its caller has gone.
    fn is_given_up(&self) -> bool {
        match self {
            Ask::Profile(_, answer) => answer.is_closed(),
            Ask::Holder(_, answer) => answer.is_closed(),
        }
    }

    fn fail(self, error: &Error) {
        // A caller who has gone needs no answer.
        match self {
            Ask::Profile(_, answer) => answer.send(Err(error.clone())).unwrap_or_default(),
            Ask::Holder(_, answer) => answer.send(Err(error.clone())).unwrap_or_default(),
        }
    }
}

/// Reads of single profiles and of the users behind unique values.
#[derive(Clone)]
pub struct Reads {
    asks: mpsc::UnboundedSender<Ask>,
}

impl Reads {
    /// Begins to gather; no connection is made before the first read.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new(url: String, connector: Connector) -> Self {
        let (asks, queue) = mpsc::unbounded_channel();
        tokio::spawn(dispatch(queue, url, connector));
        Self { asks }
    }

    /// One profile.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn find_profile(&self, user_id: i64) -> Result<Option<Arc<Profile>>> {
        self.ask(gathered::PROFILE, |answer| Ask::Profile(user_id, answer)).await
    }

    /// The user who holds a value.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn find_holder(&self, kind: &'static str, value: String) -> Result<Option<i64>> {
        Ok(self.ask(gathered::HOLDER, |answer| Ask::Holder((kind, value), answer)).await?.map(|user_id| *user_id))
    }

    async fn ask<V>(&self, text: &'static str, ask: impl FnOnce(Answer<V>) -> Ask) -> Result<Option<Arc<V>>> {
        let (answer, answered) = oneshot::channel();
        let is_gone = || Error::new(Reason::ShuttingDown);
        self.asks.send(ask(answer)).map_err(|_| is_gone())?;
        // The statement itself runs for many callers, in no call of theirs.
        statement::traced(text, answered).await.map_err(|_| is_gone())?
    }
}

/// A connection with its statements.
struct Session {
    client: Client,
    statements: Statements,
}

/// Sends a batch whenever one of the places is free.
async fn dispatch(mut queue: mpsc::UnboundedReceiver<Ask>, url: String, connector: Connector) {
    let places = Arc::new(Semaphore::new(CONNECTIONS * PIPELINED));
    let mut sessions: [Option<Arc<Session>>; CONNECTIONS] = Default::default();
    let mut turn = 0;
    while let Some(first) = queue.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(ask) = queue.try_recv()
        {
            batch.push(ask);
        }
        batch.retain(|ask| !ask.is_given_up());
        turn = (turn + 1) % CONNECTIONS;
        let session = match &sessions[turn] {
            Some(session) if !session.client.is_closed() => Ok(session.clone()),
            _ => connect(&url, &connector).await.map(Arc::new),
        };
        match session {
            Ok(session) => {
                sessions[turn] = Some(session.clone());
                tokio::spawn(async move {
                    answer(&session, batch).await;
                    drop(place);
                });
            }
            Err(error) => batch.into_iter().for_each(|ask| ask.fail(&error)),
        }
    }
}

async fn connect(url: &str, connector: &Connector) -> Result<Session> {
    let unavailable = |error: tokio_postgres::Error| Error::new(Reason::DatabaseUnavailable).with_source(error);
    let connecting = async {
        let (client, connection) = connector.connect(url).await.map_err(unavailable)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of gathered reads is gone");
            }
        });
        client.batch_execute(STATEMENT_TIMEOUT).await.map_err(unavailable)?;
        let statements = Statements::prepare(&client).await.map_err(unavailable)?;
        Ok(Session { client, statements })
    };
    tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(Error::new(Reason::DatabaseUnavailable)))
}

/// Runs a batch's statements and gives everyone their own.
async fn answer(session: &Session, batch: Vec<Ask>) {
    let mut profiles = Vec::new();
    let mut holders = Vec::new();
    for ask in batch {
        match ask {
            Ask::Profile(user_id, answer) => profiles.push((user_id, answer)),
            Ask::Holder(key, answer) => holders.push((key, answer)),
        }
    }
    let (client, statements) = (&session.client, &session.statements);
    let of_profiles = async {
        if !profiles.is_empty() {
            let keys: Vec<i64> = distinct(profiles.iter().map(|(key, _)| *key));
            give(profiles, statements.find_profiles(client, &keys).await);
        }
    };
    let of_holders = async {
        if !holders.is_empty() {
            let keys: Vec<UniqueKey> = distinct(holders.iter().map(|(key, _)| key.clone()));
            give(holders, statements.find_holders(client, &keys).await);
        }
    };
    tokio::join!(of_profiles, of_holders);
}

fn distinct<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<K> {
    let mut keys: Vec<K> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn give<K: Hash + Eq, V>(asks: Vec<(K, Answer<V>)>, found: Result<HashMap<K, V>, tokio_postgres::Error>) {
    match found {
        Ok(found) => {
            let found: HashMap<K, Arc<V>> = found.into_iter().map(|(key, value)| (key, Arc::new(value))).collect();
            for (key, answer) in asks {
                // A caller who has gone needs no answer.
                answer.send(Ok(found.get(&key).cloned())).unwrap_or_default();
            }
        }
        Err(error) => {
            let reason = match error.code() {
                Some(&SqlState::QUERY_CANCELED) => Reason::QueryTooSlow,
                Some(code) if !is_of_connection(code) => Reason::Internal,
                _ => Reason::DatabaseUnavailable,
            };
            let error = Error::new(reason).with_source(error);
            for (_, answer) in asks {
                answer.send(Err(error.clone())).unwrap_or_default();
            }
        }
    }
}

/// Whether the server, or the way to it, is going down: classes 08 and 57, and too many connections.
fn is_of_connection(code: &SqlState) -> bool {
    code.code().starts_with("08") || code.code().starts_with("57") || *code == SqlState::TOO_MANY_CONNECTIONS
}
