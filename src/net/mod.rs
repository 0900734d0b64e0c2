//! The connections of our ports: accepted, limited, monitored, and closed.
//!
//! [`serve`] runs a port. It accepts a connection first. A task per connection then reads the TLS
//! handshake, the HTTP/2 preface, and the head of each request, each with a timeout from
//! [`Limits`]. If there are too many connections, the [`ConnectionTable`] decides which one is
//! closed. A connection is also closed if its client doesn't read a response or doesn't acknowledge
//! PINGs, and if it is idle or too old.

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

use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

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
    telemetry::metrics::{self, Rejected},
};
use body::BoxError;
use socket::{Socket, Stream};
use table::{Cause, Entry, Link};

/// How long to wait if no connection can be accepted.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);
/// Connections that are accepted before the task yields.
const BURST: usize = 16;
/// The first bytes of an HTTP/2 client.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The client of a connection; available as an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the socket.
    pub address: SocketAddr,
    /// The service that the client certificate identifies.
    pub caller: Option<Arc<Caller>>,
    link: Arc<Link>,
}

impl Peer {
    /// A call on this connection had a valid token: from now on, no new connection can displace it.
    pub fn authenticated(&self) {
        self.link.authenticated();
    }

    /// Begins a call that needs no token, if the limits permit it.
    pub fn public_call(&self, call: PublicCall) -> Option<PublicPermit> {
        self.link.public_call(call)
    }

    /// Lets a call continue past the maximum age of its connection.
    pub fn hold(&self) -> Hold {
        self.link.hold()
    }
}

/// The HTTP versions of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// Only HTTP/1.1.
    Http1,
    /// Only HTTP/2.
    Http2,
    /// Either; the first bytes of the client decide.
    Both,
}

impl Protocols {
    fn has_http1(self) -> bool {
        self != Self::Http2
    }
}

/// A port.
pub struct Port {
    /// The address to listen on.
    pub listener: TcpListener,
    /// The TLS configuration; `None` for plain text.
    pub acceptor: Option<Acceptor>,
    /// The HTTP versions.
    pub protocols: Protocols,
    /// The connections that share its limits.
    pub table: ConnectionTable,
}

/// Serves until `stop` is signaled, and then until the calls in flight have ended.
pub async fn serve<S, B>(port: Port, service: S, stop: impl Future<Output = ()>)
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Port {
        listener,
        acceptor,
        protocols,
        table,
    } = port;
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
                metrics::connection_refused(Rejected::Failed);
                tracing::warn!(%error, "failed to accept a connection");
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
            metrics::connection_refused(Rejected::Full);
            continue;
        };
        let permit = tokio::select! {
            permit = table.socket() => permit,
            () = &mut stop => break,
        };
        let peer = Peer {
            address,
            caller: None,
            link: Arc::clone(&entry),
        };
        let connection = Opening {
            stream,
            peer,
            entry,
            acceptor: acceptor.clone(),
            protocols,
            table: table.clone(),
        };
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

/// A newly accepted connection.
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
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self {
            stream,
            mut peer,
            entry,
            acceptor,
            protocols,
            table,
        } = self;
        let limits = table.limits();
        let link = Arc::clone(&entry);
        let opened = tokio::select! {
            biased;
            cause = link.closed() => Err(cause),
            () = until(stopped.clone()) => return,
            opened = open(stream, acceptor, protocols, limits) => opened,
        };
        let ended = match opened {
            Ok(Opened {
                socket,
                caller,
                is_http2,
            }) => {
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

/// Waits for the first byte, performs the TLS handshake, and detects the HTTP version.
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
                tracing::debug!(error = error.to_string(), "TLS handshake failed");
                Cause::Handshake
            })?;
            (
                Socket::new(Stream::Tls(Box::new(stream))),
                caller.map(Arc::new),
            )
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
            sniffed
                .map_err(|_| Cause::Preface)?
                .map_err(|_| Cause::Preface)?
        }
    };
    Ok(Opened {
        socket,
        caller,
        is_http2,
    })
}

async fn first_byte(stream: &TcpStream, within: Duration) -> Result<(), Cause> {
    timeout(within, stream.peek(&mut [0]))
        .await
        .map_err(|_| Cause::FirstByte)?
        .map_err(|_| Cause::FirstByte)
        .map(drop)
}

/// Whether a client starts with the HTTP/2 preface. The bytes that were read are put back.
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

/// Resolves when the port stops.
async fn until(mut stopped: watch::Receiver<bool>) {
    // The sender is only dropped together with the port.
    stopped
        .wait_for(|stopped| *stopped)
        .await
        .map(drop)
        .unwrap_or_default();
}
