//! Login accounts: changing how a user logs in.

mod connections;
mod login;
mod notices;
mod proofs;
mod secrets;
mod write;

pub(crate) use secrets::{Hashes, NewSecrets};

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use prost::Message;

use crate::{
    clock::Clock,
    domain::{
        caller::Caller,
        db::{Db, End},
        hash_kinds::HashKinds,
        idempotency::{self, IdempotencyKey, Outcome},
        names::NamePolicy,
        passwords::{Passwords, Verdict},
        texts::TextLimits,
    },
    error::{Error, FieldError, Reason, Result},
    model::{
        account::{AccountView, Connection, Login},
        account_change::{AccountPatch, Paths, Plan, Proof, Rules, plan},
        keys::Keys,
        password::Kind,
        rate_limit::{CodeLimits, PasswordLimits, Window},
    },
    store::accounts::{self, Locked},
};
use proofs::{Proofs, VerifiedCodes};

/// What a deployment decides about accounts.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether a verified email is replaced only with the code that was sent to it.
    pub requires_current_code: bool,
    pub names: NamePolicy,
    pub texts: TextLimits,
    /// How many wrong passwords are permitted.
    pub password_limits: PasswordLimits,
    /// How many attempts with codes are permitted.
    pub code_limits: CodeLimits,
    /// How many security notices an account gets before they are summarized.
    pub notices: [Window; 2],
}

/// A change of one account.
pub struct UpdateAccount {
    pub caller: Caller,
    pub user_id: i64,
    pub patch: AccountPatch,
    pub proof: Proof,
    pub paths: Paths,
    /// Whether the codes of an address are needed for every caller.
    pub needs_codes: bool,
    /// The version that the account must still have; `Some(None)` for an etag that matches nothing.
    pub version: Option<Option<i64>>,
    pub validate_only: bool,
}

/// Use cases of accounts.
#[derive(Clone)]
pub struct Accounts {
    db: Db,
    clock: Clock,
    passwords: Passwords,
    hash_kinds: HashKinds,
    proofs: Proofs,
    policy: Policy,
}

impl UpdateAccount {
    /// Whether the account is looked at before it is locked: a proof is checked and a secret hashed
    /// without the lock, and a missing connection is reported before everything else.
    fn is_looked_at_first(&self) -> bool {
        let patch = &self.patch;
        let sets_secret = patch.password.is_some() || patch.wallet_password.is_some();
        !self.proof.is_empty() || sets_secret || !patch.unlink.is_empty()
    }

    /// Whether the new secret must not be the one of this kind that the account has: the other one
    /// is set alone.
    fn must_differ_from(&self, kind: Kind) -> bool {
        let (set, kept) = match kind {
            Kind::Login => (&self.patch.wallet_password, &self.patch.password),
            Kind::Wallet => (&self.patch.password, &self.patch.wallet_password),
        };
        set.is_some() && kept.is_none()
    }

    fn new_secrets(&self) -> NewSecrets<'_> {
        NewSecrets {
            password: self
                .patch
                .password
                .as_ref()
                .map(|secret| ("new_password", secret)),
            wallet_password: self
                .patch
                .wallet_password
                .as_ref()
                .map(|secret| ("new_wallet_password", secret)),
        }
    }
}

/// What was shown for a change, for the account as it was then.
struct VerifiedChange {
    login: Login,
    planned: Plan,
    /// When the oldest of the connections to unlink was linked.
    linked_at: Option<DateTime<Utc>>,
    right: VerifiedCodes,
}

impl VerifiedChange {
    /// The secrets that something was compared with.
    fn compared(&self, update: &UpdateAccount) -> impl Iterator<Item = Kind> {
        let is_compared = |kind: &Kind| {
            update.must_differ_from(*kind)
                || self
                    .planned
                    .passwords_given
                    .iter()
                    .any(|attempt| attempt.kind == *kind)
        };
        [Kind::Login, Kind::Wallet].into_iter().filter(is_compared)
    }
}

impl Accounts {
    /// Use cases on one database, with the keys of a deployment.
    pub fn new(
        db: Db,
        clock: Clock,
        keys: Keys,
        (passwords, hash_kinds): (Passwords, HashKinds),
        policy: Policy,
    ) -> Self {
        let (wrong, codes) = (policy.password_limits.wrong, policy.code_limits);
        let proofs = Proofs {
            db: db.clone(),
            clock: clock.clone(),
            keys,
            passwords: passwords.clone(),
            wrong,
            codes,
        };
        Self {
            db,
            clock,
            passwords,
            hash_kinds,
            proofs,
            policy,
        }
    }

    /// Makes all changes of a call or none, and the response of it.
    ///
    /// # Errors
    /// Violations of UpdateAccount, ConfirmEmailChange and ConfirmPhoneChange, in the order of the
    /// contract.
    pub async fn update<R: Message + Default>(
        &self,
        update: &UpdateAccount,
        key: Option<&IdempotencyKey>,
        respond: impl Fn(&AccountView) -> R + Sync,
    ) -> Result<R> {
        let proved = if update.is_looked_at_first() {
            Some(self.prove(update).await?)
        } else {
            None
        };
        let written = self.write(update, key, proved.as_ref(), respond).await;
        // What was tried for a change that did not come, or that had been made by the same request
        // before.
        let is_used_up = matches!(written, Ok(Outcome::New(_))) && !update.validate_only;
        match proved {
            Some(proved) if is_used_up => proved.right.settle(),
            Some(proved) => proved.right.refund().await,
            None => {}
        }
        written.map(Outcome::into_response)
    }

    /// Checks what is shown for a change of the account as it is now.
    async fn prove(&self, update: &UpdateAccount) -> Result<VerifiedChange> {
        let read = async |conn: &mut AsyncPgConnection| {
            let login = accounts::find_login(conn, update.user_id).await?;
            let login = login.ok_or_else(|| Error::user_not_found(update.user_id))?;
            let connections = if update.patch.unlink.is_empty() {
                Vec::new()
            } else {
                accounts::list_connections(conn, vec![update.user_id]).await?
            };
            check_connection(update, &connections)?;
            let unlinked = connections
                .iter()
                .filter(|link| update.patch.unlink.contains(&link.connection_id));
            Ok((login, unlinked.map(|link| link.linked_at).min()))
        };
        let (login, linked_at) = self.db.run(read).await?;
        check_version(update, &login)?;
        let planned = self.plan(update, &login, linked_at)?;
        let right = self.proofs.check(&update.caller, &login, &planned).await?;
        Ok(VerifiedChange {
            login,
            planned,
            linked_at,
            right,
        })
    }

    fn plan(
        &self,
        update: &UpdateAccount,
        login: &Login,
        linked_at: Option<DateTime<Utc>>,
    ) -> Result<Plan> {
        let rules = Rules {
            is_user: update.caller.user().is_some(),
            needs_codes: update.needs_codes,
            requires_current_code: self.policy.requires_current_code,
            linked_at,
            paths: update.paths,
        };
        plan(login, &update.patch, &update.proof, rules)
    }

    async fn write<R: Message + Default>(
        &self,
        update: &UpdateAccount,
        key: Option<&IdempotencyKey>,
        proved: Option<&VerifiedChange>,
        respond: impl Fn(&AccountView) -> R + Sync,
    ) -> Result<Outcome<R>> {
        if let Some(proved) = proved {
            // After the proofs and their limits: it is expensive, and a caller without proofs must
            // not cause that work.
            self.check_secrets(update, &proved.login).await?;
            self.reject_equal(update, proved).await?;
        }
        let hashes = if update.validate_only {
            Hashes::default()
        } else {
            update
                .new_secrets()
                .hash(&self.passwords, &update.caller)
                .await?
        };
        let now = self.clock.now();
        let end = if update.validate_only {
            End::DryRun
        } else {
            End::Commit
        };
        let db = self.db.of_user(update.user_id);
        idempotency::write(&db, end, key, Some(update.user_id), async |conn| {
            let locked = accounts::lock(conn, update.user_id).await?;
            let Locked { login, language } =
                locked.ok_or_else(|| Error::user_not_found(update.user_id))?;
            check_version(update, &login)?;
            let planned_now;
            let planned = match proved {
                Some(proved) => {
                    proved.right.consume(conn, now).await?;
                    let is_as_proved = login.version == proved.login.version
                        || proved
                            .compared(update)
                            .all(|kind| login.hash(kind) == proved.login.hash(kind))
                            && self.plan(update, &login, proved.linked_at)? == proved.planned;
                    if !is_as_proved {
                        return Err(Error::new(Reason::WriteConflict));
                    }
                    &proved.planned
                }
                None => {
                    planned_now = self.plan(update, &login, None)?;
                    planned_now.reject_unchanged()?;
                    &planned_now
                }
            };
            let policy = &self.policy;
            let change = write::Change {
                update,
                planned,
                hashes: &hashes,
                policy,
                language: language.as_ref(),
            };
            let written = write::apply(conn, &change, &login, now).await?;
            let connections = if written.has_connections {
                accounts::list_connections(conn, vec![update.user_id]).await?
            } else {
                Vec::new()
            };
            let mut view = AccountView {
                account: written.login.account(),
                connections,
            };
            if update.validate_only {
                view.account.version = login.version;
                view.account.last_login_at = login.last_login_at;
            }
            Ok(respond(&view))
        })
        .await
    }

    /// Checks the new secrets with the names that the user will have.
    async fn check_secrets(&self, update: &UpdateAccount, login: &Login) -> Result<()> {
        let patch = &update.patch;
        let username = match &patch.username {
            Some(given) => given.as_ref().map(|folded| folded.shown.clone()),
            None => login.username.clone(),
        };
        let email = match &patch.email {
            Some(given) => given.as_ref().map(|folded| folded.shown.clone()),
            None => login.email.clone(),
        };
        update
            .new_secrets()
            .check(
                &self.passwords,
                &update.caller,
                username.as_deref(),
                email.as_deref(),
            )
            .await
    }

    /// Rejects a new secret that equals the other secret of the account. The response reveals
    /// something about the other secret, so for a user who hasn't presented it, each comparison
    /// counts as an attempt like a `current_password`. If too few attempts are left, and with
    /// `validate_only`, the new secret is accepted without a comparison, which reveals nothing.
    async fn reject_equal(&self, update: &UpdateAccount, proved: &VerifiedChange) -> Result<()> {
        let VerifiedChange { login, planned, .. } = proved;
        let patch = &update.patch;
        let pairs = [
            (&patch.wallet_password, Kind::Login, "new_wallet_password"),
            (&patch.password, Kind::Wallet, "new_password"),
        ];
        for (new, other, path) in pairs {
            let (Some(new), true, Some(hash)) =
                (new, update.must_differ_from(other), login.hash(other))
            else {
                continue;
            };
            let is_shown = planned
                .passwords_given
                .iter()
                .any(|attempt| attempt.kind == other);
            let mut counted = None;
            if update.caller.user().is_some() && !is_shown {
                if !update.validate_only {
                    counted = self.proofs.count_comparison(login.user_id, other).await?;
                }
                if counted.is_none() {
                    continue;
                }
            }
            let verdict = self.passwords.verify(&update.caller, new, Some(hash)).await;
            if let Some(hit) = counted.filter(|_| !matches!(verdict, Ok(Verdict::Wrong))) {
                self.proofs
                    .give_password_back(login.user_id, other, hit)
                    .await?;
            }
            if verdict? != Verdict::Wrong {
                let why = "must differ from the account's other password";
                return Err(Error::new(Reason::PasswordRejected).with_violation(
                    path,
                    FieldError::Format,
                    why,
                ));
            }
        }
        Ok(())
    }
}

fn check_version(update: &UpdateAccount, login: &Login) -> Result<()> {
    match update.version {
        Some(version) if version != Some(login.version) => Err(Error::new(Reason::EtagMismatch)),
        _ => Ok(()),
    }
}

fn check_connection(update: &UpdateAccount, connections: &[Connection]) -> Result<()> {
    let is_linked = |wanted: &&i64| {
        connections
            .iter()
            .any(|connection| connection.connection_id == **wanted)
    };
    match update.patch.unlink.iter().find(|wanted| !is_linked(wanted)) {
        Some(wanted) => Err(connection_not_found(*wanted)),
        None => Ok(()),
    }
}

fn connection_not_found(connection_id: i64) -> Error {
    Error::new(Reason::ConnectionNotFound)
        .with_resource("connection", format!("connections/{connection_id}"))
}
