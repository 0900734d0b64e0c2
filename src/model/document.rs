//! The custom fields of a profile as one JSON object.

use diesel::deserialize::FromSqlRow;
use serde_json::{Map, Value};

/// The JSON text of an object. Most profiles are only handed on, so what stands in it is read where somebody asks.
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

    /// One field; null where there is none.
    pub fn field(&self, name: &str) -> Value {
        self.fields().remove(name).unwrap_or_default()
    }
}

impl From<&Map<String, Value>> for Document {
    fn from(fields: &Map<String, Value>) -> Self {
        Self(serde_json::to_string(fields).expect("valid: plain JSON"))
    }
}
