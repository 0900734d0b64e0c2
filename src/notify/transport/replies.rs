//! A relay's replies in the form that lettre reads.
//!
//! RFC 5321, section 4.2: the code alone decides, its text is for people, and may be missing.
//! lettre's parser wants more: UTF-8, a space after the code of the last line, CRLF at its end, and
//! short lines. Relays send text in GBK, a bare `250`, and bare line feeds, and a mail that was
//! accepted must not be sent again because of that.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::client::TlsStream;

/// Bytes of a line that are kept; lettre rejects lines of more than 1000.
const MAX_LINE: usize = 900;
/// Digits of a code.
const CODE: usize = 3;
/// What a relay says first. It says nothing again after STARTTLS, where lettre still expects it.
const GREETING: &[u8] = b"220 \r\n";

/// A stream to a relay.
pub(super) trait RelayStream:
    AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static
{
    /// The address of the relay.
    ///
    /// # Errors
    /// The socket's.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}

impl RelayStream for TcpStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

impl RelayStream for TlsStream<TcpStream> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().0.peer_addr()
    }
}

/// A relay's stream, whose replies have the form that lettre reads.
pub(super) struct Replies<S> {
    /// `None` only while it is dropped.
    stream: Option<S>,
    line: Line,
    /// Bytes that are ready to be read from `start` on.
    ready: Vec<u8>,
    start: usize,
    /// Where the stream goes when lettre drops it, for STARTTLS.
    lender: Option<oneshot::Sender<S>>,
}

impl<S> Replies<S> {
    /// The replies of a relay that has not said anything yet.
    pub(super) fn new(stream: S) -> Self {
        Self::with(stream, Vec::new(), None)
    }

    /// The replies of a relay that has greeted before the connection was encrypted.
    pub(super) fn greeted(stream: S) -> Self {
        Self::with(stream, GREETING.to_vec(), None)
    }

    /// The same as [`Replies::new`], and the stream, which comes back when the replies are dropped.
    pub(super) fn lent(stream: S) -> (Self, oneshot::Receiver<S>) {
        let (lender, back) = oneshot::channel();
        (Self::with(stream, Vec::new(), Some(lender)), back)
    }

    fn with(stream: S, ready: Vec<u8>, lender: Option<oneshot::Sender<S>>) -> Self {
        Self {
            stream: Some(stream),
            line: Line::default(),
            ready,
            start: 0,
            lender,
        }
    }

    fn stream(&mut self) -> io::Result<&mut S> {
        self.stream
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> Drop for Replies<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(lender)) = (self.stream.take(), self.lender.take()) {
            // Without a receiver, the connection was abandoned, and closes.
            drop(lender.send(stream));
        }
    }
}

impl<S: RelayStream> AsyncTokioStream for Replies<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream
            .as_ref()
            .ok_or(io::ErrorKind::NotConnected)?
            .peer_addr()
    }
}

impl<S> fmt::Debug for Replies<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl<S: RelayStream> AsyncRead for Replies<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A part of a reply can be empty in its new form.
        while this.start == this.ready.len() {
            (this.start, this.ready) = (0, Vec::new());
            let mut bytes = [0; 1024];
            let mut part = ReadBuf::new(&mut bytes);
            ready!(Pin::new(this.stream()?).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            for byte in part.filled() {
                this.line.push(*byte, &mut this.ready);
            }
        }
        let rest = &this.ready[this.start..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.start += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: RelayStream> AsyncWrite for Replies<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().stream()?).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_shutdown(cx)
    }
}

/// One line of a reply, byte by byte.
#[derive(Debug, Default)]
struct Line {
    length: usize,
    /// Whether the code says that the command went well: it begins with 2.
    is_success: bool,
}

impl Line {
    /// Appends what a byte becomes.
    fn push(&mut self, byte: u8, out: &mut Vec<u8>) {
        // The code has three digits; a hyphen or a space follows it.
        let lacks_space = self.length == CODE && byte != b' ' && byte != b'-' && byte != b'\r';
        if lacks_space {
            out.push(b' ');
            self.length += 1;
        }
        match byte {
            // It is written with the line feed.
            b'\r' => {}
            b'\n' => {
                // lettre takes the first word of the reply to EHLO for the name of the relay, and
                // needs one.
                if self.is_success && self.length == CODE + 1 {
                    out.extend_from_slice(b"ok");
                }
                out.extend_from_slice(b"\r\n");
                self.length = 0;
            }
            _ if self.length >= MAX_LINE => {}
            _ => {
                if self.length == 0 {
                    self.is_success = byte == b'2';
                }
                out.push(if byte.is_ascii() { byte } else { b'?' });
                self.length += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_get_the_form_of_the_standard() {
        let read = |bytes: &[u8]| {
            let (mut line, mut out) = (Line::default(), Vec::new());
            bytes.iter().for_each(|byte| line.push(*byte, &mut out));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            read(b"250 2.0.0 Ok: queued\r\n"),
            "250 2.0.0 Ok: queued\r\n"
        );
        assert_eq!(
            read(b"250-SIZE\r\n250 HELP\r\n"),
            "250-SIZE\r\n250 HELP\r\n"
        );
        assert_eq!(read(b"250\r\n"), "250 ok\r\n");
        assert_eq!(read(b"250\n354\n334 \r\n"), "250 ok\r\n354 \r\n334 \r\n");
        assert_eq!(read(b"250 \xd3\xca\xbc\xfe\r\n"), "250 ????\r\n");
        assert_eq!(read(b"550\xd3\r\n"), "550 ?\r\n");
        let long = [b"250 ".as_slice(), &[b'x'; 5000], b"\r\n"].concat();
        assert_eq!(read(&long).len(), MAX_LINE + 2);
    }
}
