//! Traces, sent to a collector over OTLP.

use std::sync::OnceLock;

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};

use super::over_otlp;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Begins to send spans to this endpoint.
///
/// # Errors
/// An endpoint that cannot be used.
pub(super) fn start(resource: Resource, endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = over_otlp(SpanExporter::builder().with_tonic(), endpoint).build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();
    TRACER.get_or_init(|| provider.tracer("user-service"));
    Ok(provider)
}

/// The tracer, where spans are sent at all.
pub(super) fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// The trace that a caller's `traceparent` names; an empty context without one.
pub(super) fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt;

    use super::*;

    #[test]
    fn a_trace_goes_on_and_a_broken_one_does_not() {
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("traceparent"),
                value.parse().unwrap(),
            )]);
            parent(&headers).span().span_context().clone()
        };
        let good = read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(
            good.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert!(good.is_sampled() && good.is_remote());
        assert!(!read("00-00000000000000000000000000000000-b7ad6b7169203331-01").is_valid());
        assert!(!read("nonsense").is_valid());
    }
}
