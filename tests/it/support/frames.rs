//! A client that speaks HTTP/2 frame by frame, and so may do what no well-behaved one does.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The first bytes of every connection, and empty SETTINGS.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The 32-bit number at this place of the payload, such as an error code.
    pub(crate) fn number(&self, place: usize) -> u32 {
        u32::from_be_bytes(self.payload[place..place + 4].try_into().unwrap())
    }
}

/// A connection.
pub(crate) struct RawHttp2 {
    pub stream: TcpStream,
    /// Whether it acknowledges PINGs, as it should.
    pub has_acks: bool,
}

impl RawHttp2 {
    /// Connects, and sends the preface.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut raw = Self {
            stream: TcpStream::connect(address).await.unwrap(),
            has_acks: true,
        };
        raw.send(PREFACE).await;
        raw
    }

    /// Sends bytes; the other end may be gone.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap_or_default();
    }

    /// Begins a call whose message is to follow.
    pub(crate) async fn begin(&mut self, stream: u32, path: &str) {
        self.send(&headers(stream, path, END_HEADERS)).await;
    }

    /// Begins headers that never end.
    pub(crate) async fn begin_headers(&mut self, stream: u32, path: &str) {
        self.send(&headers(stream, path, 0)).await;
        self.send(&frame(CONTINUATION, 0, stream, &[])).await;
    }

    /// Makes a call with an empty message.
    pub(crate) async fn call(&mut self, stream: u32, path: &str) {
        self.begin(stream, path).await;
        self.send(&frame(DATA, END_STREAM, stream, &[0; 5])).await;
    }

    /// Sets one of its SETTINGS.
    pub(crate) async fn set(&mut self, setting: u16, value: u32) {
        let payload = [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat();
        self.send(&frame(SETTINGS, 0, 0, &payload)).await;
    }

    /// The next frame; `None` when the other end has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let received = Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        };
        if received.kind == PING && received.flags & ACK == 0 && self.has_acks {
            self.send(&frame(PING, ACK, 0, &received.payload)).await;
        }
        Some(received)
    }

    /// The next frame of this kind, if one comes before the end.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        while let Some(frame) = self.next().await {
            if frame.kind == kind {
                return Some(frame);
            }
        }
        None
    }

    /// All frames until the other end closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The HEADERS of a gRPC call without a token.
pub(crate) fn headers(stream: u32, path: &str, flags: u8) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal without indexing; both texts are shorter than 127 bytes.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(HEADERS, flags, stream, &block)
}
