//! JSON as it was written.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::path::Path;
use crate::{
    error::{Error, FieldError, Result},
    threads,
};

/// A JSON value with all of its keys, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonValue {
    Null,
    Bool(bool),
    /// A whole number; one beyond 64 bits is the double next to it.
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<JsonValue>),
    Object(Vec<(String, JsonValue)>),
}

impl JsonValue {
    /// Parses one JSON value. Checks its size before building a tree, and parses a large value
    /// without blocking other calls.
    ///
    /// # Errors
    /// INVALID_REQUEST with the position in the text; for a value that is nested more than 32
    /// levels deep, or that contains more than 100,000 values.
    pub fn parse(given: &[u8]) -> Result<Self> {
        check_size(given)?;
        threads::run_heavy(given.len(), || Self::parse_checked(given))
    }

    fn parse_checked(given: &[u8]) -> Result<Self> {
        let read: Self = serde_json::from_slice(given).map_err(|error| {
            Error::invalid(
                "",
                FieldError::Format,
                format!("is not valid JSON: {error}"),
            )
        })?;
        match long_integers(given) {
            long if long.is_empty() => Ok(read),
            long => Ok(read.with_integers(&long)),
        }
    }

    /// With those whole numbers as such that were read as doubles, for 64 bits do not hold them.
    fn with_integers(self, long: &HashSet<u64>) -> Self {
        match self {
            JsonValue::Float(float) if long.contains(&float.to_bits()) => {
                JsonValue::Integer(float as i128)
            }
            JsonValue::List(items) => JsonValue::List(
                items
                    .into_iter()
                    .map(|item| item.with_integers(long))
                    .collect(),
            ),
            JsonValue::Object(entries) => {
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| (key, value.with_integers(long)));
                JsonValue::Object(entries.collect())
            }
            other => other,
        }
    }

    /// The same as serde_json's value: integers beyond 64 bits are doubles.
    ///
    /// # Errors
    /// INVALID_REQUEST if a key is repeated; `path` is the path of the value in the request.
    pub fn into_value(self, path: Path<'_>) -> Result<Value> {
        Ok(match self {
            JsonValue::Null => Value::Null,
            JsonValue::Bool(flag) => Value::Bool(flag),
            JsonValue::Integer(whole) => match Number::from_i128(whole) {
                Some(number) => Value::Number(number),
                None => Number::from_f64(whole as f64).map_or(Value::Null, Value::Number),
            },
            JsonValue::Float(float) => Number::from_f64(float).map_or(Value::Null, Value::Number),
            JsonValue::Text(text) => Value::String(text),
            JsonValue::List(items) => {
                let items = items.into_iter().enumerate();
                let values = items.map(|(index, item)| item.into_value(Path::Item(&path, index)));
                Value::Array(values.collect::<Result<_>>()?)
            }
            JsonValue::Object(entries) => Value::Object(into_map(entries, path)?),
        })
    }

    /// The entries of an object as serde_json has them.
    ///
    /// # Errors
    /// INVALID_REQUEST if it is not an object, or a key is specified more than once.
    pub fn into_object(self, path: &str) -> Result<Map<String, Value>> {
        match self {
            JsonValue::Object(entries) => into_map(entries, Path::Text(path)),
            _ => Err(Error::invalid(path, FieldError::Type, "must be an object")),
        }
    }
}

/// Digits of the shortest whole number that 64 bits may not hold.
const LONG: usize = 19;

/// The bits of the doubles next to whole numbers of this length, outside of all texts; numbers that
/// no double represents are left out.
fn long_integers(given: &[u8]) -> HashSet<u64> {
    let (mut long, mut in_text, mut is_escaped, mut start) = (HashSet::new(), false, false, None);
    for (place, byte) in given.iter().chain(b" ").enumerate() {
        let is_of_number =
            !in_text && matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        if is_of_number {
            start.get_or_insert(place);
            continue;
        }
        let number = start
            .take()
            .and_then(|start| std::str::from_utf8(&given[start..place]).ok())
            .unwrap_or_default();
        let digits = number.trim_start_matches('-');
        if digits.len() >= LONG && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            long.extend(
                number
                    .parse()
                    .ok()
                    .filter(|double: &f64| double.abs() < 1e38)
                    .map(f64::to_bits),
            );
        }
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            _ => {}
        }
    }
    long
}

fn into_map(entries: Vec<(String, JsonValue)>, path: Path<'_>) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for (key, value) in entries {
        let inside = Path::Key(&path, &key);
        if map.contains_key(&key) {
            return Err(repeated(inside));
        }
        let value = value.into_value(inside)?;
        map.insert(key, value);
    }
    Ok(map)
}

/// The error for a repeated key.
pub(super) fn repeated(path: Path<'_>) -> Error {
    Error::invalid(path, FieldError::Format, "duplicate key")
}

/// The deepest nesting of a request: a filter of maximum depth has 18 levels.
const MAX_DEPTH: usize = 32;
/// The maximum number of values in one request: a parsed value uses some hundred bytes of memory,
/// whatever its length.
const MAX_VALUES: usize = 100_000;

/// Rejects text that would build a tree that is too deep or too large. Malformed JSON is left to
/// the parser.
fn check_size(given: &[u8]) -> Result<()> {
    let (mut depth, mut values, mut in_text, mut is_escaped) = (0_usize, 1_usize, false, false);
    for byte in given {
        if in_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > MAX_DEPTH {
                    return Err(Error::invalid(
                        "",
                        FieldError::Format,
                        "must be nested at most 32 levels deep",
                    ));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
    }
    if values > MAX_VALUES {
        return Err(Error::invalid(
            "",
            FieldError::Length,
            "must have at most 100,000 values",
        ));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyJsonValue;

        impl<'de> Visitor<'de> for AnyJsonValue {
            type Value = JsonValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<JsonValue, E> {
                Ok(JsonValue::Null)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<JsonValue, E> {
                Ok(JsonValue::Bool(flag))
            }

            fn visit_i64<E>(self, whole: i64) -> Result<JsonValue, E> {
                Ok(JsonValue::Integer(whole.into()))
            }

            fn visit_u64<E>(self, whole: u64) -> Result<JsonValue, E> {
                Ok(JsonValue::Integer(whole.into()))
            }

            fn visit_f64<E>(self, float: f64) -> Result<JsonValue, E> {
                Ok(JsonValue::Float(float))
            }

            fn visit_str<E>(self, text: &str) -> Result<JsonValue, E> {
                Ok(JsonValue::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<JsonValue, E> {
                Ok(JsonValue::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonValue, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(JsonValue::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<JsonValue, A::Error> {
                let mut object = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    object.push(entry);
                }
                Ok(JsonValue::Object(object))
            }
        }

        deserializer.deserialize_any(AnyJsonValue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_a_fault_with_its_path() {
        let error = JsonValue::parse(br#"{"a": [{"b": 1, "b": 2}]}"#)
            .unwrap()
            .into_object("where");
        assert_eq!(error.unwrap_err().violations()[0].field, "where.a[0].b");
    }

    #[test]
    fn digits_of_whole_numbers_stay() {
        let value = JsonValue::parse(b"[9007199254740993, -9223372036854775808, 1.5]").unwrap();
        assert_eq!(
            value.into_value(Path::Text("")).unwrap().to_string(),
            "[9007199254740993,-9223372036854775808,1.5]"
        );
    }

    #[test]
    fn whole_numbers_beyond_64_bits_are_no_doubles() {
        let text = br#"{"a\"[12345678901234567890": [1e20, 18446744073709551617, -1.5e-3], "b": 1234567890123456789}"#;
        let JsonValue::Object(entries) = JsonValue::parse(text).unwrap() else {
            panic!("an object")
        };

        let numbers = [
            JsonValue::Float(1e20),
            JsonValue::Integer(1 << 64),
            JsonValue::Float(-1.5e-3),
        ];
        assert_eq!(entries[0].1, JsonValue::List(numbers.to_vec()));
        assert_eq!(entries[1].1, JsonValue::Integer(1_234_567_890_123_456_789));
        assert_eq!(
            JsonValue::parse(b"-9223372036854775809").unwrap(),
            JsonValue::Integer(i128::from(i64::MIN))
        );
        assert_eq!(
            entries[0]
                .1
                .clone()
                .into_value(Path::Text(""))
                .unwrap()
                .to_string(),
            "[1e+20,1.8446744073709552e+19,-0.0015]"
        );
        for other in [
            "1e20",
            "1.0",
            r#""18446744073709551617""#,
            "1234567890123456789.5",
            "123456789012345678",
            "1E+300",
        ] {
            assert!(long_integers(other.as_bytes()).is_empty(), "{other}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(JsonValue::parse("[".repeat(50_000).as_bytes()).is_err());
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(JsonValue::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        let error = JsonValue::parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(error.violations()[0].description.contains("32 levels"));
        // Brackets in strings don't count as nesting.
        assert!(JsonValue::parse(format!(r#""\"{}""#, "[".repeat(100)).as_bytes()).is_ok());
    }

    #[test]
    fn too_many_values_are_an_error() {
        let list = |items| format!("[{}0]", "0,".repeat(items - 1));
        assert!(JsonValue::parse(list(MAX_VALUES - 1).as_bytes()).is_ok());
        assert!(JsonValue::parse(list(MAX_VALUES).as_bytes()).is_err());
    }
}
