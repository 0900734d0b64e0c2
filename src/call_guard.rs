//! What runs before every call, on every transport: an in-flight permit, a token, the rights that
//! the method needs, and a deadline.

use std::{future::Future, sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    api::Api,
    caller_limits::{CallerLimits, CallerPermit, MAX_USER_BODY},
    domain::{authorization::authorize_method, caller::Caller},
    error::{Error, Reason, Result},
    telemetry::call,
};

/// Calls in flight, beyond which new ones are shed.
const MAX_IN_FLIGHT: usize = 512;
/// Characters of the longest token that a configuration may allow; headers have room for it.
pub const MAX_TOKEN: usize = 64 * 1024;

/// The in-flight permit of one call; the next may come when it is dropped.
#[derive(Debug)]
pub struct InFlightPermit(
    #[expect(dead_code, reason = "held for its drop alone")] OwnedSemaphorePermit,
);

/// The permits of a call whose response is a stream: it is in flight until the last clone is
/// dropped.
#[derive(Clone)]
pub struct StreamPermits(
    #[expect(dead_code, reason = "held for its drop alone")] Arc<(InFlightPermit, CallerPermit)>,
);

impl StreamPermits {
    /// Holds both permits.
    pub fn new(permit: InFlightPermit, caller: CallerPermit) -> Self {
        Self(Arc::new((permit, caller)))
    }
}

/// The use cases, behind the call guard. All transports of a process share one, and so its
/// in-flight permits.
#[derive(Clone)]
pub struct CallGuard {
    api: Api,
    in_flight: Arc<Semaphore>,
    callers: CallerLimits,
    deadlines: Deadlines,
}

/// How long a call may take if its caller sets no shorter deadline.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For every method without a deadline of its own.
    pub call: Duration,
    /// For BulkUpdateFields.
    pub bulk: Duration,
}

/// A caller who may make the call, with a permit of their own. The body is read next, and then the
/// call takes an in-flight permit.
pub struct AuthenticatedCall {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// Counts the call, and the memory of its body.
    pub permit: CallerPermit,
}

impl AuthenticatedCall {
    /// The largest body that this caller may send, where the transport accepts `max` bytes.
    pub fn max_body(&self, max: usize) -> usize {
        if self.caller.user().is_some() {
            max.min(MAX_USER_BODY)
        } else {
            max
        }
    }
}

impl CallGuard {
    /// The rules around these use cases.
    pub fn new(api: Api, callers: CallerLimits, deadlines: Deadlines) -> Self {
        Self {
            api,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            callers,
            deadlines,
        }
    }

    /// How long a method may take; an import has only its caller's deadline.
    pub fn deadline(&self, method: &str) -> Option<Duration> {
        match method {
            "ImportUsers" => None,
            "BulkUpdateFields" => Some(self.deadlines.bulk),
            _ => Some(self.deadlines.call),
        }
    }

    /// The use cases.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Takes an in-flight permit for one call.
    ///
    /// # Errors
    /// OVERLOADED.
    pub fn acquire(&self) -> Result<InFlightPermit> {
        let permit = self
            .in_flight
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::new(Reason::Overloaded))?;
        Ok(InFlightPermit(permit))
    }

    /// Tells who calls, where they may call this method, before anything of the message is read. A
    /// token that is shown decides; where none is, the service that the client's certificate speaks
    /// for does. The check is a call in flight; while the body is read, only the caller's own
    /// limits count.
    ///
    /// # Errors
    /// OVERLOADED, those of the token, METHOD_UNKNOWN, SCOPE_MISSING, RATE_LIMITED.
    pub async fn authenticate(
        &self,
        token: Result<&str>,
        certified: Option<&Arc<Caller>>,
        method: &str,
    ) -> Result<AuthenticatedCall> {
        let _permit = self.acquire()?;
        let caller = match (token, certified) {
            (Err(error), Some(certified)) if error.reason() == Reason::TokenMissing => {
                Arc::clone(certified)
            }
            (token, _) => self.api.verify(token?).await?,
        };
        call::set_caller(caller.clone());
        authorize_method(&caller, method)?;
        let permit = self.callers.acquire(&caller)?;
        Ok(AuthenticatedCall { caller, permit })
    }
}

/// The bearer token of the `authorization` header.
///
/// # Errors
/// TOKEN_MISSING; TOKEN_MALFORMED, for two of them too.
pub fn bearer(headers: &HeaderMap) -> Result<&str> {
    let text = only(headers, "authorization")?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => one_token(token),
        _ => Err(Error::new(Reason::TokenMalformed)),
    }
}

/// The token that a header of this name holds by itself.
///
/// # Errors
/// As [`bearer`].
pub fn bare_token<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str> {
    one_token(only(headers, name)?)
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values
        .next()
        .ok_or_else(|| Error::new(Reason::TokenMissing))?;
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(text),
        _ => Err(Error::new(Reason::TokenMalformed)),
    }
}

fn one_token(token: &str) -> Result<&str> {
    let is_one = (1..=MAX_TOKEN).contains(&token.len())
        && token
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',');
    if is_one {
        Ok(token)
    } else {
        Err(Error::new(Reason::TokenMalformed))
    }
}

/// Runs a call for so long at most.
///
/// # Errors
/// DEADLINE_EXCEEDED, and the call's own.
pub async fn within<T, E: From<Error>>(
    limit: Option<Duration>,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(Error::new(Reason::DeadlineExceeded).into())),
        None => call.await,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_bearer_token_is_one_word_given_once() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", HeaderValue::from_static(value));
            }
            bearer(&headers)
                .map(str::to_owned)
                .map_err(|error| error.reason())
        };
        assert_eq!(read(&["bearer abc"]), Ok("abc".to_owned()));
        assert_eq!(read(&[]), Err(Reason::TokenMissing));
        for bad in [
            &["Bearer a", "Bearer a"][..],
            &["Bearer a, Bearer b"],
            &["Basic a"],
            &["Bearer "],
            &[""],
        ] {
            assert_eq!(read(bad), Err(Reason::TokenMalformed), "{bad:?}");
        }
    }
}
