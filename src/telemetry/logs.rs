//! Logs on stderr.

use std::{
    io::{self, BufWriter, IsTerminal, Stderr, Write},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// Lines that wait for stderr. Beyond them lines are lost: a reader that hangs must not hold calls up.
const WAITING: usize = 16_384;

/// How long lines gather before they are written.
const PAUSE: Duration = Duration::from_millis(5);

/// Stderr, which takes lines together: its thread rests after each writing, so that under load a call puts its line where
/// the thread will look, and wakes nobody.
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
    let lines = fmt::layer::<Registry>().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(lines).init();
    guard
}

/// What libraries tell below `info` holds the values of statements, the lines of mails and the headers of calls, so it
/// is never shown, whatever is chosen.
fn is_fit_to_be_seen(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || metadata.target().starts_with("user_service")
}
