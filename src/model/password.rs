//! Passwords as people type them: their rules, and a type that prints nothing of them.

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use zxcvbn::{Score, zxcvbn};

use crate::{
    error::Fault,
    model::{
        account::fold_username,
        text::{self, Refusal},
    },
};

/// The most code points of a new password.
pub const MAX_LENGTH: usize = 128;
/// How many characters are searched for common words: the time of a search grows fast with its length.
const JUDGED_LENGTH: usize = 64;
/// The shortest local part of an email that tells something of its owner.
const TELLING_LENGTH: usize = 4;

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
pub struct Secret(SecretString);

impl Secret {
    /// The text itself, for a hash function alone.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

/// A new password: 8 to 128 code points, for the wallet 6 to 128.
///
/// # Errors
/// FIELD_LENGTH; FIELD_FORMAT where it contains NUL.
pub fn parse(kind: Kind, given: String) -> Result<Secret, Refusal> {
    let (min, length) = match kind {
        Kind::Login => (8, "must have 8 to 128 characters"),
        Kind::Wallet => (6, "must have 6 to 128 characters"),
    };
    // A cheap bound first: no code point of NFC stands for more than 36 bytes.
    if given.len() > MAX_LENGTH * 36 {
        return Err((Fault::Length, length));
    }
    let secret = text::nfc(given)?;
    if !(min..=MAX_LENGTH).contains(&secret.chars().count()) {
        return Err((Fault::Length, length));
    }
    Ok(Secret(secret.into()))
}

/// A password that is only to be checked. Its length is free, for a password that moved in has other rules.
///
/// # Errors
/// FIELD_REQUIRED where it is empty; FIELD_FORMAT where it contains NUL.
pub fn parse_attempt(given: String) -> Result<Secret, Refusal> {
    if given.is_empty() {
        return Err((Fault::Required, "is required"));
    }
    Ok(Secret(text::nfc(given)?.into()))
}

/// Whether a login password is too easy to guess: common, or with the username or the email's local part in it, in
/// any case. It may take a fifth of a second, so it belongs on no async thread.
pub fn is_rejected(secret: &Secret, username: Option<&str>, email: Option<&str>) -> bool {
    let folded = fold_username(secret.expose());
    let contains = |part: &str| !part.is_empty() && folded.contains(&fold_username(part));
    let local = email
        .and_then(|email| email.rsplit_once('@'))
        .map(|(local, _)| local)
        .filter(|local| local.chars().count() >= TELLING_LENGTH);
    username.is_some_and(contains) || local.is_some_and(contains) || is_common(secret)
}

fn is_common(secret: &Secret) -> bool {
    let judged = text_start(secret.expose(), JUDGED_LENGTH);
    zxcvbn(judged, &[]).score() <= Score::One
}

/// The first `max` characters.
fn text_start(text: &str, max: usize) -> &str {
    let end = text.char_indices().nth(max).map_or(text.len(), |(end, _)| end);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(text: &str) -> Secret {
        parse_attempt(text.into()).unwrap()
    }

    fn fault(kind: Kind, text: &str) -> Option<Fault> {
        parse(kind, text.into()).err().map(|(fault, _)| fault)
    }

    #[test]
    fn length_is_counted_in_code_points_after_nfc() {
        let cases = [
            (Kind::Login, 7, Some(Fault::Length)),
            (Kind::Login, 8, None),
            (Kind::Login, 128, None),
            (Kind::Login, 129, Some(Fault::Length)),
            (Kind::Wallet, 5, Some(Fault::Length)),
            (Kind::Wallet, 6, None),
            (Kind::Wallet, 128, None),
            (Kind::Wallet, 129, Some(Fault::Length)),
        ];
        for (kind, length, expected) in cases {
            for character in ["x", "e\u{301}", "😀"] {
                assert_eq!(fault(kind, &character.repeat(length)), expected, "{kind:?} {length} {character}");
            }
        }
        assert_eq!(fault(Kind::Login, &"x".repeat(1_000_000)), Some(Fault::Length));
    }

    #[test]
    fn nul_is_refused_and_other_characters_are_not() {
        assert_eq!(fault(Kind::Login, "violet\0lantern"), Some(Fault::Format));
        assert_eq!(parse_attempt("\0".into()).unwrap_err().0, Fault::Format);
        assert_eq!(fault(Kind::Login, " tab\tand\u{202e}line\n"), None);
    }

    #[test]
    fn an_attempt_has_any_length_but_none() {
        assert_eq!(parse_attempt(String::new()).unwrap_err().0, Fault::Required);
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
    fn common_passwords_are_rejected() {
        for common in ["password", "12345678", "qwertyuiop", "P@ssw0rd1", "aaaaaaaaaaaaaaaaaaaa", "iloveyou1"] {
            assert!(is_rejected(&secret(common), None, None), "{common}");
        }
        for good in ["violet-lantern-93", "correct horse battery staple", "四月的風吹過紫丁香"] {
            assert!(!is_rejected(&secret(good), None, None), "{good}");
        }
    }

    #[test]
    fn names_inside_a_password_are_rejected_in_any_case() {
        let name = Some("Mara.Quill");
        assert!(is_rejected(&secret("9mARA.qUILL-violet"), name, None));
        assert!(!is_rejected(&secret("9mara-quill-violet"), name, None));
        let email = Some("zo\u{eb}.brandt+tag@example.com");
        assert!(is_rejected(&secret("9ZOE\u{308}.BRANDT+TAG-violet"), None, email));
        assert!(!is_rejected(&secret("9example.com-violet"), None, email));
        assert!(is_rejected(&secret("7STRASSE88-violet"), Some("straße88"), None));
    }

    #[test]
    fn a_short_local_part_may_stand_in_a_password() {
        assert!(!is_rejected(&secret("violet-lantern-bob-93"), None, Some("bob@example.com")));
        assert!(is_rejected(&secret("violet-lantern-boba-93"), None, Some("boba@example.com")));
        assert!(!is_rejected(&secret("violet-lantern-93"), Some(""), Some("@")));
    }

    #[test]
    fn only_the_first_64_characters_are_judged() {
        let hidden = format!("{}violet-lantern-93", "a".repeat(64));
        assert!(is_rejected(&secret(&hidden), None, None));
    }

    proptest! {
        #[test]
        fn judging_never_panics(text in "\\PC{1,80}") {
            is_rejected(&secret(&text), Some("mara.quill"), Some("mara@example.com"));
        }
    }
}
