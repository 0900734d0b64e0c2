//! One change of custom fields and groups on many profiles, in a handful of statements.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use prost::Message;

use crate::{
    clock::Clock,
    domain::{
        batch_loader::BatchLoader,
        db::{Db, End, Lane},
        fields::{index_rows, join_fill},
        idempotency::{self, IdempotencyKey, Outcome},
        page_tokens::PageTokens,
        profiles::{rejected, search_in_time, too_many_groups},
    },
    error::{Error, FieldError, Reason, Result},
    model::{bulk::BulkUpdate, field::Field, filter::Filter, update::Op},
    store::{bulk, fields, listing, unique_values},
};

/// What became of it.
pub struct BulkDone {
    /// In order of the user's id: the time of the change, or why there is none.
    pub results: Vec<(i64, Result<DateTime<Utc>>)>,
    pub total: Option<i64>,
    /// The last user who was looked at, where more are left.
    last: Option<i64>,
}

/// The use case of bulk changes.
#[derive(Clone)]
pub struct Bulk {
    db: Db,
    searches: Db,
    clock: Clock,
    reads: BatchLoader,
    tokens: PageTokens,
}

impl Bulk {
    /// The use case on this database.
    pub fn new(db: Db, clock: Clock, reads: BatchLoader, tokens: PageTokens) -> Self {
        Self {
            searches: db.in_lane(Lane::Searches),
            db,
            clock,
            reads,
            tokens,
        }
    }

    /// Changes up to `limit` profiles, each by itself unless the call is all or nothing, and makes
    /// the response of it, with the token of the next page.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID, PAGE_TOKEN_MISMATCH, PAGE_TOKEN_EXPIRED; FILTER_REQUIRED;
    /// TOTAL_MISMATCH; with `all_or_nothing` the first profile's own failure.
    pub async fn update<R: Message + Default>(
        &self,
        update: &BulkUpdate,
        key: Option<&IdempotencyKey>,
        respond: impl Fn(&BulkDone, String) -> R + Sync,
    ) -> Result<R> {
        let tokens = self.tokens.of(format!("bulk {}", update.query_hash));
        let after = tokens.read_id(&update.page_token)?;
        if let Some(cause) = &update.match_all {
            let why = "must not match every profile unless allow_all is set";
            return Err(Error::new(Reason::FilterRequired).with_violation(
                cause,
                FieldError::Required,
                why,
            ));
        }
        let now = self.clock.now();
        let end = if update.validate_only {
            End::DryRun
        } else {
            End::Commit
        };
        // Outside of the transaction, where a search that takes too long can be cancelled. The
        // update repeats the filter, with the unique values themselves: they may have other holders
        // by then.
        let filter = self.reads.by_holders(&update.filter).await?;
        let found = search_in_time(
            self.searches
                .run(async |conn| find(conn, update, &filter, after).await),
        )
        .await?;
        let write = idempotency::write(&self.db, end, key, None, async |conn| {
            change(conn, update, found.clone(), now)
                .await
                .map(|done| respond(&done, tokens.write_id(done.last)))
        });
        write.await.map(Outcome::into_response)
    }
}

/// The profiles that a bulk update is about.
#[derive(Clone)]
struct Found {
    total: Option<i64>,
    /// In order of the user's id, with the stored time of the last change.
    picked: Vec<(i64, DateTime<Utc>)>,
    has_more: bool,
}

/// Finds the profiles after the last one of the call before.
async fn find(
    conn: &mut AsyncPgConnection,
    update: &BulkUpdate,
    filter: &Filter,
    after: Option<i64>,
) -> Result<Found> {
    let expected = update.expected_total.filter(|_| after.is_none());
    let total = count(conn, update, filter, expected).await?;
    let skip = if after.is_some() { 0 } else { update.skip };
    let mut picked = bulk::pick(conn, filter, after, skip, update.limit + 1).await?;
    let has_more = picked.len() as i64 > update.limit;
    picked.truncate(update.limit as usize);
    Ok(Found {
        total,
        picked,
        has_more,
    })
}

async fn change(
    conn: &mut AsyncPgConnection,
    update: &BulkUpdate,
    found: Found,
    now: DateTime<Utc>,
) -> Result<BulkDone> {
    let Found {
        total,
        picked,
        has_more,
    } = found;
    let last = picked
        .last()
        .map(|(user_id, _)| *user_id)
        .filter(|_| has_more);
    let user_ids: Vec<i64> = picked.iter().map(|(user_id, _)| *user_id).collect();

    let reservations = reserve(conn, update, &user_ids).await?;
    let wanted: Vec<i64> = user_ids
        .iter()
        .copied()
        .filter(|user_id| !reservations.conflicts.contains_key(user_id))
        .collect();
    let values = bulk::NewValues {
        changes: &update.changes,
        groups: &update.groups,
    };
    let indexed: Vec<&Field> = touched(update)
        .filter(|field| field.index.is_maintained())
        .collect();
    let changed = bulk::update(
        conn,
        &wanted,
        &update.filter,
        &values,
        now,
        !indexed.is_empty(),
    )
    .await?;

    let changed_ids: HashSet<i64> = changed.iter().map(|(user_id, ..)| *user_id).collect();
    let missed: Vec<i64> = wanted
        .into_iter()
        .filter(|user_id| !changed_ids.contains(user_id))
        .collect();
    let mut failures: BTreeMap<i64, Error> = reservations.conflicts;
    if !missed.is_empty() {
        for (user_id, rejection) in
            bulk::find_refusals(conn, missed, &update.filter, &values).await?
        {
            match rejection {
                Some(bulk::BulkRejection::TooManyGroups) => {
                    failures.insert(user_id, too_many_groups())
                }
                Some(bulk::BulkRejection::Document(rejection)) => {
                    failures.insert(user_id, rejected(&rejection))
                }
                // A concurrent write made the change possible after it had been rejected.
                None => return Err(Error::new(Reason::WriteConflict)),
            };
        }
    }
    commit_reservations(conn, update, &reservations.granted, &changed_ids).await?;
    settle_index(conn, &indexed, &changed).await?;
    if update.all_or_nothing
        && let Some((user_id, error)) = failures.pop_first()
    {
        return Err(error.with_metadata("userId", user_id));
    }
    let results = picked.into_iter().filter_map(|(user_id, stored)| {
        let time = if update.validate_only { stored } else { now };
        match failures.remove(&user_id) {
            Some(error) => Some((user_id, Err(error))),
            // Who is in neither set was changed by another so that the filter passes no more: it
            // was not attempted.
            None => changed_ids
                .contains(&user_id)
                .then_some((user_id, Ok(time))),
        }
    });
    Ok(BulkDone {
        results: results.collect(),
        total,
        last,
    })
}

/// The number of profiles that the filter matches, where it is returned or must be the expected
/// one.
async fn count(
    conn: &mut AsyncPgConnection,
    update: &BulkUpdate,
    filter: &Filter,
    expected: Option<i64>,
) -> Result<Option<i64>> {
    if !update.with_total && expected.is_none() {
        return Ok(None);
    }
    let total = listing::count(conn, filter).await?;
    match expected {
        Some(expected) if expected != total => Err(Error::new(Reason::TotalMismatch)
            .with_precondition("expected_total")
            .with_metadata("matched", total)),
        _ => Ok(update.with_total.then_some(total)),
    }
}

/// The fields that are changed, each once.
fn touched(update: &BulkUpdate) -> impl Iterator<Item = &Field> {
    let mut seen = HashSet::new();
    update
        .changes
        .iter()
        .map(|change| &*change.field)
        .filter(move |field| seen.insert(field.field_id))
}

/// Unique values that one user of the call now holds, and the users who cannot have them.
struct Reservations {
    granted: Vec<Granted>,
    conflicts: BTreeMap<i64, Error>,
}

/// A unique value that one user of the call holds.
struct Granted {
    user_id: i64,
    kind: String,
    value: String,
    /// Claimed in this call; else the user held it before.
    is_new: bool,
}

/// Reserves the unique values that the change sets. Only one user can have each: who holds it
/// already, else the lowest.
async fn reserve(
    conn: &mut AsyncPgConnection,
    update: &BulkUpdate,
    user_ids: &[i64],
) -> Result<Reservations> {
    let mut reservations = Reservations {
        granted: Vec::new(),
        conflicts: BTreeMap::new(),
    };
    let Some(lowest) = user_ids.first() else {
        return Ok(reservations);
    };
    for change in update.changes.iter().filter(|change| change.field.unique) {
        let Op::Set(value) = &change.op else { continue };
        let Some(value) = change.field.field_type.unique_key(value) else {
            continue;
        };
        let kind = change.field.unique_kind();
        let is_new = !unique_values::reserve(conn, &[(*lowest, kind.as_str(), value.as_str())])
            .await?
            .is_empty();
        let holder = unique_values::find(conn, &kind, &value).await?;
        let path = format!("custom_fields.{}", change.field.name);
        for user_id in user_ids.iter().filter(|user_id| Some(**user_id) != holder) {
            reservations
                .conflicts
                .entry(*user_id)
                .or_insert_with(|| Error::taken(Reason::ValueTaken, &path));
        }
        if let Some(holder) = holder.filter(|holder| user_ids.contains(holder)) {
            reservations.granted.push(Granted {
                user_id: holder,
                kind,
                value,
                is_new,
            });
        }
    }
    Ok(reservations)
}

/// Frees what changed users hold no more, and what was claimed for users who were not changed after
/// all.
async fn commit_reservations(
    conn: &mut AsyncPgConnection,
    update: &BulkUpdate,
    granted: &[Granted],
    changed: &HashSet<i64>,
) -> Result<()> {
    let kinds: Vec<String> = touched(update)
        .filter(|field| field.unique)
        .map(Field::unique_kind)
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let (kept, dropped): (Vec<&Granted>, Vec<&Granted>) = granted
        .iter()
        .partition(|won| changed.contains(&won.user_id));
    let kept: Vec<_> = kept
        .into_iter()
        .map(|won| (won.kind.clone(), won.value.clone()))
        .collect();
    let mut changed: Vec<i64> = changed.iter().copied().collect();
    changed.sort_unstable();
    bulk::free_unique(conn, changed, kinds, &kept).await?;
    for won in dropped.into_iter().filter(|won| won.is_new) {
        unique_values::release(conn, won.user_id, &won.kind, &won.value).await?;
    }
    Ok(())
}

/// Brings the indexes of the changed fields in line with the documents.
async fn settle_index(
    conn: &mut AsyncPgConnection,
    indexed: &[&Field],
    changed: &[bulk::Changed],
) -> Result<()> {
    if indexed.is_empty() || changed.is_empty() {
        return Ok(());
    }
    let rows = changed.iter().flat_map(|(user_id, created_at, document)| {
        index_rows(
            indexed.iter().copied(),
            (*user_id, *created_at),
            &document.fields(),
        )
    });
    let rows: Vec<_> = rows.collect();
    join_fill(conn, indexed.iter().copied()).await?;
    let user_ids = changed.iter().map(|(user_id, ..)| *user_id).collect();
    let field_ids = indexed.iter().map(|field| field.field_id).collect();
    fields::replace_values(conn, user_ids, field_ids, rows).await?;
    Ok(())
}
