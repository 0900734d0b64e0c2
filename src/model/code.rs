//! One-time codes: what they are for, and how long and how often they may be tried.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::Queryable;

use crate::{
    error::FieldError,
    model::{
        delivery::{Channel, Template},
        text::Rejection,
    },
};

/// How long the row of a code stays, to tell what became of it.
pub const MEMORY: TimeDelta = TimeDelta::days(1);

/// What a code may be used for, and for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Proves the address that it was sent to.
    Bind,
    /// Lets the bound address be replaced or cleared.
    Replace,
    Password,
    WalletPassword,
    Unlink,
}

impl Purpose {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Bind => "bind",
            Purpose::Replace => "replace",
            Purpose::Password => "password",
            Purpose::WalletPassword => "wallet_password",
            Purpose::Unlink => "unlink",
        }
    }

    /// The message that carries such a code.
    pub fn template(self) -> Template {
        match self {
            Purpose::Bind => Template::CodeBind,
            Purpose::Replace => Template::CodeReplace,
            Purpose::Password => Template::CodePassword,
            Purpose::WalletPassword => Template::CodeWalletPassword,
            Purpose::Unlink => Template::CodeUnlink,
        }
    }

    /// Whether it opens an account, so that it goes only to an address that has proved itself.
    pub fn needs_verified(self) -> bool {
        matches!(
            self,
            Purpose::Password | Purpose::WalletPassword | Purpose::Unlink
        )
    }
}

/// A code that was sent.
#[derive(Clone, Debug, Queryable)]
pub struct Code {
    pub code_id: i64,
    /// Normalized address that it was sent to.
    pub address: String,
    pub nonce: Vec<u8>,
    pub key_id: String,
    pub attempts: i32,
    pub expires_at: DateTime<Utc>,
    pub used_at: Option<DateTime<Utc>>,
    pub superseded_at: Option<DateTime<Utc>>,
}

/// The bytes that a code's digits are derived from, with the key that its row names.
pub fn seed(user_id: i64, channel: Channel, purpose: &str, address: &str, nonce: &[u8]) -> Vec<u8> {
    let mut seed = nonce.to_vec();
    for part in [
        &user_id.to_be_bytes()[..],
        channel.as_str().as_bytes(),
        purpose.as_bytes(),
        address.as_bytes(),
    ] {
        seed.extend((part.len() as u32).to_be_bytes());
        seed.extend(part);
    }
    seed
}

/// Six digits out of random bytes, each number as likely as any other; `None` where no part of them
/// will do, which happens to one in a thousand million million million.
pub fn digits(random: &[u8]) -> Option<String> {
    const NUMBERS: u64 = 1_000_000;
    const FAIR: u64 = u64::MAX - u64::MAX % NUMBERS;
    let parts = random
        .chunks_exact(8)
        .map(|part| u64::from_be_bytes(part.try_into().expect("valid: eight bytes")));
    parts
        .into_iter()
        .find(|part| *part < FAIR)
        .map(|part| format!("{:06}", part % NUMBERS))
}

/// What may be a code: six ASCII digits.
pub fn parse(given: String) -> Result<String, Rejection> {
    if given.len() == 6 && given.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(given);
    }
    Err((FieldError::Format, "must be six digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_keep_their_zeros_and_pass_over_an_unfair_number() {
        let mut random = [0xff; 16];
        random[8..].copy_from_slice(&42_u64.to_be_bytes());
        assert_eq!(digits(&random).as_deref(), Some("000042"));
        assert_eq!(digits(&[0xff; 8]), None);
    }

    #[test]
    fn seeds_of_different_parts_differ() {
        let one = seed(1, Channel::Email, "bind", "ab", b"n");
        assert_ne!(one, seed(1, Channel::Email, "binda", "b", b"n"));
    }
}
