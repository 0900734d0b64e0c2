//! One call as operators see it: a span, a point in a histogram, and a line in the log, all when it
//! ends.

use std::{
    cell::{Cell, RefCell},
    error::Error as _,
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};

use super::{metrics, traces};
use crate::error::{Error, Kind, Reason};

/// The header that carries a request id, both ways.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Characters of a request id that a caller gives.
const MAX_REQUEST_ID: usize = 128;
/// The codes of calls that end without an error of ours, by number and name.
const OK: (i32, &str) = (0, "OK");
const CANCELLED: (i32, &str) = (1, "CANCELLED");
const INTERNAL: (i32, &str) = (13, "INTERNAL");

tokio::task_local! {
    static CURRENT: Current;
    /// The background job that runs.
    static JOB: &'static str;
}

/// The transport of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// gRPC.
    Grpc,
    /// The REST gateway.
    Http,
}

impl Transport {
    /// The value of `rpc.system.name`.
    fn as_str(self) -> &'static str {
        match self {
            Transport::Grpc => "grpc",
            Transport::Http => "http",
        }
    }
}

/// What a log line belongs to, for the lines that don't say it themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogContext {
    /// A call.
    Call {
        request_id: String,
        rpc: Option<Rpc>,
    },
    /// A background job.
    Job(&'static str),
}

/// The call or the job that runs on this task.
pub(super) fn log_context() -> Option<LogContext> {
    let call = |current: &Current| LogContext::Call {
        request_id: current.request_id.clone(),
        rpc: current.rpc.get(),
    };
    CURRENT
        .try_with(call)
        .or_else(|_| JOB.try_with(|job| LogContext::Job(job)))
        .ok()
}

/// A background job, whose name is in each of its log lines.
pub fn job<T>(name: &'static str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    JOB.scope(name, work)
}

/// An RPC by its service and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpc(pub &'static str, pub &'static str);

/// A call whose method is not known, as the OpenTelemetry conventions name it.
const OTHER: Rpc = Rpc("", "_OTHER");

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str(self.1),
            service => write!(f, "{service}/{}", self.1),
        }
    }
}

/// A call that begins.
pub struct Call {
    current: Current,
    transport: Transport,
    started: Instant,
    context: Option<Context>,
}

/// What becomes known of a call while it is answered.
struct Current {
    request_id: String,
    rpc: Cell<Option<Rpc>>,
    caller: RefCell<Option<Arc<dyn fmt::Display + Send + Sync>>>,
    failure: RefCell<Option<Error>>,
    /// Goes on after its answer began.
    is_detached: bool,
}

impl Current {
    fn new(request_id: String, is_detached: bool) -> Self {
        let (caller, failure) = (RefCell::new(None), RefCell::new(None));
        Self {
            request_id,
            rpc: Cell::new(None),
            caller,
            failure,
            is_detached,
        }
    }
}

impl Call {
    /// Takes the request id and the trace that the caller gives, or makes them.
    pub fn new(headers: &HeaderMap, transport: Transport) -> Self {
        let request_id = choose_request_id(headers);
        let context = traces::tracer().map(|tracer| {
            let parent = traces::parent(headers);
            let span = tracer.span_builder("call").with_kind(SpanKind::Server);
            parent.with_span(tracer.build_with_context(span, &parent))
        });
        Self {
            current: Current::new(request_id, false),
            transport,
            started: Instant::now(),
            context,
        }
    }

    /// The request id, for the answer.
    pub fn header(&self) -> HeaderValue {
        header(&self.current.request_id)
    }

    /// Answers the call. Where this is dropped before, the caller has gone, and the call counts as
    /// cancelled.
    pub fn run<T>(self, answer: impl Future<Output = T>) -> impl Future<Output = T> {
        let Self {
            current,
            transport,
            started,
            context,
        } = self;
        CURRENT.scope(current, async move {
            let mut end = End {
                transport,
                started,
                context: context.clone(),
                is_answered: false,
            };
            let answer = pin!(answer);
            let answered = match context {
                Some(context) => answer.with_context(context).await,
                None => answer.await,
            };
            end.is_answered = true;
            drop(end);
            answered
        })
    }
}

/// The request id for the answer to what is no call of ours.
pub fn echo(headers: &HeaderMap) -> HeaderValue {
    header(&choose_request_id(headers))
}

fn header(request_id: &str) -> HeaderValue {
    HeaderValue::from_str(request_id).expect("valid: letters, digits and a few signs")
}

/// The id of the call that is being answered; a new one outside of any.
pub fn request_id() -> String {
    CURRENT
        .try_with(|current| current.request_id.clone())
        .unwrap_or_else(|_| new_request_id())
}

/// Notes which RPC the call is.
pub fn set_rpc(rpc: Rpc) {
    // Not used outside of a call.
    CURRENT
        .try_with(|current| current.rpc.set(Some(rpc)))
        .unwrap_or_default();
}

/// Notes who calls, as records name them.
pub fn set_caller(caller: Arc<dyn fmt::Display + Send + Sync>) {
    CURRENT
        .try_with(|current| *current.caller.borrow_mut() = Some(caller))
        .unwrap_or_default();
}

/// Notes the error that a call is answered with.
pub fn fail(error: &Error) {
    if let Some(limit) = error.quota() {
        metrics::limiter_hit(limit);
    }
    let noted = CURRENT.try_with(|current| {
        if current.is_detached {
            false
        } else {
            *current.failure.borrow_mut() = Some(error.clone());
            true
        }
    });
    if !noted.unwrap_or_default() && is_ours(error.reason()) {
        let request_id = CURRENT.try_with(|current| current.request_id.clone()).ok();
        tracing::error!(
            request_id,
            reason = error.reason().as_str(),
            ?error,
            "internal error during a call"
        );
    }
}

/// Work of the call that goes on by itself after its response has begun, under the same request id
/// and RPC.
pub fn detached<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let current = Current::new(request_id(), true);
    let rpc = CURRENT.try_with(|current| current.rpc.get()).ok().flatten();
    current.rpc.set(rpc);
    CURRENT.scope(current, work)
}

/// Tells of a call when it is dropped, which is still inside of the call's scope.
struct End {
    transport: Transport,
    started: Instant,
    context: Option<Context>,
    is_answered: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        // A scope that was dropped has recorded nothing.
        CURRENT
            .try_with(|current| self.tell(current, took))
            .unwrap_or_default();
    }
}

impl End {
    fn tell(&self, current: &Current, took: Duration) {
        let failure = current.failure.take();
        let reason = failure.as_ref().map(Error::reason);
        let (code, status) = match &failure {
            Some(error) => (error.kind().code(), error.kind().as_str()),
            None if self.is_answered => OK,
            None if thread::panicking() => INTERNAL,
            None => CANCELLED,
        };
        let Some(rpc) = current.rpc.get().or_else(|| self.unknown(reason)) else {
            return self.end_span(current, "call".to_owned(), &[]);
        };
        let is_fault = reason.is_some_and(is_fault_of_server) || (code, status) == INTERNAL;
        let mut attributes = vec![
            KeyValue::new("rpc.system.name", self.transport.as_str()),
            KeyValue::new("rpc.method", rpc.to_string()),
            KeyValue::new("rpc.response.status_code", status),
        ];
        attributes.extend(is_fault.then(|| KeyValue::new("error.type", status)));
        metrics::call(&attributes, took);
        if let Some(context) = &self.context {
            if is_fault {
                context.span().set_status(Status::error(""));
            }
            self.end_span(current, rpc.to_string(), &attributes);
        }
        self.log(current, rpc, code, failure.as_ref(), took);
    }

    /// What a call counts as whose method did not become known. Pages and paths that are none are
    /// no calls.
    fn unknown(&self, reason: Option<Reason>) -> Option<Rpc> {
        match (self.transport, reason) {
            (Transport::Grpc, _) => Some(OTHER),
            (Transport::Http, None | Some(Reason::RouteNotFound | Reason::MethodNotAllowed)) => {
                None
            }
            (Transport::Http, Some(_)) => Some(OTHER),
        }
    }

    fn end_span(&self, current: &Current, name: String, attributes: &[KeyValue]) {
        let Some(context) = &self.context else { return };
        let span = context.span();
        span.update_name(name);
        span.set_attributes(attributes.iter().cloned());
        span.set_attribute(KeyValue::new("request_id", current.request_id.clone()));
        span.end();
    }

    fn log(&self, current: &Current, rpc: Rpc, code: i32, failure: Option<&Error>, took: Duration) {
        let (request_id, caller) = (current.request_id.as_str(), current.caller.borrow());
        // As texts, which the log quotes: an identity provider chooses the names of its services.
        let caller = caller.as_ref().map(ToString::to_string);
        let caller = caller.as_deref();
        let (reason, milliseconds) = (
            failure.map(|error| error.reason().as_str()),
            took.as_micros() as f64 / 1e3,
        );
        let trace_id = self
            .context
            .as_ref()
            .map(|context| context.span().span_context().trace_id().to_string());
        match failure {
            Some(error) if is_ours(error.reason()) => {
                tracing::error!(request_id, %rpc, code, reason, caller, milliseconds, trace_id, ?error, "call failed");
            }
            Some(error) => {
                // Its caller learns only that it is invalid.
                let why = error
                    .source()
                    .filter(|_| error.reason() == Reason::TokenInvalid)
                    .map(ToString::to_string);
                tracing::info!(request_id, %rpc, code, reason, why, caller, milliseconds, trace_id, "call rejected");
            }
            None => {
                tracing::info!(request_id, %rpc, code, caller, milliseconds, trace_id, "call completed")
            }
        }
    }
}

/// Whether an operator has to see the error itself.
fn is_ours(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Internal | Reason::DatabaseUnavailable | Reason::AuthBackendUnavailable
    )
}

/// Whether the conventions count the code as an error of the server's.
fn is_fault_of_server(reason: Reason) -> bool {
    matches!(
        reason.kind(),
        Kind::Internal | Kind::Unavailable | Kind::DeadlineExceeded | Kind::Unimplemented
    )
}

/// The id that the caller gives, else a new one.
fn choose_request_id(headers: &HeaderMap) -> String {
    given_request_id(headers).unwrap_or_else(new_request_id)
}

fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn given_request_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(REQUEST_ID_HEADER)?.to_str().ok()?;
    let fits = (1..=MAX_REQUEST_ID).contains(&given.len())
        && given
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte));
    fits.then(|| given.to_owned())
}
