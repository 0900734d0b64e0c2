//! The name of the application that a message is sent for: a caller's text in a message of ours.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::{
    error::FieldError,
    model::text::{self, Rejection},
};

/// Most characters of a name.
const MAX: usize = 64;
/// Most digits in a row, so that no name looks like a code or a telephone number.
const MAX_DIGITS: usize = 3;

/// A name of letters, marks, spaces, `&'+-_` and at most three digits in a row; empty stands for
/// the deployment's own.
///
/// Nothing of it can be a link, an address, a header or markup.
///
/// # Errors
/// FIELD_LENGTH over 64 characters, else FIELD_FORMAT.
pub fn parse_app_name(given: String) -> Result<String, Rejection> {
    let shown = text::line(given, 0, MAX, "must have at most 64 characters")?;
    if !shown.chars().all(is_plain) {
        return Err((
            FieldError::Format,
            "may contain only letters, marks, spaces, digits, and &'+-_",
        ));
    }
    let mut row = 0;
    for c in shown.chars() {
        row = if is_digit(c) { row + 1 } else { 0 };
        if row > MAX_DIGITS {
            return Err((
                FieldError::Format,
                "must not have more than three digits in a row",
            ));
        }
    }
    Ok(shown.trim().to_owned())
}

fn is_digit(c: char) -> bool {
    c.general_category() == GeneralCategory::DecimalNumber
}

fn is_plain(c: char) -> bool {
    let is_word = matches!(
        c.general_category_group(),
        GeneralCategoryGroup::Letter | GeneralCategoryGroup::Mark
    );
    is_word
        || is_digit(c)
        || c.general_category() == GeneralCategory::SpaceSeparator
        || "&'+-_".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_applications_are_taken() {
        for name in [
            "",
            "Acme",
            "Tom & Jerry's",
            "Studio 54",
            "C++",
            "名字",
            "हिन्दी",
            "a_b-c",
            "Web 300",
        ] {
            assert_eq!(parse_app_name(name.to_owned()).as_deref(), Ok(name));
        }
        assert!(parse_app_name("名".repeat(64)).is_ok());
        assert_eq!(parse_app_name("   ".to_owned()).as_deref(), Ok(""));
    }

    #[test]
    fn links_numbers_signs_and_tricks_are_refused() {
        let refused = [
            "<b>Bad</b>",
            "evil.example.com",
            "https://evil",
            "Code 1234",
            "a@b",
            "{{ code }}",
            "50%",
            "a/b",
            "Win $1",
            "a\u{202e}b",
            "a\0b",
            "a\r\nBcc: b",
            "٣٣٣٣",
            "a\u{200b}b",
            "x:y",
        ];
        for name in refused {
            let (error, _) = parse_app_name(name.to_owned()).expect_err(name);
            assert_eq!(error, FieldError::Format, "{name:?}");
        }
        assert_eq!(
            parse_app_name("a".repeat(65)).unwrap_err().0,
            FieldError::Length
        );
    }
}
