//! Tells who is calling, whatever kind of token they show.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Grant, bootstrap::Bootstrap, cache::Cache, jwt::Jwts};
use crate::{
    domain::caller::{Caller, Subject},
    domain::tokens::Tokens,
    error::{Error, Reason, Result},
    model::{scope::Scope, token},
};

/// The service that a bootstrap token speaks for.
const BOOTSTRAP: &str = "bootstrap";

/// Look-ups in the database at one time: bad tokens, however many there are, leave its connections to good ones.
const LOOK_UPS: usize = 4;

/// All kinds of tokens, behind one question.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Tokens,
    jwts: Jwts,
    bootstrap: Option<Bootstrap>,
    cache: Cache,
    look_ups: Arc<Semaphore>,
}

impl Authenticator {
    pub fn new(tokens: Tokens, jwts: Jwts, bootstrap: Option<Bootstrap>, cache: Cache) -> Self {
        Self { tokens, jwts, bootstrap, cache, look_ups: Arc::new(Semaphore::new(LOOK_UPS)) }
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// TOKEN_INVALID, TOKEN_REVOKED, TOKEN_EXPIRED; AUTH_BACKEND_UNAVAILABLE where it cannot be checked.
    pub async fn verify(&self, secret: &str) -> Result<Caller> {
        let hash = token::hash(secret);
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.matches(&hash)) {
            return Ok(Caller::new(Subject::Service(BOOTSTRAP.to_owned()), Scope::ALL.to_vec()));
        }
        let grant = self.cache.get(hash, || self.look_up(secret)).await?;
        Ok(Caller { token: Some(hash), ..grant.caller.clone() })
    }

    async fn look_up(&self, secret: &str) -> Result<Grant> {
        if !self.jwts.take(secret) {
            let _turn = self.turn().await;
            return self.tokens.verify(secret).await;
        }
        let grant = self.jwts.verify(secret).await?;
        let _turn = self.turn().await;
        if let Some(user_id) = grant.caller.user()
            && self.tokens.is_revoked(user_id, grant.issued_at, token::hash(secret)).await?
        {
            return Err(Error::new(Reason::TokenRevoked));
        }
        Ok(grant)
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.look_ups.acquire().await.expect("valid: never closed")
    }

    /// Takes in what another replica, or this one, told of revocations: a token's hash in hex, or `user:` and an id.
    pub fn hear(&self, what: &str) {
        match what.strip_prefix("user:").map(str::parse) {
            Some(Ok(user_id)) => self.cache.invalidate_user(user_id),
            Some(Err(_)) => self.cache.clear(),
            None => match token::parse_hash(what) {
                Some(hash) => self.cache.invalidate(hash),
                None => self.cache.clear(),
            },
        }
    }

    /// Forgets every verdict: revocations may have been told that were not heard.
    pub fn forget(&self) {
        self.cache.clear();
    }
}
