//! The service as it runs in production: the binary's `serve`, in a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use user_service::config::key_text;

use crate::client::Callers;

/// A token with every scope.
pub const TOKEN: &str = "bootstrap-token-of-the-faults-0123456789";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running service; it ends when it is dropped.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    /// From its start until its health said SERVING.
    pub start: Duration,
}

/// The keys of every process over one database.
pub fn keys() -> String {
    format!("[{{id=\"faults\",key=\"{}\"}}]", key_text([7; 32]))
}

impl Service {
    /// Starts one and waits until it serves.
    pub async fn start(url: &str, collector: Option<SocketAddr>) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_user-service"));
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let variables = [
            ("DATABASE__URL", url),
            ("SECRETS__KEYS", &keys()),
            ("AUTH__BOOTSTRAP_TOKEN", TOKEN),
            ("GRPC__ADDRESS", "127.0.0.1:0"),
            ("TELEMETRY__LOG_FORMAT", "json"),
        ];
        command.envs(variables.map(|(key, value)| (format!("USER_SERVICE__{key}"), value)));
        if let Some(collector) = collector {
            command.env("USER_SERVICE__TELEMETRY__OTLP_ENDPOINT", format!("http://{collector}"));
        }
        let mut child = command.spawn().context("the service cannot be started")?;
        let mut log = BufReader::new(child.stderr.take().context("a child without stderr")?).lines();
        let serving = log.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            (line["message"] == "serving gRPC").then(|| line["address"].as_str()?.parse().ok())?
        });
        // Read on, or the service would lose lines; nobody needs them.
        std::thread::spawn(move || log.for_each(drop));
        let mut service =
            Self { child, address: serving.context("the service does not start")?, start: Duration::ZERO };
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

    pub fn pid(&self) -> u32 {
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
