//! SMTP, through lettre's connections and a small pool of our own.
//!
//! lettre's pool takes a connection back whose send was given up in the middle of the protocol; the next mail would
//! then be written into the one before. Here a connection belongs to its send and comes back only after a success, so
//! that one that is given up is closed.

use std::{
    fmt, io,
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, Certificate, TlsParameters},
    extension::ClientId,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpStream, time::timeout};

use crate::mail::SendError;

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
}

/// Why the relay cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SmtpSettingsError {
    #[error("smtp: {path}: {source}")]
    CaFile { path: PathBuf, source: io::Error },
    #[error("smtp: TLS: {0}")]
    Tls(#[from] Error),
}

/// A relay.
pub struct Smtp {
    host: String,
    port: u16,
    tls: Tls,
    parameters: Option<TlsParameters>,
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
        let parameters = match settings.tls {
            Tls::None => None,
            Tls::StartTls | Tls::Tls => Some(tls_parameters(settings)?),
        };
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            tls: settings.tls,
            parameters,
            credentials: settings
                .credentials
                .as_ref()
                .map(|(user, password)| Credentials::new(user.clone(), password.expose_secret().to_owned())),
            hello: ClientId::default(),
            idle: Mutex::default(),
            most_idle: settings.idle_connections,
        })
    }

    /// Hands a letter to the relay.
    ///
    /// # Errors
    /// A permanent one where the relay answers 5xx, else one that may pass.
    pub async fn send(&self, letter: &lettre::Message) -> Result<(), SendError> {
        let mut connection = match self.idle_connection().await {
            Some(connection) => connection,
            None => timeout(CONNECT, self.connect()).await.map_err(|_| SendError::retry("smtp connect timeout"))??,
        };
        connection.send(letter.envelope(), &letter.formatted()).await.map_err(|error| classify(&error))?;
        self.keep(connection);
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let mut connection = self.open().await?;
        if let (Tls::StartTls, Some(parameters)) = (self.tls, &self.parameters) {
            connection.starttls(parameters.clone(), &self.hello).await.map_err(|error| classify(&error))?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(|error| classify(&error))?;
        }
        Ok(connection)
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, SendError> {
        let server = (self.host.as_str(), self.port);
        let opened = if self.tls == Tls::Tls {
            let at_once = self.parameters.clone();
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT), &self.hello, at_once, None).await
        } else {
            // lettre writes a mail and its end apart: without this the end waits until the relay, which takes its time
            // with that, acknowledges the mail. Where TLS comes first, lettre alone has the socket.
            let stream = TcpStream::connect(server).await.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
            let stream = stream.map_err(|_| SendError::retry("smtp connection"))?;
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await
        };
        opened.map_err(|error| classify(&error))
    }

    /// One that lay idle and still answers.
    async fn idle_connection(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle.lock().expect("valid: no holder panics").pop()?;
            let answers = since.elapsed() < IDLE && timeout(CONNECT, connection.test_connected()).await == Ok(true);
            if answers {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().expect("valid: no holder panics");
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        if idle.len() < self.most_idle && !connection.has_broken() {
            idle.push((connection, Instant::now()));
        }
    }
}

fn tls_parameters(settings: &SmtpSettings) -> Result<TlsParameters, SmtpSettingsError> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|source| SmtpSettingsError::CaFile { path: path.clone(), source })?;
        builder = builder.add_root_certificate(Certificate::from_pem(&pem)?);
    }
    Ok(builder.build_rustls()?)
}

/// The relay's text is left out: it often repeats the address.
fn classify(error: &Error) -> SendError {
    match error.status() {
        Some(code) if error.is_permanent() => SendError::permanent(format!("smtp {code}")),
        Some(code) => SendError::retry(format!("smtp {code}")),
        None if error.is_timeout() => SendError::retry("smtp timeout"),
        None if error.is_tls() => SendError::retry("smtp tls"),
        None if error.is_client() => SendError::retry("smtp client"),
        None => SendError::retry("smtp connection"),
    }
}
