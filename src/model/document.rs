//! The custom fields of a profile as one JSON object.

use std::{borrow::Cow, fmt};

use diesel::deserialize::FromSqlRow;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The JSON text of an object. Most profiles are only passed on, so it is parsed only when it is
/// needed.
#[derive(Clone, Debug, PartialEq, Eq, FromSqlRow)]
pub struct Document(String);

impl Document {
    /// Of an object's text, as the database has it.
    pub fn of_text(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The fields.
    pub fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).expect("valid: the column takes objects alone")
    }

    /// One field; null where there is none. The others are passed over.
    pub fn field(&self, name: &str) -> Value {
        let mut reader = serde_json::Deserializer::from_str(&self.0);
        reader
            .deserialize_map(Find(name))
            .expect("valid: the column takes objects alone")
    }
}

/// Finds the field of a name.
struct Find<'a>(&'a str);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut found = Value::Null;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == self.0 {
                found = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

impl From<&Map<String, Value>> for Document {
    fn from(fields: &Map<String, Value>) -> Self {
        Self(serde_json::to_string(fields).expect("valid: plain JSON"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_found_among_others() {
        let document = Document::of_text(
            r#"{"a": {"b": 1}, "b": [2, "\u00e9"], "\"c": null, "\u00e9": 3}"#.to_owned(),
        );

        for (name, value) in [
            ("a", json!({"b": 1})),
            ("b", json!([2, "é"])),
            ("é", json!(3)),
            ("c", json!(null)),
        ] {
            assert_eq!(document.field(name), value, "{name}");
        }
    }
}
