//! Tells who is calling, whatever kind of token they show.

use std::{sync::Arc, time::Duration};

use opentelemetry::context::FutureExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Grant, bootstrap::Bootstrap, cache::Cache, jwt::Jwts};
use crate::{
    domain::{caller::Caller, tokens::Tokens},
    error::{Error, Reason, Result},
    model::{
        scope::Scope,
        token::{self, Revoked, Subject, TokenHash},
    },
};

/// The service that a bootstrap token speaks for.
const BOOTSTRAP: &str = "bootstrap";

/// Look-ups in the database at one time: bad tokens, however many there are, leave its connections to good ones.
const LOOK_UPS: usize = 4;

/// How long a look-up waits for its turn.
const TURN: Duration = Duration::from_secs(1);

/// All kinds of tokens, behind one question.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Tokens,
    jwts: Jwts,
    bootstrap: Option<(Bootstrap, Arc<Caller>)>,
    cache: Cache,
    look_ups: Arc<Semaphore>,
}

impl Authenticator {
    pub fn new(tokens: Tokens, jwts: Jwts, bootstrap: Option<Bootstrap>, cache: Cache) -> Self {
        let first = Caller::new(Subject::Service(BOOTSTRAP.to_owned()), Scope::ALL.to_vec());
        let bootstrap = bootstrap.map(|bootstrap| (bootstrap, first.into()));
        Self { tokens, jwts, bootstrap, cache, look_ups: Arc::new(Semaphore::new(LOOK_UPS)) }
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// TOKEN_INVALID, TOKEN_REVOKED, TOKEN_EXPIRED; AUTH_BACKEND_UNAVAILABLE where it cannot be checked.
    pub async fn verify(&self, secret: &str) -> Result<Arc<Caller>> {
        let hash = token::hash(secret);
        if let Some((bootstrap, caller)) = &self.bootstrap
            && bootstrap.matches(&hash)
        {
            return Ok(caller.clone());
        }
        let verdict = match self.cache.kept(&hash).await {
            Some(verdict) => verdict,
            None => self.judge(hash, secret.to_owned()).await,
        };
        Ok(verdict?.caller.clone())
    }

    /// Looks a token up in a task of its own: all who ask together wait for it, and whoever leaves takes it from none.
    async fn judge(&self, hash: TokenHash, secret: String) -> Result<Arc<Grant>> {
        let this = self.clone();
        let judging = async move {
            let look_up = async || {
                let mut grant = this.look_up(&secret).await?;
                Arc::make_mut(&mut grant.caller).token = Some(hash);
                Ok(grant)
            };
            this.cache.get(hash, look_up).await
        };
        tokio::spawn(judging.with_current_context()).await.map_err(Error::internal)?
    }

    async fn look_up(&self, secret: &str) -> Result<Grant> {
        if !self.jwts.take(secret) {
            let _turn = self.turn().await?;
            return self.tokens.verify(secret).await;
        }
        let grant = self.jwts.verify(secret).await?;
        let _turn = self.turn().await?;
        if let Some(user_id) = grant.caller.user()
            && self.tokens.is_revoked(user_id, grant.issued_at, token::hash(secret)).await?
        {
            return Err(Error::new(Reason::TokenRevoked));
        }
        Ok(grant)
    }

    /// Waits for its turn as long as for a connection: where look-ups wait, the database does not answer.
    async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        let turn = tokio::time::timeout(TURN, self.look_ups.acquire()).await;
        let turn = turn.map_err(|_| Error::new(Reason::AuthBackendUnavailable))?;
        Ok(turn.expect("valid: never closed"))
    }

    /// Takes in what another replica, or this one, told of revocations.
    pub fn hear(&self, revoked: Revoked) {
        match revoked {
            Revoked::User(user_id) => self.cache.invalidate_user(user_id),
            Revoked::Token(hash) => self.cache.invalidate(hash),
        }
    }

    /// Forgets every verdict: revocations may have been told that were not heard.
    pub fn forget(&self) {
        self.cache.clear();
    }
}
