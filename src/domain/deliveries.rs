//! Messages that failed: seen and sent again by an operator.

use crate::{
    clock::Clock,
    domain::db::{Db, End},
    error::{Error, Reason, Result},
    model::delivery::Delivery,
    store::outbox,
};

/// Use cases of the outbox.
#[derive(Clone)]
pub struct Deliveries {
    db: Db,
    clock: Clock,
}

impl Deliveries {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Those that failed, newest first.
    pub async fn list_failed(&self, before: Option<i64>, limit: i64) -> Result<Vec<Delivery>> {
        self.db.run(async |conn| Ok(outbox::list_failed(conn, before, limit).await?)).await
    }

    /// Sends a failed one again.
    ///
    /// # Errors
    /// DELIVERY_NOT_FOUND where it did not fail, or its time has passed.
    pub async fn retry(&self, delivery_id: i64) -> Result<()> {
        let now = self.clock.now();
        let queued =
            self.db.transaction(End::Commit, async |conn| Ok(outbox::requeue(conn, delivery_id, now).await?)).await?;
        if queued {
            return Ok(());
        }
        let name = format!("deliveries/{delivery_id}");
        Err(Error::new(Reason::DeliveryNotFound).with_resource("user.v1.Delivery", name))
    }
}
