//! The body of a request, for every HTTP version.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

/// Any error, in the form that tonic and axum accept.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub struct RequestBody(Source);

enum Source {
    Http1(Incoming),
    Http2(Http2Body),
}

impl RequestBody {
    pub(super) fn http1(body: Incoming) -> Self {
        Self(Source::Http1(body))
    }

    /// A body that may pause for this long.
    pub(super) fn http2(stream: RecvStream, length: Option<u64>, pause: Duration) -> Self {
        Self(Source::Http2(Http2Body {
            stream,
            left: length,
            pause,
            timer: None,
            is_read: false,
        }))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Source::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Source::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Http1(body) => body.is_end_stream(),
            Source::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Http1(body) => body.size_hint(),
            Source::Http2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            Source::Http2(body) => body.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

struct Http2Body {
    stream: RecvStream,
    /// The remaining bytes, if the client has announced the length.
    left: Option<u64>,
    pause: Duration,
    /// Runs while the call waits for the client.
    timer: Option<Pin<Box<Sleep>>>,
    /// All data is read, and the trailers are next.
    is_read: bool,
}

impl Http2Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.poll_stream(cx) {
            Poll::Ready(frame) => {
                self.timer = None;
                Poll::Ready(frame)
            }
            Poll::Pending => {
                let pause = self.pause;
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(pause)));
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Some(Err("the request body paused for too long".into())))
            }
        }
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.is_read {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let size = data.len();
                    self.left = self.left.map(|left| left.saturating_sub(size as u64));
                    // If the stream was reset in the meantime, it no longer exists and its window
                    // doesn't matter.
                    self.stream
                        .flow_control()
                        .release_capacity(size)
                        .unwrap_or_default();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.is_read = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }
}
