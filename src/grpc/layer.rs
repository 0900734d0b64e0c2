//! What stands around every call: its request id, its caller, its deadline, and details for the statuses that the
//! transport makes by itself.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{
    api::Api,
    domain::caller::Caller,
    error::{Error, Fault, Reason, Result},
    model::scope,
};

/// Calls in flight, beyond which new ones are shed.
const MAX_IN_FLIGHT: usize = 512;
/// The longest a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest a bulk change may take.
const BULK_DEADLINE: Duration = Duration::from_secs(20);
/// Characters of a request id that a caller gives.
const MAX_REQUEST_ID: usize = 128;
/// Characters of a token; no real one is longer.
const MAX_TOKEN: usize = 8192;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the call that is being answered.
pub fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_else(|_| new_request_id())
}

fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Makes the layer.
#[derive(Clone)]
pub struct Door {
    api: Api,
    in_flight: Arc<Semaphore>,
}

impl Door {
    pub fn new(api: Api) -> Self {
        Self { api, in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)) }
    }
}

impl<S> Layer<S> for Door {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { door: self.clone(), inner }
    }
}

/// A service behind the door.
#[derive(Clone)]
pub struct Guarded<S> {
    door: Door,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        let id = given_request_id(request.headers()).unwrap_or_else(new_request_id);
        let header = HeaderValue::from_str(&id).expect("valid: letters, digits and a few signs");
        let door = self.door.clone();
        Box::pin(REQUEST_ID.scope(id, async move {
            let answered = answer(door, inner, request).await;
            let mut response = answered.unwrap_or_else(|error| Status::from(error).into_http());
            response.headers_mut().insert("x-request-id", header);
            Ok(response)
        }))
    }
}

async fn answer<S>(door: Door, mut inner: S, mut request: Request<Body>) -> Result<Response<Body>>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let (service, method) = path.split_once('/').unwrap_or((&path, ""));
    if service.starts_with("grpc.health.") || service.starts_with("grpc.reflection.") {
        let Ok(response) = inner.call(request).await;
        return Ok(response);
    }
    let _permit = permit(&door)?;
    let limit = deadline(request.headers(), method)?;
    let call = async {
        let caller = door.api.verify(token(request.headers())?).await?;
        let rule = scope::rule(service, method).ok_or_else(|| Error::new(Reason::MethodUnknown))?;
        admit(&caller, rule)?;
        request.extensions_mut().insert(caller);
        let Ok(response) = inner.call(request).await;
        Ok(explained(response))
    };
    match limit {
        Some(limit) => {
            tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(Error::new(Reason::DeadlineExceeded)))
        }
        None => call.await,
    }
}

fn permit(door: &Door) -> Result<OwnedSemaphorePermit> {
    door.in_flight.clone().try_acquire_owned().map_err(|_| Error::new(Reason::Overloaded))
}

/// The method's rule, before anything of the message is known.
fn admit(caller: &Caller, rule: scope::Rule) -> Result<()> {
    let may = match caller.user() {
        Some(_) => rule.user,
        None => rule.service.iter().any(|scope| caller.has(*scope)),
    };
    let needed = rule.service.first().map_or("", |scope| scope.as_str());
    if may { Ok(()) } else { Err(Error::scope_missing(needed)) }
}

/// The bearer token of the metadata.
fn token(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all("authorization").iter();
    let Some(value) = values.next() else {
        return Err(Error::new(Reason::TokenMissing));
    };
    let malformed = || Error::new(Reason::TokenMalformed);
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(malformed)?;
    let is_one = scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && token.len() <= MAX_TOKEN
        && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    if is_one { Ok(token) } else { Err(malformed()) }
}

fn given_request_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get("x-request-id")?.to_str().ok()?;
    let fits = (1..=MAX_REQUEST_ID).contains(&given.len())
        && given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte));
    fits.then(|| given.to_owned())
}

/// How long a call may take: what its caller gives it, and our own bound. An import has its caller's alone.
fn deadline(headers: &HeaderMap, method: &str) -> Result<Option<Duration>> {
    let given =
        match headers.get("grpc-timeout") {
            None => None,
            Some(value) => Some(value.to_str().ok().and_then(timeout).ok_or_else(|| {
                Error::invalid("grpc-timeout", Fault::Format, "must be at most eight digits and a unit")
            })?),
        };
    let bound = match method {
        "ImportUsers" => return Ok(given),
        "BulkUpdateFields" => BULK_DEADLINE,
        _ => DEADLINE,
    };
    // A moment earlier than the transport's own timer, which would answer CANCELLED.
    let given = given.map(|given| given.saturating_sub(Duration::from_millis(5)));
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
    let status = headers.get("grpc-status").and_then(|value| value.to_str().ok()).and_then(|code| code.parse().ok());
    let error = match status.map(Code::from_i32) {
        Some(Code::Unimplemented) => Error::new(Reason::MethodUnknown),
        Some(Code::OutOfRange | Code::ResourceExhausted) => Error::new(Reason::MessageTooLarge),
        Some(Code::Internal | Code::InvalidArgument) => {
            Error::invalid("", Fault::Format, "is no message that gRPC can read")
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
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "1", "1x", "-1S", "123456789S", "1é"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_method_of_the_contract_has_a_rule() {
        for name in crate::grpc::SERVICES {
            let service = crate::wire::POOL.get_service_by_name(name).unwrap();
            for method in service.methods() {
                assert!(scope::rule(name, method.name()).is_some(), "{name}/{} has no scope", method.name());
            }
        }
    }

    #[test]
    fn reasons_are_those_of_the_contract() {
        let contract = crate::wire::POOL.get_enum_by_name("user.v1.ErrorReason").unwrap();
        let mut names: Vec<String> = contract
            .values()
            .filter(|value| value.number() != 0)
            .map(|value| value.name().trim_start_matches("ERROR_REASON_").to_owned())
            .collect();
        let mut ours: Vec<String> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
        names.sort();
        ours.sort();
        assert_eq!(names, ours);
    }
}
