//! The composition root: configuration in, use cases and background work out.

use std::time::Duration;

use anyhow::Context;
use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::task::JoinSet;

use crate::{
    api::Api,
    clock::Clock,
    config::Config,
    domain::{
        db::Db,
        field_work::FieldWorker,
        fields::Fields,
        keys::{Key, Keys},
        listener::{self, Heard},
    },
    store::{connector::Connector, fields},
};

/// The service without its doors.
#[derive(Clone)]
pub struct App {
    /// The use cases, as the doors call them.
    pub api: Api,
    /// Does the second steps of field definitions.
    pub field_worker: FieldWorker,
    fields: Fields,
    url: String,
    connector: Connector,
}

/// Builds the service over the configured database; nothing runs yet.
///
/// # Errors
/// Keys that are none; a certificate that cannot be read.
pub fn build(config: &Config, clock: Clock) -> anyhow::Result<App> {
    let keys = config.secrets.keys.iter().map(|key| {
        let bytes = crate::config::key_bytes(&key.key).context("secrets.keys: each key is 32 bytes in base64")?;
        Ok(Key { id: key.id.clone(), bytes })
    });
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    let connector = Connector::new(config.database.ca_file.as_deref())?;
    let db = Db::new(&config.database.url, connector.clone(), config.database.pool_size);
    let fields = Fields::new(db.clone(), clock.clone(), Duration::from_secs(config.fields.cache_seconds));
    let wait = TimeDelta::seconds(i64::from(config.fields.wait_seconds));
    Ok(App {
        field_worker: FieldWorker::new(db.clone(), clock.clone(), wait),
        api: Api::new(db, clock, Keys::new(keys), fields.clone()),
        fields,
        url: config.database.url.clone(),
        connector,
    })
}

impl App {
    /// Starts what runs beside the doors; it ends when the set is dropped.
    pub fn spawn(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.field_worker.clone().run());
        let heard_fields = self.fields.clone();
        let handler = move |_: Heard<'_>| {
            let fields = heard_fields.clone();
            async move {
                if let Err(error) = fields.reload().await {
                    tracing::debug!(%error, "definitions cannot be read anew; the cache's age does it");
                }
            }
            .boxed()
        };
        tasks.spawn(listener::run(self.url.clone(), self.connector.clone(), &[fields::CHANNEL], Box::new(handler)));
        tasks
    }
}
