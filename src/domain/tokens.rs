//! Issuing, listing, revoking and checking opaque tokens.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;
use prost::Message;

use crate::{
    clock::{Clock, random_bytes},
    domain::{
        authorization::{Action, is_permitted},
        caller::{Caller, Grant},
        db::{Db, End, Lane},
        idempotency::{self, IdempotencyKey},
        page_tokens::PageTokens,
    },
    error::{Error, Reason, Result},
    model::{
        account::connection_key,
        scope::Scope,
        token::{self, Revoked, Subject, Token, TokenHash},
    },
    store::{
        accounts::{self, Revocation},
        profiles,
        tokens::{self, NewToken, RevokedRow},
        unique_values, users,
    },
};

/// How often the use of a token is noted.
const NOTE_USE: TimeDelta = TimeDelta::minutes(1);
/// Up to this many revoked tokens are sent to the replicas one by one. Beyond that, the replicas
/// clear their verdict caches.
const TOLD_APART: usize = 100;

/// A token to issue.
pub struct Issue<'a> {
    pub subject: &'a Subject,
    pub scopes: &'a [Scope],
    pub ttl: TimeDelta,
}

/// An issued token.
pub struct Issued {
    pub token: Token,
    /// Returned only once.
    pub secret: String,
    /// The token that this one replaces: it was issued to an earlier request with the same id.
    pub revoked: Vec<Revoked>,
}

/// The longest lifetimes of opaque tokens.
#[derive(Clone, Copy, Debug)]
pub struct MaxLifetimes {
    pub user: TimeDelta,
    pub service: TimeDelta,
}

impl MaxLifetimes {
    /// The longest lifetime of a token with this subject.
    pub fn of(&self, subject: &Subject) -> TimeDelta {
        match subject {
            Subject::Service(_) => self.service,
            Subject::User(_) => self.user,
        }
    }
}

/// Use cases of tokens.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
    checks: Db,
    clock: Clock,
    lifetimes: MaxLifetimes,
    page_tokens: PageTokens,
}

impl Tokens {
    /// Use cases on this database. Token checks have their own connections.
    pub fn new(db: Db, clock: Clock, lifetimes: MaxLifetimes, page_tokens: PageTokens) -> Self {
        Self {
            checks: db.in_lane(Lane::Tokens),
            db,
            clock,
            lifetimes,
            page_tokens,
        }
    }

    /// The longest lifetimes that a request may set.
    pub fn lifetimes(&self) -> &MaxLifetimes {
        &self.lifetimes
    }

    /// The database for writes of this subject: those of one user take turns.
    fn writes_of(&self, subject: &Subject) -> Db {
        match subject {
            Subject::User(user_id) => self.db.of_user(*user_id),
            Subject::Service(_) => self.db.clone(),
        }
    }

    /// Issues a token for an operator; the secret is shown this once.
    ///
    /// # Errors
    /// USER_NOT_FOUND.
    pub async fn issue(
        &self,
        subject: &Subject,
        scopes: &[Scope],
        ttl: TimeDelta,
    ) -> Result<(Token, String)> {
        let issued = self
            .issue_for(
                &Caller::operator(),
                &Issue {
                    subject,
                    scopes,
                    ttl,
                },
                None,
            )
            .await?;
        Ok((issued.token, issued.secret))
    }

    /// Issues a token. It is revoked together with the token that the caller presented. The secret
    /// isn't stored, so a request with the same id revokes the earlier token and issues another.
    ///
    /// # Errors
    /// USER_NOT_FOUND; REQUEST_ID_REUSED, REQUEST_IN_PROGRESS; TOKEN_REVOKED or TOKEN_EXPIRED if
    /// the caller's own token ended in the meantime.
    pub async fn issue_for(
        &self,
        caller: &Caller,
        issue: &Issue<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Issued> {
        let now = self.clock.now();
        let secret = token::secret(random_bytes());
        let hash = token::hash(&secret).to_vec();
        let scopes: Vec<String> = issue
            .scopes
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect();
        let db = self.writes_of(issue.subject);
        let (token, revoked) =
            idempotency::transaction(&db, End::Commit, &[key], async |conn, responses| {
                let earlier: Option<i64> = responses.find(0)?;
                let user_id = match issue.subject {
                    Subject::User(user_id) => {
                        // The lock prevents a concurrent deletion from leaving a token behind.
                        profiles::lock(conn, *user_id)
                            .await?
                            .ok_or_else(|| Error::user_not_found(*user_id))?;
                        Some(*user_id)
                    }
                    Subject::Service(_) => None,
                };
                // Locked before the tokens that it issued: the same order as in a revocation.
                let parent_ends_at = share_parent(conn, caller, now).await?;
                let mut revoked = Vec::new();
                if let Some(token_id) = earlier {
                    let earlier = tokens::revoke(conn, token_id, now).await?;
                    revoked = tell_revoked(conn, earlier.into_iter().collect(), now).await?;
                }
                let expires_at = now + issue.ttl;
                let new = NewToken {
                    hash: hash.clone(),
                    subject: issue.subject,
                    scopes: scopes.clone(),
                    created_at: now,
                    expires_at: parent_ends_at
                        .map_or(expires_at, |ends_at| ends_at.min(expires_at)),
                    issued_by: caller.subject.to_string(),
                    parent: parent_ends_at.and(caller.token).map(|hash| hash.to_vec()),
                };
                let token = tokens::insert(conn, new).await?;
                responses.store(0, user_id, || token.token_id.encode_to_vec());
                Ok((token, revoked))
            })
            .await?;
        Ok(Issued {
            token,
            secret,
            revoked,
        })
    }

    /// Tokens of one subject, or of all, that are neither expired nor revoked, newest first. With
    /// `before`, only older ones.
    pub async fn list(
        &self,
        subject: Option<&Subject>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Token>> {
        let now = self.clock.now();
        self.db
            .run(async |conn| Ok(tokens::list(conn, subject, before, limit, now).await?))
            .await
    }

    /// One page of the tokens of a subject, as in [`Self::list`], and the token of the next page;
    /// empty if there is none.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID, PAGE_TOKEN_MISMATCH or PAGE_TOKEN_EXPIRED.
    pub async fn list_page(
        &self,
        subject: &Subject,
        page_token: &str,
        limit: i64,
    ) -> Result<(Vec<Token>, String)> {
        let page_tokens = self.page_tokens.of(format!("tokens of {subject:?}"));
        let before = page_tokens.read_id(page_token)?;
        let mut found = self.list(Some(subject), before, limit + 1).await?;
        let has_more = found.len() as i64 > limit;
        found.truncate(limit as usize);
        let last = found
            .last()
            .map(|token| token.token_id)
            .filter(|_| has_more);
        Ok((found, page_tokens.write_id(last)))
    }

    /// Revokes a token of a kind that the caller may revoke, and every token that it issued.
    /// Returns the revocations to publish to the replicas.
    ///
    /// # Errors
    /// TOKEN_NOT_FOUND, for a token of the other kind too.
    pub async fn revoke(&self, caller: &Caller, token_id: i64) -> Result<Vec<Revoked>> {
        let now = self.clock.now();
        let not_found = || {
            Error::new(Reason::TokenNotFound).with_resource("token", format!("tokens/{token_id}"))
        };
        self.db
            .transaction(End::Commit, async |conn| {
                let token = tokens::find(conn, token_id, now)
                    .await?
                    .ok_or_else(not_found)?;
                if !is_permitted(
                    caller,
                    "RevokeToken",
                    Action::on_tokens_of(&token.subject()),
                ) {
                    return Err(not_found());
                }
                let revoked = tokens::revoke(conn, token_id, now)
                    .await?
                    .ok_or_else(not_found)?;
                tell_revoked(conn, vec![revoked], now).await
            })
            .await
    }

    /// Revokes every token of a service or a user: opaque tokens with all that they issued, and
    /// signed tokens issued before this call. Returns the number of revoked opaque tokens of the
    /// subject, and the revocations to publish to the replicas.
    ///
    /// # Errors
    /// USER_NOT_FOUND.
    pub async fn revoke_all(&self, subject: &Subject) -> Result<(usize, Vec<Revoked>)> {
        let now = self.clock.now();
        // The issue time of signed tokens has a resolution of one second, so all tokens of this
        // second count as issued before the call.
        let before = now
            .duration_trunc(TimeDelta::seconds(1))
            .map_err(Error::internal)?
            + TimeDelta::seconds(1);
        self.writes_of(subject)
            .transaction(End::Commit, async |conn| match subject {
                Subject::User(user_id) => {
                    profiles::lock(conn, *user_id)
                        .await?
                        .ok_or_else(|| Error::user_not_found(*user_id))?;
                    accounts::revoke_signed_tokens(conn, *user_id, before).await?;
                    let count = tokens::revoke_all(conn, *user_id, None, now).await?;
                    Ok((count, vec![Revoked::User(*user_id)]))
                }
                Subject::Service(name) => {
                    tokens::lock_service(conn, lock_number(subject)).await?;
                    tokens::revoke_signed(conn, name, before).await?;
                    let own = tokens::revoke_service(conn, name, now).await?;
                    let count = own.len();
                    let issued = tokens::revoke_issued_by(conn, subject.to_string(), now).await?;
                    let mut revoked = vec![Revoked::Service(name.clone())];
                    tokens::notify_revoked(conn, &revoked).await?;
                    revoked.extend(
                        tell_revoked(conn, own.into_iter().chain(issued).collect(), now).await?,
                    );
                    Ok((count, revoked))
                }
            })
            .await
    }

    /// What an opaque token is worth. That it was used is noted once a minute at most.
    ///
    /// # Errors
    /// TOKEN_INVALID, TOKEN_REVOKED, TOKEN_EXPIRED; AUTH_BACKEND_UNAVAILABLE where the database
    /// cannot be asked.
    pub async fn verify(&self, secret: &str) -> Result<Grant> {
        let hash = token::hash(secret).to_vec();
        let now = self.clock.now();
        let found = self.checks.run(async |conn| {
            let found = tokens::find_by_hash(conn, hash.clone()).await?;
            if found
                .as_ref()
                .is_some_and(|token| token.last_used_at.is_none_or(|at| at < now - NOTE_USE))
            {
                tokens::note_use(conn, hash.clone(), now, now - NOTE_USE).await?;
            }
            Ok(found)
        });
        let token = found
            .await
            .map_err(unavailable)?
            .ok_or_else(|| Error::new(Reason::TokenInvalid))?;
        if token.revoked_at.is_some() {
            return Err(Error::new(Reason::TokenRevoked));
        }
        if token.expires_at <= now {
            return Err(Error::new(Reason::TokenExpired));
        }
        let subject = token.subject();
        let scopes = token
            .scopes
            .iter()
            .filter_map(|scope| Scope::parse(scope))
            .collect();
        let (issued_at, expires_at) = (token.created_at, token.expires_at);
        Ok(Grant {
            caller: Caller::new(subject, scopes).into(),
            issued_at,
            expires_at,
        })
    }

    /// The user with a connection, identified as its provider signs it.
    ///
    /// # Errors
    /// AUTH_BACKEND_UNAVAILABLE where the database cannot be asked.
    pub async fn find_linked(&self, provider: &str, subject: &str) -> Result<Option<i64>> {
        let value = connection_key(provider, subject);
        let found = self
            .checks
            .run(async |conn| Ok(unique_values::find(conn, "connection", &value).await?))
            .await;
        found.map_err(unavailable)
    }

    /// Checks that a signed token of a subject wasn't revoked: by a password change, by a
    /// revocation of all tokens, or by the deletion of its user.
    ///
    /// # Errors
    /// TOKEN_REVOKED; AUTH_BACKEND_UNAVAILABLE if the database is unavailable.
    pub async fn check_signed(
        &self,
        subject: &Subject,
        issued_at: DateTime<Utc>,
        hash: &TokenHash,
    ) -> Result<()> {
        let revoked = || Error::new(Reason::TokenRevoked);
        let asked = self.checks.run(async |conn| {
            Ok(match subject {
                Subject::User(user_id) => match accounts::find_revocation(conn, *user_id).await? {
                    Some(revocation) => concerns(&revocation, issued_at, hash).then(revoked),
                    None if users::was_deleted(conn, *user_id).await? => {
                        Some(revoked().with_deleted_user(*user_id))
                    }
                    None => None,
                },
                Subject::Service(name) => {
                    let before = tokens::find_revocation(conn, name).await?;
                    before
                        .filter(|before| issued_at < *before)
                        .map(|_| revoked())
                }
            })
        });
        asked.await.map_err(unavailable)?.map_or(Ok(()), Err)
    }

    /// Whether a user was deleted.
    ///
    /// # Errors
    /// AUTH_BACKEND_UNAVAILABLE where the database cannot be asked.
    pub async fn is_deleted(&self, user_id: i64) -> Result<bool> {
        self.checks
            .run(async |conn| Ok(users::was_deleted(conn, user_id).await?))
            .await
            .map_err(unavailable)
    }
}

/// Whether a revocation of a user's tokens applies to the signed token with that hash.
fn concerns(revocation: &Revocation, issued_at: DateTime<Utc>, hash: &TokenHash) -> bool {
    let Revocation {
        password_changed_at,
        kept_token_hash,
        revoked_before,
    } = revocation;
    let by_password = password_changed_at.is_some_and(|at| issued_at.timestamp() < at.timestamp());
    revoked_before.is_some_and(|before| issued_at < before)
        || by_password && kept_token_hash.as_deref() != Some(hash)
}

/// Prevents a revocation of the caller's token until the transaction ends, and returns the time at
/// which it expires; `None` if the caller presented no token that expires, but for example a
/// certificate.
async fn share_parent(
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let (Some(hash), Some((issued_at, expires_at))) = (caller.token, caller.validity) else {
        return Ok(None);
    };
    let (is_revoked, expires_at) = match (
        tokens::find_and_share(conn, hash.to_vec()).await?,
        &caller.subject,
    ) {
        (Some(token), _) => (token.revoked_at.is_some(), token.expires_at),
        // A signed token has no row that a shared lock could protect.
        (None, Subject::Service(name)) => {
            tokens::share_service(conn, lock_number(&caller.subject)).await?;
            let revoked_before = tokens::find_revocation(conn, name).await?;
            (
                revoked_before.is_some_and(|before| issued_at < before),
                expires_at,
            )
        }
        (None, Subject::User(_)) => (false, expires_at),
    };
    if is_revoked {
        return Err(Error::new(Reason::TokenRevoked));
    }
    if expires_at <= now {
        return Err(Error::new(Reason::TokenExpired));
    }
    Ok(Some(expires_at))
}

/// Revokes every token that these tokens issued, directly or indirectly, and notifies every
/// replica. A token that is issuing another has a shared lock: its revocation waits, and then finds
/// the new token.
async fn tell_revoked(
    conn: &mut AsyncPgConnection,
    revoked: Vec<RevokedRow>,
    now: DateTime<Utc>,
) -> Result<Vec<Revoked>> {
    let mut hashes = Vec::new();
    let mut parents = revoked;
    while !parents.is_empty() {
        hashes.extend(parents.iter().map(|(hash, _)| *hash));
        // A user token can't issue tokens.
        let services = parents
            .into_iter()
            .filter_map(|(hash, service)| Some((hash, service?)));
        let (parent_hashes, mut issuers): (Vec<_>, Vec<_>) = services
            .map(|(hash, service)| (hash.to_vec(), Subject::Service(service).to_string()))
            .unzip();
        issuers.sort_unstable();
        issuers.dedup();
        if issuers.is_empty() {
            break;
        }
        parents = tokens::revoke_issued(conn, issuers, parent_hashes, now).await?;
    }
    let told = if hashes.len() > TOLD_APART {
        vec![Revoked::Many]
    } else {
        hashes.into_iter().map(Revoked::Token).collect()
    };
    tokens::notify_revoked(conn, &told).await?;
    Ok(told)
}

/// The number that identifies a subject's signed tokens among the advisory locks of the database.
fn lock_number(subject: &Subject) -> i64 {
    let hash = token::hash(&format!("signed tokens of {subject}"));
    i64::from_le_bytes(hash[..8].try_into().expect("valid: eight of 32 bytes"))
}

/// A failed lookup is not an invalid token: report UNAVAILABLE, not UNAUTHENTICATED.
fn unavailable(error: Error) -> Error {
    match error.reason() {
        Reason::DeadlineExceeded => error,
        _ => Error::new(Reason::AuthBackendUnavailable).with_source(error),
    }
}
