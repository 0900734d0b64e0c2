//! The connections of our ports: accepted, limited, watched, and let go.
//!
//! [`serve`] runs a port. A connection is accepted first and may then take its time in a task of its own: for TLS, for
//! the HTTP/2 preface, for the head of a request, each within [`Limits`]. The [`ConnectionTable`] decides which one
//! gives way when there are too many. A response that nobody reads, a client that does not acknowledge PINGs, and a
//! connection that is idle or too old are closed.

mod body;
pub mod files;
mod http1;
mod http2;
mod limits;
mod socket;
mod table;
mod watchdog;

pub use body::RequestBody;
pub use limits::Limits;
pub use table::{ConnectionTable, Counts, Hold, PublicCall, PublicPermit};

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tower::Service;

use crate::{
    auth::tls::Acceptor,
    domain::caller::Caller,
    telemetry::metrics::{self, Refused},
};
use body::BoxError;
use socket::{Socket, Stream};
use table::{Cause, Entry, Link};

/// How long to wait where no connection can be accepted.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);
/// Connections accepted before others have their turn.
const BURST: usize = 16;
/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who is at the other end; found among the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the socket.
    pub address: SocketAddr,
    /// The service that the client's certificate stands for.
    pub caller: Option<Arc<Caller>>,
    link: Arc<Link>,
}

impl Peer {
    /// A call on this connection had a valid token: from now on it does not give way to strangers.
    pub fn authenticated(&self) {
        self.link.authenticated();
    }

    /// Begins a call that needs no token, where the limits leave room for it.
    pub fn public_call(&self, call: PublicCall) -> Option<PublicPermit> {
        self.link.public_call(call)
    }

    /// Lets a call outlive the age of its connection.
    pub fn hold(&self) -> Hold {
        self.link.hold()
    }
}

/// The versions of HTTP that a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// Either, by what the client sends first.
    Both,
}

impl Protocols {
    fn has_http1(self) -> bool {
        self != Self::Http2
    }
}

/// A port.
pub struct Port {
    /// Where it listens.
    pub listener: TcpListener,
    /// TLS; without it, none.
    pub acceptor: Option<Acceptor>,
    /// The versions of HTTP that it speaks.
    pub protocols: Protocols,
    /// The connections that share its limits.
    pub table: ConnectionTable,
}

/// Serves until `stop` comes, and then until the calls in flight have ended.
pub async fn serve<S, B>(port: Port, service: S, stop: impl Future<Output = ()>)
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Port { listener, acceptor, protocols, table } = port;
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let mut burst = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics::connection_refused(Refused::Failed);
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        burst += 1;
        if burst == BURST {
            burst = 0;
            tokio::task::yield_now().await;
        }
        let Ok(entry) = table.admit(address.ip()) else {
            metrics::connection_refused(Refused::Full);
            continue;
        };
        let permit = tokio::select! {
            permit = table.socket() => permit,
            () = &mut stop => break,
        };
        let peer = Peer { address, caller: None, link: Arc::clone(&entry) };
        let connection = Opening { stream, peer, entry, acceptor: acceptor.clone(), protocols, table: table.clone() };
        let (service, stopped) = (service.clone(), stopped.clone());
        connections.spawn(async move {
            connection.run(service, stopped).await;
            drop(permit);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// A connection that was just accepted.
struct Opening {
    stream: TcpStream,
    peer: Peer,
    entry: Entry,
    acceptor: Option<Acceptor>,
    protocols: Protocols,
    table: ConnectionTable,
}

impl Opening {
    async fn run<S, B>(self, service: S, stopped: watch::Receiver<bool>)
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { stream, mut peer, entry, acceptor, protocols, table } = self;
        let limits = table.limits();
        let link = Arc::clone(&entry);
        let opened = tokio::select! {
            biased;
            cause = link.closed() => Err(cause),
            () = until(stopped.clone()) => return,
            opened = open(stream, acceptor, protocols, limits) => opened,
        };
        let ended = match opened {
            Ok(Opened { socket, caller, is_http2 }) => {
                if caller.is_some() {
                    link.authenticated();
                }
                peer.caller = caller;
                let stop = until(stopped);
                if is_http2 {
                    http2::serve(socket, &peer, limits, protocols, &service, stop).await
                } else {
                    http1::serve(socket, &peer, limits, &service, stop).await
                }
            }
            Err(cause) => Err(cause),
        };
        if let Err(cause) = ended {
            metrics::connection_closed(cause.as_str());
            tracing::debug!(cause = cause.as_str(), "a connection was closed");
        }
    }
}

/// A connection that is ready for HTTP.
struct Opened {
    socket: Socket,
    caller: Option<Arc<Caller>>,
    is_http2: bool,
}

/// Waits for the first byte, shakes hands, and finds out which version of HTTP it is.
async fn open(
    stream: TcpStream,
    acceptor: Option<Acceptor>,
    protocols: Protocols,
    limits: &Limits,
) -> Result<Opened, Cause> {
    stream.set_nodelay(true).map_err(|_| Cause::Handshake)?;
    let (mut socket, caller) = match acceptor {
        Some(acceptor) => {
            first_byte(&stream, limits.first_byte()).await?;
            let accepted = timeout(limits.handshake(), acceptor.accept(stream)).await;
            let (stream, caller) = accepted.map_err(|_| Cause::Handshake)?.map_err(|error| {
                tracing::debug!(error = error.to_string(), "a TLS handshake failed");
                Cause::Handshake
            })?;
            (Socket::new(Stream::Tls(Box::new(stream))), caller.map(Arc::new))
        }
        None => {
            if protocols == Protocols::Http2 {
                first_byte(&stream, limits.first_byte()).await?;
            }
            (Socket::new(Stream::Plain(stream)), None)
        }
    };
    let is_http2 = match protocols {
        Protocols::Http1 => false,
        Protocols::Http2 => true,
        Protocols::Both => {
            let sniffed = timeout(limits.head(), sniff(&mut socket)).await;
            sniffed.map_err(|_| Cause::Preface)?.map_err(|_| Cause::Preface)?
        }
    };
    Ok(Opened { socket, caller, is_http2 })
}

async fn first_byte(stream: &TcpStream, within: Duration) -> Result<(), Cause> {
    timeout(within, stream.peek(&mut [0])).await.map_err(|_| Cause::FirstByte)?.map_err(|_| Cause::FirstByte).map(drop)
}

/// Whether a client begins with the preface of HTTP/2; what was read is read again.
async fn sniff(socket: &mut Socket) -> io::Result<bool> {
    let mut begun = Vec::with_capacity(PREFACE.len());
    while begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
        let mut piece = [0; PREFACE.len()];
        let read = socket.read(&mut piece[begun.len()..]).await?;
        if read == 0 {
            break;
        }
        let from = begun.len();
        begun.extend_from_slice(&piece[from..from + read]);
    }
    let is_http2 = begun == PREFACE;
    socket.put_back(begun.into());
    Ok(is_http2)
}

/// Comes when the port stops.
async fn until(mut stopped: watch::Receiver<bool>) {
    // The sender is gone only where the port is.
    stopped.wait_for(|stopped| *stopped).await.map(drop).unwrap_or_default();
}
