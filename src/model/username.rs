//! The rules for usernames: length, letters, and look-alike forms.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_security::{RestrictionLevel, RestrictionLevelDetection, skeleton};

use crate::{
    error::FieldError,
    model::{
        account::{Normalized, fold_username},
        text,
    },
};

/// The kind of look-alike forms in `unique_values`.
pub const SKELETON: &str = "username_skeleton";
/// Names that are reserved by default.
pub const RESERVED: &[&str] = &["admin", "administrator", "root", "support", "system"];
/// Symbols that are allowed by default besides letters, marks and digits.
pub const SYMBOLS: &str = "_-.";
/// Maximum number of marks in a row: more of them cover the text around them (UTS 39, 5.4).
const MAX_MARKS: usize = 4;

/// What a deployment accepts as a username.
#[derive(Clone, Debug)]
pub struct UsernameRules {
    min: usize,
    max: usize,
    symbols: String,
    /// Normalized.
    reserved: Vec<String>,
    length: String,
    letters: String,
}

impl Default for UsernameRules {
    fn default() -> Self {
        Self::new(6, 32, SYMBOLS, RESERVED.iter().copied())
    }
}

impl UsernameRules {
    /// Rules with these lengths, symbols besides letters and digits, and reserved names.
    pub fn new<'a>(
        min: usize,
        max: usize,
        symbols: &str,
        reserved: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self {
            min,
            max,
            symbols: symbols.to_owned(),
            reserved: reserved.map(fold_username).collect(),
            length: format!("must be {min} to {max} characters long"),
            letters: format!("must contain only letters, digits and {symbols:?}"),
        }
    }

    /// Parses a username: letters of any script with the marks that they need, digits and the
    /// deployment's symbols. It must have at least one letter, must not mix look-alike scripts (UTS
    /// 39, highly restrictive), and must not be or look like a reserved name.
    ///
    /// # Errors
    /// The first violated rule.
    pub fn parse(&self, given: String) -> Result<Normalized, (FieldError, &str)> {
        let shown =
            text::line(given, self.min, self.max, "").map_err(|(error, why)| match error {
                FieldError::Length => (error, self.length.as_str()),
                error => (error, why),
            })?;
        let is_symbol = |c: char| self.symbols.contains(c);
        let mut marks = 0;
        let mut previous = None;
        for c in shown.chars() {
            if is_mark(c) {
                // A mark must follow a letter.
                let follows_letter = previous
                    .is_some_and(|previous: char| previous.is_alphabetic() || is_mark(previous));
                marks += 1;
                if !follows_letter || marks > MAX_MARKS || previous == Some(c) {
                    return Err((
                        FieldError::Format,
                        "must have each combining mark after a letter, and few in a row",
                    ));
                }
            } else {
                marks = 0;
                if !c.is_alphanumeric() && !is_symbol(c) {
                    return Err((FieldError::Format, &self.letters));
                }
            }
            previous = Some(c);
        }
        if !shown.chars().any(|c| c.is_alphabetic() && !is_mark(c)) {
            return Err((FieldError::Format, "must contain at least one letter"));
        }
        // Full-width letters differ only in appearance, and normalization replaces them. Symbols
        // belong to no script.
        let letters: String = shown.chars().filter(|c| !is_symbol(*c)).nfkc().collect();
        if letters.as_str().detect_restriction_level() > RestrictionLevel::HighlyRestrictive {
            return Err((FieldError::Format, "must not mix look-alike scripts"));
        }
        let name = Normalized {
            key: fold_username(&shown),
            shown,
        };
        let is_reserved =
            |reserved: &String| name.key == *reserved || is_look_alike(&name.key, reserved);
        if self.reserved.iter().any(is_reserved) {
            return Err((FieldError::Format, "is a reserved name"));
        }
        Ok(name)
    }
}

fn is_mark(c: char) -> bool {
    matches!(
        c.general_category(),
        GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark
    )
}

fn is_look_alike(one: &str, other: &str) -> bool {
    skeleton(one).eq(skeleton(other))
}

/// The look-alike form of a username, as key and for display. It is unique among users.
pub fn skeletons(name: &Normalized) -> Vec<String> {
    let shown: String = name.shown.nfkc().collect();
    let mut skeletons: Vec<String> =
        vec![skeleton(&name.key).collect(), skeleton(&shown).collect()];
    skeletons.dedup();
    skeletons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &str) -> Result<Normalized, String> {
        UsernameRules::default()
            .parse(given.to_owned())
            .map_err(|(_, why)| why.to_owned())
    }

    #[test]
    fn usernames_are_compared_without_width_and_case() {
        assert_eq!(parse("Ａnn.Mixed_1").unwrap().key, "ann.mixed_1");
        for bad in [
            "123456",
            "short",
            "______",
            "12_34.5",
            "раypal",
            "has space",
            "emoji😀face",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn letters_have_the_marks_that_their_script_needs() {
        for good in [
            "हिन्दी_नाम",
            "தமிழ்_பெயர்",
            "ชื่อผู้ใช้",
            "မြန်မာ_အမည်",
            "ọlọ́runṣẹ̀",
            "王小明_ann12",
            "ひらがなカナ",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good));
        }
        for bad in [
            "\u{301}abcdef",
            "abc_\u{301}def",
            "a\u{336}b\u{336}c\u{336}def",
            "zalgo\u{316}\u{316}x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let many = format!("zalgo{}x", "\u{316}\u{317}\u{318}\u{319}\u{31c}");
        assert!(parse(&many).is_err());
    }

    #[test]
    fn reserved_names_and_their_look_alikes_are_nobodys() {
        for bad in ["Support", "ADMINISTRATOR", "ѕуѕtеm", "systern"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("supporter").is_ok());
        let own = UsernameRules::new(2, 8, "@", ["Boss"].into_iter());
        assert_eq!(
            own.parse("boss".into()).unwrap_err().1,
            "is a reserved name"
        );
        assert_eq!(
            own.parse("a".into()).unwrap_err().1,
            "must be 2 to 8 characters long"
        );
        assert!(
            own.parse("a@b".into()).is_ok()
                && own.parse("a_b".into()).is_err()
                && own.parse("admin".into()).is_ok()
        );
    }

    #[test]
    fn a_look_alike_in_one_other_script_has_the_same_skeleton() {
        let of = |name: &str| skeletons(&parse(name).unwrap());
        assert!(
            of("асеорх_2")
                .iter()
                .any(|found| of("aceopx_2").contains(found)),
            "Cyrillic and Latin"
        );
        assert!(
            of("ВОВ_ВОВ")
                .iter()
                .any(|found| of("BOB_BOB").contains(found)),
            "as they are shown"
        );
        assert_eq!(of("aceopx_2").len(), 1);
    }
}
