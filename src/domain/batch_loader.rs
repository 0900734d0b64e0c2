//! Loads the reads of concurrent callers into few statements over few connections.
//!
//! A batch is what was requested while the previous one was on its way, so that no read waits for
//! others and a single read goes at once. A read joins only a batch whose statement was not yet
//! sent: its snapshot is taken after it was asked, and whatever was committed before that is seen.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
};
use tokio_postgres::Client;

use crate::{
    error::{Error, Reason, Result},
    model::{
        filter::{Filter, UniqueKey},
        profile::Profile,
    },
    store::{
        batched_reads::{self, Statements},
        connection_driver::ConnectionDriver,
        connector::Connector,
        error::Class,
    },
    telemetry::statement,
};

/// Connections that the reads of a replica share, each with one batch under way.
const CONNECTIONS: usize = 2;
/// The maximum number of reads in one statement, unless a single caller requests more at once.
const MAX_BATCH: usize = 32;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What the server itself bounds a statement with; callers leave at their own deadlines.
const STATEMENT_TIMEOUT: &str = "set statement_timeout = '10s'";

type Responder<T> = oneshot::Sender<Result<T>>;

/// What one caller waits for.
enum Pending<K, V> {
    One(K, Responder<Option<Arc<V>>>),
    /// One result per key, in the order of the keys.
    Many(Vec<K>, Responder<Vec<Option<Arc<V>>>>),
}

impl<K: Hash + Eq, V> Pending<K, V> {
    fn keys(&self) -> &[K] {
        match self {
            Pending::One(key, _) => std::slice::from_ref(key),
            Pending::Many(keys, _) => keys,
        }
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Pending::One(_, responder) => responder.is_closed(),
            Pending::Many(_, responder) => responder.is_closed(),
        }
    }

    /// Prepares the response out of what was found; it is sent later.
    fn answered_by(self, found: &Result<HashMap<K, Arc<V>>>) -> Answered<V> {
        let found = found.as_ref().map_err(Error::clone);
        match self {
            Pending::One(key, responder) => {
                Answered::One(found.map(|found| found.get(&key).cloned()), responder)
            }
            Pending::Many(keys, responder) => {
                let values =
                    found.map(|found| keys.iter().map(|key| found.get(key).cloned()).collect());
                Answered::Many(values, responder)
            }
        }
    }

    fn respond(self, found: &Result<HashMap<K, Arc<V>>>) {
        self.answered_by(found).send();
    }
}

/// A response with its receiver.
enum Answered<V> {
    One(Result<Option<Arc<V>>>, Responder<Option<Arc<V>>>),
    Many(Result<Vec<Option<Arc<V>>>>, Responder<Vec<Option<Arc<V>>>>),
}

impl<V> Answered<V> {
    fn send(self) {
        // A caller whose call has ended needs no response.
        match self {
            Answered::One(value, responder) => responder.send(value).unwrap_or_default(),
            Answered::Many(values, responder) => responder.send(values).unwrap_or_default(),
        }
    }
}

enum Request {
    Profiles(Pending<i64, Profile>),
    Holders(Pending<UniqueKey, i64>),
}

impl Request {
    /// Whether its caller has gone.
    fn is_abandoned(&self) -> bool {
        match self {
            Request::Profiles(pending) => pending.is_abandoned(),
            Request::Holders(pending) => pending.is_abandoned(),
        }
    }

    /// The number of reads.
    fn size(&self) -> usize {
        match self {
            Request::Profiles(pending) => pending.keys().len(),
            Request::Holders(pending) => pending.keys().len(),
        }
    }

    fn fail(self, error: &Error) {
        match self {
            Request::Profiles(pending) => pending.respond(&Err(error.clone())),
            Request::Holders(pending) => pending.respond(&Err(error.clone())),
        }
    }
}

/// Reads of single profiles and of the users behind unique values.
#[derive(Clone)]
pub struct BatchLoader {
    queue: Arc<Queue>,
    /// What sends the batches; it ends with the last clone.
    _connections: Arc<JoinSet<()>>,
}

/// What was asked and not yet sent.
#[derive(Default)]
struct Queue {
    requests: Mutex<VecDeque<Request>>,
    arrived: Notify,
}

impl Queue {
    fn push(&self, request: Request) {
        self.requests.lock().push_back(request);
        self.arrived.notify_one();
    }

    /// Waits for the next batch.
    async fn batch(&self) -> Vec<Request> {
        loop {
            let arrived = self.arrived.notified();
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            arrived.await;
        }
    }

    fn take(&self) -> Vec<Request> {
        let mut requests = self.requests.lock();
        let mut size = 0;
        let fits = |request: &&Request| {
            let is_first = size == 0;
            size += request.size();
            is_first || size <= MAX_BATCH
        };
        let count = requests.iter().take_while(fits).count();
        let mut batch: Vec<Request> = requests.drain(..count).collect();
        if !requests.is_empty() {
            self.arrived.notify_one();
        }
        drop(requests);
        batch.retain(|request| !request.is_abandoned());
        batch
    }
}

impl BatchLoader {
    /// Starts the batch loader; no connection is opened before the first read.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new(url: &str, connector: &Connector) -> Self {
        let queue = Arc::<Queue>::default();
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            connections.spawn(serve(Arc::clone(&queue), url.to_owned(), connector.clone()));
        }
        Self {
            queue,
            _connections: Arc::new(connections),
        }
    }

    /// One profile.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn find_profile(&self, user_id: i64) -> Result<Option<Arc<Profile>>> {
        self.request(batched_reads::PROFILE, |responder| {
            Request::Profiles(Pending::One(user_id, responder))
        })
        .await
    }

    /// The profiles of these users, in the order of the ids.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn find_profiles(&self, user_ids: Vec<i64>) -> Result<Vec<Option<Arc<Profile>>>> {
        if user_ids.is_empty() {
            return Ok(Vec::new());
        }
        self.request(batched_reads::PROFILE, |responder| {
            Request::Profiles(Pending::Many(user_ids, responder))
        })
        .await
    }

    /// The user who holds a value.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn find_holder(&self, kind: &'static str, value: String) -> Result<Option<i64>> {
        let request = |responder| Request::Holders(Pending::One((kind, value), responder));
        Ok(self
            .request(batched_reads::HOLDER, request)
            .await?
            .map(|user_id| *user_id))
    }

    /// The users with these values, in the order of the keys.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn find_holders(&self, keys: Vec<UniqueKey>) -> Result<Vec<Option<Arc<i64>>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.request(batched_reads::HOLDER, |responder| {
            Request::Holders(Pending::Many(keys, responder))
        })
        .await
    }

    /// The filter by IDs instead of unique values, whose holders are looked up now.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn by_holders(&self, filter: &Filter) -> Result<Filter> {
        let keys = filter.unique_keys();
        if keys.is_empty() {
            return Ok(filter.clone());
        }
        let found = self.find_holders(keys.clone()).await?;
        let held = keys
            .into_iter()
            .zip(found)
            .filter_map(|(key, holder)| Some((key, *holder?)));
        Ok(filter.by_holders(&held.collect()))
    }

    async fn request<T>(
        &self,
        text: &'static str,
        request: impl FnOnce(Responder<T>) -> Request,
    ) -> Result<T> {
        let (responder, response) = oneshot::channel();
        self.queue.push(request(responder));
        // The statement itself runs for many callers, in no call of theirs.
        statement::traced(text, response)
            .await
            .map_err(|_| Error::new(Reason::ShuttingDown))?
    }
}

/// A connection with its statements, and its wire.
struct BatchConnection {
    client: Client,
    statements: Statements,
    driver: ConnectionDriver,
}

/// Sends batch after batch over one connection, and over a new one if it was closed.
async fn serve(queue: Arc<Queue>, url: String, connector: Connector) {
    let mut batch = queue.batch().await;
    loop {
        batch = match connect(&url, &connector).await {
            Ok(connection) => connection.serve(&queue, batch).await,
            Err(error) => {
                batch.into_iter().for_each(|request| request.fail(&error));
                queue.batch().await
            }
        };
    }
}

impl BatchConnection {
    /// Responds until the connection is closed; returns the batch that arrived then.
    async fn serve(mut self, queue: &Queue, first: Vec<Request>) -> Vec<Request> {
        let (client, statements) = (&self.client, &self.statements);
        let responding = async {
            let mut batch = first;
            while !client.is_closed() {
                run_batch(client, statements, batch).await;
                batch = queue.batch().await;
            }
            batch
        };
        self.driver.drive(responding).await
    }
}

async fn connect(url: &str, connector: &Connector) -> Result<BatchConnection> {
    let unavailable =
        |error: tokio_postgres::Error| Error::new(Reason::DatabaseUnavailable).with_source(error);
    let connecting = async {
        let (client, connection) = connector.connect(url).await.map_err(unavailable)?;
        let mut driver = ConnectionDriver::new(connection);
        let preparing = async {
            client.batch_execute(STATEMENT_TIMEOUT).await?;
            Statements::prepare(&client).await
        };
        let statements = driver.drive(preparing).await.map_err(unavailable)?;
        Ok(BatchConnection {
            client,
            statements,
            driver,
        })
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(Error::new(Reason::DatabaseUnavailable)))
}

/// Runs a batch's statements and gives everyone their own.
async fn run_batch(client: &Client, statements: &Statements, batch: Vec<Request>) {
    let mut profiles = Vec::new();
    let mut holders = Vec::new();
    for ask in batch {
        match ask {
            Request::Profiles(pending) => profiles.push(pending),
            Request::Holders(pending) => holders.push(pending),
        }
    }
    tokio::join!(
        find_and_give(client, profiles, |keys: Vec<i64>| async move {
            statements.find_profiles(client, &keys).await
        }),
        find_and_give(client, holders, |keys: Vec<UniqueKey>| async move {
            statements.find_holders(client, &keys).await
        }),
    );
}

/// Finds what is pending by one statement, and gives everyone their own.
async fn find_and_give<K, V, F>(
    client: &Client,
    pending: Vec<Pending<K, V>>,
    find: impl Fn(Vec<K>) -> F,
) where
    K: Ord + Hash + Clone,
    F: Future<Output = Result<HashMap<K, V>, tokio_postgres::Error>>,
{
    if pending.is_empty() {
        return;
    }
    match find(distinct(&pending)).await {
        // A node of a distributed database is unreachable, and the others respond: only reads of
        // its users fail.
        Err(error) if pending.len() > 1 && is_of_a_node(client, &error) => {
            let alone = pending.into_iter().map(|pending| {
                let finding = find(distinct(std::slice::from_ref(&pending)));
                async move { respond_all(vec![pending], finding.await) }
            });
            join_all(alone).await;
        }
        found => respond_all(pending, found),
    }
}

/// Whether the server itself is there, but can't reach a node that the statement needs.
fn is_of_a_node(client: &Client, error: &tokio_postgres::Error) -> bool {
    !client.is_closed()
        && error.as_db_error().is_some()
        && Class::of_statement(error) == Class::Unavailable
}

fn distinct<K: Ord + Hash + Clone, V>(pending: &[Pending<K, V>]) -> Vec<K> {
    let mut keys: Vec<K> = pending
        .iter()
        .flat_map(|pending| pending.keys().iter().cloned())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn respond_all<K: Hash + Eq, V>(
    pending: Vec<Pending<K, V>>,
    found: Result<HashMap<K, V>, tokio_postgres::Error>,
) {
    let shared = |found: HashMap<K, V>| {
        found
            .into_iter()
            .map(|(key, value)| (key, Arc::new(value)))
            .collect()
    };
    let found = found.map(shared).map_err(Error::from);
    let responses: Vec<_> = pending
        .into_iter()
        .map(|pending| pending.answered_by(&found))
        .collect();
    // Dropped before the callers wake, so that a value of one caller is theirs to move and not to
    // copy.
    drop(found);
    responses.into_iter().for_each(Answered::send);
}
