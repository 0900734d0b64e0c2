//! HTTP/2, with `h2` directly. A response is passed on only as fast as the client's window opens,
//! so the unread data of a client is measured and bounded. `hyper` passes on the whole response and
//! doesn't track it.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{self, HeaderName},
};
use http_body::Body;
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt};

use super::{
    Limits, Peer, Protocols,
    body::{BoxError, RequestBody},
    socket::Socket,
    table::Cause,
    watchdog::{Finding, Watchdog, ticks},
};
use crate::telemetry::metrics;

/// Maximum size of the request headers: enough to report a token that is far too long.
pub(super) const MAX_HEADERS: u32 = 96 * 1024;
/// Bytes of request bodies that a client may send before a call reads them.
const WINDOW: u32 = 256 * 1024;
/// The budget per stream for small DATA frames that no call has read yet; `h2` counts up to 256 per
/// frame. The default budget of `h2` depends on [`WINDOW`], and would close a connection with the
/// maximum number of calls.
const FRAME_BUDGET: usize = 512;
/// Bytes of one response that are queued for the socket.
const SEND_BUFFER: usize = 128 * 1024;
/// Requests that one connection starts before it yields.
const BURST: usize = 16;
/// When a client gets its first PING: one that never ends its headers can't acknowledge it.
const FIRST_PING: Duration = Duration::from_secs(2);
/// How long sending the last GOAWAY may take.
const FAREWELL: Duration = Duration::from_millis(200);
/// Headers that are only defined in HTTP/1.1.
const OF_HTTP1: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Serves one connection until it ends.
///
/// # Errors
/// The reason for which it was closed, unless the client closed it.
pub(super) async fn serve<S, B>(
    socket: Socket,
    peer: &Peer,
    limits: &Limits,
    protocols: Protocols,
    service: &S,
    stop: impl Future<Output = ()>,
) -> Result<(), Cause>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let link = &peer.link;
    let mut watchdog = Watchdog::new(limits, link, socket.outflow());
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(MAX_HEADERS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .data_frame_budget(limits.streams_per_connection as usize * FRAME_BUDGET)
        .max_send_buffer_size(SEND_BUFFER);
    let mut stop = pin!(stop);
    let mut closed = pin!(link.closed());
    let opening = timeout(limits.handshake(), builder.handshake(socket));
    let mut connection: Connection<Socket, Bytes> = tokio::select! {
        biased;
        cause = &mut closed => return Err(cause),
        () = &mut stop => return Ok(()),
        opened = opening => match opened {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return failed(&error),
            Err(_) => return Err(Cause::Preface),
        },
    };
    link.established();
    let mut pings = Pings::new(connection.ping_pong(), limits);
    let streams = Streams(Arc::default());
    let (mut ticks, mut is_stopping, mut burst) = (ticks(), false, 0);
    loop {
        tokio::select! {
            biased;
            cause = &mut closed => return Err(farewell(&mut connection, cause).await),
            () = &mut stop, if !is_stopping => {
                is_stopping = true;
                watchdog.leaves(Cause::Age);
                connection.graceful_shutdown();
            }
            now = ticks.tick() => {
                match watchdog.look(now, streams.count()) {
                    Finding::Fine => {}
                    Finding::Leave => connection.graceful_shutdown(),
                    Finding::Close(cause) => return Err(farewell(&mut connection, cause).await),
                }
                if pings.are_unanswered(now).await {
                    return Err(farewell(&mut connection, Cause::Ping).await);
                }
            }
            accepted = connection.accept() => match accepted {
                Some(Ok((request, mut respond))) => {
                    if watchdog.is_overdue() {
                        respond.send_reset(Reason::REFUSED_STREAM);
                        continue;
                    }
                    let Some(request) = received(request, peer, limits) else {
                        respond.send_reset(Reason::PROTOCOL_ERROR);
                        continue;
                    };
                    let stream = streams.open();
                    let (service, unread) = (service.clone(), limits.unread());
                    let exchange = Exchange { respond, unread, has_date: protocols.has_http1() };
                    tokio::spawn(async move {
                        exchange.run(service.oneshot(request)).await;
                        drop(stream);
                    });
                    burst += 1;
                    if burst == BURST {
                        burst = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Some(Err(error)) => return failed(&error),
                None => return Ok(()),
            },
        }
    }
}

/// The end of a connection whose client violated the protocol, or has disconnected.
fn failed(error: &h2::Error) -> Result<(), Cause> {
    tracing::debug!(error = error.to_string(), "connection closed with an error");
    Ok(())
}

/// Sends a last GOAWAY, if the client reads it.
async fn farewell(connection: &mut Connection<Socket, Bytes>, cause: Cause) -> Cause {
    connection.abrupt_shutdown(match cause {
        Cause::Abuse => Reason::ENHANCE_YOUR_CALM,
        _ => Reason::NO_ERROR,
    });
    if timeout(FAREWELL, poll_fn(|cx| connection.poll_closed(cx)))
        .await
        .is_err()
    {
        tracing::debug!("a client did not take its GOAWAY");
    }
    cause
}

/// The streams of a connection.
struct Streams(Arc<AtomicUsize>);

impl Streams {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn open(&self) -> OpenStream {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.0))
    }
}

struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The PINGs of a connection. Each requires its own acknowledgement: received bytes don't prove
/// that the client reads.
struct Pings {
    channel: Option<PingPong>,
    every: Duration,
    timeout: Duration,
    due: Instant,
    sent: Option<Instant>,
}

impl Pings {
    fn new(channel: Option<PingPong>, limits: &Limits) -> Self {
        let due = Instant::now() + FIRST_PING.min(limits.ping());
        Self {
            channel,
            every: limits.ping(),
            timeout: limits.ping_timeout(),
            due,
            sent: None,
        }
    }

    /// Sends a PING if one is due. Returns whether the last one wasn't acknowledged in time.
    async fn are_unanswered(&mut self, now: Instant) -> bool {
        let Some(channel) = &mut self.channel else {
            return false;
        };
        if let Some(sent) = self.sent {
            let is_pending = poll_fn(|cx| Poll::Ready(channel.poll_pong(cx).is_pending())).await;
            if is_pending {
                return now.duration_since(sent) >= self.timeout;
            }
            self.sent = None;
            self.due = now + self.every;
        } else if now >= self.due {
            // It can't be sent if the connection is ending.
            self.sent = channel.send_ping(Ping::opaque()).is_ok().then_some(now);
        }
        false
    }
}

/// The request in the form that services accept; `None` if we don't support it.
fn received(
    request: Request<RecvStream>,
    peer: &Peer,
    limits: &Limits,
) -> Option<Request<RequestBody>> {
    if request.method() == Method::CONNECT {
        return None;
    }
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut request = request.map(|stream| RequestBody::http2(stream, length, limits.body()));
    request.extensions_mut().insert(peer.clone());
    Some(request)
}

/// One request and its response.
struct Exchange {
    respond: SendResponse<Bytes>,
    unread: Duration,
    has_date: bool,
}

impl Exchange {
    async fn run<F, B>(mut self, call: F)
    where
        F: Future<Output = Result<Response<B>, Infallible>>,
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let response = {
            let mut call = pin!(call);
            poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
                // If the client cancels its call or disconnects, the call ends.
                Poll::Pending => self.respond.poll_reset(cx).map(|_| None),
            })
            .await
        };
        let Some(response) = response else { return };
        if let Err(error) = self.send(response).await {
            tracing::debug!(
                error = error.to_string(),
                "a response did not reach its client"
            );
        }
    }

    async fn send<B>(mut self, response: Response<B>) -> Result<(), h2::Error>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = response.into_parts();
        let is_empty = body.is_end_stream();
        complete(
            &mut head.headers,
            (!is_empty).then(|| body.size_hint().exact()).flatten(),
            self.has_date,
        );
        let mut stream = self
            .respond
            .send_response(Response::from_parts(head, ()), is_empty)?;
        if is_empty {
            return Ok(());
        }
        let mut body = pin!(body);
        loop {
            match next(&mut body, &mut stream).await {
                Next::Frame(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let is_last = body.is_end_stream();
                        self.write(&mut stream, data, is_last).await?;
                        if is_last {
                            return Ok(());
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            return stream.send_trailers(trailers);
                        }
                    }
                },
                Next::Frame(None) => return stream.send_data(Bytes::new(), true),
                Next::Frame(Some(Err(error))) => {
                    tracing::debug!(error = error.to_string(), "a response was interrupted");
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Ok(());
                }
                Next::Reset => return Ok(()),
            }
        }
    }

    /// Passes data on as the client's window opens.
    async fn write(
        &self,
        stream: &mut SendStream<Bytes>,
        mut data: Bytes,
        is_last: bool,
    ) -> Result<(), h2::Error> {
        if data.is_empty() && is_last {
            return stream.send_data(data, true);
        }
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            if stream.capacity() == 0 {
                let opened = timeout(self.unread, poll_fn(|cx| poll_window(stream, cx))).await;
                match opened {
                    Ok(opened) => opened?,
                    Err(_) => {
                        metrics::response_unread();
                        stream.send_reset(Reason::CANCEL);
                        return Err(Reason::CANCEL.into());
                    }
                }
            }
            let piece = data.split_to(stream.capacity().min(data.len()));
            stream.send_data(piece, is_last && data.is_empty())?;
        }
        Ok(())
    }
}

/// Waits until the window has room for some bytes.
fn poll_window(
    stream: &mut SendStream<Bytes>,
    cx: &mut std::task::Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    loop {
        if let Poll::Ready(reset) = stream.poll_reset(cx) {
            return Poll::Ready(reset.and_then(|reason| Err(reason.into())));
        }
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) if stream.capacity() == 0 => {}
            Poll::Ready(Some(Ok(_))) => return Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// The next part of a response.
enum Next {
    Frame(Option<Result<http_body::Frame<Bytes>, BoxError>>),
    /// The client cancelled the call or has disconnected.
    Reset,
}

async fn next<B>(body: &mut Pin<&mut B>, stream: &mut SendStream<Bytes>) -> Next
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    poll_fn(|cx| match body.as_mut().poll_frame(cx) {
        Poll::Ready(frame) => {
            Poll::Ready(Next::Frame(frame.map(|frame| frame.map_err(Into::into))))
        }
        Poll::Pending => stream.poll_reset(cx).map(|_| Next::Reset),
    })
    .await
}

/// Converts the headers of a response to HTTP/2, and adds length and date.
fn complete(headers: &mut HeaderMap, length: Option<u64>, has_date: bool) {
    for name in OF_HTTP1 {
        headers.remove(name);
    }
    if let Some(length) = length {
        headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    if has_date && !headers.contains_key(header::DATE) {
        let date = httpdate::fmt_http_date(SystemTime::now());
        headers.insert(
            header::DATE,
            HeaderValue::try_from(date).expect("valid: a date is ASCII"),
        );
    }
}
