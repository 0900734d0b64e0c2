//! Logs on stderr.

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal, Stderr, Write},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::RecordFields,
    filter::{FilterExt, filter_fn},
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// Lines that wait for stderr. Beyond them lines are lost: a reader that hangs must not hold calls up.
const WAITING: usize = 16_384;

/// How long lines are buffered before they are written.
const PAUSE: Duration = Duration::from_millis(5);

/// Stderr, which takes lines together: its thread rests after each writing, so that under load a call puts its line where
/// the thread will poll, so it isn't woken.
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
pub fn start(format: LogFormat) -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING).finish(Batches(BufWriter::new(io::stderr())));
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,opentelemetry=warn"));
    // Without a hint every line that libraries might trace is asked for, line by line.
    let filter = chosen.and(filter_fn(is_fit_to_be_seen).with_max_level_hint(Level::TRACE));
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(writer);
    let lines = match format {
        LogFormat::Text => {
            lines.with_ansi(io::stderr().is_terminal()).fmt_fields(OneLine::default()).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(lines).init();
    guard
}

/// Fields of a line of text, in which no value ends the line or commands the terminal that shows it: a caller who chose the
/// value could forge a line otherwise. A text is quoted besides, with its own quotation marks escaped.
#[derive(Default)]
struct OneLine(DefaultFields);

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        escape(&text, &mut writer)
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
        escaped.into_iter().flatten().try_for_each(|c| writer.write_char(c))?;
        rest = chars.as_str();
    }
    writer.write_str(rest)
}

/// What libraries tell below `info` holds the values of statements, the lines of mails and the headers of calls, so it
/// is never shown, whatever is chosen.
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
            text.ends_with('\n') && !text.trim_end().contains(|c: char| c.is_control() || c == '\u{2028}'),
            "{text}"
        );
        assert!(text.contains(r#"why=a\n2026-12-01T00:00:00Z ERROR forged\r"#), "{text}");
    }

    #[test]
    fn p57_a_text_is_quoted_so_that_it_adds_no_field() {
        let text = logged(|| tracing::info!(caller = r#"service:a" reason="x"#, "refused"));
        assert!(text.contains(r#"caller="service:a\" reason=\"x""#), "{text}");
    }
}
