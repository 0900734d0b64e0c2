//! SMTP, through lettre's connections and a small pool of our own.
//!
//! lettre's pool takes a connection back whose send was abandoned in the middle of the protocol;
//! the next mail would then be written into the previous one. Here a connection belongs to its send
//! and comes back only after a success, so that the connection of an abandoned send is closed.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::AsyncSmtpConnection,
    commands::Starttls,
    extension::{ClientId, Extension},
};
use parking_lot::Mutex;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::replies::{RelayStream, Replies};
use crate::{notify::SendError, tls};

/// How long a connection may take until it is ready for a mail.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection may lie idle; relays close theirs after some minutes.
const IDLE: Duration = Duration::from_secs(60);

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Not at all: for a relay on the same machine.
    None,
    /// By STARTTLS; a relay without it gets no mail.
    #[default]
    StartTls,
    /// From the first byte on.
    Tls,
}

impl Tls {
    /// The port where that is usual.
    pub fn port(self) -> u16 {
        match self {
            Tls::None => 25,
            Tls::StartTls => 587,
            Tls::Tls => 465,
        }
    }
}

/// Which relay, and how.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// User and password.
    pub credentials: Option<(String, SecretString)>,
    /// PEM file of authorities that are trusted beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Most connections that are kept for later mails.
    pub idle_connections: usize,
    /// The name that EHLO gives; by default the name of this machine.
    pub hello_name: Option<String>,
}

/// Why the relay cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SmtpSettingsError {
    #[error("smtp: the host must be a host name or an IP address: {0}")]
    Host(#[from] InvalidDnsNameError),
    #[error("smtp: {0:#}")]
    Tls(anyhow::Error),
}

/// Whether a text names a host, without a scheme, a port, or a path.
pub fn is_host(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}

/// A relay.
pub struct Smtp {
    host: String,
    port: u16,
    tls: Tls,
    connector: Option<(TlsConnector, ServerName<'static>)>,
    credentials: Option<Credentials>,
    hello: ClientId,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
    most_idle: usize,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Smtp {
    /// Prepares; connects to nothing.
    ///
    /// # Errors
    /// A file of authorities that cannot be read, and a host that no certificate can be for.
    pub fn new(settings: &SmtpSettings) -> Result<Self, SmtpSettingsError> {
        let connector = match settings.tls {
            Tls::None => None,
            Tls::StartTls | Tls::Tls => {
                let config = tls::client_config(settings.ca_file.as_deref())
                    .map_err(SmtpSettingsError::Tls)?;
                Some((
                    TlsConnector::from(Arc::new(config)),
                    ServerName::try_from(settings.host.clone())?,
                ))
            }
        };
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            tls: settings.tls,
            connector,
            credentials: settings.credentials.as_ref().map(|(user, password)| {
                Credentials::new(user.clone(), password.expose_secret().to_owned())
            }),
            hello: settings
                .hello_name
                .clone()
                .map_or_else(ClientId::default, ClientId::Domain),
            idle: Mutex::default(),
            most_idle: settings.idle_connections,
        })
    }

    /// Hands a letter to the relay.
    ///
    /// # Errors
    /// A permanent one where the relay answers 5xx, else one that may pass.
    pub async fn send(&self, mime: &lettre::Message) -> Result<(), SendError> {
        let mut connection = match self.idle_connection().await {
            Some(connection) => connection,
            None => timeout(CONNECT, self.connect())
                .await
                .map_err(|_| SendError::retry("smtp connect timeout"))??,
        };
        connection
            .send(mime.envelope(), &mime.formatted())
            .await
            .map_err(|error| classify("smtp", &error))?;
        self.keep(connection);
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let mut connection = self.open().await?;
        if let Some(credentials) = &self.credentials {
            let login = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            login.map_err(|error| classify("smtp auth", &error))?;
        }
        Ok(connection)
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, SendError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        // lettre writes a mail and its end apart: without this the end waits until the relay, which
        // takes its time with that, acknowledges the mail.
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|_| SendError::retry("smtp connection"))?;
        match (&self.connector, self.tls) {
            (Some(connector), Tls::Tls) => {
                self.greet(Replies::new(handshake(connector, stream).await?))
                    .await
            }
            (Some(connector), _) => {
                let stream = self.start_tls(stream).await?;
                self.greet(Replies::greeted(handshake(connector, stream).await?))
                    .await
            }
            (None, _) => self.greet(Replies::new(stream)).await,
        }
    }

    /// Exchanges the greeting and EHLO.
    async fn greet(
        &self,
        replies: Replies<impl RelayStream>,
    ) -> Result<AsyncSmtpConnection, SendError> {
        let connection =
            AsyncSmtpConnection::connect_with_transport(Box::new(replies), &self.hello).await;
        connection.map_err(|error| classify("smtp", &error))
    }

    /// Has the relay expect TLS next. Whatever it sent besides its reply is dropped with the
    /// replies, so that no one on the way can put words into the encrypted session.
    async fn start_tls(&self, stream: TcpStream) -> Result<TcpStream, SendError> {
        let (replies, back) = Replies::lent(stream);
        let mut connection = self.greet(replies).await?;
        if !connection
            .server_info()
            .supports_feature(Extension::StartTls)
        {
            return Err(SendError::retry("smtp starttls not offered"));
        }
        connection
            .command(Starttls)
            .await
            .map_err(|error| classify("smtp starttls", &error))?;
        drop(connection);
        back.await.map_err(|_| SendError::retry("smtp connection"))
    }

    /// One that lay idle and still answers.
    async fn idle_connection(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle.lock().pop()?;
            let answers = since.elapsed() < IDLE
                && timeout(CONNECT, connection.test_connected()).await == Ok(true);
            if answers {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock();
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        if idle.len() < self.most_idle && !connection.has_broken() {
            idle.push((connection, Instant::now()));
        }
    }
}

async fn handshake(
    (connector, name): &(TlsConnector, ServerName<'static>),
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, SendError> {
    connector
        .connect(name.clone(), stream)
        .await
        .map_err(|error| {
            tracing::warn!(%error, "TLS handshake with the relay failed");
            SendError::retry("smtp tls")
        })
}

/// Whether the relay rejects us and not the mail: it requires a login, or the login is wrong.
fn is_login(code: u16) -> bool {
    matches!(code, 530 | 535)
}

/// The relay's text is left out: it often repeats the address.
fn classify(step: &str, error: &Error) -> SendError {
    match error.status().map(u16::from) {
        Some(code) if error.is_permanent() && !is_login(code) => {
            SendError::permanent(format!("{step} {code}"))
        }
        Some(code) => SendError::retry(format!("{step} {code}")),
        None if error.is_timeout() => SendError::retry(format!("{step} timeout")),
        // What lettre itself rejects: no common mechanism of logins, an address that the relay
        // can't have.
        None if error.is_client() => SendError::retry(format!("{step} unsupported by the relay")),
        None => SendError::retry("smtp connection"),
    }
}
