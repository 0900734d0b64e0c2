//! `user-service serve`.

use std::{path::Path, time::Duration};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{app, clock::Clock, config, server, store::schema};

/// How long new calls are still taken after the stop was asked for, until every balancer has heard of it.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until it is told to stop.
pub async fn run(file: Option<&Path>) -> anyhow::Result<()> {
    let config = config::load(file)?;
    let app = app::build(&config, Clock::System)?;
    schema::check(&mut schema::connect(&config.database.url.0).await?).await?;
    let grpc = bind(config.grpc.address).await?;
    tracing::info!(address = %grpc.local_addr()?, "serving gRPC");
    server::serve(app, grpc, DRAIN, server::stop_signal()).await
}

/// Opens a port.
///
/// # Errors
/// A port that another process has.
pub async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}: is the port in use?"))
}
