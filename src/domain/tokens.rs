//! Issuing, listing, revoking and checking opaque tokens.

use chrono::TimeDelta;

use crate::{
    clock::{Clock, random_bytes},
    domain::{
        caller::{Caller, Subject},
        db::{Db, End},
    },
    error::{Error, Reason, Result},
    model::{
        scope::Scope,
        token::{self, Token},
    },
    store::{profiles, tokens},
};

/// Use cases of tokens.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
    clock: Clock,
}

impl Tokens {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// The scope that a caller needs for a token of that subject.
    pub fn scope(subject: &Subject) -> Scope {
        match subject {
            Subject::Service(_) => Scope::TokensWrite,
            Subject::User(_) => Scope::SessionsWrite,
        }
    }

    /// Issues a token; the secret is shown this once.
    ///
    /// # Errors
    /// USER_NOT_FOUND.
    pub async fn issue(&self, subject: &Subject, scopes: &[Scope], ttl: TimeDelta) -> Result<(Token, String)> {
        let secret = token::secret(random_bytes());
        let token = self.keep(&secret, subject, scopes, ttl).await?;
        Ok((token, secret))
    }

    /// Keeps a token whose secret was made elsewhere.
    pub async fn keep(&self, secret: &str, subject: &Subject, scopes: &[Scope], ttl: TimeDelta) -> Result<Token> {
        let now = self.clock.now();
        let hash = token::hash(secret).to_vec();
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        self.db
            .transaction(End::Commit, async |conn| {
                let owner = match subject {
                    Subject::Service(name) => Ok(name.as_str()),
                    Subject::User(user_id) => {
                        // The lock keeps a deletion of the same moment from leaving a token behind.
                        profiles::lock(conn, *user_id).await?.ok_or_else(|| Error::user_not_found(*user_id))?;
                        Err(*user_id)
                    }
                };
                Ok(tokens::insert(conn, hash.clone(), owner, scopes.clone(), now, now + ttl).await?)
            })
            .await
    }

    /// Those that are neither expired nor revoked, newest first; those older than `before`, where it is given.
    pub async fn list(&self, subject: &Subject, before: Option<i64>, limit: i64) -> Result<Vec<Token>> {
        let now = self.clock.now();
        let owner = match subject {
            Subject::Service(name) => Ok(name.as_str()),
            Subject::User(user_id) => Err(*user_id),
        };
        self.db.run(async |conn| Ok(tokens::list(conn, owner, before, limit, now).await?)).await
    }

    /// Revokes a token of a kind that the caller may revoke.
    ///
    /// # Errors
    /// TOKEN_NOT_FOUND, for a token of the other kind too.
    pub async fn revoke(&self, caller: &Caller, token_id: i64) -> Result<()> {
        let now = self.clock.now();
        let not_found =
            || Error::new(Reason::TokenNotFound).with_resource("user.v1.Token", format!("tokens/{token_id}"));
        self.db
            .transaction(End::Commit, async |conn| {
                let token = tokens::find(conn, token_id, now).await?.ok_or_else(not_found)?;
                let scope = if token.user_id.is_some() { Scope::SessionsWrite } else { Scope::TokensWrite };
                if !caller.has(scope) || !tokens::revoke(conn, token_id, now).await? {
                    return Err(not_found());
                }
                Ok(())
            })
            .await
    }

    /// Who a secret speaks for.
    ///
    /// # Errors
    /// TOKEN_INVALID, TOKEN_REVOKED, TOKEN_EXPIRED; AUTH_BACKEND_UNAVAILABLE where the database cannot be asked.
    pub async fn verify(&self, secret: &str) -> Result<Caller> {
        let hash = token::hash(secret).to_vec();
        let found = self.db.run(async |conn| Ok(tokens::find_by_hash(conn, hash.clone()).await?)).await;
        let token = found
            .map_err(|error| Error::new(Reason::AuthBackendUnavailable).with_source(error))?
            .ok_or_else(|| Error::new(Reason::TokenInvalid))?;
        if token.revoked_at.is_some() {
            return Err(Error::new(Reason::TokenRevoked));
        }
        if token.expires_at <= self.clock.now() {
            return Err(Error::new(Reason::TokenExpired));
        }
        let subject = match (token.service, token.user_id) {
            (Some(name), _) => Subject::Service(name),
            (None, Some(user_id)) => Subject::User(user_id),
            (None, None) => return Err(Error::new(Reason::TokenInvalid)),
        };
        let scopes = token.scopes.iter().filter_map(|scope| Scope::parse(scope)).collect();
        Ok(Caller { subject, scopes })
    }
}
