//! The port: connections taken until the stop, and let go when their calls are answered, then or when they are old.

use std::{future::Future, pin::pin, time::Duration};

use axum::{Router, extract::Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use tower::ServiceExt;

use crate::{auth::incoming, auth::tls::Acceptor};

/// The longest that the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How often a client is asked whether it is there, where HTTP/2 can.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long it has to answer.
const PING_TIME: Duration = Duration::from_secs(10);

/// Serves until `stop` comes, and then until the calls in flight are answered.
pub async fn serve(listener: TcpListener, acceptor: Option<Acceptor>, router: Router, stop: impl Future<Output = ()>) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_TIME);
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut taken = incoming::incoming(listener, acceptor);
    tokio::pin!(stop);
    loop {
        let connection = tokio::select! {
            Some(Ok(connection)) = taken.next() => connection,
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        let peer = connection.connect_info();
        let service = router.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request
        });
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection(TokioIo::new(connection), service).into_owned();
        let mut stopped = stopped.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                // The sender is gone where the port stops.
                _ = tokio::time::timeout(incoming::CONNECTION_AGE, stopped.changed()) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop((taken, stopping));
    while connections.join_next().await.is_some() {}
}
