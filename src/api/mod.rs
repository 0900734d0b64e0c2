//! Every RPC once, between the doors and the domain: permission, a kept reply, the request's faults, the work, the
//! reply. Whatever door a call came through, it meets this.

mod accounts;
mod bulk;
mod codes;
mod fields;
mod profiles;
mod tokens;
mod users;

pub use users::BATCH;

use std::sync::Arc;

use crate::{
    clock::Clock,
    domain::{
        bulk::Bulk, caller::Caller, db::Db, fields::Fields, keys::Keys, once::Once, once::Outcome, profiles::Profiles,
        tokens::Tokens, users::Users,
    },
    error::Result,
    model::field::Fields as Definitions,
};

/// All use cases, as the doors call them.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

pub(crate) struct Parts {
    pub db: Db,
    pub clock: Clock,
    pub keys: Keys,
    pub fields: Fields,
    pub profiles: Profiles,
    pub bulk: Bulk,
    pub users: Users,
    pub tokens: Tokens,
}

impl Api {
    /// Over one database.
    pub fn new(db: Db, clock: Clock, keys: Keys, fields: Fields) -> Self {
        Self(Arc::new(Parts {
            fields,
            profiles: Profiles::new(db.clone(), clock.clone()),
            bulk: Bulk::new(db.clone(), clock.clone()),
            users: Users::new(db.clone(), clock.clone()),
            tokens: Tokens::new(db.clone(), clock.clone()),
            db,
            clock,
            keys,
        }))
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// As [`Tokens::verify`].
    pub async fn verify(&self, token: &str) -> Result<Caller> {
        self.0.tokens.verify(token).await
    }

    /// Issuing of tokens, for `dev`, which makes its own.
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The definitions of custom fields, for a door whose clients write values in another form.
    ///
    /// # Errors
    /// The database's.
    pub async fn definitions(&self) -> Result<Arc<Definitions>> {
        self.0.fields.current().await
    }

    /// The database, for health.
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    fn once(&self, caller: &Caller, rpc: &'static str, request_id: &str, body: &impl prost::Message) -> Option<Once> {
        if request_id.is_empty() {
            return None;
        }
        Once::of(caller, rpc, request_id, body.encode_to_vec(), &self.0.keys, &self.0.clock)
    }

    /// The kept reply of a request that was done before.
    async fn kept<R: prost::Message + Default>(&self, once: Option<&Once>) -> Result<Option<R>> {
        let Some(once) = once else { return Ok(None) };
        once.kept(&self.0.db).await?.map(decode).transpose()
    }
}

fn decode<R: prost::Message + Default>(bytes: Vec<u8>) -> Result<R> {
    R::decode(bytes.as_slice()).map_err(crate::error::Error::internal)
}

/// The reply of a write, made now or kept from the first time.
fn reply<T, R: prost::Message + Default>(outcome: Outcome<T>, make: impl FnOnce(T) -> R) -> Result<R> {
    match outcome {
        Outcome::New(done) => Ok(make(done)),
        Outcome::Kept(bytes) => decode(bytes),
    }
}
