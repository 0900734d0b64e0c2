//! A collector: it takes what comes over OTLP and keeps it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running collector; it goes with the test.
pub struct Collector {
    pub address: SocketAddr,
    kept: Kept,
    serving: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Kept {
    spans: Arc<watch::Sender<Vec<Span>>>,
    metrics: Arc<watch::Sender<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        self.spans
            .send_modify(|spans| spans.extend(scopes.flat_map(|scope| scope.spans)));
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes = request
            .into_inner()
            .resource_metrics
            .into_iter()
            .flat_map(|resource| resource.scope_metrics);
        let names = scopes
            .flat_map(|scope| scope.metrics)
            .map(|metric| metric.name);
        self.metrics.send_modify(|metrics| metrics.extend(names));
        Ok(Response::new(Default::default()))
    }
}

impl Collector {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept::default();
        let serving = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(kept.clone()))
            .add_service(MetricsServiceServer::new(kept.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            kept,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.borrow().clone()
    }

    /// Waits for a metric of this name.
    pub async fn metric(&self, name: &str) {
        let mut metrics = self.kept.metrics.subscribe();
        let sent = metrics.wait_for(|metrics| metrics.iter().any(|sent| sent == name));
        tokio::time::timeout(PATIENCE, sent)
            .await
            .expect(name)
            .unwrap();
    }

    /// The first span that fits; waits for it.
    pub async fn span(&self, fits: impl Fn(&Span) -> bool) -> Span {
        let mut spans = self.kept.spans.subscribe();
        let sent = spans.wait_for(|spans| spans.iter().any(&fits));
        let spans = tokio::time::timeout(PATIENCE, sent)
            .await
            .expect("a span")
            .unwrap();
        spans.iter().find(|span| fits(span)).unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The attributes of a span, as text.
pub fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text =
        |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("an attribute of another type: {other:?}"),
        };
    span.attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), text(&attribute.value)))
        .collect()
}

/// Bytes as an id in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
