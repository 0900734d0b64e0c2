//! A real SMTP server: mailin speaks the protocol, over plain TCP, STARTTLS or TLS.

use std::{
    collections::VecDeque,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use mailin::{Action, AuthMechanism, Handler, Response, Session, SessionBuilder, response};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// How long a test waits for mails.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the server encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    None,
    /// Offers STARTTLS, and takes no password before it.
    StartTls,
    Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    None,
    Required,
}

/// A mail that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub to: Vec<String>,
    /// Headers and body as they came.
    pub data: String,
    /// Who logged in, with what password.
    pub login: Option<(String, String)>,
    /// Which connection it came by, from 0 on.
    pub connection: usize,
}

/// The server, which ends with the test.
pub struct SmtpServer {
    pub address: SocketAddr,
    ca_file: PathBuf,
    manner: Manner,
    /// Ends all conversations with it.
    accepting: JoinHandle<()>,
    /// Holds the port while no one listens.
    away: Option<TcpSocket>,
}

/// How all connections are talked to.
#[derive(Clone)]
struct Manner {
    security: Security,
    login: Login,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
}

struct Shared {
    received: watch::Sender<Vec<Received>>,
    /// What the next recipients are answered with; 0 is no answer at all. After them all are taken.
    answers: Mutex<VecDeque<u16>>,
}

impl SmtpServer {
    /// Starts on a free port of 127.0.0.1; it asks no one for a password.
    pub async fn start(security: Security) -> Self {
        Self::listen(security, Login::None).await
    }

    /// Starts on a free port of 127.0.0.1 and takes mails only after a login; any password but
    /// `wrong` is right.
    pub async fn start_with_login(security: Security) -> Self {
        Self::listen(security, Login::Required).await
    }

    async fn listen(security: Security, login: Login) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca_file = std::env::temp_dir().join(format!("smtp-ca-{}.pem", uuid::Uuid::new_v4()));
        fs::write(&ca_file, cert.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            received: watch::Sender::default(),
            answers: Mutex::default(),
        });
        let manner = Manner {
            security,
            login,
            acceptor,
            shared,
        };
        let accepting = tokio::spawn(accept(listener, manner.clone()));
        Self {
            address,
            ca_file,
            manner,
            accepting,
            away: None,
        }
    }

    /// Breaks all connections and rejects new ones.
    pub async fn go_away(&mut self) {
        self.accepting.abort();
        assert!(
            (&mut self.accepting).await.is_err(),
            "it accepts until it is told to end"
        );
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.away = Some(socket);
    }

    /// Takes connections again, at the same address.
    pub fn come_back(&mut self) {
        let listener = self.away.take().expect("it is away").listen(64).unwrap();
        self.accepting = tokio::spawn(accept(listener, self.manner.clone()));
    }

    /// PEM file with the certificate, which is for `localhost`.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Answers the next recipients with these codes instead of taking them; with 0 it falls silent.
    pub fn answer_next_with(&self, codes: &[u16]) {
        self.manner.shared.answers.lock().unwrap().extend(codes);
    }

    /// The mails so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.manner.shared.received.borrow().clone()
    }

    /// Waits until `count` mails are there.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut received = self.manner.shared.received.subscribe();
        let arrived = timeout(PATIENCE, received.wait_for(|mails| mails.len() >= count)).await;
        arrived.expect("the mails have arrived").unwrap().clone()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.accepting.abort();
        fs::remove_file(&self.ca_file).unwrap();
    }
}

/// What one connection tells the server.
struct Conversation {
    shared: Arc<Shared>,
    connection: usize,
    to: Vec<String>,
    data: Vec<u8>,
    login: Option<(String, String)>,
}

impl Handler for Conversation {
    fn mail(&mut self, _: IpAddr, _: &str, _: &str) -> Response {
        self.to.clear();
        self.data.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        match self.shared.answers.lock().unwrap().pop_front() {
            None => {
                self.to.push(to.to_owned());
                response::OK
            }
            Some(code) => Response::custom(code, "as the test says".to_owned()),
        }
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.data.extend(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let mail = Received {
            to: self.to.clone(),
            data: String::from_utf8_lossy(&self.data).into_owned(),
            login: self.login.clone(),
            connection: self.connection,
        };
        self.shared.received.send_modify(|mails| mails.push(mail));
        response::OK
    }

    fn auth_plain(&mut self, _: &str, user: &str, password: &str) -> Response {
        if password == "wrong" {
            return response::INVALID_CREDENTIALS;
        }
        self.login = Some((user.to_owned(), password.to_owned()));
        response::AUTH_OK
    }
}

async fn accept(listener: TcpListener, manner: Manner) {
    let mut conversations = JoinSet::new();
    for connection in 0.. {
        let (stream, peer) = listener.accept().await.unwrap();
        let shared = Arc::clone(&manner.shared);
        let conversation = Conversation {
            shared,
            connection,
            to: Vec::new(),
            data: Vec::new(),
            login: None,
        };
        let mut builder = SessionBuilder::new("localhost");
        if manner.login == Login::Required {
            builder.enable_auth(AuthMechanism::Plain);
        }
        match manner.security {
            Security::None => builder.insecure_enable_plaintext_auth(),
            Security::StartTls => builder.enable_start_tls(),
            Security::Tls => &mut builder,
        };
        let session = builder.build(peer.ip(), conversation);
        let (acceptor, security) = (manner.acceptor.clone(), manner.security);
        conversations.spawn(async move {
            // A client that goes away in the middle is part of what is tested.
            converse(stream, acceptor, security, session)
                .await
                .unwrap_or_default();
        });
    }
}

async fn converse(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    security: Security,
    mut session: Session<Conversation>,
) -> io::Result<()> {
    let greeting = session.greeting();
    if security == Security::Tls {
        let mut stream = BufReader::new(acceptor.accept(stream).await?);
        session.tls_active();
        stream.write_all(&greeting.buffer()?).await?;
        speak(&mut stream, &mut session).await?;
        return Ok(());
    }
    let mut stream = BufReader::new(stream);
    stream.write_all(&greeting.buffer()?).await?;
    if speak(&mut stream, &mut session).await? == Action::UpgradeTls {
        let mut stream = BufReader::new(acceptor.accept(stream.into_inner()).await?);
        session.tls_active();
        speak(&mut stream, &mut session).await?;
    }
    Ok(())
}

/// Answers line by line until the connection closes or is to be encrypted.
async fn speak<S>(
    stream: &mut BufReader<S>,
    session: &mut Session<Conversation>,
) -> io::Result<Action>
where
    S: AsyncRead + AsyncWrite + Unpin,
    BufReader<S>: AsyncBufRead,
{
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(Action::Close);
        }
        let answer = session.process(&line);
        match answer.action {
            Action::NoReply => {}
            _ if answer.code == 0 => std::future::pending().await,
            Action::Reply => stream.write_all(&answer.buffer()?).await?,
            Action::Close | Action::UpgradeTls => {
                stream.write_all(&answer.buffer()?).await?;
                return Ok(answer.action);
            }
        }
    }
}
