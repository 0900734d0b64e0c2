//! Purges expired rows.

use std::time::Duration;

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;

use crate::{
    clock::{Clock, random_fraction},
    domain::{
        db::{Db, End},
        idempotency::STORED_FOR,
    },
    error::Result,
    model::{
        account::Normalized,
        code,
        username::{SKELETON, skeletons},
    },
    store::{
        accounts::{self, Locked},
        codes, idempotency, known_clients, outbox, rate_limits, reserved_values, text_messages,
        tokens, unique_values,
    },
};

/// Between two rounds; replicas spread themselves over it.
const EVERY: Duration = Duration::from_secs(600);
/// Rows removed by one statement.
const BATCH: i64 = 1000;
/// How long it can be asked what became of a message.
const DELIVERIES: TimeDelta = TimeDelta::days(30);
/// How long an expired or revoked token is distinguished from an unknown one.
const TOKENS: TimeDelta = TimeDelta::days(30);

/// What is cleaned.
#[derive(Clone, Copy)]
enum Table {
    Idempotency,
    Codes,
    Limits,
    Outbox,
    Tokens,
    ReservedValues,
    KnownClients,
}

const TABLES: [Table; 7] = [
    Table::Idempotency,
    Table::Codes,
    Table::Limits,
    Table::Outbox,
    Table::Tokens,
    Table::ReservedValues,
    Table::KnownClients,
];

/// Cleans up, in every replica.
#[derive(Clone)]
pub struct Housekeeping {
    db: Db,
    clock: Clock,
    /// How long clients are remembered that logged in.
    known_for: TimeDelta,
}

impl Housekeeping {
    /// Cleans this database; clients are remembered for as long after their last login.
    pub fn new(db: Db, clock: Clock, known_for: TimeDelta) -> Self {
        Self {
            db,
            clock,
            known_for,
        }
    }

    /// Works until it is dropped.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(EVERY.mul_f64(0.5 + random_fraction())).await;
            if let Err(error) = self.clean().await {
                tracing::warn!(
                    reason = error.reason().as_str(),
                    "failed to purge expired rows; retrying in the next run"
                );
            }
            if let Err(error) = self.reserve_look_alikes().await {
                tracing::warn!(
                    reason = error.reason().as_str(),
                    "look-alikes are left for the next round"
                );
            }
        }
    }

    /// Removes all that is old; gives the number of rows.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn clean(&self) -> Result<usize> {
        let mut total = 0;
        for table in TABLES {
            loop {
                let removed = self.step(table).await?;
                total += removed;
                if (removed as i64) < BATCH {
                    break;
                }
            }
        }
        let before = self.clock.now() - DELIVERIES;
        total += self
            .db
            .run(async |conn| Ok(text_messages::purge(conn, before).await?))
            .await?;
        Ok(total)
    }

    /// Reserves what usernames look like for users who had theirs before that was kept, or have it
    /// from a replica of an older release; gives the number of users. Of two names that look alike
    /// already, both stay.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn reserve_look_alikes(&self) -> Result<usize> {
        let mut total = 0;
        loop {
            let find = async |conn: &mut AsyncPgConnection| {
                Ok(accounts::find_without_skeletons(conn, BATCH).await?)
            };
            let user_ids = self.db.run(find).await?;
            if user_ids.is_empty() {
                return Ok(total);
            }
            total += user_ids.len();
            for user_id in user_ids {
                self.db
                    .transaction(End::Commit, async |conn| {
                        reserve_look_alike(conn, user_id).await
                    })
                    .await?;
            }
        }
    }

    async fn step(&self, table: Table) -> Result<usize> {
        let now = self.clock.now();
        let purge = async |conn: &mut AsyncPgConnection| {
            Ok(match table {
                Table::Idempotency => idempotency::purge(conn, now - STORED_FOR, BATCH).await?,
                Table::Codes => codes::purge(conn, now - code::MEMORY, BATCH).await?,
                Table::Limits => rate_limits::purge(conn, now, BATCH).await?,
                Table::Outbox => outbox::purge(conn, now - DELIVERIES, BATCH).await?,
                Table::Tokens => tokens::purge(conn, now - TOKENS, BATCH).await?,
                Table::ReservedValues => reserved_values::purge(conn, now, BATCH).await?,
                Table::KnownClients => {
                    known_clients::purge(conn, now - self.known_for, BATCH).await?
                }
            })
        };
        // Two replicas that remove the same rows may meet in a deadlock, which is tried again.
        self.db.transaction(End::Commit, purge).await
    }
}

async fn reserve_look_alike(conn: &mut AsyncPgConnection, user_id: i64) -> Result<()> {
    let Some(Locked { login, .. }) = accounts::lock(conn, user_id).await? else {
        return Ok(());
    };
    let name = login
        .username
        .zip(login.username_key.clone())
        .map(|(shown, key)| Normalized { shown, key });
    unique_values::free_kind(conn, user_id, SKELETON).await?;
    let skeletons: Vec<String> = name.iter().flat_map(skeletons).collect();
    let reservations: Vec<_> = skeletons
        .iter()
        .map(|value| (user_id, SKELETON, value.as_str()))
        .collect();
    if !reservations.is_empty() {
        unique_values::reserve(conn, &reservations).await?;
    }
    accounts::set_skeleton_of(conn, user_id, login.username_key).await?;
    Ok(())
}
