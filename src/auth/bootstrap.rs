//! The one token from a file or variable, for the first call of a deployment.

use subtle::ConstantTimeEq;

use crate::model::token::{self, TokenHash};

/// Minimum length in characters, so that it can't be guessed.
const MIN_LENGTH: usize = 16;

/// The bootstrap token, of which only the hash is kept.
#[derive(Clone)]
pub struct Bootstrap(TokenHash);

impl Bootstrap {
    /// Reads the token, without the line end that a file has.
    ///
    /// # Errors
    /// A sentence for the report of the configuration, where it is too short or no bearer token.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let secret = text.trim();
        let fits = secret.len() >= MIN_LENGTH
            && secret
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',');
        if fits {
            Ok(Self(token::hash(secret)))
        } else {
            Err("must be at least 16 printable ASCII characters without a comma")
        }
    }

    /// Whether the hash is this token's, in the same time whatever it is.
    pub fn matches(&self, hash: &TokenHash) -> bool {
        self.0.ct_eq(hash).into()
    }
}

impl std::fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bootstrap(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_matches_itself_alone() {
        let bootstrap = Bootstrap::parse("a-secret-of-the-first-call\n").unwrap();
        assert!(bootstrap.matches(&token::hash("a-secret-of-the-first-call")));
        assert!(!bootstrap.matches(&token::hash("a-secret-of-the-first-calL")));
    }

    #[test]
    fn weak_ones_are_refused() {
        for text in [
            "",
            "\n",
            "short",
            "two words are no token",
            "a,comma,is,no,good",
        ] {
            assert!(Bootstrap::parse(text).is_err(), "{text:?}");
        }
    }
}
