//! The service as it runs in production: the binary's `serve`, in a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use user_service::config::key_text;

use crate::client::Callers;

/// A token with every scope.
pub(crate) const TOKEN: &str = "bootstrap-token-of-the-faults-0123456789";
/// The binary of this build.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_user-service");
const PATIENCE: Duration = Duration::from_secs(30);

/// A running service; it ends when it is dropped.
pub(crate) struct Service {
    child: Child,
    pub address: SocketAddr,
    pub operations: SocketAddr,
    /// From its start until its health said SERVING.
    pub start: Duration,
}

/// How the service is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options<'a> {
    /// Another binary than this build's.
    pub binary: Option<&'a Path>,
    pub collector: Option<SocketAddr>,
    /// Where `cert.pem` and `key.pem` are, with which the gRPC port speaks TLS.
    pub tls: Option<&'a Path>,
    /// File descriptors that it may have.
    pub descriptors: Option<u32>,
    /// More variables of the section and key.
    pub variables: &'a [(&'static str, &'static str)],
}

/// What `/readyz` says.
async fn is_ready(operations: SocketAddr) -> bool {
    let look = async {
        let mut stream = TcpStream::connect(operations).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        std::io::Result::Ok(response.starts_with("HTTP/1.1 200 "))
    };
    look.await.unwrap_or(false)
}

/// The keys of every process over one database.
pub(crate) fn keys() -> String {
    format!("[{{id=\"faults\",key=\"{}\"}}]", key_text([7; 32]))
}

impl Service {
    /// Starts one and waits until it serves.
    pub(crate) async fn start(url: &str, collector: Option<SocketAddr>) -> anyhow::Result<Self> {
        Self::start_with(
            url,
            &Options {
                collector,
                ..Options::default()
            },
        )
        .await
    }

    /// Starts one with these options and waits until it serves.
    pub(crate) async fn start_with(url: &str, options: &Options<'_>) -> anyhow::Result<Self> {
        let began = Instant::now();
        let binary = options.binary.unwrap_or(Path::new(BINARY));
        let mut command = match options.descriptors {
            Some(descriptors) => {
                let mut shell = Command::new("sh");
                shell
                    .arg("-c")
                    .arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""))
                    .arg(binary);
                shell
            }
            None => Command::new(binary),
        };
        command
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let variables = [
            ("DATABASE__URL", url),
            ("SECRETS__KEYS", &keys()),
            ("AUTH__BOOTSTRAP_TOKEN", TOKEN),
            ("GRPC__ADDRESS", "127.0.0.1:0"),
            ("OPERATIONS__ADDRESS", "127.0.0.1:0"),
            ("TELEMETRY__LOG_FORMAT", "json"),
        ];
        let variables = variables.iter().chain(options.variables);
        command.envs(variables.map(|(key, value)| (format!("USER_SERVICE__{key}"), value)));
        if let Some(folder) = options.tls {
            command.env("USER_SERVICE__GRPC__TLS__CERT", folder.join("cert.pem"));
            command.env("USER_SERVICE__GRPC__TLS__KEY", folder.join("key.pem"));
        }
        if let Some(collector) = options.collector {
            command.env(
                "USER_SERVICE__TELEMETRY__OTLP_ENDPOINT",
                format!("http://{collector}"),
            );
        }
        let mut child = command.spawn().context("the service cannot be started")?;
        let mut log =
            BufReader::new(child.stderr.take().context("a child without stderr")?).lines();
        let mut serving = |what: &str| {
            log.find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
                (line["message"] == what).then(|| line["address"].as_str()?.parse().ok())?
            })
            .context("the service does not start")
        };
        let (address, operations) = (serving("serving gRPC")?, serving("serving operations")?);
        // Read on, or the service would lose lines; no one needs them.
        std::thread::spawn(move || log.for_each(drop));
        let mut service = Self {
            child,
            address,
            operations,
            start: Duration::ZERO,
        };
        if options.tls.is_some() {
            // Over a port without TLS, for what asks here speaks none.
            while !is_ready(service.operations).await {
                if began.elapsed() > PATIENCE {
                    bail!("the service does not serve");
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            return Ok(service);
        }
        let health = Callers::connect(service.address, 1).await?;
        while !health.is_serving().await? {
            if began.elapsed() > PATIENCE {
                bail!("the service does not serve");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        service.start = began.elapsed();
        Ok(service)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("the service does not end: {error}");
        }
    }
}
