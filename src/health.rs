//! Whether this process serves: it does while the database answers with a schema that this binary
//! knows.

use std::time::Duration;

use anyhow::Context;
use diesel_async::AsyncPgConnection;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    convert::SERVICES,
    store::{
        connector::Connector,
        pooler,
        schema::{self, SchemaCompatibility},
    },
    telemetry::metrics,
};

/// Failed pings after which the service says that it does not serve.
const FAILURES: u32 = 3;
/// The longest that a ping may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Pings the database over a connection of its own: a busy pool doesn't mean that the database is
/// unreachable.
pub struct Probe {
    url: String,
    connector: Connector,
    conn: Option<AsyncPgConnection>,
    /// Whether the connections are known to be the service's own, each for as long as it is open.
    is_unshared: bool,
}

impl Probe {
    pub fn new(url: String, connector: Connector) -> Self {
        Self {
            url,
            connector,
            conn: None,
            is_unshared: false,
        }
    }

    /// Pings once, over a new connection if the last one was closed.
    ///
    /// # Errors
    /// What is the matter with the database or its schema.
    pub async fn check(&mut self) -> anyhow::Result<SchemaCompatibility> {
        timeout(PROBE_TIMEOUT, self.compatibility())
            .await
            .context("database ping failed in time")?
    }

    async fn compatibility(&mut self) -> anyhow::Result<SchemaCompatibility> {
        // Kept again only after a response, so that an abandoned ping leaves no connection in the
        // middle of a statement.
        if let Some(mut conn) = self.conn.take()
            && let Ok(fit) = schema::compatibility(&mut conn).await
        {
            self.conn = Some(conn);
            return Ok(fit);
        }
        if !self.is_unshared && pooler::is_shared(&self.connector, &self.url).await? {
            return Ok(SchemaCompatibility::Shared);
        }
        self.is_unshared = true;
        let mut conn = self.connector.establish(&self.url).await?;
        let fit = schema::compatibility(&mut conn).await?;
        self.conn = Some(conn);
        Ok(fit)
    }
}

/// Publishes it to the gRPC health service, the operations port and the metrics.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    serving: watch::Sender<bool>,
}

impl Health {
    /// Not serving at first.
    pub async fn new(reporter: HealthReporter) -> Self {
        let health = Self {
            reporter,
            serving: watch::Sender::new(false),
        };
        health.set_serving(false).await;
        health
    }

    /// Whether it serves, now and later.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.serving.subscribe()
    }

    /// Tells that it serves, or that it does not.
    pub async fn set_serving(&self, is_serving: bool) {
        let status = if is_serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in SERVICES.iter().copied().chain([""]) {
            self.reporter.set_service_status(service, status).await;
        }
        self.serving.send_replace(is_serving);
        metrics::serving(is_serving);
    }

    /// Monitors the database until the process ends: lost after three failed pings, or at once if
    /// its schema is not one that this binary knows; back after one that succeeds.
    pub async fn follow(&self, mut probe: Probe, every: Duration) {
        let mut failures = FAILURES;
        let mut last = SchemaCompatibility::Fits;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let was_lost = failures >= FAILURES;
            match probe.check().await {
                Ok(fit) => {
                    failures = if fit == SchemaCompatibility::Fits {
                        0
                    } else {
                        FAILURES
                    };
                    if fit != last && fit != SchemaCompatibility::Fits {
                        tracing::error!("not serving: {fit}");
                    }
                    last = fit;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(error = format!("{error:#}"), "database ping failed");
                }
            }
            let is_lost = failures >= FAILURES;
            if was_lost != is_lost {
                tracing::info!(serving = !is_lost, "health status changed");
                self.set_serving(!is_lost).await;
            }
        }
    }
}
