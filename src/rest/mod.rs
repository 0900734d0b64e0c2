//! The REST gateway: an HTTP transport over the same use cases as gRPC.
//!
//! `native` serves every RPC in canonical proto3 JSON. `minapp`, `fresns` and `lancens` serve the
//! clients of three older systems; each only translates, and each can be switched off. Around them
//! all is one layer: a request id, and errors in the form of the flavor that was addressed. An
//! endpoint asks who calls, then reads the body within bounds, then takes an in-flight permit.
#![expect(clippy::disallowed_types, reason = "the REST boundary")]

mod body;
mod browser;
mod call;
mod config;
mod error;
mod flavor;
mod fresns;
mod import;
mod lancens;
mod minapp;
mod native;
mod openapi;
mod query;

pub use config::Config;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tower_http::{
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::{AllowHeaders, AllowOrigin, Any, CorsLayer},
};

use crate::{
    call_guard::{self, AuthenticatedCall, CallGuard},
    error::{Error, Reason, Result},
    net::Peer,
    telemetry::call::{Call, REQUEST_ID_HEADER, Rpc, Transport, set_rpc},
};
use call::ReadToken;
use error::RestError;
use flavor::Flavor;

/// Bytes below which compression does not pay.
const COMPRESSED_FROM: u64 = 1024;

/// What the endpoints share.
#[derive(Clone)]
pub struct Gateway {
    guard: CallGuard,
    config: Arc<Config>,
}

impl Gateway {
    /// Tells who calls. Nothing of a body is kept before that, and while a body arrives its call
    /// holds no permit. A browser shows its user's certificate whichever page has it call, so a
    /// certificate counts for pages of our own site and of the configured origins alone.
    ///
    /// # Errors
    /// As [`CallGuard::authenticate`], and 415 for what a page of another site could send with a
    /// client's certificate.
    async fn authenticate(
        &self,
        rpc: Rpc,
        token: ReadToken,
        parts: &Parts,
    ) -> Result<AuthenticatedCall, RestError> {
        set_rpc(rpc);
        let token = token(&parts.headers);
        let is_missing = token
            .as_ref()
            .is_err_and(|error| error.reason() == Reason::TokenMissing);
        let certified = call::certified(&parts.extensions).filter(|_| is_missing);
        let certified =
            certified.filter(|_| !browser::is_of_another_site(parts, &self.config.cors_origins));
        if certified.is_some() {
            browser::check_content_type(&parts.headers)?;
        }
        let caller = call_guard::within(
            self.guard.deadline(rpc.1),
            self.guard.authenticate(token, certified, rpc.1),
        )
        .await?;
        parts
            .extensions
            .get::<Peer>()
            .inspect(|peer| peer.authenticated());
        Ok(caller)
    }
}

/// All routes of the port.
pub fn router(guard: CallGuard, config: &Config) -> Router {
    let gateway = Gateway {
        guard,
        config: Arc::new(config.clone()),
    };
    let mut router = native::routes();
    if config.docs {
        router = router.merge(openapi::routes());
    }
    if config.minapp {
        router = router.merge(minapp::routes());
    }
    if config.fresns {
        router = router.merge(fresns::routes());
    }
    if config.lancens {
        router = router.merge(lancens::routes());
    }
    let router = router
        .fallback(async |request: Request| render_error(request, Reason::RouteNotFound).await)
        .method_not_allowed_fallback(async |request: Request| {
            render_error(request, Reason::MethodNotAllowed).await
        })
        .layer(from_fn_with_state(gateway.clone(), around))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESSED_FROM)))
        .with_state(gateway);
    if config.cors_origins.is_empty() {
        router
    } else {
        router.layer(cors(&config.cors_origins))
    }
}

/// The layers around every call.
async fn around(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let flavor = Flavor::of(request.uri().path(), request.headers(), &gateway.config);
    let call = Call::new(request.headers(), Transport::Http);
    let header = call.header();
    call.run(async move {
        let answered = AssertUnwindSafe(next.run(hidden(request)))
            .catch_unwind()
            .await;
        let answered = answered.unwrap_or_else(|_| {
            RestError::from(Error::internal("the call panicked")).into_response()
        });
        let mut response = flavor.render(answered);
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID_HEADER, header);
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        // Profiles are personal: no cache between us and the caller keeps them.
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        response
    })
    .await
}

/// The request, with its tokens hidden from whatever shows its headers.
fn hidden(mut request: Request) -> Request {
    for (name, value) in request.headers_mut() {
        if name == header::AUTHORIZATION || name == "token" {
            value.set_sensitive(true);
        }
    }
    request
}

/// Rejects requests without an endpoint.
async fn render_error(request: Request, reason: Reason) -> RestError {
    body::drain(request.into_body()).await;
    reason.into()
}

fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PATCH,
            Method::PUT,
            Method::DELETE,
        ])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            header::ETAG,
            header::RETRY_AFTER,
            HeaderName::from_static(REQUEST_ID_HEADER),
        ]);
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(Any);
    }
    let known = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    layer.allow_origin(AllowOrigin::list(known))
}
