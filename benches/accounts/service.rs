//! The service as it runs in production: `serve`, in a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use user_service::convert::pb::{
    user_admin_service_client::UserAdminServiceClient, user_service_client::UserServiceClient,
};

/// A token with every scope.
const TOKEN: &str = "bootstrap-token-of-the-bench-0123456789";
/// How long it may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `serve`, which ends when it is dropped.
pub(crate) struct Service {
    process: Child,
    address: SocketAddr,
}

impl Service {
    /// Over this database, with this server for its mails.
    pub(crate) fn start(url: &str, mails: SocketAddr) -> anyhow::Result<Self> {
        let key = user_service::config::key_text([7; 32]);
        let variables = [
            ("DATABASE__URL", url.to_owned()),
            ("SECRETS__KEYS", format!("[{{id=\"bench\",key=\"{key}\"}}]")),
            ("AUTH__BOOTSTRAP_TOKEN", TOKEN.to_owned()),
            ("GRPC__ADDRESS", "127.0.0.1:0".to_owned()),
            ("MAIL__SMTP__HOST", mails.ip().to_string()),
            ("MAIL__SMTP__PORT", mails.port().to_string()),
            ("MAIL__SMTP__TLS", "none".to_owned()),
            ("TELEMETRY__LOG_FORMAT", "json".to_owned()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_user-service"));
        command
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for (key, value) in variables {
            command.env(format!("USER_SERVICE__{key}"), value);
        }
        let mut process = command.spawn()?;
        let stderr = process.stderr.take().context("a child without stderr")?;
        let mut service = Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let mut log = BufReader::new(stderr);
        service.address = find_address(&mut log)?;
        std::thread::spawn(move || tell_errors(log));
        Ok(service)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A client with every scope, as soon as the service is ready.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let channel = Endpoint::from_shared(format!("http://{}", self.address))?
            .connect()
            .await?;
        let mut watch = HealthClient::new(channel.clone())
            .watch(HealthCheckRequest::default())
            .await?
            .into_inner();
        let ready = async {
            while watch.message().await?.context("health ended")?.status() != ServingStatus::Serving
            {
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .context("the service does not get ready")??;
        let bearer = Bearer(format!("Bearer {TOKEN}").parse()?);
        Ok(Client {
            users: UserServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            admin: UserAdminServiceClient::with_interceptor(channel, bearer),
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the service does not end: {error}");
        }
    }
}

/// Where the log says that the port is.
fn find_address(log: &mut impl BufRead) -> anyhow::Result<SocketAddr> {
    let mut told = String::new();
    for line in log.lines() {
        let line = line?;
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if parsed["message"] == "serving gRPC" {
            return Ok(parsed["address"]
                .as_str()
                .context("no address in the log")?
                .parse()?);
        }
        told.push_str(&line);
    }
    anyhow::bail!("the service ended: {told}")
}

/// Shows what of the log tells of a bug; the rest is read so that no one waits.
fn tell_errors(log: impl BufRead) {
    log.lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("ERROR"))
        .for_each(|line| eprintln!("{line}"));
}

/// Adds the token.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> tonic::Result<Request<()>> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Intercepted = InterceptedService<Channel, Bearer>;

/// Both services, as one caller.
#[derive(Clone)]
pub(crate) struct Client {
    pub users: UserServiceClient<Intercepted>,
    pub admin: UserAdminServiceClient<Intercepted>,
}
