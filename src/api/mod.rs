//! Every RPC once, between the transports and the domain: authorization, a stored response, the
//! request's violations, the work, the reply. Whatever transport a call came through, it meets
//! this.

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
        idempotency::{Idempotency, IdempotencyKey},
        passwords::Passwords,
        profiles::Profiles,
        tokens::Tokens,
        users::Users,
    },
    error::{Error, FieldError, Result},
    model::field::Fields as Definitions,
    model::{page::PageLimits, password::Lengths, username::UsernameRules},
};

/// All use cases, as the transports call them.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// The use cases, and what the transports' own rules need.
pub struct Parts {
    pub db: Db,
    pub clock: Clock,
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
    pub idempotency: Idempotency,
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

    /// The definitions of custom fields, for a transport whose clients write values in another
    /// form.
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

    /// The idempotency key of a request that isn't a dry run.
    fn idempotency_key<M: Message + Name>(
        &self,
        caller: &Caller,
        rpc: &'static str,
        request_id: &str,
        request: &M,
    ) -> Option<IdempotencyKey> {
        self.0
            .idempotency
            .key(caller, rpc, request_id, || canonical(request))
    }
}

/// Checks the required ID of a token or a delivery. In proto3, 0 is an ID that is missing.
fn check_id(path: &'static str, id: i64) -> Result<()> {
    match id {
        0 => Err(Error::invalid(path, FieldError::Required, "is required")),
        ..0 => Err(Error::invalid(
            path,
            FieldError::Range,
            "must not be negative",
        )),
        1.. => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_zero_is_missing() {
        let error = |id| check_id("token_id", id).unwrap_err().violations()[0].clone();

        assert_eq!(
            (error(0).field.as_str(), error(0).error),
            ("token_id", FieldError::Required)
        );
        assert_eq!(error(-1).error, FieldError::Range);
        assert!(check_id("token_id", 1).is_ok());
    }
}
