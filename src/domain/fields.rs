//! The application's own fields: making and changing them, and the definitions that a replica works
//! with.
//!
//! Changes that require every replica to have seen the new definition are applied in a second phase
//! by `backfill`, after the cache TTL.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use parking_lot::RwLock;
use prost::Message;
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    clock::Clock,
    domain::{
        db::{Db, End},
        idempotency::{self, IdempotencyKey, Outcome},
        page_tokens::PageTokens,
    },
    error::{Error, FieldError, Reason, Result},
    model::field::{
        Field, FieldPatch, Fields as Definitions, Index, MAX_DEFINITIONS, MAX_KEY_TEXT,
        defaults_fit,
    },
    store::{
        backfill,
        fields::{self, IndexRow},
    },
};

/// Use cases of field definitions.
#[derive(Clone)]
pub struct Fields {
    db: Db,
    clock: Clock,
    /// How old cached definitions may be.
    age: Duration,
    cache: Arc<RwLock<Option<Loaded>>>,
    /// Whose turn it is to lock all definitions: on each replica one waits for the database's lock
    /// with a connection, and the others wait without.
    turn: Arc<Mutex<()>>,
    tokens: PageTokens,
}

/// Definitions, and when their reading began.
struct Loaded {
    at: Instant,
    definitions: Arc<Definitions>,
}

impl Fields {
    /// Use cases on this database, with definitions cached for `age`.
    pub fn new(db: Db, clock: Clock, age: Duration, tokens: PageTokens) -> Self {
        Self {
            db,
            clock,
            age,
            cache: Arc::default(),
            turn: Arc::default(),
            tokens,
        }
    }

    /// The definitions, never older than the cache's age.
    pub async fn current(&self) -> Result<Arc<Definitions>> {
        match self.cached() {
            Some(definitions) => Ok(definitions),
            None => self.reload().await,
        }
    }

    fn cached(&self) -> Option<Arc<Definitions>> {
        let cache = self.cache.read();
        cache
            .as_ref()
            .filter(|loaded| loaded.at.elapsed() < self.age)
            .map(|loaded| loaded.definitions.clone())
    }

    /// The definitions, reloaded if they don't have all of `names`: another replica may have just
    /// created one.
    pub async fn load_including<'a>(
        &self,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<Arc<Definitions>> {
        let current = self.current().await?;
        if names.all(|name| current.get(name).is_some()) {
            Ok(current)
        } else {
            self.reload().await
        }
    }

    /// Reloads the definitions.
    pub async fn reload(&self) -> Result<Arc<Definitions>> {
        let at = Instant::now();
        let (loaded, hidden) = self
            .db
            .run(async |conn| Ok((fields::list(conn).await?, fields::list_hidden(conn).await?)))
            .await?;
        let definitions = Arc::new(Definitions::new(loaded, hidden));
        let mut cache = self.cache.write();
        // An older reading that was slower must not hide a newer one.
        if cache.as_ref().is_none_or(|loaded| loaded.at < at) {
            *cache = Some(Loaded {
                at,
                definitions: definitions.clone(),
            });
        }
        Ok(definitions)
    }

    /// Reads the definitions again after a change of them. The change is committed, so that a
    /// failure here is not its error: the next request reads them.
    async fn refresh(&self) {
        if let Err(error) = self.reload().await {
            tracing::warn!(
                reason = error.reason().as_str(),
                "the field definitions could not be read again"
            );
            *self.cache.write() = None;
        }
    }

    /// Creates a field, and makes the response of it.
    ///
    /// # Errors
    /// FIELD_EXISTS, FIELD_LIMIT_REACHED; INVALID_REQUEST where its default does not fit beside
    /// those of the others; REQUEST_IN_PROGRESS.
    pub async fn create<R: Message + Default>(
        &self,
        mut new: Field,
        key: Option<&IdempotencyKey>,
        respond: impl Fn(&Field) -> R + Sync,
    ) -> Result<R> {
        new.created_at = self.clock.now();
        let turn = self.turn.lock().await;
        let outcome = idempotency::write(&self.db, End::Commit, key, None, async |conn| {
            fields::lock_all(conn).await?;
            reject_beyond_limit(conn, &new.name).await?;
            let made = fields::insert(conn, &new).await?.ok_or_else(|| {
                Error::new(Reason::FieldExists)
                    .with_resource("field", "field.name")
                    .with_violation("field.name", FieldError::Format, "is taken")
            })?;
            if made.default_value.is_some() {
                check_defaults(conn).await?;
            }
            fields::notify(conn).await?;
            Ok(respond(&made))
        })
        .await?;
        drop(turn);
        if matches!(outcome, Outcome::New(_)) {
            self.refresh().await;
        }
        Ok(outcome.into_response())
    }

    /// One page of up to `limit` fields, oldest first, and the token of the next page; empty if
    /// there is none.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID, PAGE_TOKEN_MISMATCH or PAGE_TOKEN_EXPIRED.
    pub async fn list(&self, page_token: &str, limit: i64) -> Result<(Vec<Field>, String)> {
        let tokens = self.tokens.of("fields".to_owned());
        let after = tokens.read_id(page_token)?.unwrap_or_default();
        let (fields, last) = self
            .db
            .run(async |conn| Ok(fields::list_page(conn, after, limit).await?))
            .await?;
        Ok((fields, tokens.write_id(last)))
    }

    /// Changes a field that has this etag; an empty one is none.
    ///
    /// # Errors
    /// FIELD_NOT_FOUND, ETAG_MISMATCH; INVALID_REQUEST where the field as it is, or the defaults of
    /// the others, do not allow the change.
    pub async fn update(&self, name: &str, patch: &FieldPatch, etag: &str) -> Result<Field> {
        let now = self.clock.now();
        let sets_default = matches!(patch.default_value, Some(Some(_)));
        let turn = if sets_default {
            Some(self.turn.lock().await)
        } else {
            None
        };
        let changed = self
            .db
            .transaction(End::Commit, async |conn| {
                // Before the row's lock, as in `create`.
                if sets_default {
                    fields::lock_all(conn).await?;
                }
                let old = lock(conn, name, etag).await?;
                let new = Field {
                    version: old.version + 1,
                    ..patched(&old, patch)?
                };
                if new.index == Index::Filling && !old.index.is_declared() {
                    reject_long_text(conn, name).await?;
                }
                fields::update(conn, &new, new.index != old.index, now).await?;
                if sets_default {
                    check_defaults(conn).await?;
                }
                fields::notify(conn).await?;
                Ok(new)
            })
            .await?;
        drop(turn);
        self.refresh().await;
        Ok(changed)
    }

    /// Hides a field that has this etag, where one is given; its values are erased in the
    /// background, and then its name is free.
    ///
    /// # Errors
    /// FIELD_NOT_FOUND, ETAG_MISMATCH.
    pub async fn delete(&self, name: &str, etag: &str) -> Result<()> {
        let now = self.clock.now();
        self.db
            .transaction(End::Commit, async |conn| {
                let field = lock(conn, name, etag).await?;
                fields::delete(conn, field.field_id, now).await?;
                fields::notify(conn).await?;
                Ok(())
            })
            .await?;
        self.refresh().await;
        Ok(())
    }
}

/// The field of this name and etag, locked; an empty etag is none.
async fn lock(conn: &mut AsyncPgConnection, name: &str, etag: &str) -> Result<Field> {
    let field = fields::lock(conn, name)
        .await?
        .ok_or_else(|| not_found(name))?;
    if etag.is_empty() || field.etag() == etag {
        Ok(field)
    } else {
        Err(Error::new(Reason::EtagMismatch))
    }
}

async fn reject_beyond_limit(conn: &mut AsyncPgConnection, name: &str) -> Result<()> {
    if fields::has_room(conn, name, MAX_DEFINITIONS).await? {
        return Ok(());
    }
    Err(Error::new(Reason::FieldLimitReached).with_limit("field_definitions"))
}

/// Rejects defaults that do not fit into one document with those of all other fields, as they are
/// in this transaction, which holds the lock of all definitions. Without this no user could be
/// created any more.
async fn check_defaults(conn: &mut AsyncPgConnection) -> Result<()> {
    if defaults_fit(&fields::list(conn).await?) {
        return Ok(());
    }
    let why =
        "doesn't fit: together, the defaults of all fields must have at most 128 fields and 64 KiB";
    Err(Error::invalid(
        "field.default_value",
        FieldError::Length,
        why,
    ))
}

/// The rows that a user has in the index of these fields.
pub fn index_rows<'a>(
    fields: impl Iterator<Item = &'a Field>,
    (user_id, created_at): (i64, DateTime<Utc>),
    document: &Map<String, Value>,
) -> Vec<IndexRow> {
    fields
        .filter_map(|field| Some((field, document.get(&field.name)?)))
        .flat_map(|(field, value)| {
            field
                .field_type
                .index_keys(value)
                .into_iter()
                .map(|key| (field.field_id, key))
        })
        .map(|(field_id, value)| IndexRow {
            field_id,
            value,
            created_at,
            user_id,
        })
        .collect()
}

fn not_found(name: &str) -> Error {
    let name = crate::model::text::cut(name, 64);
    Error::new(Reason::FieldNotFound).with_resource("field", format!("fields/{name}"))
}

async fn reject_long_text(conn: &mut AsyncPgConnection, name: &str) -> Result<()> {
    if !fields::has_long_text(conn, name, MAX_KEY_TEXT as i32).await? {
        return Ok(());
    }
    Err(Error::invalid(
        "field.indexed",
        FieldError::Length,
        "a stored text is longer than 512 characters",
    ))
}

/// The field after the patch.
fn patched(old: &Field, patch: &FieldPatch) -> Result<Field> {
    let mut new = old.clone();
    let mut violations = crate::error::Violations::new();
    if let Some(description) = &patch.description {
        new.description.clone_from(description);
    }
    for (path, stored, given) in [
        ("field.required", &mut new.required, patch.required),
        ("field.unique", &mut new.unique, patch.unique),
    ] {
        match given {
            Some(true) if !*stored => {
                violations.add(path, FieldError::Immutable, "can only be changed to false")
            }
            Some(given) => *stored = given,
            None => {}
        }
    }
    if let Some(user_writable) = patch.user_writable {
        new.user_writable = user_writable;
    }
    match patch.indexed {
        Some(true) if !old.field_type.can_be_indexed() => {
            violations.add(
                "field.indexed",
                FieldError::Type,
                "only a scalar or an array of scalars can be indexed",
            );
        }
        Some(true) if !old.index.is_declared() => new.index = Index::Filling,
        Some(false) if old.index.is_declared() => new.index = Index::Leaving,
        Some(_) | None => {}
    }
    match &patch.default_value {
        None => {
            let kept = new
                .default_value
                .clone()
                .filter(|_| new.index == Index::Filling);
            if let Some(Err((_, error, why))) = kept.map(|value| new.check(value)) {
                violations.add("field.indexed", error, format!("default_value {why}"));
            }
        }
        Some(None) => new.default_value = None,
        Some(Some(_)) if new.unique => {
            violations.add(
                "field.default_value",
                FieldError::Format,
                "a unique field can't have a default value",
            );
        }
        Some(Some(value)) => match new.check(value.clone()) {
            Ok(value) => new.default_value = Some(value),
            Err((inside, error, why)) => {
                violations.add(format!("field.default_value{inside}"), error, why)
            }
        },
    }
    violations.into_result()?;
    Ok(new)
}

/// Keeps the filling of these fields' indexes out of a write's transaction: a batch that had read a
/// value before the write and put it into the index after it would leave a row that is never
/// deleted.
pub async fn join_fill<'a>(
    conn: &mut AsyncPgConnection,
    fields: impl Iterator<Item = &'a Field>,
) -> Result<()> {
    for field in fields.filter(|field| field.index == Index::Filling) {
        backfill::join_fill(conn, field.field_id).await?;
    }
    Ok(())
}
