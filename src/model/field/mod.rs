//! The application's own fields: their types, what a value of each type may be, and their
//! definitions.

mod definition;
mod types;
mod value;

pub use definition::{Field, FieldPatch, Fields, Index, defaults_fit};
pub use types::{FieldType, ItemType};
pub use value::{Rejection, date_text, document_fits, integer, is_key, number, parse_date};

/// Most definitions, deleted ones included until their values are erased.
pub const MAX_DEFINITIONS: i64 = 500;
/// Most fields in one document.
pub const MAX_FIELDS: usize = 128;
/// Most bytes of one document as compact JSON.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// How deep objects and arrays may nest inside a field's value.
pub const MAX_DEPTH: usize = 5;
/// Most items of an array.
pub const MAX_ITEMS: usize = 1000;
/// Most bytes of a text.
pub const MAX_TEXT: usize = 16 * 1024;
/// Most characters of a text that is unique or indexed.
pub const MAX_KEY_TEXT: usize = 512;
/// Largest whole number that a double holds without a gap.
pub const MAX_SAFE_INTEGER: i64 = 1 << 53;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn sort_keys_sort_as_their_values_do() {
        let sorted = |field_type: FieldType, values: &[Value]| {
            let keys: Vec<_> = values
                .iter()
                .map(|value| field_type.sort_key(value).unwrap())
                .collect();
            keys.is_sorted()
        };
        assert!(sorted(
            FieldType::Integer,
            &[
                json!(i64::MIN),
                json!(-1),
                json!(0),
                json!(7),
                json!(i64::MAX)
            ]
        ));
        assert!(sorted(
            FieldType::Number,
            &[
                json!(-1e300),
                json!(-0.5),
                json!(0),
                json!(1e-7),
                json!(2),
                json!(1e300)
            ]
        ));
        assert!(sorted(
            FieldType::String,
            &[json!("Z"), json!("a"), json!("é"), json!("汤"), json!("😀")]
        ));
    }

    #[test]
    fn dates_are_kept_in_utc_with_microseconds() {
        let kept = FieldType::Date
            .check(json!("2018-09-26T11:22:51.1+08:00"))
            .unwrap();
        assert_eq!(kept, json!("2018-09-26T03:22:51.100000Z"));
        assert!(FieldType::Date.check(json!("2020-01-01T00:00:00")).is_err());
    }

    #[test]
    fn integers_beyond_doubles_travel_as_text() {
        assert_eq!(
            FieldType::Integer
                .check(json!("9223372036854775807"))
                .unwrap(),
            json!(i64::MAX)
        );
        assert!(
            FieldType::Integer
                .check(json!("9223372036854775808"))
                .is_err()
        );
        assert!(FieldType::Integer.check(json!(1.5)).is_err());
    }
}
