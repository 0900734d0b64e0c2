//! Memory of processes, as the operating system counts it.

use std::fs;

use super::cpu::children;

/// Memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub now: u64,
    pub highest: u64,
}

fn kilobytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Resident memory of a process.
pub(crate) fn memory(pid: u32) -> Memory {
    let file = format!("/proc/{pid}/status");
    Memory {
        now: kilobytes(&file, "VmRSS") / 1024,
        highest: kilobytes(&file, "VmHWM") / 1024,
    }
}

/// Memory of a process and its children, what they share counted once.
pub(crate) fn memory_of_family(pid: u32) -> u64 {
    let share = |pid: u32| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss");
    (share(pid) + children(pid).into_iter().map(share).sum::<u64>()) / 1024
}
