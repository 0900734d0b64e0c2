//! A whole service on a port of its own.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use user_service::{
    api::Api,
    app::{self, App},
    clock::{Clock, ManualClock},
    config::{self, Config, Secret, SecretKey},
    error::Reason,
    model::{scope::Scope, token::Subject},
    server::{self, Ports},
};

use super::{Client, TestDatabase, eventually, folder::Folder, texts::Texts};

/// A running service, its database and its clock; all of it goes with the test.
pub struct TestApp {
    pub database: Arc<TestDatabase>,
    pub clock: ManualClock,
    config: Config,
    pub api: Api,
    pub app: App,
    /// Where its mails lie.
    pub mails: Arc<Folder>,
    /// What it sent by text message.
    pub texts: Arc<Texts>,
    address: std::net::SocketAddr,
    rest: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// What the replicas of a service share.
struct Shared {
    database: Arc<TestDatabase>,
    clock: ManualClock,
    mails: Arc<Folder>,
    texts: Arc<Texts>,
}

impl Shared {
    async fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::new(start_time());
        Self {
            database: database.into(),
            clock,
            mails: Folder::new().into(),
            texts: Texts::start().await.into(),
        }
    }
}

/// Where every test's clock begins.
pub fn start_time() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z")
        .unwrap()
        .to_utc()
}

impl TestApp {
    /// A service over a new database.
    pub async fn new() -> Self {
        Self::over(TestDatabase::new().await).await
    }

    /// A service over this database.
    pub async fn over(database: TestDatabase) -> Self {
        Self::start(Shared::new(database).await, |_| {}).await
    }

    /// A service over this database, which it knows by another URL.
    pub async fn over_url(database: TestDatabase, url: &str) -> Self {
        Self::start(Shared::new(database).await, |config| {
            config.database.url = Secret(url.to_owned())
        })
        .await
    }

    /// A service over a new database, with another configuration.
    pub async fn configured(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start(Shared::new(TestDatabase::new().await).await, configure).await
    }

    /// One more service over the same database and clock, which sends by the same ways.
    pub async fn replica(&self) -> Self {
        self.replica_configured(|_| {}).await
    }

    /// A replica with another configuration.
    pub async fn replica_configured(&self, configure: impl FnOnce(&mut Config)) -> Self {
        let (mails, texts) = (Arc::clone(&self.mails), Arc::clone(&self.texts));
        let shared = Shared {
            database: Arc::clone(&self.database),
            clock: self.clock.clone(),
            mails,
            texts,
        };
        let mut config = self.config.clone();
        configure(&mut config);
        Self::run(shared, config).await
    }

    async fn start(shared: Shared, configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.database.url = Secret(shared.database.url());
        config.secrets.keys = vec![SecretKey {
            id: "test".to_owned(),
            key: Secret(config::key_text([7; 32])),
        }];
        config.mail.folder = Some(shared.mails.0.clone());
        config.sms.url = Some(shared.texts.url());
        config.sms.secret = Some(Secret(Texts::SECRET.to_owned()));
        configure(&mut config);
        Self::run(shared, config).await
    }

    async fn run(shared: Shared, config: Config) -> Self {
        let Shared {
            database,
            clock,
            mails,
            texts,
        } = shared;
        let app = app::build(&config, Clock::Manual(clock.clone())).unwrap();
        // The first connection may take longer on a busy machine than a call waits for one.
        let mut probe = app.probe();
        while probe.check().await.is_err() {
            tokio::task::yield_now().await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rest_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rest = rest_listener.local_addr().unwrap();
        let ports = Ports {
            grpc: (listener, config.grpc.clone()),
            rest: Some((rest_listener, config.rest.clone().with_legacy_flavors())),
            operations: None,
            limits: config.limits.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let served = app.clone();
        let serving = tokio::spawn(async move {
            let stop = async {
                stopped.await.unwrap_or_default();
            };
            server::serve(served, ports, std::time::Duration::ZERO, stop)
                .await
                .unwrap();
        });
        let api = app.api.clone();
        Self {
            database,
            clock,
            config,
            api,
            app,
            mails,
            texts,
            address,
            rest,
            stop: Some(stop),
            serving,
        }
    }

    /// Where gRPC listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Where the REST gateway listens, with all its surfaces.
    pub fn rest(&self) -> std::net::SocketAddr {
        self.rest
    }

    /// A client with every scope.
    pub async fn service(&self) -> Client {
        self.service_with(Scope::ALL).await
    }

    /// A client with these scopes.
    pub async fn service_with(&self, scopes: &[Scope]) -> Client {
        self.client(&self.issue_service(scopes).await)
    }

    /// A client with a token of this user.
    pub async fn user(&self, user_id: i64) -> Client {
        self.client(&self.user_token(user_id).await)
    }

    /// A token of this user.
    pub async fn user_token(&self, user_id: i64) -> String {
        self.issue(Subject::User(user_id), &[]).await
    }

    /// A token of a service with these scopes.
    pub async fn issue_service(&self, scopes: &[Scope]) -> String {
        self.issue(Subject::Service("test".to_owned()), scopes)
            .await
    }

    /// A token. The first connection may take a busy machine longer than a call waits for one.
    async fn issue(&self, subject: Subject, scopes: &[Scope]) -> String {
        eventually("a token", async || {
            match self
                .api
                .tokens()
                .issue(&subject, scopes, TimeDelta::days(30))
                .await
            {
                Err(error) if error.reason() == Reason::DatabaseUnavailable => None,
                issued => Some(issued.unwrap().1),
            }
        })
        .await
    }

    /// A client with this token.
    pub fn client(&self, token: &str) -> Client {
        Client::new(self.address, Some(token))
    }

    /// A client without any token.
    pub fn stranger(&self) -> Client {
        Client::new(self.address, None)
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // The service may have stopped by itself, and then no one listens.
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap_or_default();
        }
        self.serving.abort();
    }
}
