//! `user-service serve`.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::{
    app,
    clock::Clock,
    config::{self, Config},
    health::Probe,
    net::{self, Limits},
    server::{self, Ports, Signals},
    store::schema::SchemaCompatibility,
};

/// Serves until it is asked to stop.
pub(crate) async fn run(file: Option<&Path>) -> anyhow::Result<()> {
    net::files::raise();
    let config = config::load(file)?;
    let limits = limits(&config);
    for warning in config::warnings(&config) {
        tracing::warn!(warning, "the configuration is risky");
    }
    let mut signals = Signals::listen()?;
    let app = app::build(&config, Clock::System)?;
    reject_unfit_database(app.probe()).await?;
    let grpc = (open("gRPC", config.grpc.address).await?, config.grpc);
    let rest = match config.rest.address {
        Some(address) => Some((open("REST", address).await?, config.rest)),
        None => None,
    };
    let drain = Duration::from_secs(config.operations.drain_seconds);
    let operations = match config.operations.address {
        Some(address) => Some((open("operations", address).await?, config.operations)),
        None => None,
    };
    server::serve_until_signal(
        app,
        Ports {
            grpc,
            rest,
            operations,
            limits,
        },
        drain,
        &mut signals,
    )
    .await
}

/// The limits, with descriptors set apart for the database and the operations port.
pub(crate) fn limits(config: &Config) -> Limits {
    net::files::fit(
        config.limits.clone(),
        config.database.pool_size as usize + 4 + config.operations.connections,
    )
}

/// Waits for a database that is unavailable or not yet migrated; one that was migrated by a newer
/// binary is no place to be, unless that is safe, and one behind a pooler that shares connections
/// never is.
async fn reject_unfit_database(mut probe: Probe) -> anyhow::Result<()> {
    match probe.check().await {
        Ok(unfit @ (SchemaCompatibility::Newer { .. } | SchemaCompatibility::Shared)) => {
            bail!("{unfit}")
        }
        Ok(SchemaCompatibility::Fits | SchemaCompatibility::Older { .. }) => {}
        Err(error) => tracing::warn!(
            error = format!("{error:#}"),
            "the database is not available yet"
        ),
    }
    Ok(())
}

async fn open(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "listening for {what}");
    Ok(listener)
}

/// Opens a port.
///
/// # Errors
/// A port that another process has.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: the port may be in use"))
}
