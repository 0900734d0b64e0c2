//! Checking a password for a login service. A user who is not there, one without a password and a wrong password are
//! one answer, after the same time and the same count.

use chrono::{DateTime, Utc};

use super::Accounts;
use crate::{
    domain::{
        db::End,
        limits::{Budget, exceeded},
        passwords::Verdict,
    },
    error::{Error, Fault, Reason, Result},
    model::{
        account::{Login, UserKey},
        limit::{PASSWORD_WRONG, PASSWORD_WRONG_HOUR, Window},
        password::{Kind, Secret},
        token,
    },
    store::{
        accounts::{self, Changes},
        unique_values,
    },
};

/// A login that is tried.
pub struct VerifyPassword {
    pub key: UserKey,
    pub secret: Secret,
    pub kind: Kind,
    /// Where the try comes from.
    pub client: String,
}

const CLIENT: &[Window] = &[PASSWORD_WRONG];
const ACCOUNT: &[Window] = &[PASSWORD_WRONG_HOUR];

/// The keys under which a try is counted: for the client, and over all clients.
struct Counted {
    client: String,
    account: String,
}

fn counted(verify: &VerifyPassword, login: Option<&Login>) -> Counted {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let fingerprint = |text: &str| URL_SAFE_NO_PAD.encode(token::hash(text));
    let who = match (login, &verify.key) {
        (Some(login), _) => login.user_id.to_string(),
        (None, UserKey::Id(user_id)) => format!("nobody/{user_id}"),
        (None, UserKey::Unique(kind, value)) => format!("nobody/{}", fingerprint(&format!("{kind}:{value}"))),
    };
    let secret = verify.kind.as_str();
    let client = fingerprint(&verify.client);
    Counted { client: format!("verify/{who}/{secret}/{client}"), account: format!("verify_all/{who}") }
}

impl Accounts {
    /// The user whose password it is.
    ///
    /// # Errors
    /// PASSWORD_MISMATCH, PASSWORD_ATTEMPTS_EXCEEDED.
    pub async fn verify_password(&self, verify: &VerifyPassword) -> Result<i64> {
        let now = self.clock.now();
        let mut login = self.find_login(&verify.key).await?;
        let counted = counted(verify, login.as_ref());
        let left = self.count_login(&counted, now).await?;
        loop {
            let hash = login.as_ref().and_then(|login| login.hash(verify.kind));
            let verdict = self.passwords.verify(&verify.secret, hash).await?;
            let (Some(known), Some(hash), Verdict::Right | Verdict::RightOutdated) = (&login, hash, verdict) else {
                return Err(Error::new(Reason::PasswordMismatch)
                    .with_violation("password", Fault::Format, Reason::PasswordMismatch.message())
                    .with_metadata("attemptsRemaining", left));
            };
            let renewed = match verdict {
                Verdict::RightOutdated => Some(self.passwords.hash(&verify.secret).await?),
                Verdict::Right | Verdict::Wrong => None,
            };
            if self.log_in(known.user_id, verify.kind, &counted, (hash, renewed.as_deref()), now).await? {
                return Ok(known.user_id);
            }
            // The password was changed, or its hash renewed, while this one was compared.
            login = self.find_login(&verify.key).await?;
        }
    }

    async fn find_login(&self, key: &UserKey) -> Result<Option<Login>> {
        self.db
            .run(async |conn| {
                let user_id = match key {
                    UserKey::Id(user_id) => Some(*user_id),
                    UserKey::Unique(kind, value) => unique_values::find(conn, kind, value).await?,
                };
                match user_id {
                    Some(user_id) => Ok(accounts::find_login(conn, user_id).await?),
                    None => Ok(None),
                }
            })
            .await
    }

    /// Counts a try before anything is hashed; gives how many are left.
    async fn count_login(&self, counted: &Counted, now: DateTime<Utc>) -> Result<usize> {
        self.db
            .transaction(End::Commit, async |conn| {
                let mut account = Budget::lock(conn, counted.account.clone(), ACCOUNT, now).await?;
                let mut client = Budget::lock(conn, counted.client.clone(), CLIENT, now).await?;
                let waits = [account.exceeded(), client.exceeded()];
                if let Some((window, wait)) = waits.into_iter().flatten().max_by_key(|(_, wait)| *wait) {
                    return Err(exceeded(Reason::PasswordAttemptsExceeded, window, wait));
                }
                account.add();
                client.add();
                let left = client.left().min(account.left());
                account.save(conn).await?;
                client.save(conn).await?;
                Ok(left)
            })
            .await
    }

    /// Notes a login by the secret of this hash; false where the user has another by now.
    async fn log_in(
        &self,
        user_id: i64,
        kind: Kind,
        counted: &Counted,
        (hash, renewed): (&str, Option<&str>),
        now: DateTime<Utc>,
    ) -> Result<bool> {
        self.db
            .transaction(End::Commit, async |conn| {
                let mut account = Budget::lock(conn, counted.account.clone(), ACCOUNT, now).await?;
                let mut client = Budget::lock(conn, counted.client.clone(), CLIENT, now).await?;
                let locked = accounts::lock(conn, user_id).await?;
                if locked.is_none_or(|locked| locked.login.hash(kind) != Some(hash)) {
                    return Ok(false);
                }
                account.give_back(now);
                account.save(conn).await?;
                client.clear();
                client.save(conn).await?;
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
