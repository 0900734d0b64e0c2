//! The socket of a connection, with or without TLS. Reads yield after each [`TURN`], because
//! connections share a thread. The socket also measures how long the client hasn't been reading.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::server::TlsStream;

/// Bytes that a connection reads before it yields. A client that floods delays others by no more
/// than that.
const TURN: usize = 32 * 1024;

/// The source of the bytes.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The socket of a connection.
pub(super) struct Socket {
    stream: Stream,
    /// Bytes that were already read to detect the protocol.
    prefix: Bytes,
    turn: usize,
    outflow: Arc<Outflow>,
}

/// Whether written data is being sent.
pub(super) struct Outflow {
    opened: Instant,
    /// Milliseconds after `opened`, plus one, at which the client stopped reading; 0 while it
    /// reads.
    blocked: AtomicU64,
}

impl Outflow {
    /// How long the client hasn't been reading.
    pub(super) fn blocked_for(&self, now: Instant) -> Duration {
        match self.blocked.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.saturating_duration_since(self.opened + Duration::from_millis(since - 1)),
        }
    }

    fn note(&self, is_blocked: bool) {
        let known = self.blocked.load(Ordering::Relaxed);
        if is_blocked && known == 0 {
            let since = self.opened.elapsed().as_millis() as u64;
            self.blocked.store(since + 1, Ordering::Relaxed);
        } else if !is_blocked && known != 0 {
            self.blocked.store(0, Ordering::Relaxed);
        }
    }
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        let outflow = Outflow {
            opened: Instant::now(),
            blocked: AtomicU64::new(0),
        };
        Self {
            stream,
            prefix: Bytes::new(),
            turn: 0,
            outflow: Arc::new(outflow),
        }
    }

    /// Puts bytes back, to be read again.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.prefix = bytes;
    }

    pub(super) fn outflow(&self) -> Arc<Outflow> {
        Arc::clone(&self.outflow)
    }

    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.outflow.note(written.is_pending());
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let count = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..count]);
            self.prefix.advance(count);
            return Poll::Ready(Ok(()));
        }
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.turn = if read.is_ready() {
            self.turn + buf.filled().len() - before
        } else {
            0
        };
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS buffers what the socket doesn't accept, and reports it only here.
        let flushed = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        match &self.stream {
            Stream::Plain(_) => flushed,
            Stream::Tls(_) => self.noted(flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.noted(shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
