//! CreateUser, ImportUsers and DeleteUser, and the fields that users may have.

use prost::Message;

use super::{Api, reply};
use crate::{
    domain::{caller::Caller, once::Once, users::NewUser},
    error::{Error, Fault, Result},
    model::profile::{Profile, ReadMask},
    wire::{field, json, pb, profile, user},
};

/// Users of one batch of an import.
pub const BATCH: usize = 500;

/// What an import is at: users that were read, and those that failed to be.
#[derive(Default)]
pub struct Import {
    next_index: i64,
    good: Vec<(i64, NewUser, Option<Once>)>,
    failures: Vec<pb::ImportFailure>,
}

impl Api {
    /// Makes a user.
    pub async fn create_user(&self, caller: &Caller, request: pb::CreateUserRequest) -> Result<pb::CreateUserResponse> {
        let once = match request.validate_only {
            true => None,
            false => self.once(caller, "CreateUser", &request.request_id, &request),
        };
        if let Some(kept) = self.kept(once.as_ref()).await? {
            return Ok(kept);
        }
        let custom = request.profile.as_ref().and_then(|profile| profile.custom_fields.as_ref());
        let names = custom.into_iter().flat_map(|custom| custom.fields.keys().map(String::as_str));
        let fields = self.0.fields.knowing(names).await?;
        let validate_only = request.validate_only;
        let new = user::new_user(request, &fields, self.0.users.now())?;
        let kept = |profile: &Profile| created(profile).encode_to_vec();
        let outcome = self.0.users.create(&new, &fields, validate_only, once.as_ref(), kept).await?;
        reply(outcome, |profile| created(&profile))
    }

    /// Takes the users of a batch, committed together; each that fails is told by its place in the stream.
    ///
    /// # Errors
    /// What kept the whole batch from being written; none of it stands then.
    pub async fn import_batch(
        &self,
        caller: &Caller,
        import: &mut Import,
        batch: Vec<Option<pb::CreateUserRequest>>,
    ) -> Result<pb::ImportUsersResponse> {
        let fields = self.0.fields.reload().await?;
        for request in batch {
            let index = import.next_index;
            import.next_index += 1;
            let request = request.unwrap_or_default();
            let once = self.once(caller, "CreateUser", &request.request_id, &request);
            let read = match request.validate_only {
                true => Err(Error::invalid("validate_only", Fault::Format, "is not possible in an import")),
                false => user::new_user(request, &fields, self.0.users.now()),
            };
            match read {
                Ok(new) => import.good.push((index, new, once)),
                Err(error) => import.failures.push(failure(index, &error)),
            }
        }
        let (places, users): (Vec<i64>, Vec<_>) =
            std::mem::take(&mut import.good).into_iter().map(|(index, new, once)| (index, (new, once))).unzip();
        let outcomes =
            self.0.users.import(&users, &fields, |profile| created(profile).encode_to_vec()).await?;
        let mut created = 0;
        let mut failures = std::mem::take(&mut import.failures);
        for (index, outcome) in places.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => created += 1,
                Err(error) => failures.push(failure(index, &error)),
            }
        }
        failures.sort_by_key(|failure| failure.index);
        let failed = failures.len() as i64;
        Ok(pb::ImportUsersResponse { created, failures, failed, next_index: import.next_index })
    }

    /// Erases a user.
    pub async fn delete_user(&self, _: &Caller, request: pb::DeleteUserRequest) -> Result<pb::DeleteUserResponse> {
        match request.user_id {
            0 => return Err(Error::invalid("user_id", Fault::Required, "must name a user")),
            id if id < 0 => return Err(Error::invalid("user_id", Fault::Range, "must not be negative")),
            _ => self.0.users.delete(request.user_id).await?,
        }
        Ok(pb::DeleteUserResponse {})
    }

    /// Makes a field.
    pub async fn create_field(&self, _: &Caller, request: pb::CreateFieldRequest) -> Result<pb::CreateFieldResponse> {
        let made = self.0.fields.create(field::new_field(request.field)?).await?;
        Ok(pb::CreateFieldResponse { field: Some(field::message(&made)) })
    }

    /// All fields.
    pub async fn list_fields(&self, _: &Caller, _: pb::ListFieldsRequest) -> Result<pb::ListFieldsResponse> {
        let fields = self.0.fields.list().await?;
        Ok(pb::ListFieldsResponse { fields: fields.iter().map(field::message).collect() })
    }
}

fn created(made: &Profile) -> pb::CreateUserResponse {
    pb::CreateUserResponse { profile: Some(profile::message(made, None, &ReadMask::default_fields())) }
}

fn failure(index: i64, error: &Error) -> pb::ImportFailure {
    let field = error.violations().first().map(|violation| violation.field.clone());
    pb::ImportFailure {
        index,
        reason: error.reason().as_str().to_owned(),
        field: field.unwrap_or_default(),
        message: error.to_string(),
    }
}

/// A profile's custom fields as JSON, for people at a terminal.
pub fn custom_json(profile: &pb::Profile) -> serde_json::Value {
    profile.custom_fields.clone().map(json::object).unwrap_or_default().into()
}
