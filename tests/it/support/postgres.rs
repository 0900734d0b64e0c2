//! A Postgres of a test's own, which it may stop.

use std::{net::TcpListener, process::Command};

use user_service::{
    dev::postgres::{Server, Settings},
    store::schema,
};

use super::folder::Folder;

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Transactions are rolled back, and connections are told.
    Fast,
    /// As after a crash: the next start recovers.
    Immediate,
}

/// A server that keeps its port, and goes with the test.
pub struct OwnPostgres {
    server: Option<Server>,
    port: String,
    folder: Folder,
}

impl OwnPostgres {
    /// A server whose database has all tables.
    pub async fn new() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let mut postgres = Self {
            server: None,
            port,
            folder: Folder::new(),
        };
        postgres.start().await;
        schema::migrate(&postgres.url(), None).await.unwrap();
        postgres
    }

    /// Where its database is, whether it runs or not.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it, and waits until it takes connections.
    pub async fn start(&mut self) {
        let (folder, port) = (self.folder.0.clone(), self.port.clone());
        let start = move || {
            let extra = [
                ("port", port.as_str()),
                ("fsync", "on"),
                ("synchronous_commit", "on"),
            ];
            let mut server = Server::start(&Settings {
                folder: &folder,
                extra: &extra,
            })
            .expect("Postgres");
            server.stop_at_exit().expect("a watcher");
            server
        };
        self.server = Some(tokio::task::spawn_blocking(start).await.unwrap());
    }

    /// Stops it, and waits until it is gone.
    pub async fn stop(&mut self, how: Stop) {
        let mut server = self.server.take().expect("a server that runs");
        let stop = move || {
            if let (Stop::Immediate, Some(pid)) = (how, server.pid()) {
                assert!(
                    Command::new("kill")
                        .args(["-QUIT", &pid.to_string()])
                        .status()
                        .unwrap()
                        .success()
                );
            }
            server.stop().unwrap();
        };
        tokio::task::spawn_blocking(stop).await.unwrap();
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        // Before its folder goes.
        self.server = None;
    }
}
