//! Logs of this process, on stderr.

use tracing_subscriber::EnvFilter;

/// Begins to write logs; `RUST_LOG` chooses which.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
