//! CreateUser, ImportUsers and DeleteUser.

use futures_util::{StreamExt, stream};

use super::Api;
use crate::{
    convert::{
        json, pb, profile,
        user::{self, Secrets},
    },
    domain::{
        accounts::{Hashes, NewSecrets},
        caller::Caller,
        idempotency::{self, IdempotencyKey},
    },
    error::{Error, FieldError, Kind, Reason, Result},
    model::{
        account::{Account, AccountView, Normalized},
        field::Fields,
        profile::{AccountMask, Profile, ReadMask},
        token::Revoked,
        user::NewUser,
    },
};

/// Most users of one batch of an import.
const BATCH: usize = 500;
/// Bytes of users, as they came, with which a batch is full too.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Most bytes of a user's line in an import.
pub const MAX_LINE: usize = 1024 * 1024;
/// How often a batch is read where fields change meanwhile.
const READ_TRIES: usize = 3;
/// Users of an import whose passwords wait to be hashed at the same time.
const HASHED: usize = 16;

/// Users of an import that are written together, or what was wrong with their form.
#[derive(Clone, Default)]
pub struct Batch {
    /// Each with its position among the items of the batch.
    users: Vec<(usize, Result<pb::CreateUserRequest>)>,
    items: usize,
    bytes: usize,
}

impl Batch {
    /// Adds a user who came in so many bytes.
    pub fn push(&mut self, user: Result<pb::CreateUserRequest>, bytes: usize) {
        self.users.push((self.items, user));
        self.items += 1;
        self.bytes += bytes;
    }

    /// Counts a blank line, so that the index of a user is that of its line.
    pub fn skip_line(&mut self) {
        self.items += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Whether it is to be written before more are added.
    pub fn is_full(&self) -> bool {
        self.items >= BATCH || self.bytes >= BATCH_BYTES
    }
}

impl Api {
    /// Makes a user.
    pub async fn create_user(
        &self,
        caller: &Caller,
        request: pb::CreateUserRequest,
    ) -> Result<pb::CreateUserResponse> {
        let key = if request.validate_only {
            None
        } else {
            self.idempotency_key(caller, "CreateUser", &request.request_id, &request)
        };
        let create = async {
            let custom = request
                .profile
                .as_ref()
                .and_then(|profile| profile.custom_fields.clone());
            let custom = custom.map(json::object).unwrap_or_default();
            let fields = self
                .0
                .fields
                .load_including(custom.keys().map(String::as_str))
                .await?;
            let validate_only = request.validate_only;
            let now = self.0.clock.now();
            let (mut new, secrets) = user::new_user(
                request,
                &fields,
                &self.0.usernames,
                now,
                self.0.password_lengths,
            )?;
            let (has_password, has_wallet_password) = secrets.are_set();
            self.hash_secrets(caller, &mut new, secrets, validate_only)
                .await?;
            let respond = |new: &NewUser, profile: Profile| {
                // A dry run hashes nothing.
                let account = new.account.account(profile.user_id);
                created(
                    profile,
                    Account {
                        has_password,
                        has_wallet_password,
                        ..account
                    },
                    &fields,
                )
            };
            self.0
                .users
                .create(&new, &fields, validate_only, key.as_ref(), respond)
                .await
        };
        idempotency::respond(key.as_ref(), create).await
    }

    /// Takes the users of a batch, committed together; the first has the place `index` in its
    /// stream, by which each that fails is reported.
    ///
    /// # Errors
    /// What kept the whole batch from being written; nothing is stored then.
    pub async fn import_batch(
        &self,
        caller: &Caller,
        index: i64,
        batch: Batch,
    ) -> Result<pb::ImportUsersResponse> {
        let next_index = index + batch.items as i64;
        let mut tries = 0;
        let (fields, read) = loop {
            let fields = self.0.fields.reload().await?;
            let read = self.read_batch(caller, &batch, &fields).await?;
            // To hash passwords takes longer than a change of fields waits for those who write by
            // the old ones.
            if self.0.fields.current().await? == fields {
                break (fields, read);
            }
            tries += 1;
            if tries == READ_TRIES {
                return Err(Error::new(Reason::WriteConflict));
            }
        };
        let (mut users, mut places, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for ((offset, _), user) in batch.users.iter().zip(read) {
            let place = index + *offset as i64;
            match user {
                Ok(user) => {
                    users.push(user);
                    places.push(place);
                }
                Err(error) => failures.push(failure(place, &error)),
            }
        }
        let respond = |new: &NewUser, profile: Profile| {
            let account = new.account.account(profile.user_id);
            created(profile, account, &fields)
        };
        let outcomes = self.0.users.import(&users, &fields, respond).await?;
        for (place, outcome) in places.into_iter().zip(outcomes) {
            if let Err(error) = outcome {
                failures.push(failure(place, &error));
            }
        }
        failures.sort_by_key(|failure| failure.index);
        let failed = failures.len() as i64;
        let created = batch.users.len() as i64 - failed;
        Ok(pb::ImportUsersResponse {
            created,
            failures,
            failed,
            next_index,
        })
    }

    /// Reads the users of a batch, each by itself.
    ///
    /// # Errors
    /// Those that have nothing to do with a user.
    async fn read_batch(
        &self,
        caller: &Caller,
        batch: &Batch,
        fields: &Fields,
    ) -> Result<Vec<Result<(NewUser, Option<IdempotencyKey>)>>> {
        let users: Vec<_> = batch.users.iter().map(|(_, user)| user.clone()).collect();
        let requests = stream::iter(users);
        let mut reading = requests
            .map(|request| self.read_imported(caller, request, fields))
            .buffered(HASHED);
        let mut read = Vec::with_capacity(batch.users.len());
        while let Some(user) = reading.next().await {
            match user {
                Err(error) if error.kind() == Kind::Unavailable => return Err(error),
                user => read.push(user),
            }
        }
        Ok(read)
    }

    async fn read_imported(
        &self,
        caller: &Caller,
        request: Result<pb::CreateUserRequest>,
        fields: &Fields,
    ) -> Result<(NewUser, Option<IdempotencyKey>)> {
        // A batch lets other calls have their turn.
        tokio::task::consume_budget().await;
        let request = request?;
        if request.validate_only {
            return Err(Error::invalid(
                "validate_only",
                FieldError::Format,
                "isn't supported in an import",
            ));
        }
        let key = self.idempotency_key(caller, "CreateUser", &request.request_id, &request);
        let now = self.0.clock.now();
        let (mut new, secrets) = user::new_user(
            request,
            fields,
            &self.0.usernames,
            now,
            self.0.password_lengths,
        )?;
        self.hash_secrets(caller, &mut new, secrets, false).await?;
        Ok((new, key))
    }

    /// Checks the passwords of a new user, and puts their hashes into the account.
    async fn hash_secrets(
        &self,
        caller: &Caller,
        new: &mut NewUser,
        secrets: Secrets,
        is_trial: bool,
    ) -> Result<()> {
        let shown =
            |folded: &Option<Normalized>| folded.as_ref().map(|folded| folded.shown.clone());
        let (username, email) = (shown(&new.account.username), shown(&new.account.email));
        let plain = NewSecrets {
            password: secrets.password.as_ref().map(|secret| ("password", secret)),
            wallet_password: secrets
                .wallet_password
                .as_ref()
                .map(|secret| ("wallet_password", secret)),
        };
        plain
            .check(
                &self.0.passwords,
                caller,
                username.as_deref(),
                email.as_deref(),
            )
            .await?;
        let hashes = if is_trial {
            Hashes::default()
        } else {
            plain.hash(&self.0.passwords, caller).await?
        };
        let migrated = [&secrets.password_hash, &secrets.wallet_password_hash]
            .into_iter()
            .flatten();
        for hash in migrated.filter(|_| !is_trial) {
            self.0.hash_kinds.note(hash).await?;
        }
        new.account.password_hash = hashes.password.or(secrets.password_hash);
        new.account.wallet_password_hash = hashes.wallet_password.or(secrets.wallet_password_hash);
        Ok(())
    }

    /// Deletes a user and erases all of its data.
    ///
    /// # Errors
    /// USER_NOT_FOUND unless `allow_missing`, ETAG_MISMATCH, and those of a `request_id`.
    pub async fn delete_user(
        &self,
        caller: &Caller,
        request: pb::DeleteUserRequest,
    ) -> Result<pb::DeleteUserResponse> {
        let key = if request.validate_only {
            None
        } else {
            self.idempotency_key(caller, "DeleteUser", &request.request_id, &request)
        };
        let delete = async {
            let delete = user::deletion(&request)?;
            let fields = self.0.fields.current().await?;
            let response = self
                .0
                .users
                .delete(&delete, &fields, key.as_ref(), pb::DeleteUserResponse {})
                .await?;
            if !delete.validate_only {
                self.0
                    .authenticator
                    .apply_revocation(Revoked::User(delete.user_id));
            }
            Ok(response)
        };
        idempotency::respond(key.as_ref(), delete).await
    }
}

fn created(made: Profile, account: Account, fields: &Fields) -> pb::CreateUserResponse {
    let profile = profile::message(made, None, &ReadMask::default_fields(), fields);
    let view = AccountView {
        account,
        connections: Vec::new(),
    };
    pb::CreateUserResponse {
        profile: Some(profile),
        account: profile::account_message(&view, &AccountMask::All),
    }
}

fn failure(index: i64, error: &Error) -> pb::ImportFailure {
    let field = error
        .violations()
        .first()
        .map(|violation| violation.field.clone());
    pb::ImportFailure {
        index,
        reason: error.reason().as_str().to_owned(),
        field: field.unwrap_or_default(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_of_users_or_of_bytes() {
        let user = || Ok(pb::CreateUserRequest::default());
        let (mut many, mut large) = (Batch::default(), Batch::default());

        (1..BATCH).for_each(|_| many.push(user(), 1));
        large.push(user(), BATCH_BYTES - 1);
        assert!(!many.is_full() && !large.is_full());
        many.push(user(), 1);
        large.push(user(), 1);
        assert!(many.is_full() && large.is_full());
    }
}
