//! The connections of a port, with or without TLS, and who is at their other end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::tls::Acceptor;
use crate::domain::caller::Caller;

/// Connections are aged out, so that load spreads over new replicas.
pub const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Handshakes at one time; more clients wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// How long to wait where no connection can be taken, mostly for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Who is at the other end; found among the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: Option<SocketAddr>,
    /// The service that the client's certificate speaks for.
    pub caller: Option<Arc<Caller>>,
}

/// One connection.
pub struct Connection {
    stream: Stream,
    peer: Peer,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The connections of a port, until the stream is dropped, which closes the port. A client whose handshake is slow
/// or fails is in nobody's way.
pub fn incoming(listener: TcpListener, acceptor: Option<Acceptor>) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = accept_all(&listener, acceptor, &sender) => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn accept_all(listener: &TcpListener, acceptor: Option<Acceptor>, sender: &mpsc::Sender<io::Result<Connection>>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let permit = Arc::clone(&handshakes).acquire_owned().await.expect("valid: never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            match Connection::open(stream, acceptor).await {
                // The receiver is gone where the port was closed meanwhile, and then so is the connection.
                Ok(connection) => sender.send(Ok(connection)).await.unwrap_or_default(),
                Err(error) => tracing::debug!(%error, "a handshake failed"),
            }
            drop(permit);
        });
    }
}

impl Connection {
    async fn open(stream: TcpStream, acceptor: Option<Acceptor>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let address = stream.peer_addr().ok();
        let (stream, caller) = match acceptor {
            Some(acceptor) => {
                let (stream, caller) = acceptor.accept(stream).await?;
                (Stream::Tls(Box::new(stream)), caller.map(Arc::new))
            }
            None => (Stream::Plain(stream), None),
        };
        Ok(Self { stream, peer: Peer { address, caller } })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
