//! Removes what nobody asks about any more.

use std::time::Duration;

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;

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
/// Rows removed by one statement.
const BATCH: i64 = 1000;
/// How long it can be asked what became of a message.
const DELIVERIES: TimeDelta = TimeDelta::days(30);
/// How long an expired or revoked token is told apart from an unknown one.
const TOKENS: TimeDelta = TimeDelta::days(30);

/// What is cleaned.
#[derive(Clone, Copy)]
enum Table {
    Idempotency,
    Codes,
    Limits,
    Outbox,
    Tokens,
}

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
        for table in [Table::Idempotency, Table::Codes, Table::Limits, Table::Outbox, Table::Tokens] {
            loop {
                let removed = self.step(table).await?;
                total += removed;
                if (removed as i64) < BATCH {
                    break;
                }
            }
        }
        Ok(total)
    }

    async fn step(&self, table: Table) -> Result<usize> {
        let now = self.clock.now();
        let purge = async |conn: &mut AsyncPgConnection| {
            Ok(match table {
                Table::Idempotency => idempotency::purge(conn, now - once::LIFE, BATCH).await?,
                Table::Codes => codes::purge(conn, now - code::MEMORY, BATCH).await?,
                Table::Limits => limits::purge(conn, now, BATCH).await?,
                Table::Outbox => outbox::purge(conn, now - DELIVERIES, BATCH).await?,
                Table::Tokens => tokens::purge(conn, now - TOKENS, BATCH).await?,
            })
        };
        // Two replicas that remove the same rows may meet in a deadlock, which is tried again.
        self.db.transaction(End::Commit, purge).await
    }
}
