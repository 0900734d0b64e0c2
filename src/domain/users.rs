//! Making, importing and erasing users.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::result::Error as DieselError;
use diesel_async::AsyncPgConnection;
use prost::Message;

use crate::{
    clock::Clock,
    domain::{
        db::{Db, End},
        fields::{index_rows, join_fill},
        idempotency::{self, IdempotencyKey, Outcome, Responses},
        names::{self, NamePolicy, ReleasedNames},
        reservations::reject_conflicts,
    },
    error::{Error, FieldError, Reason, Result},
    model::{
        delivery::Channel,
        field::{Field, Fields},
        profile::Profile,
        user::{DeleteUser, NewUser, Reservation},
    },
    store::{error::is_unique_violation, fields, profiles, unique_values, users},
};

/// Ids from here on are kept, but the sequence does not follow them.
const SEQUENCE_END: i64 = 1 << 52;

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

    /// Makes one user, and the response of it.
    ///
    /// # Errors
    /// USER_ID_TAKEN, and what is taken of its unique values.
    pub async fn create<R: Message + Default>(
        &self,
        new: &NewUser,
        definitions: &Fields,
        validate_only: bool,
        key: Option<&IdempotencyKey>,
        respond: impl Fn(&NewUser, Profile) -> R + Sync,
    ) -> Result<R> {
        let end = if validate_only {
            End::DryRun
        } else {
            End::Commit
        };
        let keys = [key];
        let outcome = idempotency::transaction(&self.db, end, &keys, async |conn, responses| {
            let made = self
                .make(conn, &[new], definitions, responses, &respond)
                .await?;
            made.into_iter().next().expect("valid: one for each")
        });
        let mut profile = match outcome.await? {
            Outcome::New(made) => made,
            Outcome::Stored(response) => return Ok(response),
        };
        if validate_only {
            profile.user_id = new.profile.user_id;
        } else {
            self.follow([new].into_iter()).await;
        }
        Ok(respond(new, profile))
    }

    /// Makes a batch of users in one transaction, each by itself: one that fails leaves the others
    /// alone.
    ///
    /// # Errors
    /// What kept the whole batch from being written.
    pub async fn import<R: Message + Default>(
        &self,
        batch: &[(NewUser, Option<IdempotencyKey>)],
        definitions: &Fields,
        respond: impl Fn(&NewUser, Profile) -> R + Sync,
    ) -> Result<Vec<Result<()>>> {
        let (batch, keys): (Vec<_>, Vec<_>) =
            batch.iter().map(|(new, key)| (new, key.as_ref())).unzip();
        let outcomes =
            idempotency::transaction(&self.db, End::Commit, &keys, async |conn, responses| {
                self.make(conn, &batch, definitions, responses, &respond)
                    .await
            });
        let outcomes = outcomes.await?;
        let made = outcomes
            .iter()
            .zip(&batch)
            .filter(|(outcome, _)| matches!(outcome, Ok(Outcome::New(_))));
        self.follow(made.map(|(_, new)| *new)).await;
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.map(|_| ()))
            .collect())
    }

    /// Moves the sequence past the ids that these users brought. It knows no transaction, so it
    /// waits until they stand. Where it fails, ids that are taken are drawn, and drawn again.
    async fn follow(&self, made: impl Iterator<Item = &NewUser>) {
        let brought = made
            .map(|new| new.profile.user_id)
            .filter(|user_id| *user_id < SEQUENCE_END)
            .max();
        let Some(highest) = brought.filter(|user_id| *user_id != 0) else {
            return;
        };
        if let Err(error) = self
            .db
            .run(async |conn| Ok(users::advance_id_sequence(conn, highest).await?))
            .await
        {
            tracing::warn!(
                reason = error.reason().as_str(),
                "failed to advance the user ID sequence"
            );
        }
    }

    /// Creates users, table by table, and reports the result of each. Conflicts are decided in the
    /// order of the users, against the values that are in use. If a concurrent write reserves one
    /// of the values, the transaction is rolled back and retried.
    ///
    /// # Errors
    /// WRITE_CONFLICT if concurrent writes were faster, and every error that prevents all of the
    /// users from being written.
    async fn make<R: Message + Default>(
        &self,
        conn: &mut AsyncPgConnection,
        batch: &[&NewUser],
        definitions: &Fields,
        responses: &mut Responses<'_>,
        respond: &impl Fn(&NewUser, Profile) -> R,
    ) -> Result<Vec<Result<Outcome<Profile, R>>>> {
        let mut decisions = Decisions::begin(conn, batch, self.names, self.clock.now()).await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (place, new) in batch.iter().enumerate() {
            let outcome = match responses.find(place) {
                Err(error) => Err(error),
                Ok(Some(response)) => Ok(Outcome::Stored(response)),
                Ok(None) => decisions.decide(conn, new).await?.map(Outcome::New),
            };
            if let Ok(Outcome::New(made)) = &outcome {
                responses.store(place, Some(made.user_id), || {
                    respond(new, made.clone()).encode_to_vec()
                });
            }
            outcomes.push(outcome);
        }
        decisions.write(conn, definitions).await?;
        Ok(outcomes)
    }

    /// Deletes the user and erases all of its data. The stored response of the deletion belongs to
    /// no user, so it isn't erased.
    ///
    /// # Errors
    /// USER_NOT_FOUND unless `allow_missing`; ETAG_MISMATCH.
    pub async fn delete<R: Message + Default + Clone>(
        &self,
        delete: &DeleteUser,
        definitions: &Fields,
        key: Option<&IdempotencyKey>,
        response: R,
    ) -> Result<R> {
        let end = if delete.validate_only {
            End::DryRun
        } else {
            End::Commit
        };
        let db = self.db.of_user(delete.user_id);
        let write = idempotency::write(&db, end, key, None, async |conn| {
            join_fill(conn, definitions.iter().map(|field| &**field)).await?;
            // Every other write of the user waits for this row lock.
            match profiles::lock(conn, delete.user_id).await? {
                None if delete.allow_missing => {}
                None => return Err(Error::user_not_found(delete.user_id)),
                Some(found)
                    if delete
                        .version
                        .is_some_and(|version| version != Some(found.version)) =>
                {
                    return Err(Error::new(Reason::EtagMismatch));
                }
                Some(_) => users::delete(conn, delete.user_id).await?,
            }
            Ok(response.clone())
        });
        write.await.map(Outcome::into_response)
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
}

impl<'a> Decisions<'a> {
    async fn begin(
        conn: &mut AsyncPgConnection,
        batch: &[&NewUser],
        policy: NamePolicy,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let (given, missing): (Vec<i64>, Vec<i64>) = batch
            .iter()
            .map(|new| new.profile.user_id)
            .partition(|user_id| *user_id != 0);
        let reservations = batch.iter().flat_map(|new| &new.reservations);
        let (kinds, values): (Vec<_>, Vec<_>) = reservations.clone().map(Reservation::pair).unzip();
        Ok(Self {
            reservations: ReleasedNames::find(conn, reservations, now).await?,
            policy,
            now,
            drawn: users::draw_ids(conn, missing.len(), &given)
                .await?
                .into_iter(),
            used: users::find_used(conn, given).await?,
            held: unique_values::find_held(conn, kinds, values).await?,
            made: Vec::with_capacity(batch.len()),
        })
    }

    /// Checks one user; the inner result applies only to this user.
    async fn decide(
        &mut self,
        conn: &mut AsyncPgConnection,
        new: &'a NewUser,
    ) -> Result<Result<Profile>> {
        let yielding = self.find_yielding(conn, new).await?;
        let decided = self.decide_alone(new, &yielding);
        if decided.is_ok() {
            for (holder, channel, key) in &yielding {
                names::take_away(conn, *holder, *channel, key).await?;
            }
        }
        Ok(decided)
    }

    /// The addresses that this user has proved and that other users, who have them unverified, must
    /// release, each with its current user.
    async fn find_yielding(
        &self,
        conn: &mut AsyncPgConnection,
        new: &NewUser,
    ) -> Result<Vec<(i64, Channel, String)>> {
        let mut yielding: Vec<(i64, Channel, String)> = Vec::new();
        for reservation in &new.reservations {
            let channel = Channel::parse(&reservation.kind)
                .filter(|channel| new.account.is_verified(*channel));
            let holder = self
                .held
                .get(&reservation.pair())
                .copied()
                .filter(|holder| *holder != 0);
            let (Some(channel), Some(holder)) = (channel, holder) else {
                continue;
            };
            let taken = yielding
                .iter()
                .filter(|(other, ..)| *other == holder)
                .count() as i64;
            let (policy, now) = (self.policy, self.now);
            if names::find_yielding(
                conn,
                holder,
                channel,
                &reservation.value,
                taken,
                policy,
                now,
            )
            .await?
            {
                yielding.push((holder, channel, reservation.value.clone()));
            }
        }
        Ok(yielding)
    }

    fn decide_alone(
        &mut self,
        new: &'a NewUser,
        yielding: &[(i64, Channel, String)],
    ) -> Result<Profile> {
        let mut profile = new.profile.clone();
        if profile.user_id == 0 {
            profile.user_id = self.drawn.next().expect("valid: one was drawn for each");
        }
        if self.used.contains(&profile.user_id) {
            return Err(Error::new(Reason::UserIdTaken)
                .with_resource("user", "profile.user_id")
                .with_violation("profile.user_id", FieldError::Format, "is, or was, in use"));
        }
        let yields = |reservation: &Reservation| {
            yielding.iter().any(|(_, channel, key)| {
                channel.as_str() == reservation.kind && *key == reservation.value
            })
        };
        let is_lost = |reservation: &&Reservation| {
            let is_held = self.held.contains_key(&reservation.pair()) && !yields(reservation);
            is_held || self.keeps(new, profile.user_id, reservation)
        };
        reject_conflicts(new.reservations.iter().filter(is_lost))?;
        self.used.insert(profile.user_id);
        self.held.extend(
            new.reservations
                .iter()
                .map(|reservation| (reservation.pair(), 0)),
        );
        self.made.push((new, profile.clone()));
        Ok(profile)
    }

    /// Whether the value is reserved for a previous user.
    fn keeps(&self, new: &NewUser, user_id: i64, reservation: &Reservation) -> bool {
        let is_proved = Channel::parse(&reservation.kind)
            .is_some_and(|channel| new.account.is_verified(channel));
        self.reservations.keeps(reservation, user_id, is_proved)
    }

    async fn write(mut self, conn: &mut AsyncPgConnection, definitions: &Fields) -> Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        // Plain inserts: ON CONFLICT costs more than starting again after a conflict, which is
        // rare.
        let profiles = self.made.iter().map(|(_, profile)| profile);
        users::insert_profiles(conn, profiles)
            .await
            .map_err(raced)?;
        let reservations = self.made.iter().flat_map(|(new, profile)| {
            new.reservations.iter().map(|reservation| {
                (
                    profile.user_id,
                    reservation.kind.as_str(),
                    reservation.value.as_str(),
                )
            })
        });
        unique_values::insert(conn, &reservations.collect::<Vec<_>>())
            .await
            .map_err(raced)?;
        // The reservations have waited for concurrent releases, so their reservations are visible
        // now.
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
        let accounts: Vec<_> = self
            .made
            .iter()
            .map(|(new, profile)| (profile.user_id, &new.account))
            .collect();
        users::insert_accounts(conn, &accounts).await?;
        let indexed: Vec<&Field> = definitions
            .iter()
            .map(|field| &**field)
            .filter(|field| field.index.is_maintained())
            .collect();
        let rows = self.made.iter().flat_map(|(_, profile)| {
            let key = (profile.user_id, profile.created_at);
            index_rows(
                indexed.iter().copied(),
                key,
                &profile.custom_fields.fields(),
            )
        });
        fields::insert_values(conn, rows.collect()).await?;
        Ok(())
    }
}

/// What was free when it was looked at is taken by now.
fn raced(error: DieselError) -> Error {
    if is_unique_violation(&error) {
        Error::new(Reason::WriteConflict).with_source(error)
    } else {
        error.into()
    }
}
