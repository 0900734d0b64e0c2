//! Runs the ports until it is told to stop.

use std::{future::Future, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    app::App,
    auth::{
        incoming::incoming,
        tls::{self, Acceptor, Tls},
    },
    config::Grpc,
    domain::db::Db,
    door::Door,
    grpc, rest,
    wire::SERVICES,
};

/// Between two pings of the database.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Failed pings after which the service says that it does not serve.
const FAILURES: u32 = 3;
/// How long a call in flight may go on when the service stops.
const GRACE: Duration = Duration::from_secs(25);
/// Connections are aged out, so that load spreads over new replicas.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Bytes of the headers of a call: room enough to tell what is wrong with a token that is far too long.
const MAX_HEADERS: u32 = 96 * 1024;

/// The ports of a process.
pub struct Ports {
    pub grpc: (TcpListener, Grpc),
    /// The REST gateway's, where it has one.
    pub rest: Option<(TcpListener, rest::Config)>,
}

/// Serves until `stop` comes, then lets calls in flight end, for `drain` more accepting new ones.
///
/// # Errors
/// A certificate that cannot be used; a port that fails.
pub async fn serve(
    app: App,
    ports: Ports,
    drain: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (listener, config) = ports.grpc;
    let grpc_acceptor = acceptor(config.tls, &["h2"]).await?;
    let rest_tls = ports.rest.as_ref().and_then(|(_, config)| config.tls.clone());
    let rest_acceptor = acceptor(rest_tls, &["h2", "http/1.1"]).await?;
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
    let routes = grpc::routes(api.clone(), health_service, config.reflection);
    let door = Door::new(api);
    let grpc = tonic::transport::Server::builder()
        .max_connection_age(CONNECTION_AGE)
        .http2_max_header_list_size(MAX_HEADERS)
        .layer(door.clone())
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming(listener, grpc_acceptor), heard(stopped.clone()));
    let rest_stopped = heard(stopped.clone());
    let rest = async move {
        if let Some((listener, config)) = ports.rest {
            rest::serve(listener, rest_acceptor, rest::router(door, &config), rest_stopped).await;
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

async fn acceptor(tls: Option<Tls>, protocols: &[&str]) -> anyhow::Result<Option<Acceptor>> {
    match tls {
        Some(tls) => Ok(Some(tls::acceptor(tls, protocols).await?)),
        None => Ok(None),
    }
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
