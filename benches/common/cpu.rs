//! What the operating system knows of processes: their CPU time.

use std::{fs, process::Command, sync::OnceLock, time::Duration};

/// Ticks of the CPU times in a second.
fn ticks() -> u64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let told = Command::new("getconf").arg("CLK_TCK").output().ok();
        told.and_then(|told| String::from_utf8(told.stdout).ok()?.trim().parse().ok())
            .unwrap_or(100)
    })
}

/// The numbers of `/proc/PID/stat` from the parent's on.
fn stat(pid: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in front may hold anything, a bracket too.
    let (_, rest) = text.rsplit_once(") ")?;
    Some(
        rest.split(' ')
            .skip(1)
            .map(|number| number.parse().unwrap_or_default())
            .collect(),
    )
}

fn of_ticks(count: u64) -> Duration {
    Duration::from_micros(count * 1_000_000 / ticks())
}

/// CPU time of a process, of all its threads.
pub(crate) fn cpu(pid: u32) -> Duration {
    stat(&pid.to_string()).map_or(Duration::ZERO, |stat| of_ticks(stat[10] + stat[11]))
}

/// CPU time of children that have ended and were waited for.
pub(crate) fn cpu_of_ended(pid: u32) -> Duration {
    stat(&pid.to_string()).map_or(Duration::ZERO, |stat| of_ticks(stat[12] + stat[13]))
}

/// Processes that this one started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| stat(&child.to_string()).is_some_and(|stat| stat[0] == u64::from(pid)))
        .collect()
}

/// CPU time of a process and its children, those that have ended too.
pub(crate) fn cpu_of_family(pid: u32) -> Duration {
    cpu(pid) + cpu_of_ended(pid) + children(pid).into_iter().map(cpu).sum::<Duration>()
}
