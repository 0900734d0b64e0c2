//! The binary as it runs in production: `serve`, with its log and its ports.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Client, TestDatabase};

/// A token with every scope.
pub const TOKEN: &str = "bootstrap-token-of-the-tests-0123456789";
const BINARY: &str = env!("CARGO_BIN_EXE_user-service");
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keys of every process over one database.
pub fn keys() -> String {
    format!(
        "[{{id=\"test\",key=\"{}\"}}]",
        user_service::config::key_text([7; 32])
    )
}

/// A running `serve`; it goes with the test.
pub struct Serve {
    process: Child,
    /// Closed when the process has ended.
    log: watch::Receiver<Vec<String>>,
}

impl Serve {
    /// Over this database, with a JSON log of all there is, all ports, and a ping each second.
    pub fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[])
    }

    /// With more variables of the section and key, for example `("MAIL__FOLDER", "/tmp/x")`.
    pub fn start_with(database: &TestDatabase, more: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(BINARY), &database.url(), "trace", more)
    }

    /// With so many file descriptors at most.
    pub fn start_with_descriptors(database: &TestDatabase, descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""),
            BINARY,
        ]);
        Self::spawn(command, &database.url(), "info", &[])
    }

    /// For many calls: with a log that has no line for each of them, and a drain of one second.
    pub fn start_for_load(url: &str) -> Self {
        Self::spawn(
            Command::new(BINARY),
            url,
            "info,user_service::telemetry::call=off",
            &[("OPERATIONS__DRAIN_SECONDS", "1")],
        )
    }

    fn spawn(mut command: Command, url: &str, log: &str, more: &[(&str, &str)]) -> Self {
        let keys = keys();
        let mut variables = vec![
            ("DATABASE__URL", url),
            ("SECRETS__KEYS", &keys),
            ("AUTH__BOOTSTRAP_TOKEN", TOKEN),
            ("GRPC__ADDRESS", "127.0.0.1:0"),
            ("REST__ADDRESS", "127.0.0.1:0"),
            ("OPERATIONS__ADDRESS", "127.0.0.1:0"),
            ("OPERATIONS__PING_SECONDS", "1"),
            ("TELEMETRY__LOG_FORMAT", "json"),
        ];
        variables.extend(more);
        command
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
            .env("RUST_LOG", log)
            .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
            .env("OTEL_BSP_SCHEDULE_DELAY", "200");
        for (key, value) in variables {
            command.env(format!("USER_SERVICE__{key}"), value);
        }
        let mut process = command.spawn().unwrap();
        let (lines, log) = watch::channel(Vec::new());
        let stderr = process.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.send_modify(|log| log.push(line));
            }
        });
        Self { process, log }
    }

    /// All lines of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// What is made of the first line of the log that anything can be made of; waits for it.
    pub async fn line<T>(&self, read: impl Fn(&str) -> Option<T>) -> T {
        let (mut log, mut seen) = (self.log.clone(), 0);
        let found = async {
            loop {
                let found = {
                    let lines = log.borrow_and_update();
                    let new = lines[seen..].iter().find_map(|line| read(line));
                    seen = lines.len();
                    new
                };
                match found {
                    Some(found) => return found,
                    None => log.changed().await.expect("the process has not ended"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("a line of the log")
    }

    /// The first line of the JSON log that fits; waits for it.
    pub async fn logged(&self, fits: impl Fn(&Value) -> bool) -> Value {
        self.line(|line| serde_json::from_str(line).ok().filter(|line| fits(line)))
            .await
    }

    async fn address(&self, what: &str) -> SocketAddr {
        let line = self
            .logged(|line| line["message"] == format!("listening for {what}"))
            .await;
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub async fn grpc(&self) -> SocketAddr {
        self.address("gRPC").await
    }

    pub async fn rest(&self) -> SocketAddr {
        self.address("REST").await
    }

    pub async fn operations(&self) -> SocketAddr {
        self.address("operations").await
    }

    /// A client with every scope.
    pub async fn client(&self) -> Client {
        Client::new(self.grpc().await, Some(TOKEN))
    }

    /// The client of the health service.
    pub async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(
            Endpoint::from_shared(format!("http://{}", self.grpc().await))
                .unwrap()
                .connect_lazy(),
        )
    }

    /// Waits until it serves, or does not.
    pub async fn wait_for(&self, status: ServingStatus) {
        let request = HealthCheckRequest {
            service: String::new(),
        };
        let mut watch = self
            .health()
            .await
            .watch(request)
            .await
            .unwrap()
            .into_inner();
        let reached = async { while watch.message().await.unwrap().unwrap().status() != status {} };
        tokio::time::timeout(PATIENCE, reached)
            .await
            .expect("health status changed");
    }

    /// Sends it a signal, `TERM` or `INT`.
    pub fn signal(&self, name: &str) {
        let (name, pid) = (format!("-{name}"), self.process.id().to_string());
        assert!(
            Command::new("kill")
                .args([name, pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Ends it without a chance to clean up.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut log = self.log.clone();
        let closed = async { while log.changed().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, closed)
            .await
            .expect("its end");
        self.process.wait().unwrap()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Gone already where the test stopped it.
        self.process.kill().unwrap_or_default();
        self.process.wait().expect("a child");
    }
}

/// Gets a path over HTTP/1.1: the status and the body.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    send(address, &format!("GET {path}"), headers, "").await
}

/// Sends a request, whose first line begins with `what`, over HTTP/1.1: the status and the body.
pub async fn send(
    address: SocketAddr,
    what: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    let head = format!(
        "{what} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n"
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{head}{headers}\r\n{body}").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}
