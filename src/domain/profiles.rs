//! Reading, listing and changing profiles.

mod list;

pub(crate) use list::{Listing, search_in_time};

use std::{collections::HashMap, sync::Arc};

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
        reservations::reserve,
    },
    error::{Error, FieldError, Reason, Result},
    model::{
        account::{Account, AccountView, UserKey},
        field::Field,
        profile::{BuiltinPatch, GroupChange, Profile, TOO_MANY_GROUPS},
        update::Change,
        user::Reservation,
    },
    store::{accounts, fields, profiles, unique_values},
};

/// Profiles that one statement reads for a batch.
const PART: usize = 100;

/// A change of one profile.
pub struct Update {
    pub user_id: i64,
    pub builtin: BuiltinPatch,
    /// Not beside a new list of groups in `builtin`.
    pub groups: GroupChange,
    pub changes: Vec<Change>,
    /// The version that the profile must still have; `Some(None)` for an etag that matches nothing.
    pub version: Option<Option<i64>>,
    pub validate_only: bool,
}

/// Use cases of profiles.
#[derive(Clone)]
pub struct Profiles {
    db: Db,
    searches: Db,
    clock: Clock,
    reads: BatchLoader,
    tokens: PageTokens,
}

impl Profiles {
    /// Use cases on this database.
    pub fn new(db: Db, clock: Clock, reads: BatchLoader, tokens: PageTokens) -> Self {
        Self {
            searches: db.in_lane(Lane::Searches),
            db,
            clock,
            reads,
            tokens,
        }
    }

    /// The user who holds a key.
    pub async fn find_user(&self, kind: &'static str, value: &str) -> Result<Option<i64>> {
        self.reads.find_holder(kind, value.to_owned()).await
    }

    /// One profile, with its account where that is asked for.
    ///
    /// # Errors
    /// USER_NOT_FOUND.
    pub async fn get(
        &self,
        key: &UserKey,
        with_account: bool,
    ) -> Result<(Arc<Profile>, Option<AccountView>)> {
        let not_found = || match key {
            UserKey::Id(user_id) => Error::user_not_found(*user_id),
            UserKey::Unique(kind, _) => {
                Error::new(Reason::UserNotFound).with_resource("user", *kind)
            }
        };
        let user_id = match key {
            UserKey::Id(user_id) => *user_id,
            UserKey::Unique(kind, value) => {
                self.find_user(kind, value).await?.ok_or_else(not_found)?
            }
        };
        let profile = self
            .reads
            .find_profile(user_id)
            .await?
            .ok_or_else(not_found)?;
        let account = if with_account {
            self.db
                .run(async |conn| views(conn, vec![user_id]).await)
                .await?
                .pop()
        } else {
            None
        };
        Ok((profile, account))
    }

    /// The profiles of users by any mixture of keys, in that order, with their accounts where they
    /// are asked for; `None` for a key that no user has. `show` makes of each profile what becomes
    /// of it; before the first for which it has no budget the list ends.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn get_many<T: Send>(
        &self,
        keys: &[UserKey],
        with_accounts: bool,
        show: impl FnMut(Profile) -> Option<T> + Send,
    ) -> Result<Vec<Option<(T, Option<AccountView>)>>> {
        let user_ids = self.find_users(keys).await?;
        let shown = self.find_in_order(&user_ids, show).await?;
        let mut accounts = HashMap::new();
        if with_accounts {
            let is_shown =
                |(user_id, shown): (&Option<i64>, &Option<T>)| user_id.filter(|_| shown.is_some());
            let mut found: Vec<i64> = user_ids.iter().zip(&shown).filter_map(is_shown).collect();
            found.sort_unstable();
            found.dedup();
            let views = self.db.run(async |conn| views(conn, found).await).await?;
            accounts.extend(views.into_iter().map(|view| (view.account.user_id, view)));
        }
        let with_account = |(shown, user_id): (Option<T>, &Option<i64>)| {
            let account = user_id.and_then(|user_id| accounts.get(&user_id).cloned());
            shown.map(|shown| (shown, account))
        };
        Ok(shown.into_iter().zip(&user_ids).map(with_account).collect())
    }

    /// The users who have these keys. An id needs no look.
    async fn find_users(&self, keys: &[UserKey]) -> Result<Vec<Option<i64>>> {
        let unique = |key: &UserKey| match key {
            UserKey::Id(_) => None,
            UserKey::Unique(kind, value) => Some((*kind, value.clone())),
        };
        let mut holders = self
            .reads
            .find_holders(keys.iter().filter_map(unique).collect())
            .await?
            .into_iter();
        let user_id = |key: &UserKey| match key {
            UserKey::Id(user_id) => Some(*user_id),
            UserKey::Unique(..) => holders.next().flatten().map(|user_id| *user_id),
        };
        Ok(keys.iter().map(user_id).collect())
    }

    /// Reads profiles part by part, so that no more are in memory than a response could hold, and
    /// other callers have their turn between two parts.
    async fn find_in_order<T>(
        &self,
        user_ids: &[Option<i64>],
        mut show: impl FnMut(Profile) -> Option<T> + Send,
    ) -> Result<Vec<Option<T>>> {
        let mut shown = Vec::with_capacity(user_ids.len());
        for part in user_ids.chunks(PART) {
            let mut found = self
                .reads
                .find_profiles(part.iter().copied().flatten().collect())
                .await?
                .into_iter();
            for user_id in part {
                let profile = user_id.and_then(|_| found.next().flatten());
                // A key that is given twice, or another caller of the same moment, has a copy.
                match profile.map(|profile| show(Arc::unwrap_or_clone(profile))) {
                    None => shown.push(None),
                    Some(Some(made)) => shown.push(Some(made)),
                    Some(None) => return Ok(shown),
                }
            }
        }
        Ok(shown)
    }

    /// Changes what is named of one profile, and makes the response of it.
    ///
    /// # Errors
    /// USER_NOT_FOUND, ETAG_MISMATCH, VALUE_TAKEN, LAST_CREDENTIAL, INVALID_REQUEST for too many
    /// groups, and the errors of operators.
    pub async fn update<R: Message + Default>(
        &self,
        update: &Update,
        key: Option<&IdempotencyKey>,
        respond: impl Fn(Profile) -> R + Sync,
    ) -> Result<R> {
        let now = self.clock.now();
        let end = if update.validate_only {
            End::DryRun
        } else {
            End::Commit
        };
        let db = self.db.of_user(update.user_id);
        let needs_claims = update.builtin.openid.is_some() || update.builtin.unionid.is_some();
        let needs_values = update
            .changes
            .iter()
            .any(|change| change.field.unique || change.field.index.is_maintained());
        let done = if !needs_claims && !needs_values && key.is_none() && end == End::Commit {
            // No other table changes, so the one statement is its own transaction.
            db.run(async |conn| apply(conn, update, now).await)
                .await
                .map(respond)
        } else {
            let write = idempotency::write(&db, end, key, Some(update.user_id), async |conn| {
                // The unique values that the user has until now are freed by their values.
                let needs_stored =
                    needs_claims || update.changes.iter().any(|change| change.field.unique);
                let stored = match end {
                    End::Commit if !needs_stored => None,
                    End::Commit | End::DryRun => profiles::lock(conn, update.user_id).await?,
                };
                let mut profile = apply(conn, update, now).await?;
                reservation(conn, update, stored.as_ref(), &profile).await?;
                if let Some(stored) = stored.filter(|_| end == End::DryRun) {
                    (profile.version, profile.updated_at) = (stored.version, stored.updated_at);
                }
                Ok(respond(profile))
            });
            write.await.map(Outcome::into_response)
        };
        match done {
            Ok(response) => Ok(response),
            Err(error) => Err(self.explain(error, update).await),
        }
    }

    /// Returns why the database rejected a change of the document; its error doesn't say.
    async fn explain(&self, error: Error, update: &Update) -> Error {
        if error.reason() != Reason::OpTypeMismatch {
            return error;
        }
        let told = self
            .db
            .run(async |conn| {
                Ok(profiles::find_refusal(conn, update.user_id, &update.changes).await?)
            })
            .await;
        match told {
            Ok(Some(rejection)) => rejected(&rejection),
            Ok(None) => Error::new(Reason::WriteConflict),
            Err(error) => error,
        }
    }
}

/// The error of a rejection of `change_document`, `REASON:field`.
pub(crate) fn rejected(rejection: &str) -> Error {
    let (reason, field) = rejection.split_once(':').unwrap_or((rejection, ""));
    let reason = match reason {
        "OP_OVERFLOW" => Reason::OpOverflow,
        "DOCUMENT_TOO_LARGE" => Reason::DocumentTooLarge,
        _ => Reason::OpTypeMismatch,
    };
    let path = if field.is_empty() {
        "custom_fields".to_owned()
    } else {
        format!("custom_fields.{field}")
    };
    Error::new(reason).with_violation(path, FieldError::Range, reason.message())
}

/// The error of a user who would have more groups than are allowed.
pub(crate) fn too_many_groups() -> Error {
    Error::invalid("add_group_ids", FieldError::Range, TOO_MANY_GROUPS)
}

/// The UPDATE itself, and what it means that no row came back.
async fn apply(
    conn: &mut AsyncPgConnection,
    update: &Update,
    now: DateTime<Utc>,
) -> Result<Profile> {
    let version = update.version.map(|version| version.unwrap_or(-1));
    let Update {
        user_id,
        builtin,
        groups,
        changes,
        ..
    } = update;
    match profiles::update(conn, *user_id, builtin, groups, changes, version, now).await? {
        profiles::Updated::Done(profile) => Ok(*profile),
        profiles::Updated::TooManyGroups => Err(too_many_groups()),
        profiles::Updated::Rejected => Err(Error::new(Reason::OpTypeMismatch)),
        profiles::Updated::Unmatched => match profiles::find_version(conn, update.user_id).await? {
            Some(_) if version.is_some() => Err(Error::new(Reason::EtagMismatch)),
            _ => Err(Error::user_not_found(update.user_id)),
        },
    }
}

/// Brings unique values and the index in line with the profile as it is now; `stored` is the
/// previous one, where a unique value may change.
async fn reservation(
    conn: &mut AsyncPgConnection,
    update: &Update,
    stored: Option<&Profile>,
    profile: &Profile,
) -> Result<()> {
    let mut held = Vec::new();
    let mut reservations = Vec::new();
    let mut loses_login = false;
    for (kind, named, old, new) in [
        (
            "openid",
            update.builtin.openid.is_some(),
            stored.and_then(|stored| stored.openid.as_ref()),
            &profile.openid,
        ),
        (
            "unionid",
            update.builtin.unionid.is_some(),
            stored.and_then(|stored| stored.unionid.as_ref()),
            &profile.unionid,
        ),
    ] {
        if named {
            loses_login |= new.is_none();
            held.extend(old.map(|value| (kind.to_owned(), value.clone())));
            let reservation = |value| Reservation {
                path: format!("profile.{kind}"),
                kind: kind.to_owned(),
                value,
            };
            reservations.extend(new.clone().map(reservation));
        }
    }
    let mut touched: Vec<&Field> = update.changes.iter().map(|change| &*change.field).collect();
    touched.sort_by_key(|field| field.field_id);
    touched.dedup_by_key(|field| field.field_id);
    for field in touched.iter().filter(|field| field.unique) {
        let key = |profile: &Profile| {
            field
                .field_type
                .unique_key(&profile.custom_fields.field(&field.name))
        };
        held.extend(
            stored
                .and_then(key)
                .map(|value| (field.unique_kind(), value)),
        );
        let path = format!("custom_fields.{}", field.name);
        reservations.extend(key(profile).map(|value| Reservation {
            path,
            kind: field.unique_kind(),
            value,
        }));
    }
    unique_values::free(conn, profile.user_id, held).await?;
    reserve(conn, profile.user_id, &reservations).await?;
    if loses_login && accounts::count_credentials(conn, profile.user_id).await? == 0 {
        let name = if update.builtin.openid.is_some() {
            "profile.openid"
        } else {
            "profile.unionid"
        };
        return Err(Error::new(Reason::LastCredential).with_precondition(name));
    }
    let indexed: Vec<&Field> = touched
        .into_iter()
        .filter(|field| field.index.is_maintained())
        .collect();
    if !indexed.is_empty() {
        let document = profile.custom_fields.fields();
        let rows = index_rows(
            indexed.iter().copied(),
            (profile.user_id, profile.created_at),
            &document,
        );
        join_fill(conn, indexed.iter().copied()).await?;
        let field_ids = indexed.iter().map(|field| field.field_id).collect();
        fields::replace_values(conn, vec![profile.user_id], field_ids, rows).await?;
    }
    Ok(())
}

async fn views(conn: &mut AsyncPgConnection, user_ids: Vec<i64>) -> Result<Vec<AccountView>> {
    let connections = accounts::list_connections(conn, user_ids.clone()).await?;
    let accounts = accounts::list(conn, user_ids).await?;
    let view = |account: Account| {
        let connections = connections
            .iter()
            .filter(|connection| connection.user_id == account.user_id)
            .cloned()
            .collect();
        AccountView {
            account,
            connections,
        }
    };
    Ok(accounts.into_iter().map(view).collect())
}
