//! Does the second steps of field definitions in the background, batch by batch; a killed one goes
//! on where it was.

use std::time::Duration;

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;

use crate::{
    clock::Clock,
    domain::db::{Db, End},
    error::Result,
    model::field::{Field, Index, MAX_KEY_TEXT},
    store::{
        backfill::{self, Work},
        fields::{self, IndexRow},
    },
};

/// Users, or rows of an index, in one transaction: writers of a field that is being filled wait for
/// one.
const BATCH: i64 = 1000;
/// Between two looks for work.
const IDLE: Duration = Duration::from_secs(1);

/// The background worker of fields; every replica has one.
#[derive(Clone)]
pub struct BackfillWorker {
    db: Db,
    clock: Clock,
    /// How long after the first step the second may come: until every replica knows, and every
    /// write has ended.
    wait: TimeDelta,
}

impl BackfillWorker {
    pub fn new(db: Db, clock: Clock, wait: TimeDelta) -> Self {
        Self { db, clock, wait }
    }

    /// Works until it is dropped.
    pub async fn run(self) {
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(IDLE).await,
                Err(error) => {
                    tracing::warn!(reason = error.reason().as_str(), "field backfill postponed");
                    tokio::time::sleep(IDLE).await;
                }
            }
        }
    }

    /// Does one batch; false where there is nothing to do.
    pub async fn step(&self) -> Result<bool> {
        let before = self.clock.now() - self.wait;
        self.db
            .transaction(End::Commit, async |conn| {
                let Some(work) = backfill::take(conn, before).await? else {
                    return Ok(false);
                };
                match (work.is_deleted, work.index) {
                    (true, _) => erase(conn, &work).await?,
                    (false, Index::Filling) => fill(conn, &work).await?,
                    (false, _) => leave(conn, &work).await?,
                }
                Ok(true)
            })
            .await
    }
}

async fn fill(conn: &mut AsyncPgConnection, work: &Work) -> Result<()> {
    backfill::lock_fill(conn, work.field_id).await?;
    let users = backfill::read_values(conn, &work.name, work.position, BATCH).await?;
    let user_ids: Vec<i64> = users.iter().map(|(user_id, ..)| *user_id).collect();
    let last = user_ids.last().copied();
    let mut rows = Vec::new();
    for (user_id, created_at, value) in users {
        let keys = value
            .map(|value| work.field_type.index_keys(&value))
            .unwrap_or_default();
        rows.extend(keys.into_iter().map(|value| IndexRow {
            field_id: work.field_id,
            value,
            created_at,
            user_id,
        }));
    }
    // A text that came in while the replicas had not all heard of the index.
    if rows.iter().any(|row| row.value.len() > MAX_KEY_TEXT * 4) {
        tracing::warn!(
            field = work.name,
            "field not indexed: a stored text is too long"
        );
        backfill::set_index(conn, work.field_id, Index::Leaving).await?;
        fields::notify(conn).await?;
        return Ok(());
    }
    // In place of what is there: a write that knew of an older state of the index may have left a
    // value behind, or have changed a document alone.
    fields::replace_values(conn, user_ids, vec![work.field_id], rows).await?;
    match last {
        Some(last) => backfill::save_position(conn, work.field_id, last).await?,
        None => {
            backfill::set_index(conn, work.field_id, Index::Ready).await?;
            fields::notify(conn).await?
        }
    };
    Ok(())
}

async fn leave(conn: &mut AsyncPgConnection, work: &Work) -> Result<()> {
    if backfill::empty_index(conn, work.field_id, BATCH * 10).await? == 0 {
        backfill::set_index(conn, work.field_id, Index::None).await?;
        fields::notify(conn).await?;
    }
    Ok(())
}

async fn erase(conn: &mut AsyncPgConnection, work: &Work) -> Result<()> {
    if let Some(last) = backfill::erase_values(conn, &work.name, work.position, BATCH).await? {
        backfill::save_position(conn, work.field_id, last).await?;
        return Ok(());
    }
    let kind = Field::unique_kind_of(work.field_id);
    let left = backfill::empty_index(conn, work.field_id, BATCH * 10).await?
        + backfill::empty_unique(conn, &kind, BATCH * 10).await?;
    if left == 0 {
        backfill::forget(conn, work.field_id).await?;
        fields::notify(conn).await?;
    }
    Ok(())
}
