//! The threads of the process: half of the cores carry the calls, and half hash passwords.
//!
//! Two threads that carry calls hand each other work by waking each other, which costs more than most of that work: on two
//! cores that Postgres and the client share, one thread serves more calls than two (`benches/README.md`).

use std::{env, io, thread};

use tokio::runtime::{Builder, Runtime};

/// Says how many threads carry the calls, in place of half of the cores; tokio's own name for it.
const VARIABLE: &str = "TOKIO_WORKER_THREADS";

/// Half of the cores that this process may use, at least one.
pub fn half_of_cores() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

/// The runtime that carries the calls.
///
/// # Errors
/// Fails where the system gives no more threads.
///
/// # Panics
/// Where the variable holds no number above zero, as tokio itself does.
pub fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if env::var_os(VARIABLE).is_none() {
        builder.worker_threads(half_of_cores());
    }
    builder.enable_all().build()
}
