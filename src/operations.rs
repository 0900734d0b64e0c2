//! The operations port, for those who run the service: `/livez`, `/readyz` and `/metrics`, over
//! plain HTTP.
//!
//! It has a thread and limits of its own: whatever callers do, it shares neither a queue nor a
//! connection with them.
#![expect(clippy::disallowed_types, reason = "the operations port")]

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use http::Request;
use tokio::{
    net::TcpListener,
    runtime,
    sync::{oneshot, watch},
};
use tower::ServiceExt;

use crate::{
    net::{self, ConnectionTable, Limits, Port, Protocols, RequestBody},
    telemetry::metrics,
};

/// The running port; its drop closes it.
pub struct Running(#[expect(dead_code, reason = "held for its drop alone")] oneshot::Sender<()>);

/// Serves the port on a thread of its own, with so many connections at most. `serving` is what the
/// gRPC health service tells.
///
/// # Errors
/// Fails where the system gives no more threads.
pub fn start(
    listener: TcpListener,
    connections: usize,
    serving: watch::Receiver<bool>,
) -> anyhow::Result<Running> {
    let listener = listener.into_std()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (running, stopped) = oneshot::channel();
    let run = move || {
        let served = runtime.block_on(async {
            let table = ConnectionTable::new(Limits::without_tokens(connections));
            let listener = TcpListener::from_std(listener)?;
            let port = Port {
                listener,
                acceptor: None,
                protocols: Protocols::Http1,
                table,
            };
            let service =
                router(serving).map_request(|request: Request<RequestBody>| request.map(Body::new));
            tokio::select! {
                () = net::serve(port, service, std::future::pending()) => {}
                _ = stopped => {}
            }
            anyhow::Ok(())
        });
        if let Err(error) = served {
            tracing::error!(
                error = format!("{error:#}"),
                "the operations port cannot be served"
            );
        }
    };
    std::thread::Builder::new()
        .name("operations".to_owned())
        .spawn(run)?;
    Ok(Running(running))
}

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
    if *serving.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn read_metrics() -> Response {
    match metrics::text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "failed to collect metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
