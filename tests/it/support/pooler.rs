//! A PgBouncer of a test's own, before the tests' Postgres.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use tokio::net::TcpStream;
use url::Url;

use super::{TestDatabase, eventually, folder::Folder};

/// Debian's `nobody`: PgBouncer rejects to run as root.
const NOBODY: u32 = 65534;

/// A running PgBouncer; it goes with the test.
pub struct Pooler {
    process: Child,
    url: String,
    _folder: Folder,
}

impl Pooler {
    /// Before this database, with `pool_mode`; `None` where PgBouncer isn't installed.
    pub async fn start(database: &TestDatabase, pool_mode: &str) -> Option<Self> {
        let mut server = Url::parse(&database.url()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = Folder::new();
        let config = folder.write(
            "pgbouncer.ini",
            &config(&server, database.name(), pool_mode, port),
        );
        let mut command = Command::new("pgbouncer");
        // Debian has it in a folder that only root searches.
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{path}:/usr/sbin"))
            .arg("-q")
            .arg(config)
            .stdin(Stdio::null());
        if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
            command.uid(NOBODY).gid(NOBODY);
        }
        let process = command.spawn().ok()?;
        eventually("the pooler", async || {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        server.set_port(Some(port)).unwrap();
        server.set_host(Some("127.0.0.1")).unwrap();
        Some(Self {
            process,
            url: server.to_string(),
            _folder: folder,
        })
    }

    /// The database through the pooler.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("a child");
    }
}

fn config(server: &Url, name: &str, pool_mode: &str, port: u16) -> String {
    let password = server
        .password()
        .map(|password| format!(" password={password}"))
        .unwrap_or_default();
    format!(
        "[databases]\n{name} = host={} port={} user={}{password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\n",
        server.host_str().unwrap(),
        server.port().unwrap_or(5432),
        server.username(),
    )
}
