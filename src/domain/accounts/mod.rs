//! Login accounts: changing how a user logs in.

mod connections;
mod login;
mod notices;
mod proofs;
mod write;

pub use login::{LoginKey, VerifyPassword};

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;

use crate::{
    clock::Clock,
    domain::{
        caller::Caller,
        db::{Db, End},
        keys::Keys,
        limits::{Budget, exceeded},
        once::{Once, Outcome},
        passwords::{Passwords, Verdict},
        profiles::AccountView,
    },
    error::{Error, Fault, Reason, Result, Violations},
    model::{
        account::{Connection, Login},
        account_change::{AccountPatch, Paths, Plan, Proof, Rules, plan},
        limit::{PASSWORD_WRONG, Window},
        password::{Kind, Secret},
    },
    store::accounts::{self, Locked},
};
use proofs::{Proofs, Right};

/// What a deployment decides about accounts.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether a verified email is replaced only with the code that was sent to it.
    pub requires_current_code: bool,
    /// How long a new address may not open an account that somebody has.
    pub hold: TimeDelta,
}

/// A change of one account.
pub struct UpdateAccount {
    pub caller: Caller,
    pub user_id: i64,
    pub patch: AccountPatch,
    pub proof: Proof,
    pub paths: Paths,
    /// Whether the codes of an address are needed whoever asks.
    pub needs_codes: bool,
    /// The version that the account must still have; `Some(None)` for an etag that matches nothing.
    pub version: Option<Option<i64>>,
    pub validate_only: bool,
    pub once: Option<Once>,
}

/// Use cases of accounts.
#[derive(Clone)]
pub struct Accounts {
    db: Db,
    clock: Clock,
    passwords: Passwords,
    proofs: Proofs,
    policy: Policy,
}

impl UpdateAccount {
    /// Whether the account is looked at before it is locked: a proof is checked and a secret hashed without the lock, and
    /// that a connection is not there is told before all else.
    fn is_looked_at_first(&self) -> bool {
        let patch = &self.patch;
        let sets_secret = patch.password.is_some() || patch.wallet_password.is_some();
        !self.proof.is_empty() || sets_secret || !patch.unlink.is_empty()
    }
}

/// What was shown for a change, for the account as it was then.
struct Proved {
    login: Login,
    planned: Plan,
    right: Right,
}

/// Hashes of the new passwords of a change.
#[derive(Clone, Default)]
struct Hashes {
    password: Option<String>,
    wallet_password: Option<String>,
}

impl Accounts {
    pub fn new(db: Db, clock: Clock, keys: Keys, passwords: Passwords, policy: Policy) -> Self {
        let proofs = Proofs { db: db.clone(), clock: clock.clone(), keys, passwords: passwords.clone() };
        Self { db, clock, passwords, proofs, policy }
    }

    /// Makes all changes of a call or none.
    ///
    /// # Errors
    /// Those of UpdateAccount and ConfirmEmailChange, in the order of the contract.
    pub async fn update(
        &self,
        update: &UpdateAccount,
        reply: impl Fn(&AccountView) -> Vec<u8> + Sync,
    ) -> Result<Outcome<AccountView>> {
        let proved = match update.is_looked_at_first() {
            true => Some(self.prove(update).await?),
            false => None,
        };
        match self.write(update, proved.as_ref(), reply).await {
            Ok(outcome) if !update.validate_only => Ok(outcome),
            ended => {
                if let Some(proved) = &proved {
                    self.proofs.give_back(&proved.right).await?;
                }
                ended
            }
        }
    }

    /// Checks what is shown for a change of the account as it is now.
    async fn prove(&self, update: &UpdateAccount) -> Result<Proved> {
        let read = async |conn: &mut AsyncPgConnection| {
            let login = accounts::find_login(conn, update.user_id).await?;
            let login = login.ok_or_else(|| Error::user_not_found(update.user_id))?;
            if !update.patch.unlink.is_empty() {
                check_connection(update, &accounts::list_connections(conn, vec![update.user_id]).await?)?;
            }
            Ok(login)
        };
        let login = self.db.run(read).await?;
        check_version(update, &login)?;
        self.refuse_easy(update, &login).await?;
        let planned = self.plan(update, &login)?;
        let right = self.proofs.check(&login, &planned).await?;
        Ok(Proved { login, planned, right })
    }

    fn plan(&self, update: &UpdateAccount, login: &Login) -> Result<Plan> {
        plan(login, &update.patch, &update.proof, self.rules(update), self.clock.now())
    }

    fn rules(&self, update: &UpdateAccount) -> Rules {
        Rules {
            is_user: update.caller.user().is_some(),
            needs_codes: update.needs_codes,
            requires_current_code: self.policy.requires_current_code,
            hold: self.policy.hold,
            paths: update.paths,
        }
    }

    async fn write(
        &self,
        update: &UpdateAccount,
        proved: Option<&Proved>,
        reply: impl Fn(&AccountView) -> Vec<u8> + Sync,
    ) -> Result<Outcome<AccountView>> {
        if let Some(proved) = proved {
            self.refuse_equal(update, proved).await?;
        }
        let hashes = match update.validate_only {
            true => Hashes::default(),
            false => self.hash(&update.patch).await?,
        };
        let now = self.clock.now();
        let end = if update.validate_only { End::RollBack } else { End::Commit };
        self.db
            .transaction(end, async |conn| {
                if let Some(once) = &update.once
                    && let Some(kept) = once.begin(conn).await?
                {
                    return Ok(Outcome::Kept(kept));
                }
                let locked = accounts::lock(conn, update.user_id).await?;
                let Locked { login, language } = locked.ok_or_else(|| Error::user_not_found(update.user_id))?;
                check_version(update, &login)?;
                let planned_now;
                let planned = match proved {
                    Some(proved) => {
                        proved.right.use_up(conn, now).await?;
                        // What was proved must still be what is needed.
                        if proved.login.version != login.version && self.plan(update, &login)? != proved.planned {
                            return Err(Error::new(Reason::WriteConflict));
                        }
                        &proved.planned
                    }
                    None => {
                        planned_now = self.plan(update, &login)?;
                        planned_now.refuse_unchanged()?;
                        &planned_now
                    }
                };
                let change = write::Change { update, planned, hashes: &hashes, language: language.as_ref() };
                let written = write::apply(conn, &change, &login, now).await?;
                let connections = match written.has_connections {
                    true => accounts::list_connections(conn, vec![update.user_id]).await?,
                    false => Vec::new(),
                };
                let mut view = AccountView { account: written.login.account(), connections };
                if update.validate_only {
                    view.account.version = login.version;
                    view.account.last_login_at = login.last_login_at;
                }
                if let Some(once) = &update.once {
                    once.end(conn, Some(update.user_id), reply(&view)).await?;
                }
                Ok(Outcome::New(view))
            })
            .await
    }

    /// Refuses a new password that is easy to guess, or both the same.
    async fn refuse_easy(&self, update: &UpdateAccount, login: &Login) -> Result<()> {
        let patch = &update.patch;
        if let (Some(password), Some(wallet)) = (&patch.password, &patch.wallet_password)
            && password == wallet
        {
            return Err(rejected("new_wallet_password", "must differ from the password"));
        }
        let Some(password) = &patch.password else { return Ok(()) };
        let username = match &patch.username {
            Some(given) => given.as_ref().map(|folded| folded.shown.clone()),
            None => login.username.clone(),
        };
        let email = match &patch.email {
            Some(given) => given.as_ref().map(|folded| folded.shown.clone()),
            None => login.email.clone(),
        };
        if self.passwords.is_rejected(password, username.as_deref(), email.as_deref()).await? {
            return Err(rejected("new_password", "is common, or contains the username or the email"));
        }
        Ok(())
    }

    /// Refuses a new secret that is the other one of the account. The answer tells of the other secret, so that a user
    /// who has not shown it has as many tries as with a wrong password.
    async fn refuse_equal(&self, update: &UpdateAccount, proved: &Proved) -> Result<()> {
        let Proved { login, planned, .. } = proved;
        let patch = &update.patch;
        let pairs = [
            (&patch.wallet_password, &patch.password, &login.password_hash, Kind::Login, "new_wallet_password"),
            (&patch.password, &patch.wallet_password, &login.wallet_password_hash, Kind::Wallet, "new_password"),
        ];
        for (new, others_new, hash, other, path) in pairs {
            let (Some(new), None, Some(hash)) = (new, others_new, hash) else { continue };
            let is_shown = planned.guesses.iter().any(|guess| guess.kind == other);
            if update.caller.user().is_some() && !is_shown {
                self.count_comparison(login.user_id, other).await?;
            }
            if self.passwords.verify(new, Some(hash)).await? != Verdict::Wrong {
                return Err(rejected(path, "must differ from the other password"));
            }
        }
        Ok(())
    }

    async fn count_comparison(&self, user_id: i64, other: Kind) -> Result<()> {
        const WINDOWS: &[Window] = &[PASSWORD_WRONG];
        let now = self.clock.now();
        let key = match other {
            Kind::Login => format!("differs/{user_id}/login"),
            Kind::Wallet => format!("differs/{user_id}/wallet"),
        };
        self.db
            .transaction(End::Commit, async |conn| {
                let mut budget = Budget::lock(conn, key.clone(), WINDOWS, now).await?;
                if let Some((window, wait)) = budget.exceeded() {
                    return Err(exceeded(Reason::PasswordAttemptsExceeded, window, wait));
                }
                budget.add();
                budget.save(conn).await
            })
            .await
    }

    async fn hash(&self, patch: &AccountPatch) -> Result<Hashes> {
        Ok(Hashes {
            password: self.hash_one(patch.password.as_ref()).await?,
            wallet_password: self.hash_one(patch.wallet_password.as_ref()).await?,
        })
    }

    async fn hash_one(&self, secret: Option<&Secret>) -> Result<Option<String>> {
        match secret {
            Some(secret) => Ok(Some(self.passwords.hash(secret).await?)),
            None => Ok(None),
        }
    }
}

fn rejected(path: &str, why: &str) -> Error {
    Error::new(Reason::PasswordRejected).with_violation(path, Fault::Format, why)
}

/// Checks and hashes the passwords of a user who is made.
///
/// # Errors
/// PASSWORD_REJECTED, all faults together.
pub async fn first_hashes(
    passwords: &Passwords,
    secrets: (Option<&Secret>, Option<&Secret>),
    names: (Option<&str>, Option<&str>),
    is_trial: bool,
) -> Result<(Option<String>, Option<String>)> {
    let (password, wallet) = secrets;
    let mut faults = Violations::new();
    if let Some(password) = password
        && passwords.is_rejected(password, names.0, names.1).await?
    {
        faults.add("password", Fault::Format, "is common, or contains the username or the email");
    }
    if password.is_some() && password == wallet {
        faults.add("wallet_password", Fault::Format, "must differ from the password");
    }
    faults.into_result_as(Reason::PasswordRejected)?;
    let mut hashes = (None, None);
    if let Some(password) = password.filter(|_| !is_trial) {
        hashes.0 = Some(passwords.hash(password).await?);
    }
    if let Some(wallet) = wallet.filter(|_| !is_trial) {
        hashes.1 = Some(passwords.hash(wallet).await?);
    }
    Ok(hashes)
}

fn check_version(update: &UpdateAccount, login: &Login) -> Result<()> {
    match update.version {
        Some(version) if version != Some(login.version) => Err(Error::new(Reason::EtagMismatch)),
        _ => Ok(()),
    }
}

fn check_connection(update: &UpdateAccount, connections: &[Connection]) -> Result<()> {
    let is_linked = |wanted: &&i64| connections.iter().any(|connection| connection.connection_id == **wanted);
    match update.patch.unlink.iter().find(|wanted| !is_linked(wanted)) {
        Some(wanted) => Err(connection_not_found(*wanted)),
        None => Ok(()),
    }
}

fn connection_not_found(connection_id: i64) -> Error {
    Error::new(Reason::ConnectionNotFound).with_resource("user.v1.Connection", format!("connections/{connection_id}"))
}
