//! The port: connections taken until the stop, then let go when their calls are answered.

use std::{future::Future, time::Duration};

use axum::{Router, extract::Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use tower::ServiceExt;

use crate::{auth::incoming::incoming, auth::tls::Acceptor};

/// The longest that the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Serves until `stop` comes, and then until the calls in flight are answered.
pub async fn serve(listener: TcpListener, acceptor: Option<Acceptor>, router: Router, stop: impl Future<Output = ()>) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder.http2().timer(TokioTimer::new());
    let connections = GracefulShutdown::new();
    let mut incoming = incoming(listener, acceptor);
    tokio::pin!(stop);
    loop {
        let connection = tokio::select! {
            Some(Ok(connection)) = incoming.next() => connection,
            () = &mut stop => break,
        };
        let peer = connection.connect_info();
        let service = router.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request
        });
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection(TokioIo::new(connection), service).into_owned();
        let watched = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(incoming);
    connections.shutdown().await;
}
