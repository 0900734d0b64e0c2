//! Tells who is calling, whatever kind of token they show.

use std::{future::Future, sync::Arc, time::Duration};

use opentelemetry::context::FutureExt;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Grant,
    bootstrap::Bootstrap,
    cache::Cache,
    jwt::{Jwts, Verified},
};
use crate::{
    domain::{caller::Caller, tokens::Tokens},
    error::{Error, Reason, Result},
    model::{
        scope::Scope,
        token::{self, BOOTSTRAP, Revoked, Subject, TokenHash},
    },
};

/// Look-ups in the database at one time: bad tokens, however many there are, leave its connections
/// to good ones.
const LOOK_UPS: usize = 4;

/// Look-ups that wait for their turn at one time, as many as there may be calls.
const WAITING: usize = 512;

/// How long a look-up waits for its turn.
const TURN: Duration = Duration::from_secs(1);

/// How long it may take then.
const LOOK_UP: Duration = Duration::from_secs(5);

/// All kinds of tokens, behind one question.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Tokens,
    jwts: Jwts,
    bootstrap: Option<(Bootstrap, Arc<Caller>)>,
    cache: Cache,
    look_ups: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

impl Authenticator {
    pub fn new(tokens: Tokens, jwts: Jwts, bootstrap: Option<Bootstrap>, cache: Cache) -> Self {
        let first = Caller::new(Subject::Service(BOOTSTRAP.to_owned()), Scope::ALL.to_vec());
        let bootstrap = bootstrap.map(|bootstrap| (bootstrap, first.into()));
        let (look_ups, room) = (
            Arc::new(Semaphore::new(LOOK_UPS)),
            Arc::new(Semaphore::new(WAITING)),
        );
        Self {
            tokens,
            jwts,
            bootstrap,
            cache,
            look_ups,
            room,
        }
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// TOKEN_MALFORMED if it is too long, TOKEN_INVALID, TOKEN_REVOKED, TOKEN_EXPIRED;
    /// AUTH_BACKEND_UNAVAILABLE if it can't be verified.
    pub async fn verify(&self, secret: &str) -> Result<Arc<Caller>> {
        if secret.len() > self.jwts.max_bytes() {
            return Err(Error::new(Reason::TokenMalformed));
        }
        let hash = token::hash(secret);
        if let Some((bootstrap, caller)) = &self.bootstrap
            && bootstrap.matches(&hash)
        {
            return Ok(caller.clone());
        }
        let verdict = match self.cache.kept(&hash).await {
            Some(verdict) => verdict,
            // On the heap, so that a call whose verdict is known does not carry the look-up's state
            // about.
            None => Box::pin(self.judge(hash, secret.to_owned())).await,
        };
        Ok(verdict?.caller.clone())
    }

    /// Looks a token up in a task of its own: concurrent callers wait for the same lookup, and one
    /// that leaves doesn't cancel it.
    async fn judge(&self, hash: TokenHash, secret: String) -> Result<Arc<Grant>> {
        let this = self.clone();
        let room = self
            .room
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::new(Reason::Overloaded))?;
        let judging = async move {
            let _room = room;
            let last_user = this.cache.last_user(&hash).await;
            let look_up = async || {
                let mut grant = match this.look_up(&secret).await {
                    Err(error) if error.reason() == Reason::TokenInvalid => {
                        Err(this.explain(error, last_user).await?)
                    }
                    found => found,
                }?;
                let caller = Arc::make_mut(&mut grant.caller);
                caller.token = Some(hash);
                caller.validity = Some((grant.issued_at, grant.expires_at));
                Ok(grant)
            };
            this.cache.get(hash, look_up).await
        };
        tokio::spawn(judging.with_current_context())
            .await
            .map_err(Error::internal)?
    }

    async fn look_up(&self, secret: &str) -> Result<Grant> {
        if !self.jwts.take(secret) {
            return self.in_turn(self.tokens.verify(secret)).await;
        }
        let grant = match self.jwts.verify(secret).await? {
            Verified::Known(grant) => grant,
            Verified::Linked(linked) => {
                let user_id = self
                    .in_turn(self.tokens.find_linked(&linked.provider, &linked.subject))
                    .await?;
                let unlinked =
                    || Error::new(Reason::TokenInvalid).with_source("no user has that connection");
                linked.grant(user_id.ok_or_else(unlinked)?)
            }
        };
        let caller = &grant.caller;
        self.in_turn(self.tokens.check_signed(
            &caller.subject,
            grant.issued_at,
            &token::hash(secret),
        ))
        .await?;
        Ok(grant)
    }

    /// Says of a token that is unknown by now whether it was that of a user who was deleted:
    /// nothing is stored of it, but this replica may have seen it.
    async fn explain(&self, invalid: Error, last_user: Option<i64>) -> Result<Error> {
        match last_user {
            Some(user_id) if self.in_turn(self.tokens.is_deleted(user_id)).await? => {
                Ok(invalid.with_deleted_user(user_id))
            }
            _ => Ok(invalid),
        }
    }

    /// Queries the database when it is its turn, within the time that a call has: nothing else ends
    /// it.
    async fn in_turn<T>(&self, ask: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |what: &'static str| {
            move |_| Error::new(Reason::AuthBackendUnavailable).with_source(what)
        };
        let turn = timeout(TURN, self.look_ups.acquire())
            .await
            .map_err(late("look-ups before it take too long"))?;
        let _turn = turn.expect("valid: never closed");
        timeout(LOOK_UP, ask)
            .await
            .map_err(late("database ping failed"))?
    }

    /// Takes in what another replica, or this one, told of revocations.
    pub fn apply_revocation(&self, revoked: Revoked) {
        match revoked {
            Revoked::User(user_id) => self.cache.invalidate_user(user_id),
            Revoked::Service(name) => self.cache.invalidate_service(name),
            Revoked::Token(hash) => self.cache.invalidate(hash),
            Revoked::Many => self.cache.clear(),
        }
    }

    /// Forgets every verdict: revocations may have been told that were not heard.
    pub fn clear(&self) {
        self.cache.clear();
    }
}
