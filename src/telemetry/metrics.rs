//! Metrics: instruments of the whole process, read as Prometheus text and, where a collector is
//! configured, sent to it.
//!
//! `deploy/README.md` lists them; alerts and the dashboard use these names.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram, Meter},
};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::TextEncoder;

use super::over_otlp;

/// Bounds of the buckets of durations, in seconds.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0,
];

/// Made at their first use, which comes after the start.
static INSTRUMENTS: LazyLock<Instruments> =
    LazyLock::new(|| Instruments::new(&global::meter("user-service")));

struct Instruments {
    calls: Histogram<f64>,
    serving: Gauge<u64>,
    outbox_oldest_age: Gauge<f64>,
    outbox_overdue: Gauge<u64>,
    outbox_dead_letters: Gauge<u64>,
    codes: Counter<u64>,
    token_cache: Counter<u64>,
    hash_wait: Histogram<f64>,
    limiter_hits: Counter<u64>,
    connections_refused: Counter<u64>,
    connections_closed: Counter<u64>,
    public_calls_refused: Counter<u64>,
    responses_unread: Counter<u64>,
    jwks_failures: Counter<u64>,
}

/// What became of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Sent,
    Right,
    Wrong,
}

/// Whether the verdict on a token was known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Hit,
    Miss,
}

/// Why a connection was turned away at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// There are as many authenticated ones as there may be.
    Full,
    /// The system gave no descriptor.
    Failed,
}

/// Names of states, and how many there are in each.
pub type Named = [(&'static str, usize); 3];

/// The connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    pub used: u32,
    pub idle: u32,
    pub unopened: u32,
}

/// Begins to count.
///
/// # Errors
/// An endpoint that cannot be used.
pub fn start(resource: Resource, otlp_endpoint: Option<&str>) -> anyhow::Result<SdkMeterProvider> {
    let registry = prometheus::default_registry().clone();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry)
        .scope_info_enabled(false)
        .build()?;
    let mut provider = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(reader);
    if let Some(endpoint) = otlp_endpoint {
        let exporter = over_otlp(MetricExporter::builder().with_tonic(), endpoint).build()?;
        provider = provider.with_periodic_exporter(exporter);
    }
    let provider = provider.build();
    global::set_meter_provider(provider.clone());
    INSTRUMENTS.begin();
    Ok(provider)
}

/// All metrics in the text format of Prometheus.
///
/// # Errors
/// None that metrics of ours can meet.
pub fn text() -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&prometheus::gather())
}

/// Counts a call with the attributes of the OpenTelemetry conventions for RPCs.
pub fn call(attributes: &[KeyValue], took: Duration) {
    INSTRUMENTS.calls.record(took.as_secs_f64(), attributes);
}

/// Notes whether this process serves.
pub fn serving(is_serving: bool) {
    INSTRUMENTS.serving.record(is_serving.into(), &[]);
}

/// Notes what lies in the outbox: how long the oldest message has been waiting, how many have for
/// too long, and how many were abandoned.
pub fn outbox(oldest_age: Duration, overdue: u64, dead_letters: u64) {
    INSTRUMENTS
        .outbox_oldest_age
        .record(oldest_age.as_secs_f64(), &[]);
    INSTRUMENTS.outbox_overdue.record(overdue, &[]);
    INSTRUMENTS.outbox_dead_letters.record(dead_letters, &[]);
}

/// Counts codes.
pub fn codes(what: Code, count: usize) {
    let outcome = match what {
        Code::Sent => "sent",
        Code::Right => "right",
        Code::Wrong => "wrong",
    };
    INSTRUMENTS
        .codes
        .add(count as u64, &[KeyValue::new("outcome", outcome)]);
}

/// Counts a look at the cache of tokens.
pub fn token_cache(lookup: Lookup) {
    let outcome = match lookup {
        Lookup::Hit => "hit",
        Lookup::Miss => "miss",
    };
    INSTRUMENTS
        .token_cache
        .add(1, &[KeyValue::new("outcome", outcome)]);
}

/// Notes how long a password waited for a thread.
pub fn hash_wait(waited: Duration) {
    INSTRUMENTS.hash_wait.record(waited.as_secs_f64(), &[]);
}

/// Counts a call that a limit turned away.
pub fn limiter_hit(limit: &'static str) {
    INSTRUMENTS
        .limiter_hits
        .add(1, &[KeyValue::new("limit", limit)]);
}

/// Counts a connection that was turned away at once.
pub fn connection_refused(cause: Rejected) {
    let cause = match cause {
        Rejected::Full => "full",
        Rejected::Failed => "failed",
    };
    INSTRUMENTS
        .connections_refused
        .add(1, &[KeyValue::new("cause", cause)]);
}

/// Counts a connection that the service closed.
pub fn connection_closed(cause: &'static str) {
    INSTRUMENTS
        .connections_closed
        .add(1, &[KeyValue::new("cause", cause)]);
}

/// Counts a call without a token that a limit turned away.
pub fn public_call_refused(kind: &'static str) {
    INSTRUMENTS
        .public_calls_refused
        .add(1, &[KeyValue::new("kind", kind)]);
}

/// Counts a response that was abandoned because its client did not read it.
pub fn response_unread() {
    INSTRUMENTS.responses_unread.add(1, &[]);
}

/// Shows the connections of callers by state, and their public calls by kind, whenever metrics are
/// read.
pub fn watch_connections(read: impl Fn() -> Option<(Named, Named)> + Send + Sync + 'static) {
    let meter = global::meter("user-service");
    let read = std::sync::Arc::new(read);
    let calls = std::sync::Arc::clone(&read);
    meter
        .u64_observable_gauge("user_service.connections")
        .with_description("Connections of callers")
        .with_callback(move |gauge| {
            for (state, count) in read().into_iter().flat_map(|(states, _)| states) {
                gauge.observe(count as u64, &[KeyValue::new("state", state)]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("user_service.public_calls")
        .with_description("Calls in flight that need no token")
        .with_callback(move |gauge| {
            for (kind, count) in calls().into_iter().flat_map(|(_, kinds)| kinds) {
                gauge.observe(count as u64, &[KeyValue::new("kind", kind)]);
            }
        })
        .build();
}

/// Counts a reading of an issuer's keys that failed, so that older ones stay in use.
pub fn jwks_failure(issuer: &str) {
    INSTRUMENTS
        .jwks_failures
        .add(1, &[KeyValue::new("issuer", issuer.to_owned())]);
}

/// Shows the connections of a pool whenever metrics are read.
pub fn watch_pool(read: impl Fn() -> Connections + Send + Sync + 'static) {
    let meter = global::meter("user-service");
    meter
        .u64_observable_gauge("user_service.db.pool.connections")
        .with_description("Database pool connections by state")
        .with_callback(move |gauge| {
            let Connections {
                used,
                idle,
                unopened,
            } = read();
            for (state, count) in [("used", used), ("idle", idle), ("unopened", unopened)] {
                gauge.observe(count.into(), &[KeyValue::new("state", state)]);
            }
        })
        .build();
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let seconds = |name, what| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(what)
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        let counter = |name, what| meter.u64_counter(name).with_description(what).build();
        let gauge = |name, what| meter.u64_gauge(name).with_description(what).build();
        Self {
            calls: seconds("rpc.server.call.duration", "Duration of calls"),
            serving: gauge(
                "user_service.serving",
                "1 while this replica's health is SERVING",
            ),
            outbox_oldest_age: meter
                .f64_gauge("user_service.outbox.oldest_age")
                .with_unit("s")
                .with_description("Age of the oldest queued message")
                .build(),
            outbox_overdue: gauge(
                "user_service.outbox.overdue",
                "Messages queued for more than two minutes",
            ),
            outbox_dead_letters: gauge(
                "user_service.outbox.dead_letters",
                "Messages that failed or expired",
            ),
            codes: counter("user_service.codes", "Codes sent and code attempts"),
            token_cache: counter("user_service.token_cache", "Token cache hits and lookups"),
            hash_wait: seconds(
                "user_service.hash.wait",
                "Time a password waited for a hashing thread",
            ),
            limiter_hits: counter(
                "user_service.limiter.hits",
                "Calls rejected by a rate limit",
            ),
            connections_refused: counter(
                "user_service.connections.refused",
                "Connections turned away at once",
            ),
            connections_closed: counter(
                "user_service.connections.closed",
                "Connections that the service closed",
            ),
            public_calls_refused: counter(
                "user_service.public_calls.refused",
                "Calls without a token that a limit turned away",
            ),
            responses_unread: counter(
                "user_service.responses.unread",
                "Responses abandoned because their client didn't read them",
            ),
            jwks_failures: counter(
                "user_service.jwks.failures",
                "Readings of an issuer's keys that failed",
            ),
        }
    }

    /// Lets counters be there, at zero, before there is anything to count: a rate begins at the
    /// first event.
    fn begin(&self) {
        self.serving.record(0, &[]);
        for outcome in ["sent", "right", "wrong"] {
            self.codes.add(0, &[KeyValue::new("outcome", outcome)]);
        }
        for outcome in ["hit", "miss"] {
            self.token_cache
                .add(0, &[KeyValue::new("outcome", outcome)]);
        }
        for window in crate::model::rate_limit::ALL {
            self.limiter_hits
                .add(0, &[KeyValue::new("limit", window.name)]);
        }
        for cause in ["full", "failed"] {
            self.connections_refused
                .add(0, &[KeyValue::new("cause", cause)]);
        }
        self.connections_closed
            .add(0, &[KeyValue::new("cause", "displaced")]);
        for kind in ["watch", "check", "reflection"] {
            self.public_calls_refused
                .add(0, &[KeyValue::new("kind", kind)]);
        }
        self.responses_unread.add(0, &[]);
        self.jwks_failures.add(0, &[]);
    }
}
