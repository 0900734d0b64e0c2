//! Logs on stderr.

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal, Stderr, Write},
    thread,
    time::Duration,
};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::RecordFields,
    filter::{FilterExt, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::call::{self, LogContext};
use crate::config::LogFormat;

/// Lines that wait for stderr. Beyond them lines are lost: a reader that hangs must not hold calls
/// up.
const WAITING: usize = 16_384;

/// How long lines are buffered before they are written.
const PAUSE: Duration = Duration::from_millis(5);

/// Stderr, which takes lines together: its thread rests after each writing, so that under load a
/// call puts its line where the thread will poll, so it isn't woken.
struct Batches(BufWriter<Stderr>);

impl Write for Batches {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        thread::sleep(PAUSE);
        Ok(())
    }
}

/// Begins to write logs; `RUST_LOG` chooses which. What waits is written when the guard is dropped.
pub(super) fn start(format: LogFormat) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING)
        .finish(Batches(BufWriter::new(io::stderr())));
    let chosen = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,opentelemetry=warn"));
    // Without a hint every line that libraries might trace is asked for, line by line.
    let filter = chosen.and(filter_fn(is_fit_to_be_seen).with_max_level_hint(Level::TRACE));
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(writer);
    let lines = match format {
        LogFormat::Text => {
            let lines = lines
                .with_ansi(io::stderr().is_terminal())
                .fmt_fields(OneLine::default());
            lines
                .map_event_format(|lines| InContext { lines, format })
                .with_filter(filter)
                .boxed()
        }
        LogFormat::Json => {
            let lines = lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            lines
                .map_event_format(|lines| InContext { lines, format })
                .with_filter(filter)
                .boxed()
        }
    };
    tracing_subscriber::registry().with(lines).init();
    guard
}

/// Fields of a line of text, in which no value ends the line or commands the terminal that shows
/// it: a caller who chose the value could forge a line otherwise. A text is quoted besides, with
/// its own quotation marks escaped.
#[derive(Default)]
struct OneLine(DefaultFields);

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        escape(&text, &mut writer)
    }
}

/// Lines with the request id and the RPC of the call that they belong to, or the name of the
/// background job. The context of a call is a task-local of [`call`], which its trace and its
/// histogram come from too: a span of `tracing` would be entered and left at every poll, and its
/// fields are formatted even if no line is logged.
struct InContext<F> {
    lines: F,
    format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for InContext<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let is_complete = event.fields().any(|field| field.name() == "request_id");
        let belongs_to = if is_complete {
            None
        } else {
            call::log_context()
        };
        let Some(belongs_to) = belongs_to else {
            return self.lines.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.lines
            .format_event(context, Writer::new(&mut line), event)?;
        // A request id, an RPC and a job have no character that either format escapes.
        match (self.format, belongs_to) {
            (LogFormat::Json, LogContext::Call { request_id, rpc }) => {
                write!(writer, "{{\"request_id\":\"{request_id}\",")?;
                rpc.map_or(Ok(()), |rpc| write!(writer, "\"rpc\":\"{rpc}\","))?;
                writer.write_str(line.trim_start_matches('{'))
            }
            (LogFormat::Json, LogContext::Job(job)) => {
                write!(
                    writer,
                    "{{\"job\":\"{job}\",{}",
                    line.trim_start_matches('{')
                )
            }
            (LogFormat::Text, LogContext::Call { request_id, rpc }) => {
                write!(
                    writer,
                    "{} request_id=\"{request_id}\"",
                    line.trim_end_matches('\n')
                )?;
                rpc.map_or(Ok(()), |rpc| write!(writer, " rpc={rpc}"))?;
                writeln!(writer)
            }
            (LogFormat::Text, LogContext::Job(job)) => {
                writeln!(writer, "{} job={job}", line.trim_end_matches('\n'))
            }
        }
    }
}

/// Writes a text with its control characters and line separators escaped.
fn escape(text: &str, writer: &mut impl fmt::Write) -> fmt::Result {
    let is_unsafe = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut rest = text;
    while let Some(place) = rest.find(is_unsafe) {
        let (plain, end) = rest.split_at(place);
        writer.write_str(plain)?;
        let mut chars = end.chars();
        let escaped = chars.next().map(char::escape_default);
        escaped
            .into_iter()
            .flatten()
            .try_for_each(|c| writer.write_char(c))?;
        rest = chars.as_str();
    }
    writer.write_str(rest)
}

/// What libraries tell below `info` holds the values of statements, the lines of mails and the
/// headers of calls, so it is never shown, whatever is chosen.
fn is_fit_to_be_seen(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || metadata.target().starts_with("user_service")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a log of text holds after these lines.
    fn logged(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer::<Registry>()
            .with_ansi(false)
            .fmt_fields(OneLine::default())
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn p57_no_value_of_a_caller_forges_a_line_of_text() {
        let forged = "a\n2026-12-01T00:00:00Z ERROR forged\r\x1b[2J\u{85}\u{2028}b";
        let text = logged(|| {
            tracing::info!(caller = forged, why = %forged, seen = ?Some(forged), "rejected {forged}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.ends_with('\n')
                && !text
                    .trim_end()
                    .contains(|c: char| c.is_control() || c == '\u{2028}'),
            "{text}"
        );
        assert!(
            text.contains(r#"why=a\n2026-12-01T00:00:00Z ERROR forged\r"#),
            "{text}"
        );
    }

    /// What a log in this format holds after these lines.
    fn in_context(format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer::<Registry>()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let layer = match format {
            LogFormat::Text => layer
                .map_event_format(|lines| InContext { lines, format })
                .boxed(),
            LogFormat::Json => layer
                .json()
                .flatten_event(true)
                .map_event_format(|lines| InContext { lines, format })
                .boxed(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn p57_a_line_names_the_call_or_the_job_that_it_belongs_to() {
        let mut headers = http::HeaderMap::new();
        headers.insert(call::REQUEST_ID_HEADER, "call-7".parse().unwrap());
        for format in [LogFormat::Json, LogFormat::Text] {
            let in_call = async {
                call::set_rpc(call::Rpc("a.v1.B", "Get"));
                in_context(format, || tracing::info!(n = 1, "inside"))
            };
            let of_call = call::Call::new(&headers, call::Transport::Grpc)
                .run(in_call)
                .await;
            let of_job = call::job("purge", async {
                in_context(format, || tracing::info!("inside"))
            })
            .await;
            let outside = in_context(format, || tracing::info!("outside"));
            match format {
                LogFormat::Json => {
                    let line: serde_json::Value = serde_json::from_str(&of_call).unwrap();
                    assert_eq!(
                        (&line["request_id"], &line["rpc"], &line["n"]),
                        (&"call-7".into(), &"a.v1.B/Get".into(), &1.into())
                    );
                    let line: serde_json::Value = serde_json::from_str(&of_job).unwrap();
                    assert_eq!(
                        (&line["job"], &line["message"]),
                        (&"purge".into(), &"inside".into())
                    );
                }
                LogFormat::Text => {
                    assert!(
                        of_call.ends_with(" inside n=1 request_id=\"call-7\" rpc=a.v1.B/Get\n"),
                        "{of_call}"
                    );
                    assert!(of_job.ends_with(" inside job=purge\n"), "{of_job}");
                }
            }
            assert!(
                !outside.contains("request_id") && !outside.contains("job"),
                "{outside}"
            );
        }
    }

    #[test]
    fn p57_a_text_is_quoted_so_that_it_adds_no_field() {
        let text = logged(|| tracing::info!(caller = r#"service:a" reason="x"#, "rejected"));
        assert!(
            text.contains(r#"caller="service:a\" reason=\"x""#),
            "{text}"
        );
    }
}
