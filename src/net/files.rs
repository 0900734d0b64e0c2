//! File descriptors: the limit is raised at startup, and divided between connections and everything
//! else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Limits;

/// Descriptors of the process itself: listeners, event queues, log, mail, webhooks, key sets,
/// certificates.
const OWN: usize = 48;

/// Raises the soft limit of file descriptors to the hard one.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
}

/// Lowers the number of connections so that `reserved` descriptors, and those of the process
/// itself, stay available.
pub fn fit(limits: Limits, reserved: usize) -> Limits {
    let Some(files) = getrlimit(Resource::Nofile)
        .current
        .and_then(|files| usize::try_from(files).ok())
    else {
        return limits;
    };
    let room = room(files, reserved);
    if room < limits.connections {
        tracing::warn!(
            files,
            connections = room,
            configured = limits.connections,
            "fewer connections than configured: the limit of file descriptors is low"
        );
    }
    Limits {
        connections: limits.connections.min(room),
        ..limits
    }
}

/// The number of connections for this many descriptors. With a very low limit it is a quarter of
/// them, so that the service at least starts.
fn room(files: usize, reserved: usize) -> usize {
    files.saturating_sub(OWN + reserved).max(files / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_get_what_the_others_leave() {
        assert_eq!(room(1_048_576, 52), 1_048_476);
        assert_eq!(room(200, 52), 100);
        assert_eq!(room(64, 52), 16);
        assert_eq!(room(0, 52), 1);
    }

    #[test]
    fn raised_limit_is_the_hard_one() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
