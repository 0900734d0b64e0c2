//! The threads of the process: half of the cores carry the calls, and half hash passwords.
//!
//! Two threads that carry calls hand each other work by waking each other, which costs more than
//! most of that work: on two cores that Postgres and the client share, one thread serves more calls
//! than two (`benches/README.md`).

use std::{env, io, thread};

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};

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

/// Bytes from which the reading of a request counts as heavy.
const HEAVY: usize = 64 * 1024;

/// Runs work on a request of so many bytes. Where they are many, the other calls of this thread go
/// on elsewhere meanwhile.
pub fn run_heavy<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let can_move = bytes > HEAVY
        && Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if can_move {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
