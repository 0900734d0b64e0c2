//! Whole users, as they are created and deleted.

use chrono::{DateTime, Utc};

use crate::model::{
    account::{Account, Normalized},
    delivery::Channel,
    profile::Profile,
};

/// A user to be made. A `user_id` of 0 is drawn.
#[derive(Clone)]
pub struct NewUser {
    pub profile: Profile,
    pub account: NewAccount,
    /// Values that must be free.
    pub reservations: Vec<Reservation>,
}

/// The account of a user who is made.
#[derive(Clone, Default)]
pub struct NewAccount {
    pub username: Option<Normalized>,
    pub email: Option<Normalized>,
    pub email_verified: bool,
    pub phone: Option<Normalized>,
    pub phone_verified: bool,
    /// When the addresses were set.
    pub set_at: Option<DateTime<Utc>>,
    pub last_login_at: Option<DateTime<Utc>>,
    pub password_hash: Option<String>,
    pub wallet_password_hash: Option<String>,
}

/// A value that is to be one user's alone.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// Its path in the request.
    pub path: String,
    /// As `unique_values` names it.
    pub kind: String,
    /// The normalized value.
    pub value: String,
}

/// A user to delete.
pub struct DeleteUser {
    pub user_id: i64,
    /// The version that the profile must have; `Some(None)` for an etag that can't match.
    pub version: Option<Option<i64>>,
    /// Whether a missing user is not an error.
    pub allow_missing: bool,
    pub validate_only: bool,
}

impl NewAccount {
    /// What responses show of it after it is stored for this user.
    pub fn account(&self, user_id: i64) -> Account {
        let shown =
            |folded: &Option<Normalized>| folded.as_ref().map(|folded| folded.shown.clone());
        Account {
            user_id,
            username: shown(&self.username),
            email: shown(&self.email),
            email_verified: self.email_verified,
            phone: shown(&self.phone),
            phone_verified: self.phone_verified,
            has_password: self.password_hash.is_some(),
            has_wallet_password: self.wallet_password_hash.is_some(),
            last_login_at: self.last_login_at,
            version: 1,
            email_bound_at: None,
            phone_bound_at: None,
        }
    }

    /// Whether the address of a channel is created as verified.
    pub fn is_verified(&self, channel: Channel) -> bool {
        match channel {
            Channel::Email => self.email_verified,
            Channel::Phone => self.phone_verified,
        }
    }
}

impl Reservation {
    /// Its kind and value.
    pub fn pair(&self) -> (String, String) {
        (self.kind.clone(), self.value.clone())
    }
}
