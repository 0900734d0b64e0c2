//! The values of a row at which a list continues, short enough for a page token of less than 4 KiB.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::model::order::OrderKey;

/// The longest text that a token holds whole, in characters: four sort keys of this length, with
/// every character escaped in JSON, stay below 4 KiB in base64.
const MAX_WHOLE: usize = 100;

/// Replaces each long text by its beginning and its hash.
pub fn shorten(values: Vec<Value>) -> Vec<Value> {
    let shorten = |value: Value| match value
        .as_str()
        .and_then(|text| text.char_indices().nth(MAX_WHOLE))
    {
        Some((end, _)) => {
            let text = value.as_str().unwrap_or_default();
            json!({ "start": &text[..end], "hash": hash(text) })
        }
        None => value,
    };
    values.into_iter().map(shorten).collect()
}

/// Whether [`shorten`] replaced any of these values.
pub fn is_shortened(values: &[Value]) -> bool {
    values.iter().any(Value::is_object)
}

/// Returns the values that were shortened. `current` are those of the same row now. If it was
/// deleted, or its text changed, the list continues before every text with the same beginning: it
/// repeats rows, and skips none.
pub fn restore(values: Vec<Value>, keys: &[OrderKey], current: Option<&[Value]>) -> Vec<Value> {
    let restore = |(place, value): (usize, Value)| {
        let Some(start) = value.get("start").and_then(Value::as_str) else {
            return value;
        };
        let now = current
            .and_then(|current| current.get(place))
            .and_then(Value::as_str);
        match now.filter(|text| value["hash"] == hash(text)) {
            Some(text) => text.into(),
            None if keys.get(place).is_some_and(|key| key.descending) => {
                format!("{start}{}", char::MAX).into()
            }
            None => start.into(),
        }
    };
    values.into_iter().enumerate().map(restore).collect()
}

/// The first 128 bits of the SHA-256 hash, in base64.
fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{field::Fields, order};

    #[test]
    fn long_texts_are_restored_from_their_row() {
        let keys = order::parse("avatar_url,-nickname", &Fields::default()).unwrap();
        let whole = vec![
            json!("\u{1}".repeat(2048)),
            json!("好".repeat(101)),
            json!(7),
        ];
        let short = shorten(whole.clone());
        assert!(is_shortened(&short) && !is_shortened(&whole));
        assert_eq!(restore(short.clone(), &keys, Some(&whole)), whole);
        let other = vec![json!("x"), json!(null), json!(7)];
        let beginning = vec![
            json!("\u{1}".repeat(100)),
            json!(format!("{}{}", "好".repeat(100), char::MAX)),
            json!(7),
        ];
        assert_eq!(restore(short.clone(), &keys, Some(&other)), beginning);
        assert_eq!(restore(short, &keys, None), beginning);
    }

    #[test]
    fn short_values_stay() {
        let values = vec![json!("x".repeat(100)), json!(null), json!(1.5), json!(true)];
        assert_eq!(shorten(values.clone()), values);
    }

    #[test]
    fn four_long_texts_fit_into_a_token() {
        let values = vec![json!("\u{1}".repeat(16_384)); 4];
        let text = serde_json::to_string(&shorten(values)).unwrap();
        // The rest of a token: its signature, time and query hash.
        assert!((text.len() + 200) * 4 / 3 < 4096, "{}", text.len());
    }
}
