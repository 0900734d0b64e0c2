//! The layer around every call: its request id, its caller, its deadline, and details for the
//! statuses that the transport makes by itself.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode, header};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{ACCEPT_ENCODING, COMPRESSED, message};
use crate::{
    call_guard::{self, CallGuard, StreamPermits},
    convert,
    decompress::Encoding,
    error::{Error, FieldError, Reason, Result},
    net::{Peer, PublicCall},
    telemetry::call::{self, Call, REQUEST_ID_HEADER, Rpc, Transport},
};

impl<S> Layer<S> for CallGuard {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            guard: self.clone(),
            inner,
        }
    }
}

/// A service behind the call guard.
#[derive(Clone)]
pub struct AuthService<S> {
    guard: CallGuard,
    inner: S,
}

impl<S> Service<Request<Body>> for AuthService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_grpc(request.headers()) {
            return Box::pin(async { Ok(unsupported_media_type()) });
        }
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        if let Some(public) = public_call(request.uri().path()) {
            return Box::pin(pass(inner, request, public));
        }
        // The transport's own timer begins here; on a busy machine the call itself begins later.
        let came = Instant::now();
        let call = Call::new(request.headers(), Transport::Grpc);
        let header = call.header();
        let guard = self.guard.clone();
        Box::pin(call.run(async move {
            let answered = AssertUnwindSafe(answer(guard, inner, request, came))
                .catch_unwind()
                .await;
            let answered = answered.unwrap_or_else(|_| Err(Error::internal("the call panicked")));
            let mut response = answered.unwrap_or_else(|error| Status::from(error).into_http());
            response.headers_mut().insert(REQUEST_ID_HEADER, header);
            Ok(response)
        }))
    }
}

/// Whether a request says that it is gRPC with protobuf messages.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let media_type = value.split(';').next().unwrap_or(value).trim_end();
    media_type.eq_ignore_ascii_case("application/grpc")
        || media_type.eq_ignore_ascii_case("application/grpc+proto")
}

/// What the gRPC protocol prescribes for any other content type: no status of gRPC, which a client
/// of another protocol would not find.
fn unsupported_media_type() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// The calls that need no token: health and reflection.
fn public_call(path: &str) -> Option<PublicCall> {
    if path.starts_with("/grpc.reflection.") {
        return Some(PublicCall::Reflection);
    }
    let method = path.strip_prefix("/grpc.health.")?;
    Some(if method.ends_with("/Watch") {
        PublicCall::Watch
    } else {
        PublicCall::Check
    })
}

/// Health and reflection are answered as they are: they need no token and no in-flight permit, and
/// so have limits of their own.
async fn pass<S>(
    mut inner: S,
    request: Request<Body>,
    public: PublicCall,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let header = call::echo(request.headers());
    let permit = request
        .extensions()
        .get::<Peer>()
        .map(|peer| peer.public_call(public));
    let mut response = if let Some(None) = permit {
        Status::from(Error::new(Reason::Overloaded)).into_http()
    } else {
        let response = explained(inner.call(request).await?);
        response.map(|body| {
            Body::new(Held {
                body,
                _held: permit,
            })
        })
    };
    response.headers_mut().insert(REQUEST_ID_HEADER, header);
    Ok(response)
}

/// A response that holds something until it ends.
struct Held<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

async fn answer<S>(
    guard: CallGuard,
    mut inner: S,
    mut request: Request<Body>,
    came: Instant,
) -> Result<Response<Body>>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let rpc = convert::rpc(request.uri().path().trim_start_matches('/'))
        .map(|(service, method)| Rpc(service, method));
    rpc.inspect(|rpc| call::set_rpc(*rpc));
    // What is no RPC of ours has no rule, and a token is asked for all the same.
    let Rpc(_, method) = rpc.unwrap_or(Rpc("", ""));
    let limit = deadline(request.headers(), guard.deadline(method), came)?;
    // On the heap, and so moved no more: each wrapper around a future holds it once more than it
    // need.
    let call = Box::pin(async {
        let certified = request
            .extensions()
            .get::<Peer>()
            .and_then(|peer| peer.caller.as_ref());
        let mut call_permits = guard
            .authenticate(call_guard::bearer(request.headers()), certified, method)
            .await?;
        let peer = request.extensions().get::<Peer>();
        peer.inspect(|peer| peer.authenticated());
        let hold = peer.filter(|_| method == "ImportUsers").map(Peer::hold);
        request
            .extensions_mut()
            .insert(Arc::clone(&call_permits.caller));
        if method == "ImportUsers" {
            call_permits.permit.reserve(message::MAX_MESSAGE)?;
            // It goes on after its answer has begun, and keeps its permits until then.
            request
                .extensions_mut()
                .insert(StreamPermits::new(guard.acquire()?, call_permits.permit));
            let Ok(response) = inner.call(request).await;
            let response = explained(response);
            return Ok(match hold {
                Some(hold) => response.map(|body| Body::new(Held { body, _held: hold })),
                None => response,
            });
        }
        let (mut parts, body) = request.into_parts();
        let encoding = parts
            .headers
            .get("grpc-encoding")
            .and_then(|value| Encoding::parse(value.to_str().ok()?));
        if !COMPRESSED.contains(&method) {
            parts.headers.remove(ACCEPT_ENCODING);
        }
        let request = Request::from_parts(
            parts,
            message::read(body, encoding, &mut call_permits).await?,
        );
        let _room = guard.acquire()?;
        let Ok(response) = inner.call(request).await;
        Ok::<_, Error>(explained(response))
    });
    call_guard::within(limit, call).await
}

/// How long a call that came then may still take: what its caller gives it, and our own bound. An
/// import has its caller's alone.
fn deadline(
    headers: &HeaderMap,
    bound: Option<Duration>,
    came: Instant,
) -> Result<Option<Duration>> {
    let given = match headers.get("grpc-timeout") {
        None => None,
        Some(value) => Some(value.to_str().ok().and_then(timeout).ok_or_else(|| {
            Error::invalid(
                "grpc-timeout",
                FieldError::Format,
                "must be at most eight digits followed by a unit",
            )
        })?),
    };
    let Some(bound) = bound else {
        return Ok(given);
    };
    // A moment earlier than the transport's own timer, which would answer CANCELLED.
    let given = given.map(|given| given.saturating_sub(Duration::from_millis(5) + came.elapsed()));
    Ok(Some(given.map_or(bound, |given| given.min(bound))))
}

/// The value of `grpc-timeout`.
fn timeout(given: &str) -> Option<Duration> {
    let (digits, unit) = given.split_at_checked(given.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Gives a reason to a status that the transport made by itself, which bears no details.
fn explained(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    let status = headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok())
        .and_then(|code| code.parse().ok());
    let error = match status.map(Code::from_i32) {
        // An encoding that isn't supported; tonic names it, and those that are.
        Some(Code::Unimplemented) if headers.contains_key(ACCEPT_ENCODING) => return response,
        Some(Code::Unimplemented) => Error::new(Reason::MethodUnknown),
        Some(Code::OutOfRange | Code::ResourceExhausted) => Error::new(Reason::MessageTooLarge),
        Some(Code::Internal | Code::InvalidArgument) => {
            Error::invalid("", FieldError::Format, "is not a valid gRPC message")
        }
        Some(Code::Ok) | None | Some(_) => return response,
    };
    Status::from(error).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        assert_eq!(timeout("700m"), Some(Duration::from_millis(700)));
        assert_eq!(
            timeout("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "m", "1", "1x", "-1S", "123456789S", "1é"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
