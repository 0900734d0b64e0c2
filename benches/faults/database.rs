//! Postgres servers that can be stopped in every way, and a standby of one.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use user_service::{
    app,
    clock::Clock,
    config::{Config, Secret, SecretKey, key_text},
    dev::postgres::{Server, Settings},
    dev::{demo_data, seed_data},
    store::{
        schema::{self, DevMarker},
        sql::Sql,
    },
};

use crate::common::cpu;

const DATABASE: &str = "postgres";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that keeps its port, and its folder.
pub(crate) struct Postgres {
    server: Option<Server>,
    port: u16,
    folder: PathBuf,
}

impl Postgres {
    /// Starts one that keeps what it is told, as in production.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut postgres = Self {
            server: None,
            port,
            folder: folder.to_owned(),
        };
        postgres.start_again()?;
        Ok(postgres)
    }

    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        let port = self.port.to_string();
        let on = |name| (name, "on");
        let extra = [
            ("port", port.as_str()),
            ("shared_buffers", "256MB"),
            on("fsync"),
            on("synchronous_commit"),
            on("full_page_writes"),
        ];
        let mut server = Server::start(&Settings {
            folder: &self.folder,
            extra: &extra,
        })?;
        server.stop_at_exit()?;
        self.server = Some(server);
        Ok(())
    }

    fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("Postgres does not run")
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.server()?.pid().context("Postgres does not run")
    }

    /// Stops it as `pg_ctl stop -m fast` does.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.server.take().context("Postgres does not run")?.stop()
    }

    /// Stops it by a signal to its first process.
    pub(crate) fn stop_by(&mut self, signal: &str) -> anyhow::Result<()> {
        let pid = self.pid()?;
        send(signal, &[pid])?;
        // `pg_ctl` would wait in vain for one that was killed.
        let command_line = PathBuf::from(format!("/proc/{pid}/cmdline"));
        while fs::read(&command_line).is_ok_and(|line| !line.is_empty()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.stop()
    }

    /// Halts all its processes for so long; their connections stay.
    pub(crate) async fn halt(&self, time: Duration) -> anyhow::Result<()> {
        let pid = self.pid()?;
        let family: Vec<u32> = [pid].into_iter().chain(cpu::children(pid)).collect();
        send("STOP", &family)?;
        tokio::time::sleep(time).await;
        send("CONT", &family)
    }

    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/{DATABASE}", self.place())
    }

    /// The URL of two servers, of which the one that takes writes counts.
    pub(crate) fn url_with(&self, other: &Self) -> String {
        format!(
            "postgres://postgres@{},{}/{DATABASE}?target_session_attrs=read-write",
            self.place(),
            other.place()
        )
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<AsyncPgConnection> {
        schema::connect(&self.url(), None).await
    }

    /// A standby of this one, which every commit waits for from now on.
    pub(crate) async fn standby(&self, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let bin_dir = self.server()?.bin_dir();
        let data = self.data()?;
        let copy = folder.join(data.file_name().context("a folder without a name")?);
        let port = self.port.to_string();
        let mut backup = Command::new(bin_dir.join("pg_basebackup"));
        backup.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-D",
        ]);
        run(backup.arg(&copy))?;
        // Postgres may run as another user than we do.
        let mut reference = std::ffi::OsString::from("--reference=");
        reference.push(&data);
        run(Command::new("chown").arg("-R").arg(reference).arg(&copy))?;
        let standby = Self::start(folder)?;
        let mut conn = self.connect().await?;
        conn.batch_execute("alter system set synchronous_standby_names = '*'")
            .await?;
        conn.batch_execute("select pg_reload_conf()").await?;
        let waited = Instant::now();
        while count(
            &mut conn,
            "select count(*) from pg_stat_replication where sync_state = 'sync'",
        )
        .await?
            == 0
        {
            ensure!(waited.elapsed() < PATIENCE, "the standby does not follow");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(standby)
    }

    /// Makes a standby the server that takes writes.
    pub(crate) async fn promote(&self) -> anyhow::Result<()> {
        Ok(self
            .connect()
            .await?
            .batch_execute("select pg_promote()")
            .await?)
    }

    fn data(&self) -> anyhow::Result<PathBuf> {
        let mut entries = self.folder.read_dir()?.flatten().map(|entry| entry.path());
        entries
            .find(|path| path.join("PG_VERSION").exists())
            .context("there is no data")
    }
}

/// Makes the tables, the examples and the crowd.
pub(crate) async fn fill(url: &str, users: u64) -> anyhow::Result<()> {
    schema::migrate(url, None).await?;
    let mut config = Config::default();
    config.database.url = Secret(url.to_owned());
    config.secrets.keys = vec![SecretKey {
        id: "faults".to_owned(),
        key: Secret(key_text([7; 32])),
    }];
    demo_data::fill(&app::build(&config, Clock::System)?.api).await?;
    schema::set_mark(
        &mut schema::connect(url, None).await?,
        DevMarker::Filled { users: 0 },
    )
    .await?;
    seed_data::fill(url, None, users, Clock::System.now(), drop).await?;
    Ok(())
}

/// A number that the database tells.
pub(crate) async fn count(
    conn: &mut AsyncPgConnection,
    statement: &'static str,
) -> anyhow::Result<i64> {
    Ok(Sql::<diesel::sql_types::BigInt>::new(statement)
        .get_result(conn)
        .await?)
}

fn send(signal: &str, pids: &[u32]) -> anyhow::Result<()> {
    // One of them may have ended meanwhile.
    let sent = Command::new("kill")
        .arg(format!("-{signal}"))
        .args(pids.iter().map(u32::to_string))
        .output();
    sent.map(drop).context("kill cannot be run")
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let ran = command
        .output()
        .with_context(|| format!("{command:?} cannot be run"))?;
    if !ran.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    Ok(())
}
