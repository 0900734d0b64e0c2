//! One call at an endpoint: admitted, with its parts read.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{Extensions, HeaderMap},
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};

use super::{Gateway, body, browser, error::RestError, flavor::Flavor, query};
use crate::{
    api::Api,
    call_guard::{self, InFlightPermit},
    caller_limits::CallerPermit,
    domain::caller::Caller,
    error::{Error, FieldError, Reason, Result},
    net::Peer,
};

pub(super) use crate::telemetry::call::Rpc;

/// A call whose caller may make it.
pub(super) struct Call {
    pub gateway: Gateway,
    pub caller: Arc<Caller>,
    /// The path as it was sent.
    pub path: String,
    /// What the path's template names, decoded.
    pub params: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    _room: InFlightPermit,
    _permit: CallerPermit,
}

/// The reply of an endpoint.
pub(super) type Reply = Pin<Box<dyn Future<Output = Result<Response, RestError>> + Send>>;

/// How a flavor reads the token.
pub(super) type ReadToken = fn(&HeaderMap) -> Result<&str>;

/// The service of profiles and accounts.
pub(super) const USERS: &str = "userservice.v1.UserService";

impl Call {
    /// The use cases.
    pub(super) fn api(&self) -> &Api {
        self.gateway.guard.api()
    }

    /// What the template calls `name`; empty where it names none.
    pub(super) fn param(&self, name: &str) -> &str {
        let mut params = self.params.iter();
        params
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }
}

/// An endpoint of a flavor. The RPC gives the rights that it needs, and its time.
pub(super) fn endpoint<R>(
    method: MethodFilter,
    rpc: Rpc,
    token: ReadToken,
    run: R,
) -> MethodRouter<Gateway>
where
    R: Fn(Call) -> Reply + Clone + Send + Sync + 'static,
{
    on(
        method,
        async move |State(gateway): State<Gateway>,
                    params: Result<RawPathParams, RawPathParamsRejection>,
                    request: Request| {
            let deadline = gateway.guard.deadline(rpc.1);
            let (call, spent) = read(gateway, rpc, token, params, request).await?;
            let left = deadline.map(|deadline| deadline.saturating_sub(spent));
            call_guard::within(left, run(call)).await
        },
    )
}

/// Reads the parts of a call whose caller may make it; tells how much of its time the question who
/// calls took.
///
/// # Errors
/// Those of the token and its rights, and of its body; INVALID_REQUEST for a path or query that
/// cannot be read; OVERLOADED.
async fn read(
    gateway: Gateway,
    rpc: Rpc,
    token: ReadToken,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<(Call, Duration), RestError> {
    let (parts, body) = request.into_parts();
    let came = Instant::now();
    let call_permits = gateway.authenticate(rpc, token, &parts).await;
    let call_permits = call_permits.and_then(|call_permits| {
        // Clients of the older systems send their JSON under other names too.
        if Flavor::of(parts.uri.path(), &parts.headers, &gateway.config) == Flavor::Native {
            browser::reject_other_content_types(&parts.headers)?;
        }
        Ok((call_permits, body::encoding(&parts.headers)?))
    });
    let (mut call_permits, encoding) = match call_permits {
        Ok(call_permits) => call_permits,
        Err(rest_error) => {
            body::drain(body).await;
            return Err(rest_error);
        }
    };
    let spent = came.elapsed();
    let body = body::read(body, encoding, &mut call_permits).await?;
    let in_flight = gateway.guard.acquire()?;
    let params = params.map_err(|_| {
        Error::invalid(
            "",
            FieldError::Format,
            "has invalid percent-encoding in the path",
        )
    })?;
    let call = Call {
        gateway,
        caller: call_permits.caller,
        path: parts.uri.path().to_owned(),
        params: params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        query: query::parse(parts.uri.query().unwrap_or_default())?,
        headers: parts.headers,
        body,
        _room: in_flight,
        _permit: call_permits.permit,
    };
    Ok((call, spent))
}

/// The service that the client's certificate speaks for.
pub(super) fn certified(extensions: &Extensions) -> Option<&Arc<Caller>> {
    extensions
        .get::<Peer>()
        .and_then(|peer| peer.caller.as_ref())
}

/// The bearer token, where no `token` header contradicts it.
///
/// # Errors
/// TOKEN_MISSING, TOKEN_MALFORMED.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str> {
    if headers.contains_key("token") && headers.contains_key("authorization") {
        Err(Error::new(Reason::TokenMalformed))
    } else {
        call_guard::bearer(headers)
    }
}

/// The token of the `token` header, where no `authorization` header contradicts it.
///
/// # Errors
/// As [`bearer`].
pub(super) fn token_header(headers: &HeaderMap) -> Result<&str> {
    if headers.contains_key("token") && headers.contains_key("authorization") {
        Err(Error::new(Reason::TokenMalformed))
    } else {
        call_guard::bare_token(headers, "token")
    }
}
