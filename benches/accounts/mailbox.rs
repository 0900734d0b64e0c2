//! An SMTP server: mailin speaks the protocol, and every mail is noted with the time when it was
//! whole.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Context;
use mailin::{Action, Handler, Response, SessionBuilder, response};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How long mails are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mail that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub at: Instant,
    pub text: String,
}

type Mails = HashMap<String, Arrived>;

/// The server, with its mails by recipient; it goes with the bench.
pub(crate) struct Mailbox {
    pub address: SocketAddr,
    mails: watch::Sender<Mails>,
}

impl Mailbox {
    /// Opens a free port of 127.0.0.1.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, mails) = (listener.local_addr()?, watch::Sender::default());
        tokio::spawn(accept(listener, mails.clone()));
        Ok(Self { address, mails })
    }

    pub(crate) fn len(&self) -> usize {
        self.mails.borrow().len()
    }

    /// Waits until there are so many, and gives them.
    pub(crate) async fn wait_for(&self, count: usize) -> anyhow::Result<Mails> {
        let mut mails = self.mails.subscribe();
        let arrived =
            tokio::time::timeout(PATIENCE, mails.wait_for(|mails| mails.len() >= count)).await;
        let mails = arrived.context("the mails do not come")??.clone();
        Ok(mails)
    }
}

async fn accept(listener: TcpListener, mails: watch::Sender<Mails>) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(converse(stream, peer.ip(), mails.clone()));
    }
}

async fn converse(stream: TcpStream, peer: IpAddr, mails: watch::Sender<Mails>) -> io::Result<()> {
    let conversation = Conversation {
        mails,
        to: String::new(),
        data: Vec::new(),
    };
    let mut session = SessionBuilder::new("localhost").build(peer, conversation);
    let mut stream = BufReader::new(stream);
    stream.write_all(&session.greeting().buffer()?).await?;
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        let answer = session.process(&line);
        line.clear();
        if answer.action != Action::NoReply {
            stream.write_all(&answer.buffer()?).await?;
        }
        if answer.action == Action::Close {
            break;
        }
    }
    Ok(())
}

/// One mail after the other.
struct Conversation {
    mails: watch::Sender<Mails>,
    to: String,
    data: Vec<u8>,
}

impl Handler for Conversation {
    fn rcpt(&mut self, to: &str) -> Response {
        to.clone_into(&mut self.to);
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.data.extend(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let (at, data) = (Instant::now(), std::mem::take(&mut self.data));
        let arrived = Arrived {
            at,
            text: String::from_utf8_lossy(&data).into_owned(),
        };
        self.mails.send_modify(|mails| {
            mails.insert(std::mem::take(&mut self.to), arrived);
        });
        response::OK
    }
}
