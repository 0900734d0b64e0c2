//! Runs the ports until it is told to stop.

use std::{future::Future, time::Duration};

use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    app::App,
    domain::db::Db,
    grpc::{self, layer::Door},
};

/// Between two pings of the database.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Failed pings after which the service says that it does not serve.
const FAILURES: u32 = 3;
/// How long a call in flight may go on when the service stops.
const GRACE: Duration = Duration::from_secs(25);
/// Connections are aged out, so that load spreads over new replicas.
const CONNECTION_AGE: Duration = Duration::from_secs(300);

/// Serves until `stop` comes, then lets calls in flight end, for `drain` more accepting new ones.
///
/// # Errors
/// A port that fails.
pub async fn serve(
    app: App,
    grpc: TcpListener,
    drain: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let api = app.api.clone();
    let background = app.spawn();
    let (health, health_service) = tonic_health::server::health_reporter();
    tell(&health, ServingStatus::NotServing).await;
    let pings = tokio::spawn(watch(api.db().clone(), health.clone()));
    let (stopped, stopping) = tokio::sync::oneshot::channel();
    let stop = async move {
        stop.await;
        pings.abort();
        tell(&health, ServingStatus::NotServing).await;
        tokio::time::sleep(drain).await;
        // The receiver is gone only where serving failed, which tells itself.
        stopped.send(()).unwrap_or_default();
    };
    let routes = grpc::routes(api.clone(), health_service);
    // Without it each answer waits for the client's acknowledgement; tonic's own setting is not for a listener of ours.
    let incoming = TcpIncoming::from(grpc).with_nodelay(Some(true));
    let serving = tonic::transport::Server::builder()
        .max_connection_age(CONNECTION_AGE)
        .layer(Door::new(api))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        _ = stopping => {}
    }
    let (ended, ()) = tokio::join!(tokio::time::timeout(GRACE, serving), background.stop());
    // Calls that take longer than the grace are cut off.
    ended.map_or(Ok(()), |ended| Ok(ended?))
}

/// Follows the database: lost after three failed pings, back after one.
async fn watch(db: Db, health: HealthReporter) {
    let mut failures = FAILURES;
    loop {
        match db.ping().await {
            Ok(()) => {
                if failures >= FAILURES {
                    tell(&health, ServingStatus::Serving).await;
                }
                failures = 0;
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(failures, %error, "the database does not answer");
                if failures == FAILURES {
                    tell(&health, ServingStatus::NotServing).await;
                }
            }
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}

async fn tell(health: &HealthReporter, status: ServingStatus) {
    for service in grpc::SERVICES.iter().copied().chain([""]) {
        health.set_service_status(service, status).await;
    }
}

/// Comes with Ctrl-C or SIGTERM.
pub async fn stop_signal() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be heard");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
