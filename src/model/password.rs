//! Passwords as people type them: their rules, and a type that prints nothing of them.

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;

use crate::{
    error::FieldError,
    model::text::{self, Rejection},
};

/// The most code points of a new password, by default.
pub const MAX_LENGTH: usize = 128;

/// How many code points new passwords have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Fewest of a login password.
    pub min: usize,
    /// Fewest of a wallet password.
    pub wallet_min: usize,
    /// Most of either.
    pub max: usize,
}

impl Default for Lengths {
    fn default() -> Self {
        Self {
            min: 8,
            wallet_min: 6,
            max: MAX_LENGTH,
        }
    }
}

/// Longest attempt, in bytes, of which other spellings are checked; no system takes passwords so
/// long.
const MAX_SPELLED: usize = 4096;

/// Which of a user's two secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Logs in.
    Login,
    /// Confirms payments.
    Wallet,
}

impl Kind {
    /// As the keys of budgets name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Login => "login",
            Kind::Wallet => "wallet",
        }
    }
}

/// A password in NFC. Its `Debug` is blind, and its memory is wiped when it is dropped.
#[derive(Clone, Debug)]
pub struct Secret {
    text: SecretString,
    /// As it was typed, if that is not NFC.
    typed: Option<SecretString>,
}

impl Secret {
    fn new(text: String) -> Self {
        Self {
            text: text.into(),
            typed: None,
        }
    }

    /// The text itself, for a hash function alone.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The spellings that another system may have hashed, each once: as typed, in NFC, and in NFKC.
    pub(crate) fn spellings(&self) -> Vec<Spelling> {
        let typed = self.typed.as_ref().unwrap_or(&self.text).expose_secret();
        let mut spellings = vec![Spelling(Secret::new(typed.to_owned()))];
        let mut add = |text: String| {
            if spellings
                .iter()
                .all(|known| known.text().as_bytes().ct_ne(text.as_bytes()).into())
            {
                spellings.push(Spelling(Secret::new(text)));
            }
        };
        add(self.expose().to_owned());
        if typed.len() <= MAX_SPELLED {
            add(typed.nfkc().collect());
        }
        spellings
    }
}

/// One spelling of a password, which need not be NFC.
pub(crate) struct Spelling(Secret);

impl Spelling {
    /// The text itself, for a hash function alone.
    pub(crate) fn text(&self) -> &str {
        self.0.expose()
    }

    /// The password of this spelling, as one of ours is stored.
    pub(crate) fn into_secret(self) -> Secret {
        Secret::new(self.text().nfc().collect())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose()
            .as_bytes()
            .ct_eq(other.expose().as_bytes())
            .into()
    }
}

impl Eq for Secret {}

/// A new password of a permitted length.
///
/// # Errors
/// FIELD_LENGTH; FIELD_FORMAT where it contains NUL.
pub fn parse(kind: Kind, given: String, lengths: Lengths) -> Result<Secret, (FieldError, String)> {
    let min = match kind {
        Kind::Login => lengths.min,
        Kind::Wallet => lengths.wallet_min,
    };
    let length = || {
        (
            FieldError::Length,
            format!("must be {min} to {} characters long", lengths.max),
        )
    };
    // A cheap bound first: no code point of NFC stands for more than 36 bytes.
    if given.len() > lengths.max * 36 {
        return Err(length());
    }
    let secret = text::nfc(given).map_err(|(error, why)| (error, why.to_owned()))?;
    if !(min..=lengths.max).contains(&secret.chars().count()) {
        return Err(length());
    }
    Ok(Secret::new(secret))
}

/// A password that is only to be checked. Its length is free, for a password that moved in has
/// other rules.
///
/// # Errors
/// FIELD_REQUIRED where it is empty; FIELD_FORMAT where it contains NUL.
pub fn parse_attempt(given: String) -> Result<Secret, Rejection> {
    if given.is_empty() {
        return Err((FieldError::Required, "is required"));
    }
    let typed = SecretString::from(given.clone());
    let text = text::nfc(given)?;
    let typed =
        bool::from(text.as_bytes().ct_ne(typed.expose_secret().as_bytes())).then_some(typed);
    Ok(Secret {
        text: text.into(),
        typed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        parse_attempt(text.into()).unwrap()
    }

    fn error(kind: Kind, text: &str) -> Option<FieldError> {
        parse(kind, text.into(), Lengths::default())
            .err()
            .map(|(error, _)| error)
    }

    #[test]
    fn length_is_counted_in_code_points_after_nfc() {
        let cases = [
            (Kind::Login, 7, Some(FieldError::Length)),
            (Kind::Login, 8, None),
            (Kind::Login, 128, None),
            (Kind::Login, 129, Some(FieldError::Length)),
            (Kind::Wallet, 5, Some(FieldError::Length)),
            (Kind::Wallet, 6, None),
            (Kind::Wallet, 128, None),
            (Kind::Wallet, 129, Some(FieldError::Length)),
        ];
        for (kind, length, expected) in cases {
            for character in ["x", "e\u{301}", "😀"] {
                assert_eq!(
                    error(kind, &character.repeat(length)),
                    expected,
                    "{kind:?} {length} {character}"
                );
            }
        }
        assert_eq!(
            error(Kind::Login, &"x".repeat(1_000_000)),
            Some(FieldError::Length)
        );
    }

    #[test]
    fn lengths_are_configuration() {
        let lengths = Lengths {
            min: 12,
            wallet_min: 4,
            max: 64,
        };
        let why = |kind, length: usize| {
            parse(kind, "x".repeat(length), lengths)
                .err()
                .map(|(_, why)| why)
        };
        assert_eq!(
            why(Kind::Login, 11).as_deref(),
            Some("must be 12 to 64 characters long")
        );
        assert_eq!(
            why(Kind::Wallet, 3).as_deref(),
            Some("must be 4 to 64 characters long")
        );
        assert_eq!(
            (
                why(Kind::Login, 12),
                why(Kind::Wallet, 4),
                why(Kind::Wallet, 64)
            ),
            (None, None, None)
        );
    }

    #[test]
    fn nul_is_refused_and_other_characters_are_not() {
        assert_eq!(
            error(Kind::Login, "violet\0lantern"),
            Some(FieldError::Format)
        );
        assert_eq!(
            parse_attempt("\0".into()).unwrap_err().0,
            FieldError::Format
        );
        assert_eq!(error(Kind::Login, " tab\tand\u{202e}line\n"), None);
    }

    #[test]
    fn an_attempt_has_any_length_but_none() {
        assert_eq!(
            parse_attempt(String::new()).unwrap_err().0,
            FieldError::Required
        );
        assert_eq!(secret("x").expose(), "x");
        assert_eq!(secret(&"x".repeat(200)).expose().len(), 200);
    }

    #[test]
    fn composed_and_decomposed_letters_are_one_password() {
        assert_eq!(secret("cafe\u{301} lantern"), secret("caf\u{e9} lantern"));
        assert_ne!(secret("cafe lantern"), secret("caf\u{e9} lantern"));
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        assert!(!format!("{:?}", secret("violet-lantern")).contains("violet"));
    }

    #[test]
    fn every_spelling_is_checked_once() {
        let texts = |typed: &str| {
            secret(typed)
                .spellings()
                .iter()
                .map(|s| s.text().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(texts("lantern"), ["lantern"]);
        assert_eq!(texts("caf\u{e9}"), ["caf\u{e9}"]);
        assert_eq!(texts("cafe\u{301}"), ["cafe\u{301}", "caf\u{e9}"]);
        assert_eq!(texts("\u{fb01}ne"), ["\u{fb01}ne", "fine"]);
        assert_eq!(
            texts("\u{fb01}e\u{301}"),
            ["\u{fb01}e\u{301}", "\u{fb01}\u{e9}", "fi\u{e9}"]
        );
    }
}
