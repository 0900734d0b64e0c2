//! Issuing, listing, revoking and checking opaque tokens.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    clock::{Clock, random_bytes},
    domain::{
        caller::{Caller, Grant},
        db::{Db, End, Lane},
    },
    error::{Error, Reason, Result},
    model::{
        scope::Scope,
        token::{self, Revoked, Subject, Token, TokenHash},
    },
    store::{accounts, profiles, tokens},
};

/// How often the use of a token is noted.
const NOTE_USE: TimeDelta = TimeDelta::minutes(1);

/// Use cases of tokens.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
    checks: Db,
    clock: Clock,
}

impl Tokens {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { checks: db.in_lane(Lane::Tokens), db, clock }
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
                if let Subject::User(user_id) = subject {
                    // The lock keeps a deletion of the same moment from leaving a token behind.
                    profiles::lock(conn, *user_id).await?.ok_or_else(|| Error::user_not_found(*user_id))?;
                }
                Ok(tokens::insert(conn, hash.clone(), subject, scopes.clone(), now, now + ttl).await?)
            })
            .await
    }

    /// Those that are neither expired nor revoked, newest first; those older than `before`, where it is given.
    pub async fn list(&self, subject: &Subject, before: Option<i64>, limit: i64) -> Result<Vec<Token>> {
        let now = self.clock.now();
        self.db.run(async |conn| Ok(tokens::list(conn, subject, before, limit, now).await?)).await
    }

    /// Revokes a token of a kind that the caller may revoke; gives what is told of it to every replica.
    ///
    /// # Errors
    /// TOKEN_NOT_FOUND, for a token of the other kind too.
    pub async fn revoke(&self, caller: &Caller, token_id: i64) -> Result<Revoked> {
        let now = self.clock.now();
        let not_found = || Error::new(Reason::TokenNotFound).with_resource("token", format!("tokens/{token_id}"));
        self.db
            .transaction(End::Commit, async |conn| {
                let token = tokens::find(conn, token_id, now).await?.ok_or_else(not_found)?;
                if !caller.has(Self::scope(&token.subject())) {
                    return Err(not_found());
                }
                let hash = tokens::revoke(conn, token_id, now).await?.ok_or_else(not_found)?;
                tokens::tell(conn, Revoked::Token(hash)).await?;
                Ok(Revoked::Token(hash))
            })
            .await
    }

    /// What an opaque token is worth. That it was used is noted once a minute at most.
    ///
    /// # Errors
    /// TOKEN_INVALID, TOKEN_REVOKED, TOKEN_EXPIRED; AUTH_BACKEND_UNAVAILABLE where the database cannot be asked.
    pub async fn verify(&self, secret: &str) -> Result<Grant> {
        let hash = token::hash(secret).to_vec();
        let now = self.clock.now();
        let found = self.checks.run(async |conn| {
            let found = tokens::find_by_hash(conn, hash.clone()).await?;
            if found.as_ref().is_some_and(|token| token.last_used_at.is_none_or(|at| at < now - NOTE_USE)) {
                tokens::note_use(conn, hash.clone(), now, now - NOTE_USE).await?;
            }
            Ok(found)
        });
        let token = found.await.map_err(unavailable)?.ok_or_else(|| Error::new(Reason::TokenInvalid))?;
        if token.revoked_at.is_some() {
            return Err(Error::new(Reason::TokenRevoked));
        }
        if token.expires_at <= now {
            return Err(Error::new(Reason::TokenExpired));
        }
        let subject = token.subject();
        let scopes = token.scopes.iter().filter_map(|scope| Scope::parse(scope)).collect();
        let (issued_at, expires_at) = (token.created_at, token.expires_at);
        Ok(Grant { caller: Caller::new(subject, scopes).into(), issued_at, expires_at })
    }

    /// Whether a signed token of a user was made before the second in which the password changed, and is not the one
    /// that changed it.
    ///
    /// # Errors
    /// AUTH_BACKEND_UNAVAILABLE where the database cannot be asked.
    pub async fn is_revoked(&self, user_id: i64, issued_at: DateTime<Utc>, hash: TokenHash) -> Result<bool> {
        let found = self.checks.run(async |conn| Ok(accounts::find_revocation(conn, user_id).await?)).await;
        let Some((Some(changed_at), kept)) = found.map_err(unavailable)? else { return Ok(false) };
        Ok(issued_at.timestamp() < changed_at.timestamp() && kept.as_deref() != Some(&hash))
    }
}

/// That nobody could tell is not that the token is bad.
fn unavailable(error: Error) -> Error {
    match error.reason() {
        Reason::DeadlineExceeded => error,
        _ => Error::new(Reason::AuthBackendUnavailable).with_source(error),
    }
}
