//! The REST gateway: an HTTP door over the same use cases as gRPC.
//!
//! [`native`] serves every RPC in canonical proto3 JSON. [`minapp`], [`fresns`] and [`lancens`] serve the clients of
//! three older systems; each only translates, and each can be switched off. Around them all stands one layer: a
//! request id, a body that is read within bounds, room for the call, and errors in the form of the surface that was
//! addressed.
#![expect(clippy::disallowed_types, reason = "the REST boundary")]

mod body;
mod call;
mod config;
mod error;
mod fresns;
mod import;
mod lancens;
mod listen;
mod minapp;
mod native;
mod openapi;
mod query;
mod surface;

pub use config::Config;
pub use listen::serve;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tower_http::{
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::{AllowHeaders, AllowOrigin, Any, CorsLayer},
};

use crate::{
    door::Door,
    error::{Error, Reason},
    telemetry::call::{Call, REQUEST_ID_HEADER, Transport},
};
use error::Refusal;
use surface::Surface;

/// Bytes below which compression does not pay.
const COMPRESSED_FROM: u64 = 1024;

/// What the endpoints share.
#[derive(Clone)]
pub struct Gateway {
    door: Door,
    config: Arc<Config>,
}

/// All routes of the port.
pub fn router(door: Door, config: &Config) -> Router {
    let gateway = Gateway { door, config: Arc::new(config.clone()) };
    let mut router = native::routes().merge(openapi::routes());
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
        .fallback(async || Refusal::from(Reason::RouteNotFound))
        .method_not_allowed_fallback(async || Refusal::from(Reason::MethodNotAllowed))
        .layer(from_fn_with_state(gateway.clone(), around))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESSED_FROM)))
        .with_state(gateway);
    if config.cors_origins.is_empty() { router } else { router.layer(cors(&config.cors_origins)) }
}

/// What stands around every call.
async fn around(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let surface = Surface::of(request.uri().path(), request.headers(), &gateway.config);
    let call = Call::new(request.headers(), Transport::Http);
    let header = call.header();
    call.run(async move {
        let answered = AssertUnwindSafe(pass(&gateway, request, next)).catch_unwind().await;
        let answered = answered.unwrap_or_else(|_| Err(Error::internal("the call panicked").into()));
        let mut response = surface.dress(answered.into_response());
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID_HEADER, header);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Profiles are personal: no cache between us and the caller keeps them.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    })
    .await
}

async fn pass(gateway: &Gateway, mut request: Request, next: Next) -> Result<Response, Refusal> {
    for (name, value) in request.headers_mut() {
        if name == header::AUTHORIZATION || name == "token" {
            value.set_sensitive(true);
        }
    }
    if request.uri().path() != import::PATH {
        let (parts, body) = request.into_parts();
        let body = body::read(body).await?;
        request = Request::from_parts(parts, Body::from(body));
    }
    let _permit = gateway.door.enter()?;
    Ok(next.run(request).await)
}

fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::ETAG, header::RETRY_AFTER, HeaderName::from_static(REQUEST_ID_HEADER)]);
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(Any);
    }
    let known = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    layer.allow_origin(AllowOrigin::list(known))
}
