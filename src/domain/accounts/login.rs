//! Password verification for a login service. A user that doesn't exist, a user without a password,
//! and a wrong password get the same response, after the same time, and count as the same attempt.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use super::Accounts;
use crate::{
    domain::{
        caller::Caller,
        db::End,
        passwords::Verdict,
        rate_limiter::{Bucket, exceeded},
    },
    error::{Error, FieldError, Reason, Result},
    model::{
        account::{Login, UserKey, VerifyPassword},
        keys::Keys,
        password::Kind,
        rate_limit::{PasswordLimits, Window},
        token,
    },
    store::{
        accounts::{self, Changes},
        known_clients, rate_limits, unique_values,
    },
};

/// The purposes of the hashes of clients and keys in the tables.
const CLIENT: &str = "client of VerifyPassword";
const KEY: &str = "key of VerifyPassword";

/// The key of an account's bucket over all clients.
fn account_bucket(who: &str) -> String {
    format!("verify_all/{who}")
}

/// The prefix of the keys of the buckets of an account and secret.
fn secret_buckets(who: &str, kind: Kind) -> String {
    format!("verify/{who}/{}", kind.as_str())
}

/// The turn of attempts for an unknown account: for each key, a number that no user has.
fn turn_of_unknown(who: &str) -> i64 {
    let hash = token::hash(who);
    i64::from_le_bytes(hash[..8].try_into().expect("valid: eight of 32 bytes")) | i64::MIN
}

/// Clears the attempts that were counted against an account and secret, because the secret is new.
pub(super) async fn clear_attempts(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    kind: Kind,
) -> Result<()> {
    let who = user_id.to_string();
    for key in [
        account_bucket(&who),
        secret_buckets(&who, kind),
        super::proofs::password_bucket(user_id, kind),
    ] {
        rate_limits::clear(conn, &key).await?;
    }
    Ok(())
}

/// The keys under which an attempt is counted.
struct Counted {
    /// Whose turn this takes, so that attempts for one account don't occupy every connection of the
    /// pool.
    turn: i64,
    /// The client over all accounts, if there is a client.
    client: Option<String>,
    /// The account over all clients.
    account: String,
    /// Account, secret, and client.
    pair: String,
    /// The same, but only for the key that found the account. This count is reported, and doesn't
    /// reveal that two keys belong to one account.
    reported: String,
    /// The account, and the hashes of the client with each of our keys, newest first.
    known: Option<(i64, Vec<Vec<u8>>)>,
}

/// The buckets of an attempt, locked in the same order by all attempts.
struct Buckets {
    client: Option<Bucket>,
    account: Bucket,
    pair: Bucket,
    reported: Bucket,
}

impl Counted {
    fn new(verify: &VerifyPassword, login: Option<&Login>, keys: &Keys) -> Self {
        let fingerprint =
            |purpose, text: &str| URL_SAFE_NO_PAD.encode(keys.sign(purpose, text.as_bytes()));
        let key = match &verify.key {
            UserKey::Id(user_id) => fingerprint(KEY, &format!("id:{user_id}")),
            UserKey::Unique(kind, value) => fingerprint(KEY, &format!("{kind}:{value}")),
        };
        let who = login.map_or_else(
            || format!("nobody/{key}"),
            |login| login.user_id.to_string(),
        );
        let client = fingerprint(CLIENT, &verify.client);
        let pair = format!("{}/{client}", secret_buckets(&who, verify.kind));
        let is_told = !verify.client.is_empty();
        Self {
            turn: login.map_or_else(|| turn_of_unknown(&who), |login| login.user_id),
            client: is_told.then(|| format!("verify_client/{client}")),
            account: account_bucket(&who),
            reported: format!("{pair}/{key}"),
            pair,
            known: login.filter(|_| is_told).map(|login| {
                (
                    login.user_id,
                    keys.sign_all(CLIENT, verify.client.as_bytes()),
                )
            }),
        }
    }

    async fn lock(
        &self,
        conn: &mut AsyncPgConnection,
        limits: &PasswordLimits,
        now: DateTime<Utc>,
    ) -> Result<Buckets> {
        let client = match &self.client {
            Some(key) => Some(Bucket::lock(conn, key.clone(), &[limits.client], now).await?),
            None => None,
        };
        Ok(Buckets {
            client,
            account: Bucket::lock(conn, self.account.clone(), &[limits.account], now).await?,
            pair: Bucket::lock(conn, self.pair.clone(), &[limits.wrong], now).await?,
            reported: Bucket::lock(conn, self.reported.clone(), &[limits.wrong], now).await?,
        })
    }

    /// Whether the client logged in to the account before. The query also runs for an account that
    /// doesn't exist, so that both cases take the same time. take the same time.
    async fn is_known(
        &self,
        conn: &mut AsyncPgConnection,
        limits: &PasswordLimits,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let (user_id, hashes) = self.known.clone().unwrap_or_default();
        Ok(known_clients::is_known(conn, user_id, hashes, now - limits.known_for).await?)
    }
}

impl Buckets {
    fn all(&mut self) -> impl Iterator<Item = &mut Bucket> {
        let Self {
            client,
            account,
            pair,
            reported,
        } = self;
        client.iter_mut().chain([account, pair, reported])
    }

    /// The limit with the longest retry delay. Other clients that have used up the attempts of an
    /// account don't lock out a client that logged in to it before.
    fn exceeded(&self, is_known: bool) -> Option<(Window, chrono::TimeDelta)> {
        let client = self.client.as_ref().and_then(Bucket::exceeded);
        let account = if is_known {
            None
        } else {
            self.account.exceeded()
        };
        [client, account, self.pair.exceeded()]
            .into_iter()
            .flatten()
            .max_by_key(|(_, wait)| *wait)
    }

    async fn save(self, conn: &mut AsyncPgConnection) -> Result<()> {
        let Self {
            client,
            account,
            pair,
            reported,
        } = self;
        for bucket in client.into_iter().chain([account, pair, reported]) {
            bucket.save(conn).await?;
        }
        Ok(())
    }
}

impl Accounts {
    /// The user whose password it is.
    ///
    /// # Errors
    /// PASSWORD_MISMATCH, PASSWORD_ATTEMPTS_EXCEEDED; OVERLOADED if too many passwords wait to be
    /// checked.
    pub async fn verify_password(&self, caller: &Caller, verify: &VerifyPassword) -> Result<i64> {
        let now = self.clock.now();
        let mut login = self.find_login(&verify.key).await?;
        let counted = Counted::new(verify, login.as_ref(), &self.proofs.keys);
        let left = self.count_login(&counted, now).await?;
        loop {
            let hash = login.as_ref().and_then(|login| login.hash(verify.kind));
            if let Some(hash) = hash {
                self.hash_kinds.note(hash).await?;
            }
            let verdict = match self
                .passwords
                .verify_in_equal_time(caller, &verify.secret, hash)
                .await
            {
                Ok(verdict) => verdict,
                Err(error) => {
                    // Nothing was compared, so the caller learned nothing.
                    self.give_login_back(&counted, now).await?;
                    return Err(error);
                }
            };
            let (Some(known), Some(hash)) = (&login, hash.filter(|_| verdict != Verdict::Wrong))
            else {
                return Err(Error::new(Reason::PasswordMismatch)
                    .with_violation(
                        "password",
                        FieldError::Format,
                        Reason::PasswordMismatch.message(),
                    )
                    .with_metadata("attemptsRemaining", left));
            };
            let renewed = match &verdict {
                Verdict::Outdated(right) => Some(self.passwords.upgrade(caller, right).await?),
                Verdict::Right | Verdict::Wrong => None,
            };
            if self
                .log_in(
                    known.user_id,
                    verify.kind,
                    &counted,
                    (hash, renewed.as_deref()),
                    now,
                )
                .await?
            {
                return Ok(known.user_id);
            }
            // The password was changed, or its hash upgraded, during the comparison.
            login = self.find_login(&verify.key).await?;
        }
    }

    async fn find_login(&self, key: &UserKey) -> Result<Option<Login>> {
        self.db
            .run(async |conn| {
                self.hash_kinds.refresh(conn).await?;
                let user_id = match key {
                    UserKey::Id(user_id) => Some(*user_id),
                    UserKey::Unique(kind, value) => unique_values::find(conn, kind, value).await?,
                };
                // No user has the ID 0. It is looked up all the same, so that an unknown key takes
                // as long as a known one.
                Ok(accounts::find_login(conn, user_id.unwrap_or_default()).await?)
            })
            .await
    }

    /// Counts an attempt before anything is hashed. Returns how many are left.
    async fn count_login(&self, counted: &Counted, now: DateTime<Utc>) -> Result<usize> {
        let limits = &self.policy.password_limits;
        self.db
            .of_user(counted.turn)
            .transaction(End::Commit, async |conn| {
                let mut buckets = counted.lock(conn, limits, now).await?;
                let is_known = counted.is_known(conn, limits, now).await?;
                if let Some((window, wait)) = buckets.exceeded(is_known) {
                    return Err(exceeded(Reason::PasswordAttemptsExceeded, window, wait));
                }
                buckets.all().for_each(Bucket::add);
                let left = buckets.reported.left();
                buckets.save(conn).await?;
                Ok(left)
            })
            .await
    }

    /// Refunds an attempt that wasn't compared.
    async fn give_login_back(&self, counted: &Counted, now: DateTime<Utc>) -> Result<()> {
        let limits = &self.policy.password_limits;
        self.db
            .of_user(counted.turn)
            .transaction(End::Commit, async |conn| {
                let mut buckets = counted.lock(conn, limits, now).await?;
                buckets.all().for_each(|bucket| bucket.refund(now));
                buckets.save(conn).await
            })
            .await
    }

    /// Records a login with the secret of this hash; false if the user has a different secret by
    /// now.
    async fn log_in(
        &self,
        user_id: i64,
        kind: Kind,
        counted: &Counted,
        (hash, renewed): (&str, Option<&str>),
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let policy = &self.policy.password_limits;
        self.db
            .of_user(user_id)
            .transaction(End::Commit, async |conn| {
                // Locks the user before the buckets, in the same order as a password change: the
                // other order causes a deadlock.
                let locked = accounts::lock(conn, user_id).await?;
                if locked.is_none_or(|locked| locked.login.hash(kind) != Some(hash)) {
                    return Ok(false);
                }
                let mut buckets = counted.lock(conn, policy, now).await?;
                buckets.all().for_each(|bucket| bucket.refund(now));
                buckets.save(conn).await?;
                rate_limits::clear(conn, &counted.pair).await?;
                if let Some((_, hashes)) = &counted.known
                    && let Some(newest) = hashes.first()
                {
                    known_clients::remember(
                        conn,
                        user_id,
                        newest.clone(),
                        now,
                        policy.known_clients,
                    )
                    .await?;
                }
                if let Some(renewed) = renewed {
                    accounts::renew_hash(conn, user_id, kind, hash, renewed).await?;
                }
                if kind == Kind::Login {
                    let changes = Changes {
                        last_login_at: Some(Some(now)),
                        ..Changes::default()
                    };
                    accounts::update(conn, user_id, changes).await?;
                }
                Ok(true)
            })
            .await
    }
}
