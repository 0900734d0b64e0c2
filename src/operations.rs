//! The operations port, for those who run the service: `/livez`, `/readyz` and `/metrics`, over plain HTTP.
#![expect(clippy::disallowed_types, reason = "the operations port")]

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

use crate::telemetry::metrics;

/// The routes; `serving` is what the gRPC health service tells.
pub fn router(serving: watch::Receiver<bool>) -> Router {
    Router::new()
        // Never asks the database: a restart of this process would not bring it back.
        .route("/livez", get("live\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(read_metrics))
        .with_state(serving)
}

async fn ready(State(serving): State<watch::Receiver<bool>>) -> (StatusCode, &'static str) {
    match *serving.borrow() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn read_metrics() -> Response {
    match metrics::text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
