//! The application's own fields: making them, and the definitions that a replica works with.

use std::{sync::Arc, time::Duration};

use tokio::{sync::RwLock, time::Instant};

use crate::{
    clock::Clock,
    domain::db::{Db, End},
    error::{Error, Fault, Reason, Result},
    model::field::{Field, Fields as Definitions},
    store::fields,
};

/// How old cached definitions may be.
const AGE: Duration = Duration::from_secs(5);

/// Use cases of field definitions.
#[derive(Clone)]
pub struct Fields {
    db: Db,
    clock: Clock,
    cache: Arc<RwLock<Option<Loaded>>>,
}

/// Definitions, and when their reading began.
struct Loaded {
    at: Instant,
    definitions: Arc<Definitions>,
}

impl Fields {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, cache: Arc::default() }
    }

    /// The definitions, at most 5 s old.
    pub async fn current(&self) -> Result<Arc<Definitions>> {
        if let Some(loaded) = &*self.cache.read().await
            && loaded.at.elapsed() < AGE
        {
            return Ok(loaded.definitions.clone());
        }
        self.reload().await
    }

    /// The definitions, read anew where they do not know all of `names`: another replica may have just made one.
    pub async fn knowing<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> Result<Arc<Definitions>> {
        let current = self.current().await?;
        if names.all(|name| current.get(name).is_some()) { Ok(current) } else { self.reload().await }
    }

    /// Reads the definitions anew.
    pub async fn reload(&self) -> Result<Arc<Definitions>> {
        let started = Instant::now();
        let loaded = self.db.run(async |conn| Ok(fields::list(conn).await?)).await?;
        let definitions = Arc::new(Definitions::new(loaded));
        *self.cache.write().await = Some(Loaded { at: started, definitions: definitions.clone() });
        Ok(definitions)
    }

    /// Makes a field.
    ///
    /// # Errors
    /// FIELD_EXISTS.
    pub async fn create(&self, mut new: Field) -> Result<Field> {
        new.created_at = self.clock.now();
        let made = self
            .db
            .transaction(End::Commit, async |conn| {
                let made = fields::insert(conn, &new).await?.ok_or_else(|| {
                    Error::new(Reason::FieldExists).with_resource("user.v1.Field", "field.name").with_violation(
                        "field.name",
                        Fault::Format,
                        "is taken",
                    )
                })?;
                fields::notify(conn).await?;
                Ok(made)
            })
            .await?;
        self.reload().await?;
        Ok(made)
    }

    /// All fields, oldest first.
    pub async fn list(&self) -> Result<Vec<Field>> {
        self.db.run(async |conn| Ok(fields::list(conn).await?)).await
    }
}
