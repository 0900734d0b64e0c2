//! HTTP/1.1, by `hyper`.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tower::{Service, ServiceExt};

use super::{
    Limits, Peer,
    body::{BoxError, RequestBody},
    http2::MAX_HEADERS,
    socket::Socket,
    table::Cause,
    watchdog::{Finding, Watchdog, ticks},
};

/// Serves one connection until it ends.
///
/// # Errors
/// The reason for which it was closed, unless the client closed it.
pub(super) async fn serve<S, B>(
    socket: Socket,
    peer: &Peer,
    limits: &Limits,
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
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head())
        .max_buf_size(MAX_HEADERS as usize);
    let in_flight = Arc::new(AtomicUsize::new(0));
    let handler = service_fn(|request: Request<Incoming>| {
        link.established();
        let mut request = request.map(RequestBody::http1);
        request.extensions_mut().insert(peer.clone());
        in_flight.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(&in_flight));
        let call = service.clone().oneshot(request);
        async move {
            call.await.map(|response| {
                response.map(|body| Counted {
                    body: Box::pin(body),
                    _open: open,
                })
            })
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), handler));
    let (mut closed, mut stop) = (pin!(link.closed()), pin!(stop));
    let (mut ticks, mut is_stopping) = (ticks(), false);
    loop {
        tokio::select! {
            biased;
            cause = &mut closed => return Err(cause),
            () = &mut stop, if !is_stopping => {
                is_stopping = true;
                watchdog.leaves(Cause::Age);
                connection.as_mut().graceful_shutdown();
            }
            now = ticks.tick() => match watchdog.look(now, in_flight.load(Ordering::Relaxed)) {
                Finding::Fine => {}
                Finding::Leave => connection.as_mut().graceful_shutdown(),
                Finding::Close(cause) => return Err(cause),
            },
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = error.to_string(), "connection closed with an error");
                }
                return Ok(());
            }
        }
    }
}

/// A call in flight.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response whose call is in flight until it is written.
struct Counted<B> {
    body: Pin<Box<B>>,
    _open: Open,
}

impl<B: Body> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.body.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
