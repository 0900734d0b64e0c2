//! Making, importing and erasing users.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::result::Error as DieselError;
use diesel_async::AsyncPgConnection;

use crate::{
    clock::Clock,
    domain::{
        db::{Db, End},
        fields::{index_rows, join_fill},
        idempotency::{self, IdempotencyKey, Outcome},
        names::{self, NamePolicy, ReleasedNames},
        reservations::{Reservation, reject_conflicts},
    },
    error::{Error, FieldError, Reason, Result},
    model::{
        delivery::Channel,
        field::{Field, Fields},
        profile::Profile,
    },
    store::{
        error::is_unique_violation,
        fields,
        idempotency::RequestKey,
        profiles, unique_values,
        users::{self, NewAccount},
    },
};

/// Ids from here on are kept, but the sequence does not follow them.
const SEQUENCE_END: i64 = 1 << 52;

/// A user to be made. A `user_id` of 0 is drawn.
#[derive(Clone)]
pub struct NewUser {
    pub profile: Profile,
    pub account: NewAccount,
    /// Values that must be free.
    pub reservations: Vec<Reservation>,
}

/// A user to delete.
pub struct DeleteUser {
    pub user_id: i64,
    /// The version that the profile must have; `Some(None)` for an etag that can't match.
    pub version: Option<Option<i64>>,
    /// Whether a missing user is not an error.
    pub allow_missing: bool,
    pub validate_only: bool,
}

/// Use cases of whole users.
#[derive(Clone)]
pub struct Users {
    db: Db,
    clock: Clock,
    names: NamePolicy,
}

impl Users {
    pub fn new(db: Db, clock: Clock, names: NamePolicy) -> Self {
        Self { db, clock, names }
    }

    /// Makes one user.
    ///
    /// # Errors
    /// USER_ID_TAKEN, and what is taken of its unique values.
    pub async fn create(
        &self,
        new: &NewUser,
        definitions: &Fields,
        validate_only: bool,
        once: Option<&IdempotencyKey>,
        reply: impl Fn(&NewUser, &Profile) -> Vec<u8> + Sync,
    ) -> Result<Outcome<Profile>> {
        let end = if validate_only { End::DryRun } else { End::Commit };
        let mut outcome = self
            .db
            .transaction(end, async |conn| {
                self.make(conn, &[(new, once)], definitions, &reply).await?.pop().expect("valid: one for each")
            })
            .await?;
        match &mut outcome {
            Outcome::New(made) if validate_only => made.user_id = new.profile.user_id,
            Outcome::New(_) => self.follow([new].into_iter()).await,
            Outcome::Stored(_) => {}
        }
        Ok(outcome)
    }

    /// Makes a batch of users in one transaction, each by itself: one that fails leaves the others alone.
    ///
    /// # Errors
    /// What kept the whole batch from being written.
    pub async fn import(
        &self,
        batch: &[(NewUser, Option<IdempotencyKey>)],
        definitions: &Fields,
        reply: impl Fn(&NewUser, &Profile) -> Vec<u8> + Sync,
    ) -> Result<Vec<Result<()>>> {
        let batch: Vec<_> = batch.iter().map(|(new, once)| (new, once.as_ref())).collect();
        let outcomes =
            self.db.transaction(End::Commit, async |conn| self.make(conn, &batch, definitions, &reply).await).await?;
        let made = outcomes.iter().zip(&batch).filter(|(outcome, _)| matches!(outcome, Ok(Outcome::New(_))));
        self.follow(made.map(|(_, (new, _))| *new)).await;
        Ok(outcomes.into_iter().map(|outcome| outcome.map(|_| ())).collect())
    }

    /// Moves the sequence past the ids that these users brought. It knows no transaction, so it waits until they stand.
    /// Where it fails, ids that are taken are drawn, and drawn again.
    async fn follow(&self, made: impl Iterator<Item = &NewUser>) {
        let brought = made.map(|new| new.profile.user_id).filter(|user_id| *user_id < SEQUENCE_END).max();
        let Some(highest) = brought.filter(|user_id| *user_id != 0) else { return };
        if let Err(error) = self.db.run(async |conn| Ok(users::advance_id_sequence(conn, highest).await?)).await {
            tracing::warn!(reason = error.reason().as_str(), "failed to advance the user ID sequence");
        }
    }

    /// Creates users, table by table, and reports the result of each. Conflicts are decided in the order of the users,
    /// against the values that are in use. If a concurrent write reserves one of the values, the transaction is rolled
    /// back and retried.
    ///
    /// # Errors
    /// WRITE_CONFLICT if concurrent writes were faster, and every error that prevents all of the users from being
    /// written.
    async fn make(
        &self,
        conn: &mut AsyncPgConnection,
        batch: &[(&NewUser, Option<&IdempotencyKey>)],
        definitions: &Fields,
        reply: &impl Fn(&NewUser, &Profile) -> Vec<u8>,
    ) -> Result<Vec<Result<Outcome<Profile>>>> {
        let requests: Vec<&IdempotencyKey> = batch.iter().filter_map(|(_, once)| *once).collect();
        let mut begun = idempotency::begin(conn, &requests).await?.into_iter();
        let mut decisions = Decisions::begin(conn, batch, self.names, self.clock.now()).await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (new, once) in batch {
            let kept = once.and_then(|_| begun.next()).unwrap_or(Ok(None));
            outcomes.push(match kept {
                Err(error) => Err(error),
                Ok(Some(kept)) => Ok(Outcome::Stored(kept)),
                Ok(None) => decisions.decide(conn, new, *once, reply).await?,
            });
        }
        decisions.write(conn, definitions).await?;
        Ok(outcomes)
    }

    /// Deletes the user and erases all of its data. The stored response of the deletion belongs to no user, so it isn't
    /// erased.
    ///
    /// # Errors
    /// USER_NOT_FOUND unless `allow_missing`; ETAG_MISMATCH.
    pub async fn delete(
        &self,
        delete: &DeleteUser,
        definitions: &Fields,
        once: Option<&IdempotencyKey>,
        reply: impl Fn() -> Vec<u8> + Sync,
    ) -> Result<Outcome<()>> {
        let end = if delete.validate_only { End::DryRun } else { End::Commit };
        self.db
            .of_user(delete.user_id)
            .transaction(end, async |conn| {
                if let Some(once) = once
                    && let Some(stored) = once.begin(conn).await?
                {
                    return Ok(Outcome::Stored(stored));
                }
                join_fill(conn, definitions.iter().map(|field| &**field)).await?;
                // Every other write of the user waits for this row lock.
                match profiles::lock(conn, delete.user_id).await? {
                    None if delete.allow_missing => {}
                    None => return Err(Error::user_not_found(delete.user_id)),
                    Some(found) if delete.version.is_some_and(|version| version != Some(found.version)) => {
                        return Err(Error::new(Reason::EtagMismatch));
                    }
                    Some(_) => users::delete(conn, delete.user_id).await?,
                }
                if let Some(once) = once {
                    once.end(conn, None, reply()).await?;
                }
                Ok(Outcome::New(()))
            })
            .await
    }
}

/// Who of a batch gets what.
struct Decisions<'a> {
    /// Ids that are or were in use.
    used: HashSet<i64>,
    /// Kinds and values that are in use, with their user; 0 for a user of the batch.
    held: HashMap<(String, String), i64>,
    reservations: ReleasedNames,
    policy: NamePolicy,
    now: DateTime<Utc>,
    /// Ids for those who bring none.
    drawn: std::vec::IntoIter<i64>,
    made: Vec<(&'a NewUser, Profile)>,
    replies: HashMap<&'a RequestKey, (&'a IdempotencyKey, i64, Vec<u8>)>,
}

impl<'a> Decisions<'a> {
    async fn begin(
        conn: &mut AsyncPgConnection,
        batch: &[(&NewUser, Option<&IdempotencyKey>)],
        policy: NamePolicy,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let (given, missing): (Vec<i64>, Vec<i64>) =
            batch.iter().map(|(new, _)| new.profile.user_id).partition(|user_id| *user_id != 0);
        let reservations = batch.iter().flat_map(|(new, _)| &new.reservations);
        let (kinds, values): (Vec<_>, Vec<_>) = reservations.clone().map(Reservation::pair).unzip();
        Ok(Self {
            reservations: ReleasedNames::find(conn, reservations, now).await?,
            policy,
            now,
            drawn: users::draw_ids(conn, missing.len(), &given).await?.into_iter(),
            used: users::find_used(conn, given).await?,
            held: unique_values::find_held(conn, kinds, values).await?,
            made: Vec::with_capacity(batch.len()),
            replies: HashMap::new(),
        })
    }

    /// Checks one user; the inner result applies only to this user.
    async fn decide(
        &mut self,
        conn: &mut AsyncPgConnection,
        new: &'a NewUser,
        once: Option<&'a IdempotencyKey>,
        reply: impl Fn(&NewUser, &Profile) -> Vec<u8>,
    ) -> Result<Result<Outcome<Profile>>> {
        if let Some(once) = once
            && let Some((first, _, reply)) = self.replies.get(once.key())
        {
            return Ok(first.repeat(once, reply).map(Outcome::Stored));
        }
        let yielding = self.find_yielding(conn, new).await?;
        let decided = self.decide_alone(new, &yielding, once, reply);
        if decided.is_ok() {
            for (holder, channel, key) in &yielding {
                names::take_away(conn, *holder, *channel, key).await?;
            }
        }
        Ok(decided)
    }

    /// The addresses that this user has proved and that other users, who have them unverified, must release, each with
    /// its current user.
    async fn find_yielding(&self, conn: &mut AsyncPgConnection, new: &NewUser) -> Result<Vec<(i64, Channel, String)>> {
        let mut yielding: Vec<(i64, Channel, String)> = Vec::new();
        for reservation in &new.reservations {
            let channel = Channel::parse(&reservation.kind).filter(|channel| new.account.is_verified(*channel));
            let holder = self.held.get(&reservation.pair()).copied().filter(|holder| *holder != 0);
            let (Some(channel), Some(holder)) = (channel, holder) else { continue };
            let taken = yielding.iter().filter(|(other, ..)| *other == holder).count() as i64;
            let (policy, now) = (self.policy, self.now);
            if names::find_yielding(conn, holder, channel, &reservation.value, taken, policy, now).await? {
                yielding.push((holder, channel, reservation.value.clone()));
            }
        }
        Ok(yielding)
    }

    fn decide_alone(
        &mut self,
        new: &'a NewUser,
        yielding: &[(i64, Channel, String)],
        once: Option<&'a IdempotencyKey>,
        reply: impl Fn(&NewUser, &Profile) -> Vec<u8>,
    ) -> Result<Outcome<Profile>> {
        let mut profile = new.profile.clone();
        if profile.user_id == 0 {
            profile.user_id = self.drawn.next().expect("valid: one was drawn for each");
        }
        if self.used.contains(&profile.user_id) {
            return Err(Error::new(Reason::UserIdTaken).with_resource("user", "profile.user_id").with_violation(
                "profile.user_id",
                FieldError::Format,
                "is, or was, in use",
            ));
        }
        let yields = |reservation: &Reservation| {
            yielding.iter().any(|(_, channel, key)| channel.as_str() == reservation.kind && *key == reservation.value)
        };
        let is_lost = |reservation: &&Reservation| {
            let is_held = self.held.contains_key(&reservation.pair()) && !yields(reservation);
            is_held || self.keeps(new, profile.user_id, reservation)
        };
        reject_conflicts(new.reservations.iter().filter(is_lost))?;
        self.used.insert(profile.user_id);
        self.held.extend(new.reservations.iter().map(|reservation| (reservation.pair(), 0)));
        if let Some(once) = once {
            self.replies.insert(once.key(), (once, profile.user_id, reply(new, &profile)));
        }
        self.made.push((new, profile.clone()));
        Ok(Outcome::New(profile))
    }

    /// Whether the value is reserved for a previous user.
    fn keeps(&self, new: &NewUser, user_id: i64, reservation: &Reservation) -> bool {
        let is_proved = Channel::parse(&reservation.kind).is_some_and(|channel| new.account.is_verified(channel));
        self.reservations.keeps(reservation, user_id, is_proved)
    }

    async fn write(mut self, conn: &mut AsyncPgConnection, definitions: &Fields) -> Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        // Plain inserts: ON CONFLICT costs more than starting again after a conflict, which is rare.
        let profiles = self.made.iter().map(|(_, profile)| profile);
        users::insert_profiles(conn, profiles).await.map_err(raced)?;
        let reservations = self.made.iter().flat_map(|(new, profile)| {
            new.reservations
                .iter()
                .map(|reservation| (profile.user_id, reservation.kind.as_str(), reservation.value.as_str()))
        });
        unique_values::insert(conn, &reservations.collect::<Vec<_>>()).await.map_err(raced)?;
        // The reservations have waited for concurrent releases, so their reservations are visible now.
        let reservations = self.made.iter().flat_map(|(new, _)| &new.reservations);
        self.reservations = ReleasedNames::find(conn, reservations, self.now).await?;
        for (new, profile) in &self.made {
            for reservation in &new.reservations {
                if self.keeps(new, profile.user_id, reservation) {
                    return Err(Error::new(Reason::WriteConflict));
                }
                self.reservations.end(conn, reservation).await?;
            }
        }
        let accounts: Vec<_> = self.made.iter().map(|(new, profile)| (profile.user_id, &new.account)).collect();
        users::insert_accounts(conn, &accounts).await?;
        let indexed: Vec<&Field> =
            definitions.iter().map(|field| &**field).filter(|field| field.index.is_maintained()).collect();
        let rows = self.made.iter().flat_map(|(_, profile)| {
            let key = (profile.user_id, profile.created_at);
            index_rows(indexed.iter().copied(), key, &profile.custom_fields.fields())
        });
        fields::insert_values(conn, rows.collect()).await?;
        let replies = self.replies.into_values().map(|(once, user_id, reply)| (once, Some(user_id), reply));
        idempotency::end(conn, replies.collect()).await
    }
}

/// What was free when it was looked at is taken by now.
fn raced(error: DieselError) -> Error {
    match is_unique_violation(&error) {
        true => Error::new(Reason::WriteConflict).with_source(error),
        false => error.into(),
    }
}
