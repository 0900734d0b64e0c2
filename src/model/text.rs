//! Rules of text that every request keeps to: NFC, no NUL, and for names that people read no
//! tricks.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::error::FieldError;

/// Why a text is rejected: the error and its description.
pub type Rejection = (FieldError, &'static str);

/// What stands for NaN and the infinities, which JSON values can't hold. It contains a NUL, so that
/// no type accepts it.
pub const NOT_FINITE: &str = "not a finite number\0";

/// The text in NFC. NUL is rejected everywhere, because Postgres stores none.
pub fn nfc(given: String) -> Result<String, Rejection> {
    if given == NOT_FINITE {
        return Err((FieldError::Type, "must be a finite number"));
    }
    if given.contains('\0') {
        return Err((FieldError::Format, "must not contain NUL"));
    }
    match is_nfc_quick(given.chars()) {
        IsNormalized::Yes => Ok(given),
        IsNormalized::No | IsNormalized::Maybe => Ok(given.nfc().collect()),
    }
}

/// A text in one line that shows as it is written: NFC, `min` to `max` code points, no control
/// characters and none that turn the direction of the text around them.
pub fn line(
    given: String,
    min: usize,
    max: usize,
    length: &'static str,
) -> Result<String, Rejection> {
    // A cheap bound first: no code point of NFC stands for more than 36 bytes.
    if given.len() > max * 36 {
        return Err((FieldError::Length, length));
    }
    let text = nfc(given)?;
    let count = text.chars().count();
    if count < min || count > max {
        return Err((FieldError::Length, length));
    }
    if text.chars().any(|c| c.is_control() || is_bidi_control(c)) {
        return Err((
            FieldError::Format,
            "must not contain control or bidirectional formatting characters",
        ));
    }
    Ok(text)
}

/// Overrides, embeddings and isolates of the bidirectional algorithm, with the marks that steer it.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether the character shows something by itself: no space, no control or format character, no
/// mark, and none that is ignored or blank by default. One that is not assigned yet may be a newer
/// emoji.
pub fn is_visible(c: char) -> bool {
    use GeneralCategory::{PrivateUse, Unassigned};
    use GeneralCategoryGroup::{Mark, Other, Separator};
    let is_blank = matches!(
        c,
        '\u{115f}' | '\u{1160}' | '\u{2065}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}'
    );
    let may_show = matches!(c.general_category(), PrivateUse | Unassigned);
    !is_blank && (may_show || !matches!(c.general_category_group(), Mark | Other | Separator))
}

/// The first `max` characters, for a caller's own names in an error.
pub fn cut(given: &str, max: usize) -> String {
    match given.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &given[..end]),
        None => given.to_owned(),
    }
}

/// What a description adds where a name is unknown: the similar ones, if there are any.
pub fn suggestion<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> String {
    match similar_names(given, names) {
        near if near.is_empty() => String::new(),
        near => format!("; did you mean {}?", near.join(", ")),
    }
}

/// Why an operator is rejected where only those of `level` are allowed: similar ones of that level,
/// or else those that belong in the value of a field.
pub fn misplaced<'a>(
    given: &str,
    level: &[&str],
    of_fields: impl Iterator<Item = &'a str>,
) -> String {
    let here = suggestion(given, level.iter().copied());
    let hint = match similar_names(given, of_fields) {
        near if here.is_empty() && !near.is_empty() => {
            format!("; in the value of a field: {}", near.join(", "))
        }
        _ => here,
    };
    format!("is not an operator at this level{hint}")
}

/// Characters from which on the beginning of a name suggests the whole.
const BEGINNING: usize = 3;

/// Up to three of `names` that are near to `given`, nearest first, or begin with it.
pub fn similar_names<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if given.len() > 64 {
        return Vec::new();
    }
    let wanted = given.to_lowercase();
    let length = wanted.chars().count();
    let limit = length / 3 + 1;
    let far = |name: &str| {
        let name = name.to_lowercase();
        match distance(&wanted, &name) {
            far if far > limit && length >= BEGINNING && name.starts_with(&wanted) => limit,
            far => far,
        }
    };
    let mut found: Vec<(usize, &str)> = names
        .map(|name| (far(name), name))
        .filter(|(far, _)| *far <= limit)
        .collect();
    found.sort();
    found.truncate(3);
    found.into_iter().map(|(_, name)| name).collect()
}

/// Levenshtein's distance of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_those_with_few_edits() {
        let names = ["nickname", "level", "levels", "language"];
        assert_eq!(similar_names("nicknme", names.into_iter()), ["nickname"]);
        assert_eq!(
            similar_names("levl", names.into_iter()),
            ["level", "levels"]
        );
        assert!(similar_names("zzzzzz", names.into_iter()).is_empty());
        assert_eq!(similar_names("nick", names.into_iter()), ["nickname"]);
        assert!(similar_names("ni", names.into_iter()).is_empty());
        assert_eq!(
            suggestion("levls", names.into_iter()),
            "; did you mean levels, level?"
        );
        assert_eq!(suggestion("zzzzzz", names.into_iter()), "");
    }

    #[test]
    fn spaces_marks_and_fillers_show_nothing() {
        for blank in [
            ' ', '\u{a0}', '\u{3000}', '\u{200b}', '\u{ad}', '\u{301}', '\u{fe0f}', '\u{3164}',
            '\u{2800}',
        ] {
            assert!(!is_visible(blank), "{:x}", u32::from(blank));
        }
        assert!(
            ['a', '王', '.', '5', '😀', 'ท', '€']
                .into_iter()
                .all(is_visible)
        );
    }

    #[test]
    fn a_line_counts_code_points_after_nfc() {
        assert_eq!(
            line("e\u{301}".repeat(32), 1, 32, "x")
                .unwrap()
                .chars()
                .count(),
            32
        );
        assert!(line("a\u{202e}b".into(), 1, 32, "x").is_err());
    }
}
