//! Runs the ports until it is told to stop.

use std::{future::Future, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tonic::transport::server::TcpIncoming;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{app::App, domain::db::Db, door::Door, grpc, rest, wire::SERVICES};

/// Between two pings of the database.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Failed pings after which the service says that it does not serve.
const FAILURES: u32 = 3;
/// How long a call in flight may go on when the service stops.
const GRACE: Duration = Duration::from_secs(25);
/// Connections are aged out, so that load spreads over new replicas.
const CONNECTION_AGE: Duration = Duration::from_secs(300);

/// The ports of a process.
pub struct Ports {
    pub grpc: TcpListener,
    /// The REST gateway's, where it has one.
    pub rest: Option<(TcpListener, rest::Config)>,
}

/// Serves until `stop` comes, then lets calls in flight end, for `drain` more accepting new ones.
///
/// # Errors
/// A port that fails.
pub async fn serve(
    app: App,
    ports: Ports,
    drain: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let api = app.api.clone();
    let background = app.spawn();
    let (health, health_service) = tonic_health::server::health_reporter();
    tell(&health, ServingStatus::NotServing).await;
    let pings = tokio::spawn(watch(api.db().clone(), health.clone()));
    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        pings.abort();
        tell(&health, ServingStatus::NotServing).await;
        tokio::time::sleep(drain).await;
        stopping.send_replace(true);
    });
    let routes = grpc::routes(api.clone(), health_service);
    let door = Door::new(api);
    // The builder's own switch is for ports that it opens itself.
    let incoming = TcpIncoming::from(ports.grpc).with_nodelay(Some(true));
    let grpc = tonic::transport::Server::builder()
        .max_connection_age(CONNECTION_AGE)
        .layer(door.clone())
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, heard(stopped.clone()));
    let rest_stopped = heard(stopped.clone());
    let rest = async move {
        if let Some((listener, config)) = ports.rest {
            rest::serve(listener, rest::router(door, &config), rest_stopped).await;
        }
    };
    let serving = async { tokio::join!(grpc, rest).0 };
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = heard(stopped.clone()) => {}
    }
    let (ended, ()) = tokio::join!(tokio::time::timeout(GRACE, serving), background.stop());
    // Calls that take longer than the grace are cut off.
    ended.map_or(Ok(()), |ended| Ok(ended?))
}

/// Comes when the stop does.
async fn heard(mut stopped: watch::Receiver<bool>) {
    // The sender is gone only where the process is.
    stopped.wait_for(|stopped| *stopped).await.map(drop).unwrap_or_default();
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
    for service in SERVICES.iter().copied().chain([""]) {
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
