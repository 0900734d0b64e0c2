//! What a running Postgres leaves in its data folder, and whether it still runs.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

const PID_FILE: &str = "postmaster.pid";

/// What the server wrote about itself into its data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) state: State,
}

/// How far the server has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Ready,
    Stopping,
}

/// The server that the data folder tells of, running or killed.
///
/// Gives `None` where there is none, and while it has not yet written all.
pub(super) fn postmaster(data: &Path) -> Option<Postmaster> {
    parse_postmaster(&std::fs::read_to_string(data.join(PID_FILE)).ok()?)
}

/// The process of the server that runs on this data folder.
pub(super) fn running(data: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data.join(PID_FILE)).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    is_server(pid, data).then_some(pid)
}

/// Lines 1, 4 and 8 of the file are the process, the port and the state.
fn parse_postmaster(text: &str) -> Option<Postmaster> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let state = match *lines.get(7)? {
        "ready" | "standby" => State::Ready,
        "stopping" => State::Stopping,
        _ => State::Starting,
    };
    Some(Postmaster {
        pid: lines[0].parse().ok()?,
        port: lines[3].parse().ok()?,
        state,
    })
}

/// Whether this process is a server on this data folder.
///
/// The id alone is no evidence: after a kill another process may have it, or a zombie that was
/// never waited for.
fn is_server(pid: u32, data: &Path) -> bool {
    let command_line = if Path::new("/proc/self/cmdline").exists() {
        std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
    } else {
        let ps = Command::new("ps")
            .args(["-ww", "-o", "command=", "-p"])
            .arg(pid.to_string())
            .output();
        ps.map(|answer| answer.stdout).unwrap_or_default()
    };
    let data = data.as_os_str().as_encoded_bytes();
    command_line
        .windows(data.len())
        .any(|window| window == data)
}

/// Makes Postgres take over what a killed server left, where its number belongs to a living process
/// now.
///
/// Postgres rejects to start while any process has the number in the file, but not where that is
/// its own parent, which we are. Removing the file would also lose its check that no process still
/// uses the killed one's shared memory.
pub(super) fn disown(data: &Path) -> anyhow::Result<()> {
    let path = data.join(PID_FILE);
    let cannot_take_over = || format!("cannot take over {}", path.display());
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.with_context(cannot_take_over)?,
    };
    let Some((_, rest)) = text.split_once('\n') else {
        return std::fs::remove_file(&path).with_context(cannot_take_over);
    };
    std::fs::write(&path, format!("{}\n{rest}", std::process::id())).with_context(cannot_take_over)
}

/// The last lines of a text.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Drops an error that cannot matter to the caller, and says what failed.
pub(super) fn forget_error<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) {
    if let Err(error) = result {
        eprintln!("{what}: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_and_state_are_read_from_the_pid_file() {
        let lines = |state| {
            format!("4711\n/data/pg15\n1700000000\n54321\n/data/pg15\n127.0.0.1\n  5 6\n{state}\n")
        };

        assert_eq!(
            parse_postmaster(&lines("ready   ")),
            Some(Postmaster {
                pid: 4711,
                port: 54321,
                state: State::Ready
            })
        );
        assert_eq!(
            parse_postmaster(&lines("starting")).map(|found| found.state),
            Some(State::Starting)
        );
        assert_eq!(
            parse_postmaster(&lines("stopping")).map(|found| found.state),
            Some(State::Stopping)
        );
        assert_eq!(
            parse_postmaster("4711\n/data/pg15\n1700000000\n54321\n"),
            None
        );
        assert_eq!(parse_postmaster(""), None);
    }

    #[test]
    fn last_lines_are_the_whole_of_a_short_text() {
        assert_eq!(last_lines("one\ntwo\nthree", 2), "two\nthree");
        assert_eq!(last_lines("one", 2), "one");
    }
}
