//! What became of messages; those that failed are seen, and sent again, by an operator.

use chrono::TimeDelta;

use crate::{
    clock::Clock,
    domain::{
        authorization::{Action, is_permitted},
        caller::Caller,
        db::Db,
    },
    error::{Error, Reason, Result},
    model::delivery::Delivery,
    store::outbox::{self, Requeue},
};

/// Older deliveries are of no use to a caller.
const RECENT: TimeDelta = TimeDelta::days(1);

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

    /// What became of a message that a caller asked for.
    ///
    /// # Errors
    /// DELIVERY_NOT_FOUND.
    pub async fn find(&self, delivery_id: i64) -> Result<Delivery> {
        self.find_of(None, delivery_id).await
    }

    /// The same for this caller. A service that may not know whose an address is sees only its own:
    /// the numbers of deliveries are easy to guess, and those of others would tell when their users
    /// get codes.
    ///
    /// # Errors
    /// DELIVERY_NOT_FOUND.
    pub async fn find_for(&self, caller: &Caller, delivery_id: i64) -> Result<Delivery> {
        let sees_others = is_permitted(caller, "GetDelivery", Action::SeeOthersDeliveries);
        let owner = if sees_others {
            None
        } else {
            Some(caller.to_string())
        };
        self.find_of(owner.as_deref(), delivery_id).await
    }

    async fn find_of(&self, owner: Option<&str>, delivery_id: i64) -> Result<Delivery> {
        let found = self
            .db
            .run(async |conn| Ok(outbox::find(conn, delivery_id, owner).await?))
            .await?;
        found.ok_or_else(|| not_found(delivery_id))
    }

    /// Those that failed, newest first.
    pub async fn list_failed(&self, before: Option<i64>, limit: i64) -> Result<Vec<Delivery>> {
        self.db
            .run(async |conn| Ok(outbox::list_failed(conn, before, limit).await?))
            .await
    }

    /// Sends a failed one again.
    ///
    /// # Errors
    /// DELIVERY_NOT_FOUND where it did not fail, or its time has passed.
    pub async fn retry(&self, delivery_id: i64) -> Result<()> {
        match self.requeue(Requeue::One(delivery_id)).await? {
            0 => Err(not_found(delivery_id)),
            _ => Ok(()),
        }
    }

    /// Sends all of the last day that failed again, but for those whose time has passed; gives how
    /// many.
    pub async fn retry_all(&self) -> Result<usize> {
        self.requeue(Requeue::Since(self.clock.now() - RECENT))
            .await
    }

    async fn requeue(&self, which: Requeue) -> Result<usize> {
        let now = self.clock.now();
        self.db
            .run(async |conn| Ok(outbox::requeue(conn, which, now).await?))
            .await
    }
}

fn not_found(delivery_id: i64) -> Error {
    Error::new(Reason::DeliveryNotFound)
        .with_resource("delivery", format!("deliveries/{delivery_id}"))
}
