//! Whether the URL of the database leads to a pooler that shares connections between transactions.
//!
//! Such a pooler (PgBouncer with `pool_mode = transaction` or `statement`) sends two transactions
//! of one client to two server processes. The service keeps prepared statements, settings and locks
//! of a session, and another client's statement of the same name would be run in place of its own:
//! so it doesn't start there.

use std::future::Future;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::store::{connection_driver::ConnectionDriver, connector::Connector};

/// How often it is tried: a busy pooler may happen to choose another server process.
const TRIES: usize = 3;
/// Tells server processes apart, those of several servers too.
const SESSION: &str = "select pg_backend_pid(), pg_postmaster_start_time()";

/// Whether two clients get the same server process, one between two transactions of the other.
///
/// # Errors
/// A database that can't be reached, and a pooler that permits no transactions.
pub async fn is_shared(connector: &Connector, url: &str) -> Result<bool, tokio_postgres::Error> {
    let (first, first_connection) = connector.connect(url).await?;
    let (second, second_connection) = connector.connect(url).await?;
    let (mut first_wire, mut second_wire) = (
        ConnectionDriver::new(first_connection),
        ConnectionDriver::new(second_connection),
    );
    for _ in 0..TRIES {
        let before = first_wire.drive(find_session(&first)).await?;
        // A pooler that shares gives the process that has just become free to the next client.
        let other = second_wire
            .drive(in_transaction(
                &second,
                first_wire.drive(find_session(&first)),
            ))
            .await?;
        if other.session == before || other.meanwhile != before {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What two clients saw at the same time.
struct Seen {
    /// The server process of the client with the transaction.
    session: String,
    /// That of the other one.
    meanwhile: String,
}

async fn in_transaction(
    client: &Client,
    meanwhile: impl Future<Output = Result<String, tokio_postgres::Error>>,
) -> Result<Seen, tokio_postgres::Error> {
    client.batch_execute("begin").await?;
    let session = find_session(client).await?;
    let meanwhile = meanwhile.await?;
    client.batch_execute("rollback").await?;
    Ok(Seen { session, meanwhile })
}

/// The server process that runs a statement of this client. Sent as text: a prepared statement is
/// what may fail.
async fn find_session(client: &Client) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(SESSION).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(format!("{:?} {:?}", row.get(0), row.get(1))),
        _ => None,
    });
    Ok(row.unwrap_or_default())
}
