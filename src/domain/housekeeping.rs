//! Removes what nobody asks about any more.

use std::time::Duration;

use chrono::TimeDelta;

use crate::{
    clock::{Clock, random_fraction},
    domain::{
        db::{Db, End},
        once,
    },
    error::Result,
    model::code,
    store::{codes, idempotency, limits, outbox, tokens},
};

/// Between two rounds; replicas spread themselves over it.
const EVERY: Duration = Duration::from_secs(600);
/// Rows removed in one transaction.
const BATCH: i64 = 1000;
/// How long it can be asked what became of a message.
const DELIVERIES: TimeDelta = TimeDelta::days(30);
/// How long an expired or revoked token is told apart from an unknown one.
const TOKENS: TimeDelta = TimeDelta::days(30);

/// Cleans up, in every replica.
#[derive(Clone)]
pub struct Housekeeping {
    db: Db,
    clock: Clock,
}

impl Housekeeping {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Works until it is dropped.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(EVERY.mul_f64(0.5 + random_fraction())).await;
            if let Err(error) = self.clean().await {
                tracing::warn!(reason = error.reason().as_str(), "old rows are left for the next round");
            }
        }
    }

    /// Removes all that is old; gives the number of rows.
    ///
    /// # Errors
    /// A database that is away.
    pub async fn clean(&self) -> Result<usize> {
        let mut total = 0;
        loop {
            let removed = self.step().await?;
            total += removed;
            if removed == 0 {
                return Ok(total);
            }
        }
    }

    async fn step(&self) -> Result<usize> {
        let now = self.clock.now();
        self.db
            .transaction(End::Commit, async |conn| {
                Ok(idempotency::purge(conn, now - once::LIFE, BATCH).await?
                    + codes::purge(conn, now - code::MEMORY, BATCH).await?
                    + limits::purge(conn, now, BATCH).await?
                    + outbox::purge(conn, now - DELIVERIES, BATCH).await?
                    + tokens::purge(conn, now - TOKENS, BATCH).await?)
            })
            .await
    }
}
