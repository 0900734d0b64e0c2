//! Spans of statements, under the span of the call that sends them, by the conventions for
//! databases.

use diesel::{
    connection::{Instrumentation, InstrumentationEvent},
    result::{DatabaseErrorKind, Error},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Span, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::Span as SdkSpan;

use super::traces;

/// What Diesel writes between the text of a statement and its values.
const BEFORE_VALUES: &str = " -- binds: ";

/// Watches the statements of one connection.
#[derive(Default)]
pub struct Watcher {
    open: Option<SdkSpan>,
}

impl Instrumentation for Watcher {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } if is_traced() => {
                let shown = query.to_string();
                // The values are the caller's; the text before them is ours alone.
                let text = shown.split(BEFORE_VALUES).next().unwrap_or_default();
                self.open = begin(text);
            }
            InstrumentationEvent::StartQuery { .. } => self.open = None,
            InstrumentationEvent::FinishQuery { error, .. } => {
                if let Some(span) = self.open.take() {
                    end(span, error.map(kind));
                }
            }
            _ => {}
        }
    }
}

/// Runs a statement that Diesel does not know of, in a span.
pub async fn traced<T>(text: &'static str, run: impl Future<Output = T>) -> T {
    let span = if is_traced() { begin(text) } else { None };
    let done = run.await;
    if let Some(span) = span {
        end(span, None);
    }
    done
}

/// Whether this is inside of a call whose trace is kept.
fn is_traced() -> bool {
    traces::tracer().is_some()
        && Context::map_current(|context| context.span().span_context().is_sampled())
}

fn begin(text: &str) -> Option<SdkSpan> {
    let operation = text.split_whitespace().next().unwrap_or("?").to_uppercase();
    let tracer = traces::tracer()?;
    let span = tracer
        .span_builder(operation.clone())
        .with_kind(SpanKind::Client)
        .with_attributes([
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.query.text", text.to_owned()),
        ]);
    Some(tracer.build_with_context(span, &Context::current()))
}

fn end(mut span: SdkSpan, error: Option<&'static str>) {
    if let Some(kind) = error {
        span.set_attribute(KeyValue::new("error.type", kind));
        span.set_status(Status::error(""));
    }
    span.end();
}

/// The kind of an error; its text may hold what the caller sent.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::NotFound => "not_found",
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => "unique_violation",
        Error::DatabaseError(DatabaseErrorKind::CheckViolation, _) => "check_violation",
        Error::DatabaseError(DatabaseErrorKind::NotNullViolation, _) => "not_null_violation",
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => "serialization_failure",
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => "closed_connection",
        Error::DatabaseError(..) => "database_error",
        _ => "client_error",
    }
}
