//! What runs beside the transports.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::App;
use crate::{
    clock::Clock,
    domain::{
        db::Db,
        listener::{self, Heard},
    },
    model::token::Revoked,
    notify::worker,
    store::{fields, outbox, tokens},
    telemetry::{call, metrics},
};

/// Running work; all but the sending of mails ends when it is dropped.
pub struct Background {
    _tasks: JoinSet<()>,
    sending: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl App {
    /// Starts the work beside the transports.
    pub fn spawn(&self) -> Background {
        let mut tasks = JoinSet::new();
        tasks.spawn(call::job("backfill", self.field_worker.clone().run()));
        let watching = watch_outbox(self.api.db().clone(), self.clock.clone(), self.ping_every);
        tasks.spawn(call::job("outbox_metrics", watching));
        let db = self.api.db().clone();
        metrics::watch_pool(move || db.connections());
        tasks.spawn(call::job("housekeeping", self.housekeeping.clone().run()));
        let listening = listener::run(
            self.listen_url.clone(),
            self.connector.clone(),
            &[fields::CHANNEL, tokens::CHANNEL, outbox::CHANNEL],
            self.handler(),
        );
        tasks.spawn(call::job("listener", listening));
        let (stop, mut stopped) = watch::channel(false);
        self.mail_worker.transports.warn();
        let sending = self.mail_worker.clone().run(async move {
            // A dropped sender means the same.
            stopped
                .wait_for(|stop| *stop)
                .await
                .map(|_| ())
                .unwrap_or_default();
        });
        let sending = tokio::spawn(call::job(worker::JOB, sending));
        Background {
            _tasks: tasks,
            sending,
            stop,
        }
    }

    /// What is done with what other replicas tell.
    fn handler(&self) -> listener::Handler {
        let (fields, authenticator, waker) = (
            self.fields.clone(),
            self.authenticator.clone(),
            self.waker.clone(),
        );
        Box::new(move |heard| {
            let reloads = match heard {
                Heard::Notice(tokens::CHANNEL, what) => {
                    match Revoked::parse(what) {
                        Some(revoked) => authenticator.apply_revocation(revoked),
                        // A newer replica may have told of what this one has no word for.
                        None => authenticator.clear(),
                    }
                    false
                }
                Heard::Notice(outbox::CHANNEL, _) => {
                    waker.wake();
                    false
                }
                Heard::Notice(..) => true,
                Heard::Connected => {
                    authenticator.clear();
                    waker.wake();
                    true
                }
            };
            let fields = fields.clone();
            async move {
                if reloads && let Err(error) = fields.reload().await {
                    tracing::debug!(%error, "failed to reload field definitions; they reload when the cache expires");
                }
            }
            .boxed()
        })
    }
}

/// A message that has waited for so long is overdue: its first two attempts have failed, or no
/// worker is running.
const OVERDUE: TimeDelta = TimeDelta::minutes(2);

/// Keeps the metrics of the outbox up to date.
async fn watch_outbox(db: Db, clock: Clock, every: Duration) {
    loop {
        let now = clock.now();
        let look = async |conn: &mut diesel_async::AsyncPgConnection| {
            let oldest = outbox::oldest_queued(conn).await?;
            Ok((
                oldest,
                outbox::count_queued(conn, now - OVERDUE).await?,
                outbox::count_dead(conn).await?,
            ))
        };
        match db.run(look).await {
            Ok((oldest, overdue, dead)) => {
                let age = oldest
                    .and_then(|oldest| (now - oldest).to_std().ok())
                    .unwrap_or_default();
                metrics::outbox(age, overdue.unsigned_abs(), dead.unsigned_abs());
            }
            Err(error) => tracing::debug!(%error, "failed to read outbox metrics"),
        }
        tokio::time::sleep(every).await;
    }
}

impl Background {
    /// Ends the work; mails under way are finished, and the rest is left to others.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.sending.await {
            tracing::error!(%error, "the outbox worker failed");
        }
    }
}
