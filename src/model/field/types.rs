//! The types of fields, and how their values are checked, sorted and compared.

use serde_json::Value;

use super::{
    MAX_ITEMS,
    value::{
        Rejection, checked_text, date_text, file, geojson, integer, nested, parse_date, reject,
    },
};
use crate::error::FieldError;

/// The declared type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    String,
    Integer,
    Number,
    Boolean,
    Date,
    Object,
    Array(ItemType),
    Geojson,
    File,
}

/// The declared type of an array's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemType {
    String,
    Integer,
    Number,
    Boolean,
    Date,
    Object,
}

impl ItemType {
    /// The same type for a field.
    pub fn as_field(self) -> FieldType {
        match self {
            ItemType::String => FieldType::String,
            ItemType::Integer => FieldType::Integer,
            ItemType::Number => FieldType::Number,
            ItemType::Boolean => FieldType::Boolean,
            ItemType::Date => FieldType::Date,
            ItemType::Object => FieldType::Object,
        }
    }
}

impl FieldType {
    /// The names in the database: the type's and its items'.
    pub fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            FieldType::String => ("string", None),
            FieldType::Integer => ("integer", None),
            FieldType::Number => ("number", None),
            FieldType::Boolean => ("boolean", None),
            FieldType::Date => ("date", None),
            FieldType::Object => ("object", None),
            FieldType::Array(item) => ("array", Some(item.as_field().names().0)),
            FieldType::Geojson => ("geojson", None),
            FieldType::File => ("file", None),
        }
    }

    /// The type of those names.
    pub fn from_names(name: &str, item: Option<&str>) -> Option<Self> {
        Some(match (name, item) {
            ("string", None) => FieldType::String,
            ("integer", None) => FieldType::Integer,
            ("number", None) => FieldType::Number,
            ("boolean", None) => FieldType::Boolean,
            ("date", None) => FieldType::Date,
            ("object", None) => FieldType::Object,
            ("geojson", None) => FieldType::Geojson,
            ("file", None) => FieldType::File,
            ("array", Some(item)) => FieldType::Array(match item {
                "string" => ItemType::String,
                "integer" => ItemType::Integer,
                "number" => ItemType::Number,
                "boolean" => ItemType::Boolean,
                "date" => ItemType::Date,
                "object" => ItemType::Object,
                _ => return None,
            }),
            _ => return None,
        })
    }

    /// Whether its values are scalar and have an order.
    pub fn is_scalar(self) -> bool {
        matches!(
            self,
            FieldType::String
                | FieldType::Integer
                | FieldType::Number
                | FieldType::Boolean
                | FieldType::Date
        )
    }

    /// Whether a field of it may be `unique`.
    pub fn can_be_unique(self) -> bool {
        matches!(
            self,
            FieldType::String | FieldType::Integer | FieldType::Number | FieldType::Date
        )
    }

    /// Whether a field of it may be `indexed`.
    pub fn can_be_indexed(self) -> bool {
        match self {
            FieldType::Array(item) => item.as_field().is_scalar(),
            other => other.is_scalar(),
        }
    }

    /// The value as it is stored: text in NFC, integers as numbers, dates as UTC text of one width.
    pub fn check(self, value: Value) -> Result<Value, Rejection> {
        match (self, value) {
            (FieldType::String, Value::String(text)) => Ok(Value::String(checked_text(text)?)),
            (FieldType::String, _) => reject(FieldError::Type, "must be text"),
            (FieldType::Integer, value) => integer(&value).map(Value::from),
            (FieldType::Number, value @ Value::Number(_)) => Ok(value),
            (FieldType::Number, _) => reject(FieldError::Type, "must be a finite number"),
            (FieldType::Boolean, value @ Value::Bool(_)) => Ok(value),
            (FieldType::Boolean, _) => reject(FieldError::Type, "must be true or false"),
            (FieldType::Date, Value::String(text)) => match parse_date(&text) {
                Some(date) => Ok(Value::String(date_text(date))),
                None => reject(FieldError::Format, "must be RFC 3339 text with an offset"),
            },
            (FieldType::Date, _) => {
                reject(FieldError::Type, "must be RFC 3339 text with an offset")
            }
            (FieldType::Object, value @ Value::Object(_)) => nested(value, 1),
            (FieldType::Object, _) => reject(FieldError::Type, "must be an object"),
            (FieldType::Array(item), Value::Array(items)) => {
                if items.len() > MAX_ITEMS {
                    return reject(
                        FieldError::Length,
                        format!("must have at most {MAX_ITEMS} items"),
                    );
                }
                let checked = items.into_iter().enumerate().map(|(index, value)| {
                    let checked = match (item, value) {
                        (ItemType::Object, value @ Value::Object(_)) => nested(value, 2),
                        (item, value) => item.as_field().check(value),
                    };
                    checked.map_err(|(path, error, why)| (format!("[{index}]{path}"), error, why))
                });
                Ok(Value::Array(checked.collect::<Result<_, _>>()?))
            }
            (FieldType::Array(_), _) => reject(FieldError::Type, "must be an array"),
            (FieldType::Geojson, value) => geojson(value),
            (FieldType::File, value) => file(value),
        }
    }

    /// The value in bytes that sort as the value does; `None` for what has no order.
    pub fn sort_key(self, value: &Value) -> Option<Vec<u8>> {
        match (self, value) {
            (FieldType::String | FieldType::Date, Value::String(text)) => {
                Some(text.as_bytes().to_vec())
            }
            (FieldType::Integer, Value::Number(number)) => Some(
                ((number.as_i64()? as u64) ^ (1 << 63))
                    .to_be_bytes()
                    .to_vec(),
            ),
            (FieldType::Number, Value::Number(number)) => {
                let bits = (number.as_f64()? + 0.0).to_bits();
                let ordered = if bits >> 63 == 1 {
                    !bits
                } else {
                    bits | (1 << 63)
                };
                Some(ordered.to_be_bytes().to_vec())
            }
            (FieldType::Boolean, Value::Bool(flag)) => Some(vec![u8::from(*flag)]),
            _ => None,
        }
    }

    /// The sort keys that an index holds for a stored value: one, or one for each different item of
    /// an array.
    pub fn index_keys(self, value: &Value) -> Vec<Vec<u8>> {
        let FieldType::Array(item) = self else {
            return self.sort_key(value).into_iter().collect();
        };
        let Value::Array(items) = value else {
            return Vec::new();
        };
        let mut keys: Vec<_> = items
            .iter()
            .filter_map(|value| item.as_field().sort_key(value))
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The text by which a unique value is compared.
    pub fn unique_key(self, value: &Value) -> Option<String> {
        match (self, value) {
            (FieldType::String | FieldType::Date, Value::String(text)) => Some(text.clone()),
            (FieldType::Integer, Value::Number(number)) => Some(number.as_i64()?.to_string()),
            (FieldType::Number, Value::Number(number)) => {
                Some((number.as_f64()? + 0.0).to_string())
            }
            _ => None,
        }
    }
}
