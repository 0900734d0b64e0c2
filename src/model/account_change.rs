//! A change of an account as it is asked for, and what it needs: decided from the account as it is,
//! never from the request alone.

use chrono::{DateTime, Utc};

use crate::{
    error::{Error, FieldError, Reason, Result, Violations},
    model::{
        account::{Login, Normalized},
        code::Purpose,
        delivery::Channel,
        password::{Kind, Secret},
    },
};

/// What is asked for; absent parts stay, `Some(None)` clears.
#[derive(Clone, Default)]
pub struct AccountPatch {
    pub username: Option<Option<Normalized>>,
    pub email: Option<Option<Normalized>>,
    pub phone: Option<Option<Normalized>>,
    pub last_login_at: Option<Option<DateTime<Utc>>>,
    pub password: Option<Secret>,
    pub wallet_password: Option<Secret>,
    /// Connections that go, all or none.
    pub unlink: Vec<i64>,
}

/// What is shown for it.
#[derive(Clone, Default)]
pub struct Proof {
    pub channel: Option<Channel>,
    /// Of the bound address.
    pub code: Option<String>,
    /// Of the address to be bound.
    pub new_code: Option<String>,
    pub password: Option<Secret>,
    pub wallet_password: Option<Secret>,
}

impl Proof {
    /// Whether nothing is shown.
    pub fn is_empty(&self) -> bool {
        let Self {
            channel: _,
            code,
            new_code,
            password,
            wallet_password,
        } = self;
        code.is_none() && new_code.is_none() && password.is_none() && wallet_password.is_none()
    }
}

/// Where the parts stand in the request, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paths {
    pub email: &'static str,
    pub phone: &'static str,
    pub code: &'static str,
    pub new_code: &'static str,
}

/// The paths of UpdateAccountRequest.
pub const UPDATE_ACCOUNT: Paths = Paths {
    email: "account.email",
    phone: "account.phone",
    code: "proof.code",
    new_code: "proof.new_code",
};

impl Paths {
    /// The paths of ConfirmEmailChangeRequest or ConfirmPhoneChangeRequest.
    pub fn of_confirmation(channel: Channel) -> Self {
        let code = match channel {
            Channel::Email => "current_email_code",
            Channel::Phone => "current_phone_code",
        };
        Self {
            email: "email",
            phone: "phone",
            code,
            new_code: "code",
        }
    }

    /// The state of the address of a channel.
    pub fn address(&self, channel: Channel) -> &'static str {
        match channel {
            Channel::Email => self.email,
            Channel::Phone => self.phone,
        }
    }
}

/// By which rules a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A user must prove what a service need not.
    pub is_user: bool,
    /// The codes of an address are needed for every caller.
    pub needs_codes: bool,
    /// Whether a verified email is replaced only with the code that was sent to it.
    pub requires_current_code: bool,
    /// When the oldest of the connections to unlink was linked.
    pub linked_at: Option<DateTime<Utc>>,
    pub paths: Paths,
}

/// A code that was shown, and what it must be.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeAttempt {
    pub channel: Channel,
    pub purpose: Purpose,
    /// Normalized address that it must have been sent to.
    pub address: String,
    pub digits: String,
    pub path: &'static str,
}

/// A password that was shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordAttempt {
    pub kind: Kind,
    pub secret: Secret,
    pub path: &'static str,
}

/// What becomes of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AddressChange {
    #[default]
    None,
    Clear,
    /// Another address.
    Bind(Normalized, Binding),
    /// The same address, proved now.
    Verify,
    /// The same verified address, confirmed now by an older factor.
    Confirm,
    /// The same address in another spelling.
    Respell(Normalized),
}

/// What a bound address can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A service set it.
    Unverified,
    /// Its code proved it, but no older factor of the account was proved, and the account has one.
    Unconfirmed,
    /// Its code proved it, and it can authorize changes of the account.
    Confirmed,
}

/// What is to be checked, and what is then to be written of the addresses.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub codes: Vec<CodeAttempt>,
    pub passwords_given: Vec<PasswordAttempt>,
    pub email: AddressChange,
    pub phone: AddressChange,
    /// Path of a verified address that is to be bound again.
    pub unchanged: Option<&'static str>,
}

impl Plan {
    /// Rejects to bind a verified address again.
    ///
    /// # Errors
    /// ADDRESS_UNCHANGED.
    pub fn reject_unchanged(&self) -> Result<()> {
        match self.unchanged {
            Some(path) => Err(Error::new(Reason::AddressUnchanged).with_precondition(path)),
            None => Ok(()),
        }
    }
}

/// One address of a request.
struct Address {
    channel: Channel,
    path: &'static str,
    /// The channel that the code of a bound address was sent on.
    source: Channel,
    change: AddressChange,
    needs_code: bool,
    needs_new_code: bool,
    is_unchanged: bool,
}

/// A change that a code of its purpose may prove.
struct Opening {
    purpose: Purpose,
    path: &'static str,
    /// Nothing else that is shown proves it.
    needs_code: bool,
}

const WRONG_CHANNEL: &str = "must match the address that is changed";

/// Decides what a change needs.
///
/// # Errors
/// INVALID_REQUEST for a code of a channel that can't prove the change, PROOF_REQUIRED,
/// CURRENT_CODE_REQUIRED, ADDRESS_NOT_BOUND, ADDRESS_NOT_CONFIRMED.
pub fn plan(login: &Login, patch: &AccountPatch, proof: &Proof, rules: Rules) -> Result<Plan> {
    let mut planner = Planner {
        login,
        proof,
        rules,
        plan: Plan::default(),
        missing: Violations::new(),
        lacks_current: false,
        code_is_taken: false,
        failed: None,
    };
    planner.check_channel(patch)?;
    planner.addresses(patch);
    planner.passwords_given();
    planner.open(patch);
    let Planner {
        plan,
        missing,
        lacks_current,
        failed,
        ..
    } = planner;
    missing.into_result_as(Reason::ProofRequired)?;
    if lacks_current {
        return Err(Error::new(Reason::CurrentCodeRequired).with_precondition(rules.paths.code));
    }
    failed.map_or(Ok(plan), Err)
}

struct Planner<'a> {
    login: &'a Login,
    proof: &'a Proof,
    rules: Rules,
    plan: Plan,
    missing: Violations,
    lacks_current: bool,
    /// The code serves an address.
    code_is_taken: bool,
    failed: Option<Error>,
}

impl Planner<'_> {
    /// Rejects a code of a channel other than that of the changed address. Accepts it if the
    /// address couldn't prove the change itself and an address of the other channel is bound.
    fn check_channel(&mut self, patch: &AccountPatch) -> Result<()> {
        let Some(channel) = self.other_channel(patch) else {
            return Ok(());
        };
        if self.login.confirmed(channel.other()).is_some() || self.login.verified(channel).is_none()
        {
            return Err(Error::invalid(
                "proof.channel",
                FieldError::Format,
                WRONG_CHANNEL,
            ));
        }
        if self.login.confirmed(channel).is_none() {
            self.failed = Some(Error::address_not_confirmed("proof.channel"));
        }
        Ok(())
    }

    /// The channel that the code was sent on, if it is not that of the one address that changes.
    fn other_channel(&self, patch: &AccountPatch) -> Option<Channel> {
        let changed = match (&patch.email, &patch.phone) {
            (Some(_), None) => Channel::Email,
            (None, Some(_)) => Channel::Phone,
            (None, None) | (Some(_), Some(_)) => return None,
        };
        self.proof.code.as_ref()?;
        self.proof.channel.filter(|channel| *channel != changed)
    }

    fn addresses(&mut self, patch: &AccountPatch) {
        let paths = self.rules.paths;
        let named = [
            (Channel::Email, paths.email, &patch.email),
            (Channel::Phone, paths.phone, &patch.phone),
        ];
        let other = self.other_channel(patch);
        let addresses: Vec<Address> = named
            .into_iter()
            .filter_map(|(channel, path, given)| {
                Some(self.address(
                    channel,
                    path,
                    given.as_ref()?.as_ref(),
                    other.unwrap_or(channel),
                ))
            })
            .collect();
        self.code_is_taken = !addresses.is_empty();
        let needs = |address: &&Address| address.needs_code || address.needs_new_code;
        let served = addresses
            .iter()
            .position(|address| needs(&address))
            .unwrap_or(0);
        for (place, address) in addresses.into_iter().enumerate() {
            if place == served {
                self.serve(address);
            } else if needs(&&address) {
                self.missing.add(
                    address.path,
                    FieldError::Required,
                    "requires a code; a request can contain only one change that requires a code",
                );
            } else {
                self.keep(address);
            }
        }
    }

    /// `source` is the channel that a code was sent on.
    fn address(
        &self,
        channel: Channel,
        path: &'static str,
        given: Option<&Normalized>,
        source: Channel,
    ) -> Address {
        let bound = self.login.bound(channel);
        let is_verified = bound.as_ref().is_some_and(|bound| bound.verified);
        let is_confirmed = self.login.confirmed(channel).is_some();
        let proves = self.rules.is_user || self.rules.needs_codes;
        // An address that isn't confirmed gives no protection against a caller who knows the
        // password.
        let protects = proves && is_verified && (is_confirmed || self.proof.password.is_none());
        let mut address = Address {
            channel,
            path,
            source,
            change: AddressChange::None,
            needs_code: false,
            needs_new_code: false,
            is_unchanged: false,
        };
        match (given, bound) {
            (None, None) => {}
            (None, Some(_)) => {
                address.change = AddressChange::Clear;
                address.needs_code = protects;
            }
            (Some(given), Some(bound)) if given.key == bound.key => match (proves, is_verified) {
                (false, _) => address.change = AddressChange::Respell(given.clone()),
                (true, true) if !is_confirmed && self.proves_older_factor(source) => {
                    address.change = AddressChange::Confirm;
                }
                (true, true) => address.is_unchanged = true,
                (true, false) if self.proof.new_code.is_some() => {
                    address.change = AddressChange::Verify
                }
                (true, false) => {}
            },
            (Some(given), _) => {
                address.change = AddressChange::Bind(given.clone(), self.binding(source));
                address.needs_new_code = proves;
                let is_asked_for = channel == Channel::Phone || self.rules.requires_current_code;
                address.needs_code = protects && is_asked_for;
            }
        }
        address
    }

    /// What the currently bound address can do.
    fn binding(&self, source: Channel) -> Binding {
        let Rules {
            is_user,
            needs_codes,
            ..
        } = self.rules;
        let has_factor = self.login.password_hash.is_some() || self.login.has_confirmed();
        match (is_user, needs_codes) {
            (false, false) => Binding::Unverified,
            (false, true) => Binding::Confirmed,
            (true, _) if !has_factor || self.proves_older_factor(source) => Binding::Confirmed,
            (true, _) => Binding::Unconfirmed,
        }
    }

    /// Whether the call proves an existing factor of the account, if its evidence is correct.
    fn proves_older_factor(&self, source: Channel) -> bool {
        let by_code = self.proof.code.is_some() && self.login.confirmed(source).is_some();
        by_code || self.proof.password.is_some()
    }

    /// The address that the codes of the call are for.
    fn serve(&mut self, address: Address) {
        let paths = self.rules.paths;
        let lacks_new = address.needs_new_code && self.proof.new_code.is_none();
        let lacks_code = address.needs_code && self.proof.code.is_none();
        match (lacks_new, lacks_code) {
            (true, _) => self.missing.add(
                paths.new_code,
                FieldError::Required,
                "the code sent to the new address is required",
            ),
            (false, true) if address.needs_new_code => self.lacks_current = true,
            (false, true) => self.missing.add(
                paths.code,
                FieldError::Required,
                "the code sent to the current address is required",
            ),
            (false, false) => {}
        }
        let bound = |channel| {
            self.login
                .bound(channel)
                .map(|bound| bound.key)
                .unwrap_or_default()
        };
        let new = match &address.change {
            AddressChange::Bind(folded, _) => folded.key.clone(),
            _ => bound(address.channel),
        };
        let shown = |channel, purpose, address, digits: &Option<String>, path| {
            digits.clone().map(|digits| CodeAttempt {
                channel,
                purpose,
                address,
                digits,
                path,
            })
        };
        let new = shown(
            address.channel,
            Purpose::Bind,
            new,
            &self.proof.new_code,
            paths.new_code,
        );
        let current = shown(
            address.source,
            Purpose::Replace,
            bound(address.source),
            &self.proof.code,
            paths.code,
        );
        self.plan.codes.extend(new.into_iter().chain(current));
        self.keep(address);
    }

    fn keep(&mut self, address: Address) {
        if address.is_unchanged {
            self.plan.unchanged = Some(address.path);
        }
        match address.channel {
            Channel::Email => self.plan.email = address.change,
            Channel::Phone => self.plan.phone = address.change,
        }
    }

    /// The passwords that are shown; each is checked, whatever needs it.
    fn passwords_given(&mut self) {
        let shown = [
            (Kind::Login, &self.proof.password, "proof.current_password"),
            (
                Kind::Wallet,
                &self.proof.wallet_password,
                "proof.current_wallet_password",
            ),
        ];
        for (kind, secret, path) in shown {
            self.plan
                .passwords_given
                .extend(
                    secret
                        .clone()
                        .map(|secret| PasswordAttempt { kind, secret, path }),
                );
        }
    }

    /// What a code may open, in the order in which it is looked at.
    fn openings(&self, patch: &AccountPatch) -> Vec<Opening> {
        let Self { login, proof, .. } = self;
        let has_verified = login.has_verified();
        let needs = |shown: &Option<Secret>, hash: &Option<String>| {
            shown.is_none() && (hash.is_some() || has_verified)
        };
        let password = Opening {
            purpose: Purpose::Password,
            path: "new_password",
            needs_code: needs(&proof.password, &login.password_hash),
        };
        let wallet = Opening {
            purpose: Purpose::WalletPassword,
            path: "new_wallet_password",
            needs_code: needs(&proof.wallet_password, &login.wallet_password_hash),
        };
        let needs_code = login.has_confirmed();
        let unlink = Opening {
            purpose: Purpose::Unlink,
            path: "unlink_connection_id",
            needs_code,
        };
        let asked = [
            (patch.password.is_some(), password),
            (patch.wallet_password.is_some(), wallet),
            (!patch.unlink.is_empty(), unlink),
        ];
        asked
            .into_iter()
            .filter_map(|(is_asked, opening)| is_asked.then_some(opening))
            .collect()
    }

    /// Gives the code to the first change that needs it, or that could have it; every other one
    /// needs its own proof.
    fn open(&mut self, patch: &AccountPatch) {
        let openings = self.openings(patch);
        let served = openings
            .iter()
            .position(|opening| opening.needs_code)
            .unwrap_or(0);
        for (place, opening) in openings.iter().enumerate() {
            let code = self
                .proof
                .code
                .clone()
                .filter(|_| place == served && !self.code_is_taken);
            match (code, self.proof.channel) {
                (Some(digits), Some(channel)) => self.open_by(channel, opening.purpose, digits),
                _ if opening.needs_code && self.rules.is_user => {
                    let why = "requires its own proof: a code or the current password";
                    self.missing.add(opening.path, FieldError::Required, why);
                }
                _ => {}
            }
        }
        let needs_password = !self.login.has_confirmed() && self.login.password_hash.is_some();
        if !patch.unlink.is_empty()
            && self.rules.is_user
            && needs_password
            && self.proof.password.is_none()
        {
            self.missing.add(
                "proof.current_password",
                FieldError::Required,
                "the current password is required",
            );
        }
        // Otherwise a stolen token could set a first password, and unlink the owner's connection
        // with it.
        let unproven = self.login.password_unproven_at.zip(self.rules.linked_at);
        if self.rules.is_user
            && needs_password
            && unproven.is_some_and(|(set_at, linked_at)| linked_at <= set_at)
        {
            let why = "was linked before the password was set without another proof; only a service can unlink it";
            self.missing
                .add("unlink_connection_id", FieldError::Required, why);
        }
    }

    fn open_by(&mut self, channel: Channel, purpose: Purpose, digits: String) {
        let path = "proof.channel";
        let refused = match (self.login.confirmed(channel), self.login.verified(channel)) {
            (Some(bound), _) => {
                let path = self.rules.paths.code;
                self.plan.codes.push(CodeAttempt {
                    channel,
                    purpose,
                    address: bound.key,
                    digits,
                    path,
                });
                return;
            }
            (None, Some(_)) => Error::address_not_confirmed(path),
            (None, None) => Error::new(Reason::AddressNotBound).with_precondition(path),
        };
        self.failed.get_or_insert(refused);
    }
}

/// Notes what of a proof can serve nothing that the request holds.
pub fn check_proof(patch: &AccountPatch, proof: &Proof, paths: Paths, violations: &mut Violations) {
    let addresses = [
        (Channel::Email, &patch.email),
        (Channel::Phone, &patch.phone),
    ];
    let named: Vec<Channel> = addresses
        .iter()
        .filter(|(_, given)| given.is_some())
        .map(|(channel, _)| *channel)
        .collect();
    let binds = addresses
        .iter()
        .any(|(_, given)| matches!(given, Some(Some(_))));
    let opens =
        patch.password.is_some() || patch.wallet_password.is_some() || !patch.unlink.is_empty();
    if proof.new_code.is_some() && !binds {
        violations.add(
            paths.new_code,
            FieldError::Format,
            "doesn't apply: the request binds no address",
        );
    }
    match (proof.channel, named.is_empty()) {
        // A code of the other channel can prove some changes of an address; the state of the
        // account decides.
        (Some(channel), false) if !named.contains(&channel) && proof.code.is_none() => {
            violations.add("proof.channel", FieldError::Format, WRONG_CHANNEL);
        }
        (None, true) if proof.code.is_some() && opens => {
            violations.add(
                "proof.channel",
                FieldError::Required,
                "must be the channel that the code was sent on",
            );
        }
        _ => {}
    }
    if proof.code.is_some() && named.is_empty() && !opens {
        violations.add(
            paths.code,
            FieldError::Format,
            "doesn't apply: the request has no change that uses a code",
        );
    }
}
