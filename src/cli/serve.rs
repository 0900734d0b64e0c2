//! `user-service serve`.

use std::{path::Path, time::Duration};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{
    app,
    clock::Clock,
    config,
    server::{self, Ports},
    store::schema,
};

/// How long new calls are still taken after the stop was asked for, until every balancer has heard of it.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until it is told to stop.
pub async fn run(file: Option<&Path>) -> anyhow::Result<()> {
    let config = config::load(file)?;
    let app = app::build(&config, Clock::System)?;
    schema::check(&mut schema::connect(&config.database.url.0).await?).await?;
    let grpc = bind(config.grpc.address).await?;
    tracing::info!(address = %grpc.local_addr()?, "serving gRPC");
    let rest = match config.rest.address {
        Some(address) => {
            let listener = bind(address).await?;
            tracing::info!(address = %listener.local_addr()?, "serving REST");
            Some((listener, config.rest))
        }
        None => None,
    };
    server::serve(app, Ports { grpc, rest }, DRAIN, server::stop_signal()).await
}

/// Opens a port.
///
/// # Errors
/// A port that another process has.
pub async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}: is the port in use?"))
}
