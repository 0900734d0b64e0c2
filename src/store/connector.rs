//! How connections to the database are made: by the URL's `sslmode`, with chain and name checked
//! wherever TLS is used.

use std::{error::Error, net::IpAddr, path::Path, time::Duration};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use tokio_postgres::{
    CancelToken, Client, Config, Connection, Socket,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{store::connection_driver::ConnectionDriver, telemetry::statement::Watcher, tls};

/// What TLS makes of a socket.
pub type Stream = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;

/// How long a host may take to be reached, so that there is time for another within the second that
/// a call waits.
const REACH: Duration = Duration::from_millis(400);
/// How long a host may leave what was sent unanswered by its kernel; one that lost its power says
/// nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// After which an idle connection is asked whether its other end is there.
const IDLE: Duration = Duration::from_secs(30);

/// By default the planner has two more processes of the server help with a page, which takes longer
/// to start them than to find it. A read of the whole table is worth them still.
///
/// What went wrong shows in the text of an error alone, as Diesel gives it, so it must come
/// untranslated. Where the role may not choose that, the database has to.
///
/// A write waits for a lock for a few seconds at most, so that its connection serves others again.
const SETTINGS: &str = "set parallel_setup_cost = 10000; set lock_timeout = '5s'; \
    do $$ begin perform set_config('lc_messages', 'C', false); exception when insufficient_privilege then null; end $$";

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    tls: MakeRustlsConnect,
}

impl Connector {
    /// Trusts the machine's own roots, and those in `ca_file` where it is given.
    ///
    /// # Errors
    /// A file that holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            tls: MakeRustlsConnect::new(tls::client_config(ca_file)?),
        })
    }

    /// A bare connection, whose second half has to be polled. The server's chain and name are
    /// checked wherever TLS is used, so that `sslmode=verify-ca` and `sslmode=verify-full` ask for
    /// no more than `require` does. The URL may name several hosts, which are tried in turn.
    pub async fn connect(
        &self,
        url: &str,
    ) -> Result<(Client, Connection<Socket, Stream>), tokio_postgres::Error> {
        config(url)?.connect(self.tls.clone()).await
    }

    /// A connection for statements, which is driven in a task of its own.
    pub async fn establish(&self, url: &str) -> ConnectionResult<AsyncPgConnection> {
        let (client, connection) = self.connect(url).await.map_err(bad)?;
        Ok(watched(
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?,
        ))
    }

    /// A connection for statements, and its driver, which the task that runs them polls.
    pub async fn establish_driven(
        &self,
        url: &str,
    ) -> ConnectionResult<(AsyncPgConnection, ConnectionDriver)> {
        let (client, connection) = self.connect(url).await.map_err(bad)?;
        let mut driver = ConnectionDriver::new(connection);
        driver
            .drive(client.batch_execute(SETTINGS))
            .await
            .map_err(bad)?;
        let conn = driver.drive(AsyncPgConnection::try_from(client)).await?;
        Ok((watched(conn), driver))
    }

    /// Asks the server to give up what a connection is doing.
    pub async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        token.cancel_query(self.tls.clone()).await
    }
}

/// Whether connections can be made by a URL, as far as its text tells.
pub fn is_url(url: &str) -> bool {
    let has_host =
        |config: Config| !config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty();
    config(url).is_ok_and(has_host)
}

/// Whether a connection by a URL may cross a network in plain text: it doesn't require TLS, and
/// names another machine. If TLS is merely preferred, an attacker on the path can remove the offer.
pub fn may_be_plain(url: &str) -> bool {
    let Ok(config) = config(url) else {
        return false;
    };
    let is_remote = |host: &Host| match host {
        Host::Tcp(name) => {
            !name.eq_ignore_ascii_case("localhost")
                && !name
                    .parse::<IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => false,
    };
    let names_another = config.get_hosts().iter().any(is_remote)
        || config
            .get_hostaddrs()
            .iter()
            .any(|address| !address.is_loopback());
    config.get_ssl_mode() != SslMode::Require && names_another
}

/// What a URL says, and if it says nothing, how long an unreachable host is waited for.
fn config(url: &str) -> Result<Config, tokio_postgres::Error> {
    let url = url
        .replace("sslmode=verify-full", "sslmode=require")
        .replace("sslmode=verify-ca", "sslmode=require");
    let mut config: Config = url.parse()?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(REACH);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    if !url.contains("keepalives") {
        config.keepalives_idle(IDLE);
    }
    Ok(config)
}

fn watched(mut conn: AsyncPgConnection) -> AsyncPgConnection {
    conn.set_instrumentation(Watcher::default());
    conn
}

fn bad(error: tokio_postgres::Error) -> ConnectionError {
    ConnectionError::BadConnection(with_sources(&error))
}

/// An error with what lies behind it: that a handshake failed says little without the reason.
fn with_sources(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
