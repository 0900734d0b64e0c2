//! What operators see of this process: logs, metrics, and a trace of each call.
//!
//! Logs go to stderr. Metrics are on the operations port, and with the traces they go to a
//! collector where one is configured. None of them shows an address, a code, a token, a password or
//! a body.

pub mod call;
mod logs;
pub mod metrics;
pub mod statement;
mod traces;

use std::{sync::mpsc, thread, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider, trace::SdkTracerProvider};
use tonic::transport::ClientTlsConfig;
use tracing_appender::non_blocking::WorkerGuard;

use crate::config::Telemetry;

/// How long the last spans and points may take to reach the collector.
const FLUSH: Duration = Duration::from_secs(2);

/// What a process tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A command, which only logs.
    Command,
    /// A service.
    Service,
}

/// Running telemetry. What it has not yet sent goes out when it is dropped, which may block for a
/// moment.
pub struct Guard {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    /// Dropped last, so that the end of the others is logged.
    _logs: WorkerGuard,
}

/// Starts telemetry for the whole process; to be called once, inside of a runtime.
///
/// # Errors
/// An endpoint that cannot be used.
pub fn start(settings: &Telemetry, role: Role) -> anyhow::Result<Guard> {
    let mut guard = Guard {
        traces: None,
        metrics: None,
        _logs: logs::start(settings.log_format),
    };
    if role == Role::Service {
        let resource = Resource::builder()
            .with_service_name("user-service")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
            ]);
        let (resource, endpoint) = (resource.build(), settings.otlp_endpoint.as_deref());
        guard.metrics = Some(metrics::start(resource.clone(), endpoint)?);
        guard.traces = endpoint
            .map(|endpoint| traces::start(resource, endpoint))
            .transpose()?;
    }
    Ok(guard)
}

/// An exporter to this endpoint.
fn over_otlp<B: WithExportConfig + WithTonicConfig>(exporter: B, endpoint: &str) -> B {
    let exporter = exporter.with_endpoint(endpoint);
    if endpoint.starts_with("https:") {
        // By default it trusts no certificate.
        exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
    } else {
        exporter
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (traces, metrics) = (self.traces.take(), self.metrics.take());
        let (done, is_done) = mpsc::channel();
        // A collector that hangs must not hold the process.
        thread::spawn(move || {
            let flushed = traces.map_or(Ok(()), |traces| traces.shutdown_with_timeout(FLUSH));
            let flushed =
                flushed.and(metrics.map_or(Ok(()), |metrics| metrics.shutdown_with_timeout(FLUSH)));
            // The receiver was dropped if it took too long.
            done.send(flushed).unwrap_or_default();
        });
        match is_done.recv_timeout(FLUSH) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "telemetry flush failed; the last traces and metrics may be lost")
            }
            Err(_) => {
                tracing::warn!("telemetry flush timed out; the last traces and metrics are lost")
            }
        }
    }
}
