//! How a user logs in: names and addresses, the form in which they are compared, and their rules.

use chrono::{DateTime, Utc};
use diesel::Queryable;
use unicode_normalization::UnicodeNormalization;

use crate::{
    error::FieldError,
    model::{
        delivery::Channel,
        password::{Kind, Secret},
        text::{self, Rejection},
    },
};

/// The login account, as its table holds it.
#[derive(Clone, Debug, Default, Queryable)]
pub struct Account {
    pub user_id: i64,
    pub username: Option<String>,
    pub email: Option<String>,
    pub email_verified: bool,
    pub phone: Option<String>,
    pub phone_verified: bool,
    pub has_password: bool,
    pub has_wallet_password: bool,
    pub last_login_at: Option<DateTime<Utc>>,
    pub version: i64,
    pub email_bound_at: Option<DateTime<Utc>>,
    pub phone_bound_at: Option<DateTime<Utc>>,
}

/// The whole of an account, with what no reply shows.
#[derive(Clone, Queryable)]
pub struct Login {
    pub user_id: i64,
    pub username: Option<String>,
    pub username_key: Option<String>,
    pub email: Option<String>,
    pub email_key: Option<String>,
    pub email_verified: bool,
    pub email_bound_at: Option<DateTime<Utc>>,
    pub phone: Option<String>,
    pub phone_verified: bool,
    pub phone_bound_at: Option<DateTime<Utc>>,
    pub password_hash: Option<String>,
    pub wallet_password_hash: Option<String>,
    pub last_login_at: Option<DateTime<Utc>>,
    pub version: i64,
    /// When the password was set without the proof of an older factor.
    pub password_unproven_at: Option<DateTime<Utc>>,
    pub email_set_at: Option<DateTime<Utc>>,
    pub phone_set_at: Option<DateTime<Utc>>,
}

/// An address that is bound to an account.
#[derive(Clone, PartialEq, Eq)]
pub struct Bound {
    pub shown: String,
    pub key: String,
    pub verified: bool,
    /// When its user bound it without the proof of an older factor; `None` for any other address.
    pub bound_at: Option<DateTime<Utc>>,
    /// When it was set.
    pub set_at: Option<DateTime<Utc>>,
}

/// What decides whether a verified address is confirmed.
#[derive(Clone, Copy)]
struct Standing {
    verified: bool,
    bound_at: Option<DateTime<Utc>>,
}

impl Standing {
    /// Whether the address can authorize changes of its account. One that was bound without the
    /// proof of an older factor cannot for as long as there is such a factor: a password, or an
    /// older verified address of the other channel. A stolen token could otherwise bind its own
    /// address and take over the account.
    fn is_confirmed(self, other: Standing, has_password: bool) -> bool {
        let has_older_factor = |bound_at: DateTime<Utc>| {
            has_password || other.verified && other.bound_at.is_none_or(|other| other < bound_at)
        };
        self.verified && !self.bound_at.is_some_and(has_older_factor)
    }
}

/// How a user is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserKey {
    Id(i64),
    /// A kind of unique value, as a caller knows it, and the normalized value.
    Unique(&'static str, String),
}

/// The unique value of a third-party login.
pub fn connection_key(provider: &str, subject: &str) -> String {
    format!("{provider}:{subject}")
}

/// Whether a text can name a provider: a lower-case letter, then letters, digits and `_`, at most
/// 32.
pub fn is_provider(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 32
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The subject of a third-party login: 1 to 255 characters, in NFC.
///
/// # Errors
/// The violation of the field.
pub fn parse_subject(given: String) -> Result<String, Rejection> {
    text::line(given, 1, 255, "must have 1 to 255 characters")
}

impl Login {
    /// The hash of one of the two secrets.
    pub fn hash(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Login => self.password_hash.as_deref(),
            Kind::Wallet => self.wallet_password_hash.as_deref(),
        }
    }

    /// The address of a channel.
    pub fn bound(&self, channel: Channel) -> Option<Bound> {
        let (shown, key) = match channel {
            Channel::Email => (&self.email, &self.email_key),
            Channel::Phone => (&self.phone, &self.phone),
        };
        let (verified, bound_at, set_at) = match channel {
            Channel::Email => (self.email_verified, self.email_bound_at, self.email_set_at),
            Channel::Phone => (self.phone_verified, self.phone_bound_at, self.phone_set_at),
        };
        Some(Bound {
            shown: shown.clone()?,
            key: key.clone()?,
            verified,
            bound_at,
            set_at,
        })
    }

    /// Puts another address of a channel in place of the bound one.
    pub fn bind(&mut self, channel: Channel, address: Option<Bound>) {
        let verified = address.as_ref().is_some_and(|address| address.verified);
        let bound_at = address.as_ref().and_then(|address| address.bound_at);
        let set_at = address.as_ref().and_then(|address| address.set_at);
        let (shown, key) = address.map(|address| (address.shown, address.key)).unzip();
        match channel {
            Channel::Email => {
                (
                    self.email,
                    self.email_key,
                    self.email_verified,
                    self.email_bound_at,
                ) = (shown, key, verified, bound_at);
                self.email_set_at = set_at;
            }
            Channel::Phone => {
                (self.phone, self.phone_verified, self.phone_bound_at) = (key, verified, bound_at);
                self.phone_set_at = set_at;
            }
        }
    }

    /// The verified address of a channel.
    pub fn verified(&self, channel: Channel) -> Option<Bound> {
        self.bound(channel).filter(|bound| bound.verified)
    }

    /// Whether any address has proved itself.
    pub fn has_verified(&self) -> bool {
        self.verified(Channel::Email).is_some() || self.verified(Channel::Phone).is_some()
    }

    /// The confirmed address of a channel: a verified one that can authorize changes of the
    /// account.
    pub fn confirmed(&self, channel: Channel) -> Option<Bound> {
        let standing = |channel| {
            let bound = self.bound(channel);
            let bound_at = bound.as_ref().and_then(|bound| bound.bound_at);
            Standing {
                verified: bound.is_some_and(|bound| bound.verified),
                bound_at,
            }
        };
        let has_password = self.password_hash.is_some();
        self.bound(channel)
            .filter(|_| standing(channel).is_confirmed(standing(channel.other()), has_password))
    }

    /// Whether any address is confirmed.
    pub fn has_confirmed(&self) -> bool {
        self.confirmed(Channel::Email).is_some() || self.confirmed(Channel::Phone).is_some()
    }

    /// What replies show.
    pub fn account(&self) -> Account {
        Account {
            user_id: self.user_id,
            username: self.username.clone(),
            email: self.email.clone(),
            email_verified: self.email_verified,
            phone: self.phone.clone(),
            phone_verified: self.phone_verified,
            has_password: self.password_hash.is_some(),
            has_wallet_password: self.wallet_password_hash.is_some(),
            last_login_at: self.last_login_at,
            version: self.version,
            email_bound_at: self.email_bound_at,
            phone_bound_at: self.phone_bound_at,
        }
    }
}

impl Account {
    /// Whether the address of a channel is verified and can authorize changes of the account.
    pub fn is_confirmed(&self, channel: Channel) -> bool {
        let email = Standing {
            verified: self.email_verified,
            bound_at: self.email_bound_at,
        };
        let phone = Standing {
            verified: self.phone_verified,
            bound_at: self.phone_bound_at,
        };
        match channel {
            Channel::Email => email.is_confirmed(phone, self.has_password),
            Channel::Phone => phone.is_confirmed(email, self.has_password),
        }
    }
}

/// A third-party login that is linked to an account.
#[derive(Clone, Debug, Queryable)]
pub struct Connection {
    pub connection_id: i64,
    pub user_id: i64,
    pub provider: String,
    pub subject: String,
    pub display_name: String,
    pub linked_at: DateTime<Utc>,
}

/// An account with its connections.
#[derive(Clone, Debug, Default)]
pub struct AccountView {
    pub account: Account,
    pub connections: Vec<Connection>,
}

/// A third-party login to link.
pub struct Link {
    pub user_id: i64,
    pub provider: String,
    pub subject: String,
    pub display_name: String,
}

/// A login that is tried.
pub struct VerifyPassword {
    pub key: UserKey,
    pub secret: Secret,
    pub kind: Kind,
    /// Where the attempt comes from; empty if the login service doesn't provide it.
    pub client: String,
}

/// A value as it was typed, and as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    pub shown: String,
    pub key: String,
}

/// A username as it is compared: NFKC and case-folded.
pub fn fold_username(given: &str) -> String {
    caseless::default_case_fold_str(&given.nfkc().collect::<String>())
        .nfkc()
        .collect()
}

/// An email as it is compared: lower case, the domain in its ASCII form.
pub fn fold_email(given: &str) -> String {
    match given.rsplit_once('@') {
        Some((local, domain)) => {
            let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
            format!("{}@{domain}", local.to_lowercase())
        }
        None => given.to_lowercase(),
    }
}

/// An email: an ASCII local part, a domain with a dot, 254 characters at most.
pub fn parse_email(given: String) -> Result<Normalized, Rejection> {
    const FORM: Rejection = (FieldError::Format, "must be an email address");
    if given.len() > 1024 {
        return Err((FieldError::Length, "must have at most 254 characters"));
    }
    let shown = text::line(given, 1, 254, "must have 1 to 254 characters")?;
    let key = fold_email(&shown);
    let (local, domain) = key.split_once('@').ok_or(FORM)?;
    let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let dots_fit = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    let local_fits = (1..=64).contains(&local.len()) && local.chars().all(is_atom) && dots_fit;
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let domain_fits = domain.contains('.') && domain.split('.').all(label_fits) && key.len() <= 254;
    let top_is_name = domain
        .rsplit('.')
        .next()
        .is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
    if local_fits && domain_fits && top_is_name {
        Ok(Normalized { shown, key })
    } else {
        Err(FORM)
    }
}

/// A phone in E.164: `+`, a digit from 1, and 6 to 14 more.
pub fn parse_phone(given: String) -> Result<Normalized, Rejection> {
    let digits = given.strip_prefix('+').unwrap_or_default();
    let fits = (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !fits {
        return Err((
            FieldError::Format,
            "must be an E.164 phone number, for example +8613800138000",
        ));
    }
    Ok(Normalized {
        shown: given.clone(),
        key: given,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_need_a_domain_with_a_dot() {
        assert_eq!(
            parse_email("Ann@Bücher.Example".into()).unwrap().key,
            "ann@xn--bcher-kva.example"
        );
        for bad in [
            "no",
            "a@b",
            "@b.example",
            "a@@b.example",
            "a b@c.example",
            "é@b.example",
            "a@b..example",
        ] {
            assert!(parse_email(bad.into()).is_err(), "{bad}");
        }
    }
}
