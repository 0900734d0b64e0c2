//! Making, importing and erasing users.

use diesel_async::AsyncPgConnection;

use crate::{
    clock::Clock,
    domain::{
        db::{Db, End},
        fields::join_fill,
        once::{Once, Outcome},
        profiles::{index_values, take},
    },
    error::{Error, Reason, Result},
    model::{field::Fields, profile::Profile},
    store::{
        fields,
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
    /// Values that must be free: path in the request, kind, value.
    pub claims: Vec<(String, String, String)>,
}

/// Use cases of whole users.
#[derive(Clone)]
pub struct Users {
    db: Db,
    clock: Clock,
}

impl Users {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
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
        once: Option<&Once>,
        reply: impl Fn(&Profile) -> Vec<u8> + Sync,
    ) -> Result<Outcome<Profile>> {
        let end = if validate_only { End::RollBack } else { End::Commit };
        self.db
            .transaction(end, async |conn| {
                if let Some(once) = once
                    && let Some(kept) = once.begin(conn).await?
                {
                    return Ok(Outcome::Kept(kept));
                }
                let mut made = insert(conn, new, definitions).await?;
                if validate_only && new.profile.user_id == 0 {
                    made.user_id = 0;
                }
                if let Some(once) = once {
                    once.end(conn, Some(made.user_id), reply(&made)).await?;
                }
                Ok(Outcome::New(made))
            })
            .await
    }

    /// Makes a batch of users in one transaction, each by itself: one that fails leaves the others alone.
    pub async fn import(
        &self,
        batch: &[(NewUser, Option<Once>)],
        definitions: &Fields,
        reply: impl Fn(&Profile) -> Vec<u8> + Sync,
    ) -> Result<Vec<Result<()>>> {
        self.db
            .transaction(End::Commit, async |conn| {
                let mut outcomes = Vec::with_capacity(batch.len());
                for (new, once) in batch {
                    let outcome = import_one(conn, new, once.as_ref(), definitions, &reply).await;
                    outcomes.push(match outcome {
                        // What broke the transaction breaks the batch; the rest is this user's own fault.
                        Err(error)
                            if matches!(
                                error.reason(),
                                Reason::Internal | Reason::WriteConflict | Reason::DatabaseUnavailable
                            ) =>
                        {
                            return Err(error);
                        }
                        outcome => outcome,
                    });
                }
                Ok(outcomes)
            })
            .await
    }

    /// Erases the user and all that belongs to it.
    ///
    /// # Errors
    /// USER_NOT_FOUND.
    pub async fn delete(&self, user_id: i64, definitions: &Fields) -> Result<()> {
        let gone = self
            .db
            .transaction(End::Commit, async |conn| {
                join_fill(conn, definitions.iter().map(|field| &**field)).await?;
                Ok(users::delete(conn, user_id).await?)
            })
            .await?;
        if gone { Ok(()) } else { Err(Error::user_not_found(user_id)) }
    }

    /// The present moment, for what a new user is stamped with.
    pub fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now()
    }
}

async fn import_one(
    conn: &mut AsyncPgConnection,
    new: &NewUser,
    once: Option<&Once>,
    definitions: &Fields,
    reply: &impl Fn(&Profile) -> Vec<u8>,
) -> Result<()> {
    if let Some(once) = once
        && once.begin(conn).await?.is_some()
    {
        return Ok(());
    }
    let made = insert(conn, new, definitions).await?;
    if let Some(once) = once {
        once.end(conn, Some(made.user_id), reply(&made)).await?;
    }
    Ok(())
}

/// Claims first: a value that is taken then leaves nothing else behind, and what was claimed is given back.
async fn insert(conn: &mut AsyncPgConnection, new: &NewUser, definitions: &Fields) -> Result<Profile> {
    let mut profile = new.profile.clone();
    let taken = || {
        Error::new(Reason::UserIdTaken).with_resource("user.v1.User", "profile.user_id").with_violation(
            "profile.user_id",
            crate::error::Fault::Format,
            "is or was in use",
        )
    };
    if profile.user_id != 0 {
        if users::is_used(conn, profile.user_id).await? {
            return Err(taken());
        }
        if profile.user_id < SEQUENCE_END {
            users::pass(conn, profile.user_id).await?;
        }
        if !users::insert_profile(conn, &profile).await? {
            return Err(taken());
        }
    } else {
        loop {
            profile.user_id = users::next_id(conn).await?;
            if !users::is_used(conn, profile.user_id).await? && users::insert_profile(conn, &profile).await? {
                break;
            }
        }
    }
    if let Err(error) = take(conn, profile.user_id, new.claims.clone()).await {
        users::undo_insert(conn, profile.user_id).await?;
        return Err(error);
    }
    users::insert_account(conn, profile.user_id, &new.account).await?;
    let indexed = definitions.iter().map(|field| &**field).filter(|field| field.index.is_maintained());
    let values = index_values(indexed, &profile.custom_fields.fields());
    fields::insert_values(conn, profile.user_id, profile.created_at, values).await?;
    Ok(profile)
}
