//! Every RPC once, between the transports and the domain: authorization, a stored response, the request's violations, the work, the
//! reply. Whatever transport a call came through, it meets this.

mod accounts;
mod bulk;
mod codes;
mod fields;
mod profiles;
mod tokens;
mod users;

pub use users::{Batch, MAX_LINE};

use std::sync::Arc;

use prost::{Message, Name};

use crate::{
    auth::authenticator::Authenticator,
    clock::Clock,
    convert::fingerprint::canonical,
    domain::{
        accounts::Accounts,
        bulk::Bulk,
        caller::Caller,
        codes::Codes,
        db::Db,
        deliveries::Deliveries,
        fields::Fields,
        hash_kinds::HashKinds,
        idempotency::{IdempotencyKey, InFlightGuard, InFlightRequests, Outcome, Quota},
        passwords::Passwords,
        profiles::Profiles,
        stored_bytes::StoredBytes,
        tokens::Tokens,
        users::Users,
    },
    error::{Error, FieldError, Result},
    model::field::Fields as Definitions,
    model::keys::Keys,
    model::{page::PageLimits, password::Lengths, username::UsernameRules},
};

/// All use cases, as the transports call them.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// The use cases, and what the transports' own rules need.
pub struct Parts {
    pub db: Db,
    pub clock: Clock,
    pub keys: Keys,
    pub fields: Fields,
    pub profiles: Profiles,
    pub accounts: Accounts,
    pub bulk: Bulk,
    pub codes: Codes,
    pub deliveries: Deliveries,
    pub passwords: Passwords,
    pub hash_kinds: HashKinds,
    pub password_lengths: Lengths,
    pub pages: PageLimits,
    pub users: Users,
    pub usernames: UsernameRules,
    pub tokens: Tokens,
    pub authenticator: Authenticator,
    pub running: InFlightRequests,
    pub stored: StoredBytes,
    pub stored_quotas: StoredQuotas,
}

/// The bytes of responses that one caller may have stored per hour, for its request ids.
#[derive(Clone, Copy, Debug)]
pub struct StoredQuotas {
    /// Of a service.
    pub service: u64,
    /// Of a user.
    pub user: u64,
}

impl Api {
    /// Over one database.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// As [`Authenticator::verify`].
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>> {
        self.0.authenticator.verify(token).await
    }

    /// Issuing of tokens, for `dev`, which makes its own.
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The definitions of custom fields, for a transport whose clients write values in another form.
    ///
    /// # Errors
    /// The database's.
    pub async fn definitions(&self) -> Result<Arc<Definitions>> {
        self.0.fields.current().await
    }

    /// Messages that failed, for operators.
    pub fn deliveries(&self) -> &Deliveries {
        &self.0.deliveries
    }

    /// The database, for health.
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    fn once<M: Message + Name>(
        &self,
        caller: &Caller,
        rpc: &'static str,
        request_id: &str,
        request: &M,
    ) -> Option<IdempotencyKey> {
        if request_id.is_empty() {
            return None;
        }
        let Parts { keys, clock, stored, stored_quotas, .. } = &*self.0;
        let bytes_per_hour = if caller.user().is_some() { stored_quotas.user } else { stored_quotas.service };
        let quota = Quota { stored: stored.clone(), bytes_per_hour };
        IdempotencyKey::of(caller, rpc, request_id, canonical(request), keys, clock, quota)
    }

    /// Responds to a request that may have an idempotency key: with the stored response where the same request was done
    /// before or meanwhile, else with that of `work`, which stores its response in its own transaction.
    ///
    /// # Errors
    /// REQUEST_ID_REUSED where the key belongs to a different request, and those of `work`.
    async fn idempotent<R: Message + Default>(
        &self,
        once: Option<&IdempotencyKey>,
        work: impl Future<Output = Result<R>>,
    ) -> Result<R> {
        if let Some(stored) = self.stored(once).await? {
            return Ok(stored);
        }
        self.or_stored(once, work.await).await
    }

    /// Notes that a request is under way; `None` where it bears no id.
    fn enter(&self, once: Option<&IdempotencyKey>) -> Result<Option<InFlightGuard>> {
        once.map(|once| self.0.running.enter(once)).transpose()
    }

    /// The kept reply, where the same request that came at the same time was done meanwhile; else the error as it is.
    async fn or_stored<R: Message + Default>(&self, once: Option<&IdempotencyKey>, done: Result<R>) -> Result<R> {
        match done {
            Err(error) if once.is_some() => match self.stored(once).await {
                Ok(Some(kept)) => Ok(kept),
                Ok(None) | Err(_) => Err(error),
            },
            done => done,
        }
    }

    /// The kept reply of a request that was done before.
    async fn stored<R: Message + Default>(&self, once: Option<&IdempotencyKey>) -> Result<Option<R>> {
        let Some(once) = once else { return Ok(None) };
        once.stored(&self.0.db).await?.map(decode).transpose()
    }
}

/// Checks the required ID of a token or a delivery. In proto3, 0 is an ID that is missing.
fn check_id(path: &'static str, id: i64) -> Result<()> {
    match id {
        0 => Err(Error::invalid(path, FieldError::Required, "is required")),
        ..0 => Err(Error::invalid(path, FieldError::Range, "must not be negative")),
        1.. => Ok(()),
    }
}

fn decode<R: Message + Default>(bytes: Vec<u8>) -> Result<R> {
    R::decode(bytes.as_slice()).map_err(Error::internal)
}

/// The reply of a write, made now or kept from the first time.
fn reply<T, R: Message + Default>(outcome: Outcome<T>, make: impl FnOnce(T) -> R) -> Result<R> {
    match outcome {
        Outcome::New(done) => Ok(make(done)),
        Outcome::Stored(bytes) => decode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_zero_is_missing() {
        let error = |id| check_id("token_id", id).unwrap_err().violations()[0].clone();

        assert_eq!((error(0).field.as_str(), error(0).error), ("token_id", FieldError::Required));
        assert_eq!(error(-1).error, FieldError::Range);
        assert!(check_id("token_id", 1).is_ok());
    }
}
