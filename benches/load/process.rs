//! Processes of the load, and their memory.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, bail};

use crate::common::cpu::children;

/// This program once more, in another role; it ends when it is dropped.
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// This program in another role, whose stderr goes there.
    pub fn start(arguments: &[&str], stderr: Stdio) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn()?;
        let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).context("a child without pipes")?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.stdin, "{line}")?;
        Ok(self.stdin.flush()?)
    }

    pub fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("a process of the load ended early");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("a process of the load does not end: {error}");
        }
    }
}

/// Memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub now: u64,
    pub highest: u64,
}

fn kilobytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Resident memory of a process.
pub fn memory(pid: u32) -> Memory {
    let file = format!("/proc/{pid}/status");
    Memory { now: kilobytes(&file, "VmRSS") / 1024, highest: kilobytes(&file, "VmHWM") / 1024 }
}

/// Memory of a process and its children, what they share counted once.
pub fn memory_of_family(pid: u32) -> u64 {
    let share = |pid: u32| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss");
    (share(pid) + children(pid).into_iter().map(share).sum::<u64>()) / 1024
}
