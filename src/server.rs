//! Runs the ports until it is asked to stop.

use std::{future::Future, time::Duration};

use anyhow::{Context, bail};
use http::Request;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinSet,
};

use tower::{Layer, ServiceExt};

use crate::{
    app::App,
    auth::tls::{self, Acceptor, Tls},
    call_guard::CallGuard,
    config::{Grpc, Operations},
    grpc,
    health::Health,
    net::{self, ConnectionTable, Limits, Port, Protocols, RequestBody},
    operations, rest,
};

/// How long calls in flight, and mails, may go on when the service stops.
const GRACE: Duration = Duration::from_secs(25);

/// The ports of a process.
pub struct Ports {
    pub grpc: (TcpListener, Grpc),
    /// The REST gateway's, where it has one.
    pub rest: Option<(TcpListener, rest::Config)>,
    /// The one of those who run it, where it has one; it answers until the very end.
    pub operations: Option<(TcpListener, Operations)>,
    /// The limits that gRPC and REST share.
    pub limits: Limits,
}

/// Serves until the first signal, as [`serve`] does, and gives everything up at the second.
///
/// # Errors
/// A port that fails; the second signal.
pub async fn serve_until_signal(
    app: App,
    ports: Ports,
    drain: Duration,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let (stopping, stopped) = oneshot::channel::<()>();
    let serving = serve(app, ports, drain, async move {
        // A dropped sender says the same.
        stopped.await.unwrap_or_default();
    });
    tokio::pin!(serving);
    tokio::select! {
        done = &mut serving => return done,
        () = signals.next() => drop(stopping),
    }
    tracing::info!("shutting down; a second signal stops immediately");
    tokio::select! {
        done = serving => done,
        () = signals.next() => bail!("second signal received: stopped immediately"),
    }
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
    let grpc_acceptor = acceptor("grpc.tls", config.tls.clone(), &["h2"]).await?;
    let rest_tls = ports
        .rest
        .as_ref()
        .and_then(|(_, config)| config.tls.clone());
    let rest_acceptor = acceptor("rest.tls", rest_tls, &["h2", "http/1.1"]).await?;
    let (api, callers, deadlines) = (app.api.clone(), app.callers.clone(), app.deadlines);
    let background = app.spawn();
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health::new(reporter).await;
    // Ends with this function, however that ends.
    let mut beside = JoinSet::new();
    let _operations = match ports.operations {
        Some((listener, config)) => Some(operations::start(
            listener,
            config.connections,
            health.watch(),
        )?),
        None => None,
    };
    let (stopping, stopped) = watch::channel(false);
    let (probe, ping_every) = (app.probe(), app.ping_every);
    beside.spawn(async move {
        tokio::select! {
            () = health.follow(probe, ping_every) => {}
            () = stop => {}
        }
        health.set_serving(false).await;
        tokio::time::sleep(drain).await;
        stopping.send_replace(true);
    });
    let services = grpc::Services::new(api.clone(), health_service, &config);
    let guard = CallGuard::new(api, callers, deadlines);
    let table = ConnectionTable::new(ports.limits);
    table.show();
    let port = |listener, acceptor, protocols| Port {
        listener,
        acceptor,
        protocols,
        table: table.clone(),
    };
    let grpc_service = guard
        .layer(services)
        .map_request(|request: Request<RequestBody>| request.map(tonic::body::Body::new));
    let grpc = net::serve(
        port(listener, grpc_acceptor, Protocols::Http2),
        grpc_service,
        heard(stopped.clone()),
    );
    let rest_port = ports.rest.map(|(listener, config)| {
        let service = rest::router(guard.clone(), &config)
            .map_request(|request: Request<RequestBody>| request.map(axum::body::Body::new));
        (port(listener, rest_acceptor, Protocols::Both), service)
    });
    let rest_stopped = heard(stopped.clone());
    let rest = async move {
        if let Some((port, service)) = rest_port {
            net::serve(port, service, rest_stopped).await;
        }
    };
    let serving = async { tokio::join!(grpc, rest) };
    tokio::pin!(serving);
    tokio::select! {
        _ = &mut serving => return Ok(()),
        () = heard(stopped.clone()) => {}
    }
    let (ended, stopped) = tokio::join!(
        tokio::time::timeout(GRACE, serving),
        tokio::time::timeout(GRACE, background.stop())
    );
    if ended.is_err() {
        tracing::warn!("calls that took longer than the drain were cut off");
    }
    if stopped.is_err() {
        tracing::warn!("the outbox worker did not stop in time");
    }
    Ok(())
}

/// TLS at a port, by that section of the configuration; `protocols` are those of ALPN.
///
/// # Errors
/// Files that cannot be read or do not fit together.
pub async fn acceptor(
    section: &str,
    tls: Option<Tls>,
    protocols: &[&str],
) -> anyhow::Result<Option<Acceptor>> {
    match tls {
        Some(tls) => Ok(Some(
            tls::acceptor(tls, protocols)
                .await
                .with_context(|| section.to_owned())?,
        )),
        None => Ok(None),
    }
}

/// Comes when the stop does.
async fn heard(mut stopped: watch::Receiver<bool>) {
    // The sender is dropped only when the process ends.
    stopped
        .wait_for(|stopped| *stopped)
        .await
        .map(drop)
        .unwrap_or_default();
}

/// Ctrl-C and SIGTERM, one after another.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen; none that comes later is lost.
    ///
    /// # Errors
    /// A system that takes no handlers.
    pub fn listen() -> anyhow::Result<Self> {
        let heard = |kind| signal(kind).context("signals cannot be heard");
        Ok(Self {
            interrupt: heard(SignalKind::interrupt())?,
            terminate: heard(SignalKind::terminate())?,
        })
    }

    /// Comes with the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
