//! A gate in front of Postgres that holds one transaction at its COMMIT, so that a test can kill
//! its process just there.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diesel::sql_types::BigInt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use user_service::store::sql::Sql;

use super::{TestDatabase, eventually};

/// Where the transaction is held: the first one that keeps a reply for its request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The server never hears of the COMMIT.
    BeforeCommit,
    /// The server has committed, and who asked never hears of it.
    AfterCommit,
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What connections through a gate are called in the database.
const NAME: &str = "gate";

/// The gate, with all connections through it; they end with it.
pub struct Gate {
    url: String,
    reached: Arc<Semaphore>,
    accepting: JoinHandle<()>,
}

impl Gate {
    /// Opens on a free port of 127.0.0.1.
    pub async fn open(database: &TestDatabase, hold: Hold) -> Self {
        let mut url = url::Url::parse(&database.url()).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            unreachable!("valid: bound above")
        };
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(address.port())).unwrap();
        // What is encrypted could not be read here.
        url.set_query(Some(&format!("sslmode=disable&application_name={NAME}")));
        let reached = Arc::new(Semaphore::new(0));
        let accepting = tokio::spawn(accept(listener, server, (hold, Arc::clone(&reached))));
        Self {
            url: url.into(),
            reached,
            accepting,
        }
    }

    /// The database as it is seen through the gate.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until a transaction is held.
    pub async fn reached(&self) {
        let reached = tokio::time::timeout(PATIENCE, self.reached.acquire()).await;
        reached
            .expect("a transaction at its COMMIT")
            .unwrap()
            .forget();
    }

    /// Breaks all connections, and waits until the server has noticed: what was not committed is
    /// rolled back then.
    pub async fn close(self, database: &TestDatabase) {
        // Here alone, for it lends its `load` to every type.
        use diesel_async::RunQueryDsl;

        drop(self);
        let mut conn = database.connect().await;
        eventually("the end of all connections", async || {
            let open = Sql::<BigInt>::new(
                "select count(*) from pg_stat_activity where application_name = ",
            )
            .bind(NAME);
            let open = open.push(" and datname = current_database()");
            let open: i64 = open.get_result(&mut conn).await.unwrap();
            (open == 0).then_some(())
        })
        .await;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, holding: (Hold, Arc<Semaphore>)) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(&server).await.unwrap();
        // Else a small message waits until the previous one is acknowledged.
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let (hold, reached) = (holding.0, Arc::clone(&holding.1));
        connections.spawn(async move {
            let passage = Passage {
                hold,
                reached,
                commits: AtomicBool::new(false),
            };
            // A client that goes away in the middle is what is tested.
            passage.carry(client, server).await.unwrap_or_default();
        });
    }
}

/// One connection.
struct Passage {
    hold: Hold,
    reached: Arc<Semaphore>,
    /// Whether the transaction to be held is at its COMMIT.
    commits: AtomicBool,
}

impl Passage {
    async fn carry(&self, client: TcpStream, server: TcpStream) -> io::Result<()> {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            ended = self.carry_requests(from_client, to_server) => ended,
            ended = self.carry_answers(from_server, to_client) => ended,
        }
    }

    async fn carry_requests(
        &self,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
    ) -> io::Result<()> {
        let startup = read(&mut client, 0).await?;
        server.write_all(&startup).await?;
        let mut keeps_reply = false;
        loop {
            let message = read(&mut client, 1).await?;
            keeps_reply |= message[0] == b'P' && holds(&message, b"insert into idempotency");
            if keeps_reply && message[0] == b'Q' && holds(&message, b"COMMIT") {
                self.commits.store(true, Ordering::Relaxed);
                self.stop_at(Hold::BeforeCommit).await;
            }
            server.write_all(&message).await?;
        }
    }

    async fn carry_answers(
        &self,
        mut server: OwnedReadHalf,
        mut client: OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let message = read(&mut server, 1).await?;
            if self.commits.load(Ordering::Relaxed)
                && message[0] == b'C'
                && holds(&message, b"COMMIT")
            {
                self.stop_at(Hold::AfterCommit).await;
            }
            client.write_all(&message).await?;
        }
    }

    /// Goes no further where this is the place to hold.
    async fn stop_at(&self, place: Hold) {
        if place == self.hold {
            self.reached.add_permits(1);
            std::future::pending::<()>().await;
        }
    }
}

/// One message of Postgres' protocol: `of_type` bytes of its type, its length, and the rest.
async fn read(from: &mut (impl AsyncRead + Unpin), of_type: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; of_type + 4];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes(message[of_type..].try_into().expect("valid: four bytes"));
    message.resize(of_type + length as usize, 0);
    from.read_exact(&mut message[of_type + 4..]).await?;
    Ok(message)
}

fn holds(message: &[u8], text: &[u8]) -> bool {
    message.windows(text.len()).any(|part| part == text)
}
