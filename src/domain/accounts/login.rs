//! Checking a password for a login service. A user who is not there, one without a password, and a wrong password are
//! one response, after the same time and the same count.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use super::Accounts;
use crate::{
    domain::{
        caller::Caller,
        db::End,
        limits::{Budget, exceeded},
        passwords::Verdict,
    },
    error::{Error, Fault, Reason, Result},
    model::{
        account::{Login, UserKey},
        keys::Keys,
        limit::{PasswordLimits, Window},
        password::{Kind, Secret},
        token,
    },
    store::{
        accounts::{self, Changes},
        known_clients, limits, unique_values,
    },
};

/// A login that is tried.
pub struct VerifyPassword {
    pub key: UserKey,
    pub secret: Secret,
    pub kind: Kind,
    /// Where the attempt comes from; empty if the login service doesn't say.
    pub client: String,
}

/// What the hashes of clients and keys in the tables are for.
const CLIENT: &str = "client of VerifyPassword";
const KEY: &str = "key of VerifyPassword";

/// The key of an account's budget over all clients.
fn account_budget(who: &str) -> String {
    format!("verify_all/{who}")
}

/// What the keys of the budgets of an account and secret begin with.
fn secret_budgets(who: &str, kind: Kind) -> String {
    format!("verify/{who}/{}", kind.as_str())
}

/// The turn of attempts for an unknown account: for each key, a number that no user has.
fn turn_of_unknown(who: &str) -> i64 {
    let hash = token::hash(who);
    i64::from_le_bytes(hash[..8].try_into().expect("valid: eight of 32 bytes")) | i64::MIN
}

/// Clears what was counted against an account and secret, because there is a new one.
pub(super) async fn clear_attempts(conn: &mut AsyncPgConnection, user_id: i64, kind: Kind) -> Result<()> {
    let who = user_id.to_string();
    for key in [account_budget(&who), secret_budgets(&who, kind), super::proofs::password_budget(user_id, kind)] {
        limits::clear(conn, &key).await?;
    }
    Ok(())
}

/// The keys under which an attempt is counted.
struct Counted {
    /// In whose turn, so that attempts for one account do not wait for its count with all connections of the pool.
    turn: i64,
    /// For the client over all accounts, if there is one.
    client: Option<String>,
    /// For the account over all clients.
    account: String,
    /// For account, secret, and client.
    pair: String,
    /// The same, for the key alone that the account was found by. It is reported, and links no two keys.
    reported: String,
    /// Whose account it is, and the hashes of the client by each of our keys, newest first.
    known: Option<(i64, Vec<Vec<u8>>)>,
}

/// Budgets of an attempt, locked, in the order in which all attempts lock them.
struct Budgets {
    client: Option<Budget>,
    account: Budget,
    pair: Budget,
    reported: Budget,
}

impl Counted {
    fn new(verify: &VerifyPassword, login: Option<&Login>, keys: &Keys) -> Self {
        let fingerprint = |purpose, text: &str| URL_SAFE_NO_PAD.encode(keys.sign(purpose, text.as_bytes()));
        let key = match &verify.key {
            UserKey::Id(user_id) => fingerprint(KEY, &format!("id:{user_id}")),
            UserKey::Unique(kind, value) => fingerprint(KEY, &format!("{kind}:{value}")),
        };
        let who = login.map_or_else(|| format!("nobody/{key}"), |login| login.user_id.to_string());
        let client = fingerprint(CLIENT, &verify.client);
        let pair = format!("{}/{client}", secret_budgets(&who, verify.kind));
        let is_told = !verify.client.is_empty();
        Self {
            turn: login.map_or_else(|| turn_of_unknown(&who), |login| login.user_id),
            client: is_told.then(|| format!("verify_client/{client}")),
            account: account_budget(&who),
            reported: format!("{pair}/{key}"),
            pair,
            known: login
                .filter(|_| is_told)
                .map(|login| (login.user_id, keys.sign_all(CLIENT, verify.client.as_bytes()))),
        }
    }

    async fn lock(&self, conn: &mut AsyncPgConnection, limits: &PasswordLimits, now: DateTime<Utc>) -> Result<Budgets> {
        let client = match &self.client {
            Some(key) => Some(Budget::lock(conn, key.clone(), &[limits.client], now).await?),
            None => None,
        };
        Ok(Budgets {
            client,
            account: Budget::lock(conn, self.account.clone(), &[limits.account], now).await?,
            pair: Budget::lock(conn, self.pair.clone(), &[limits.wrong], now).await?,
            reported: Budget::lock(conn, self.reported.clone(), &[limits.wrong], now).await?,
        })
    }

    /// Whether the client logged in to the account before. An account that no one has is asked for too, so that both
    /// take the same time.
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

impl Budgets {
    fn all(&mut self) -> impl Iterator<Item = &mut Budget> {
        let Self { client, account, pair, reported } = self;
        client.iter_mut().chain([account, pair, reported])
    }

    /// The limit that makes the caller wait longest. Strangers who have used up what an account permits don't keep out
    /// a client that logged in to it before.
    fn exceeded(&self, is_known: bool) -> Option<(Window, chrono::TimeDelta)> {
        let client = self.client.as_ref().and_then(Budget::exceeded);
        let account = if is_known { None } else { self.account.exceeded() };
        [client, account, self.pair.exceeded()].into_iter().flatten().max_by_key(|(_, wait)| *wait)
    }

    async fn save(self, conn: &mut AsyncPgConnection) -> Result<()> {
        let Self { client, account, pair, reported } = self;
        for budget in client.into_iter().chain([account, pair, reported]) {
            budget.save(conn).await?;
        }
        Ok(())
    }
}

impl Accounts {
    /// The user whose password it is.
    ///
    /// # Errors
    /// PASSWORD_MISMATCH, PASSWORD_ATTEMPTS_EXCEEDED; OVERLOADED if too many passwords wait to be checked.
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
            let verdict = match self.passwords.verify_in_equal_time(caller, &verify.secret, hash).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    // Nothing was compared, so nothing was learned.
                    self.give_login_back(&counted, now).await?;
                    return Err(error);
                }
            };
            let (Some(known), Some(hash)) = (&login, hash.filter(|_| verdict != Verdict::Wrong)) else {
                return Err(Error::new(Reason::PasswordMismatch)
                    .with_violation("password", Fault::Format, Reason::PasswordMismatch.message())
                    .with_metadata("attemptsRemaining", left));
            };
            let renewed = match &verdict {
                Verdict::Outdated(right) => Some(self.passwords.upgrade(caller, right).await?),
                Verdict::Right | Verdict::Wrong => None,
            };
            if self.log_in(known.user_id, verify.kind, &counted, (hash, renewed.as_deref()), now).await? {
                return Ok(known.user_id);
            }
            // The password was changed, or its hash upgraded, while this one was compared.
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
                // No user has the ID 0. It is looked up all the same, so that an unknown key takes as long as a known one.
                Ok(accounts::find_login(conn, user_id.unwrap_or_default()).await?)
            })
            .await
    }

    /// Counts an attempt before anything is hashed; gives how many are left.
    async fn count_login(&self, counted: &Counted, now: DateTime<Utc>) -> Result<usize> {
        let limits = &self.policy.password_limits;
        self.db
            .of_user(counted.turn)
            .transaction(End::Commit, async |conn| {
                let mut budgets = counted.lock(conn, limits, now).await?;
                let is_known = counted.is_known(conn, limits, now).await?;
                if let Some((window, wait)) = budgets.exceeded(is_known) {
                    return Err(exceeded(Reason::PasswordAttemptsExceeded, window, wait));
                }
                budgets.all().for_each(Budget::add);
                let left = budgets.reported.left();
                budgets.save(conn).await?;
                Ok(left)
            })
            .await
    }

    /// Takes back an attempt that was not compared.
    async fn give_login_back(&self, counted: &Counted, now: DateTime<Utc>) -> Result<()> {
        let limits = &self.policy.password_limits;
        self.db
            .of_user(counted.turn)
            .transaction(End::Commit, async |conn| {
                let mut budgets = counted.lock(conn, limits, now).await?;
                budgets.all().for_each(|budget| budget.give_back(now));
                budgets.save(conn).await
            })
            .await
    }

    /// Notes a login by the secret of this hash; false if the user has another by now.
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
                // The user before the budgets, as a change of the password locks them: the other order is a deadlock.
                let locked = accounts::lock(conn, user_id).await?;
                if locked.is_none_or(|locked| locked.login.hash(kind) != Some(hash)) {
                    return Ok(false);
                }
                let mut budgets = counted.lock(conn, policy, now).await?;
                budgets.all().for_each(|budget| budget.give_back(now));
                budgets.save(conn).await?;
                limits::clear(conn, &counted.pair).await?;
                if let Some((_, hashes)) = &counted.known
                    && let Some(newest) = hashes.first()
                {
                    known_clients::remember(conn, user_id, newest.clone(), now, policy.known_clients).await?;
                }
                if let Some(renewed) = renewed {
                    accounts::renew_hash(conn, user_id, kind, hash, renewed).await?;
                }
                if kind == Kind::Login {
                    let changes = Changes { last_login_at: Some(Some(now)), ..Changes::default() };
                    accounts::update(conn, user_id, changes).await?;
                }
                Ok(true)
            })
            .await
    }
}
