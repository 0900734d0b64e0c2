//! JSON as it was written.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::{
    error::{Error, Fault, Result},
    model::text,
};

/// A JSON value with every key that stands in it, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// A whole number; one beyond 64 bits stands for any of them.
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one JSON value, nested at most 127 deep.
    ///
    /// # Errors
    /// INVALID_REQUEST that tells the place in the text.
    pub fn parse(given: &[u8]) -> Result<Self> {
        let read: Self = serde_json::from_slice(given)
            .map_err(|fault| Error::invalid("", Fault::Format, format!("is no JSON that can be read: {fault}")))?;
        Ok(if has_long_integer(given) { read.with_long_integers() } else { read })
    }

    /// A whole number beyond 64 bits was read as a double; it becomes one that fits nowhere.
    fn with_long_integers(self) -> Self {
        match self {
            Json::Float(float) if float.fract() == 0.0 && float.abs() >= LONG => {
                Json::Integer(if float < 0.0 { i128::MIN } else { i128::MAX })
            }
            Json::List(items) => Json::List(items.into_iter().map(Json::with_long_integers).collect()),
            Json::Object(entries) => {
                let entries = entries.into_iter().map(|(key, value)| (key, value.with_long_integers()));
                Json::Object(entries.collect())
            }
            other => other,
        }
    }

    /// The same as serde_json's value, integers of any size as numbers.
    ///
    /// # Errors
    /// INVALID_REQUEST where a key stands twice; `path` is where the value stands in the request.
    pub fn into_value(self, path: &str) -> Result<Value> {
        Ok(match self {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(flag),
            Json::Integer(whole) => match Number::from_i128(whole) {
                Some(number) => Value::Number(number),
                None => return Err(Error::invalid(path, Fault::Range, "a whole number beyond 64 bits must be quoted")),
            },
            Json::Float(float) => Number::from_f64(float).map_or(Value::Null, Value::Number),
            Json::Text(text) => Value::String(text),
            Json::List(items) => {
                let items = items.into_iter().enumerate();
                let values = items.map(|(index, item)| item.into_value(&format!("{path}[{index}]")));
                Value::Array(values.collect::<Result<_>>()?)
            }
            Json::Object(entries) => Value::Object(into_map(entries, path)?),
        })
    }

    /// The entries of an object as serde_json has them.
    ///
    /// # Errors
    /// INVALID_REQUEST where it is no object, or a key stands twice.
    pub fn into_object(self, path: &str) -> Result<Map<String, Value>> {
        match self {
            Json::Object(entries) => into_map(entries, path),
            _ => Err(Error::invalid(path, Fault::Type, "must be an object")),
        }
    }
}

/// The least whole number of nineteen digits.
const LONG: f64 = 1e18;

/// Whether a whole number of nineteen digits or more stands outside of all texts: 64 bits may not hold it.
fn has_long_integer(given: &[u8]) -> bool {
    let (mut in_text, mut is_escaped, mut digits, mut is_whole) = (false, false, 0, true);
    for byte in given.iter().chain(b" ") {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'0'..=b'9' => digits += 1,
            b'.' | b'e' | b'E' | b'+' if digits > 0 => is_whole = false,
            b'-' if digits > 0 => {}
            _ if is_whole && digits >= 19 => return true,
            _ => (digits, is_whole) = (0, true),
        }
    }
    false
}

fn into_map(entries: Vec<(String, Json)>, path: &str) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for (key, value) in entries {
        let inside = join(path, &key);
        if map.contains_key(&key) {
            return Err(twice(&inside));
        }
        map.insert(key, value.into_value(&inside)?);
    }
    Ok(map)
}

/// The path of a key inside `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    match path {
        "" => text::cut(key, 64),
        path => format!("{path}.{}", text::cut(key, 64)),
    }
}

/// The fault of a key that stands twice.
pub(super) fn twice(path: &str) -> Error {
    Error::invalid(path, Fault::Format, "stands twice")
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyJson;

        impl<'de> Visitor<'de> for AnyJson {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
                Ok(Json::Bool(flag))
            }

            fn visit_i64<E>(self, whole: i64) -> Result<Json, E> {
                Ok(Json::Integer(whole.into()))
            }

            fn visit_u64<E>(self, whole: u64) -> Result<Json, E> {
                Ok(Json::Integer(whole.into()))
            }

            fn visit_f64<E>(self, float: f64) -> Result<Json, E> {
                Ok(Json::Float(float))
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Json, E> {
                Ok(Json::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
                let mut object = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    object.push(entry);
                }
                Ok(Json::Object(object))
            }
        }

        deserializer.deserialize_any(AnyJson)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_a_fault_with_its_path() {
        let fault = Json::parse(br#"{"a": [{"b": 1, "b": 2}]}"#).unwrap().into_object("where");
        assert_eq!(fault.unwrap_err().violations()[0].field, "where.a[0].b");
    }

    #[test]
    fn digits_of_whole_numbers_stay() {
        let value = Json::parse(b"[9007199254740993, -9223372036854775808, 1.5]").unwrap();
        assert_eq!(value.into_value("").unwrap().to_string(), "[9007199254740993,-9223372036854775808,1.5]");
    }

    #[test]
    fn whole_numbers_beyond_64_bits_are_no_doubles() {
        for long in ["18446744073709551617", "-9223372036854775809", "100000000000000000000"] {
            for text in [long.to_owned(), format!("[1, {long}]"), format!(r#"{{"a\"": -1.5e-3, "b": {long}}}"#)] {
                assert!(has_long_integer(text.as_bytes()), "{text}");
                let inside = Json::parse(text.as_bytes()).unwrap().into_value("x");
                assert_eq!(
                    inside.unwrap_err().violations()[0].description,
                    "a whole number beyond 64 bits must be quoted"
                );
            }
        }
        for other in
            ["1e20", "1.0", r#""18446744073709551617""#, "1234567890123456789.5", "123456789012345678", "1E+300"]
        {
            assert!(!has_long_integer(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(Json::parse("[".repeat(50_000).as_bytes()).is_err());
    }
}
