//! The application's own fields: their types, and what a value of each type may be.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};

use crate::{
    error::{Fault, Violations},
    model::text,
};

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

/// Why a value is refused: where inside it (empty, or such as `[3]` or `.a`), the fault, and what to know of it.
pub type Refusal = (String, Fault, String);

fn refuse<T>(fault: Fault, description: impl Into<String>) -> Result<T, Refusal> {
    Err((String::new(), fault, description.into()))
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

    /// Whether one value of it stands alone and has an order.
    pub fn is_scalar(self) -> bool {
        matches!(
            self,
            FieldType::String | FieldType::Integer | FieldType::Number | FieldType::Boolean | FieldType::Date
        )
    }

    /// Whether a field of it may be `unique`.
    pub fn can_be_unique(self) -> bool {
        matches!(self, FieldType::String | FieldType::Integer | FieldType::Number | FieldType::Date)
    }

    /// Whether a field of it may be `indexed`.
    pub fn can_be_indexed(self) -> bool {
        match self {
            FieldType::Array(item) => item.as_field().is_scalar(),
            other => other.is_scalar(),
        }
    }

    /// The value as it is stored: text in NFC, integers as numbers, dates as UTC text of one width.
    pub fn check(self, value: Value) -> Result<Value, Refusal> {
        match (self, value) {
            (FieldType::String, Value::String(text)) => Ok(Value::String(checked_text(text)?)),
            (FieldType::String, _) => refuse(Fault::Type, "must be text"),
            (FieldType::Integer, value) => integer(&value).map(Value::from),
            (FieldType::Number, value @ Value::Number(_)) => Ok(value),
            (FieldType::Number, _) => refuse(Fault::Type, "must be a finite number"),
            (FieldType::Boolean, value @ Value::Bool(_)) => Ok(value),
            (FieldType::Boolean, _) => refuse(Fault::Type, "must be true or false"),
            (FieldType::Date, Value::String(text)) => match parse_date(&text) {
                Some(date) => Ok(Value::String(date_text(date))),
                None => refuse(Fault::Format, "must be RFC 3339 text with an offset"),
            },
            (FieldType::Date, _) => refuse(Fault::Type, "must be RFC 3339 text with an offset"),
            (FieldType::Object, value @ Value::Object(_)) => nested(value, 1),
            (FieldType::Object, _) => refuse(Fault::Type, "must be an object"),
            (FieldType::Array(item), Value::Array(items)) => {
                if items.len() > MAX_ITEMS {
                    return refuse(Fault::Length, format!("must have at most {MAX_ITEMS} items"));
                }
                let checked = items.into_iter().enumerate().map(|(index, value)| {
                    let checked = match (item, value) {
                        (ItemType::Object, value @ Value::Object(_)) => nested(value, 2),
                        (item, value) => item.as_field().check(value),
                    };
                    checked.map_err(|(path, fault, why)| (format!("[{index}]{path}"), fault, why))
                });
                Ok(Value::Array(checked.collect::<Result<_, _>>()?))
            }
            (FieldType::Array(_), _) => refuse(Fault::Type, "must be an array"),
            (FieldType::Geojson, value) => geojson(value),
            (FieldType::File, value) => file(value),
        }
    }

    /// The value in bytes that sort as the value does; `None` for what has no order.
    pub fn sort_key(self, value: &Value) -> Option<Vec<u8>> {
        match (self, value) {
            (FieldType::String | FieldType::Date, Value::String(text)) => Some(text.as_bytes().to_vec()),
            (FieldType::Integer, Value::Number(number)) => {
                Some(((number.as_i64()? as u64) ^ (1 << 63)).to_be_bytes().to_vec())
            }
            (FieldType::Number, Value::Number(number)) => {
                let bits = (number.as_f64()? + 0.0).to_bits();
                let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
                Some(ordered.to_be_bytes().to_vec())
            }
            (FieldType::Boolean, Value::Bool(flag)) => Some(vec![u8::from(*flag)]),
            _ => None,
        }
    }

    /// The sort keys that an index holds for a stored value: one, or one for each different item of an array.
    pub fn index_keys(self, value: &Value) -> Vec<Vec<u8>> {
        let FieldType::Array(item) = self else {
            return self.sort_key(value).into_iter().collect();
        };
        let Value::Array(items) = value else { return Vec::new() };
        let mut keys: Vec<_> = items.iter().filter_map(|value| item.as_field().sort_key(value)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The text by which a unique value is compared.
    pub fn unique_key(self, value: &Value) -> Option<String> {
        match (self, value) {
            (FieldType::String | FieldType::Date, Value::String(text)) => Some(text.clone()),
            (FieldType::Integer, Value::Number(number)) => Some(number.as_i64()?.to_string()),
            (FieldType::Number, Value::Number(number)) => Some((number.as_f64()? + 0.0).to_string()),
            _ => None,
        }
    }
}

fn checked_text(given: String) -> Result<String, Refusal> {
    if given.len() > MAX_TEXT * 4 {
        return refuse(Fault::Length, "must have at most 16 KiB");
    }
    let text = text::nfc(given).map_err(|(fault, why)| (String::new(), fault, why.to_owned()))?;
    if text.len() > MAX_TEXT {
        return refuse(Fault::Length, "must have at most 16 KiB");
    }
    Ok(text)
}

/// A whole number within 64 bits; beyond ±2^53 as decimal text, for a double would not hold it.
pub fn integer(value: &Value) -> Result<i64, Refusal> {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(whole),
            (None, Some(double)) if double.fract() == 0.0 && double.abs() <= MAX_SAFE_INTEGER as f64 => {
                Ok(double as i64)
            }
            (None, Some(double)) if double.fract() == 0.0 => {
                refuse(Fault::Range, "must be within 64 bits; beyond 2^53 as decimal text")
            }
            _ => refuse(Fault::Type, "must be a whole number"),
        },
        Value::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || digits.len() > 40 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return refuse(Fault::Type, "must be a whole number");
            }
            text.parse().or_else(|_| refuse(Fault::Range, "must be within 64 bits"))
        }
        _ => refuse(Fault::Type, "must be a whole number"),
    }
}

/// RFC 3339 text with an offset, in the years 0 to 9999.
pub fn parse_date(text: &str) -> Option<DateTime<Utc>> {
    if text.len() > 64 {
        return None;
    }
    let date = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    let plain = (0..=9999).contains(&chrono::Datelike::year(&date)) && date.timestamp_subsec_nanos() < 1_000_000_000;
    plain.then_some(date)
}

/// UTC with microseconds, always of the same width, so that it sorts as text.
pub fn date_text(date: DateTime<Utc>) -> String {
    date.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Whether the key may stand in an object, or be the name of a field.
pub fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The inside of an object, where types are free; `depth` is that of this value.
fn nested(value: Value, depth: usize) -> Result<Value, Refusal> {
    if depth > MAX_DEPTH && matches!(value, Value::Object(_) | Value::Array(_)) {
        return refuse(Fault::Range, format!("must not nest deeper than {MAX_DEPTH}"));
    }
    Ok(match value {
        Value::Object(entries) => {
            let mut checked = Map::with_capacity(entries.len());
            for (key, value) in entries {
                if !is_key(&key) {
                    let why = format!("a key is a letter, then letters, digits and \"_\": {}", text::cut(&key, 64));
                    return refuse(Fault::Format, why);
                }
                let value = nested(value, depth + 1)
                    .map_err(|(path, fault, why)| (format!(".{}{path}", text::cut(&key, 64)), fault, why))?;
                checked.insert(key, value);
            }
            Value::Object(checked)
        }
        Value::Array(items) => {
            if items.len() > MAX_ITEMS {
                return refuse(Fault::Length, format!("must have at most {MAX_ITEMS} items"));
            }
            Value::Array(items.into_iter().map(|item| nested(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Value::String(text) => Value::String(checked_text(text)?),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar,
    })
}

fn geojson(value: Value) -> Result<Value, Refusal> {
    let position = |value: &Value| -> Option<(f64, f64)> {
        let [longitude, latitude] = value.as_array()?.as_slice() else {
            return None;
        };
        let (longitude, latitude) = (longitude.as_f64()?, latitude.as_f64()?);
        (longitude.abs() <= 180.0 && latitude.abs() <= 90.0).then_some((longitude, latitude))
    };
    let ring = |value: &Value| -> Option<()> {
        let points = value.as_array()?;
        if points.len() < 4 || points.len() > MAX_ITEMS {
            return None;
        }
        let points = points.iter().map(position).collect::<Option<Vec<_>>>()?;
        (points.first() == points.last()).then_some(())
    };
    let is_good = |value: &Value| -> Option<()> {
        let object = value.as_object()?;
        let coordinates = object.get("coordinates")?;
        match object.get("type")?.as_str()? {
            _ if object.len() != 2 => None,
            "Point" => position(coordinates).map(|_| ()),
            "Polygon" => {
                let rings = coordinates.as_array()?;
                if rings.is_empty() || rings.len() > MAX_ITEMS {
                    return None;
                }
                rings.iter().map(ring).collect()
            }
            _ => None,
        }
    };
    match (is_good(&value), &value) {
        (Some(()), _) => Ok(value),
        (None, Value::Object(_)) => {
            refuse(Fault::Format, "must be a Point, or a Polygon of closed rings, with longitude before latitude")
        }
        (None, _) => refuse(Fault::Type, "must be a GeoJSON object"),
    }
}

fn file(value: Value) -> Result<Value, Refusal> {
    let Value::Object(object) = &value else {
        return refuse(Fault::Type, "must be a file's object");
    };
    let is_text = |key: &str| object.get(key).is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty()));
    let has_size = object.get("size").is_some_and(|size| size.as_i64().is_some_and(|size| size >= 0));
    if !(["id", "name", "mime_type"].into_iter().all(is_text) && has_size && (is_text("url") || is_text("cdn_path"))) {
        return refuse(Fault::Format, "must have id, name, mime_type, size, and url or cdn_path");
    }
    nested(value, 1)
}

/// What there is of a field's index. It comes and goes in two steps, so that at no time a replica reads what another
/// does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Nothing.
    None,
    /// Writers keep it up; values that were there before are being added.
    Filling,
    /// It holds every value, so that readers may rest on it.
    Ready,
    /// Readers rest on it no more, but some may not have heard of that, so that writers still keep it up.
    Leaving,
}

impl Index {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Index::None => "none",
            Index::Filling => "filling",
            Index::Ready => "ready",
            Index::Leaving => "leaving",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Index::None, Index::Filling, Index::Ready, Index::Leaving].into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the field is declared `indexed`.
    pub fn is_declared(self) -> bool {
        matches!(self, Index::Filling | Index::Ready)
    }

    /// Whether writers keep it up.
    pub fn is_maintained(self) -> bool {
        self != Index::None
    }
}

/// The definition of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub field_id: i64,
    pub name: String,
    pub field_type: FieldType,
    pub description: String,
    pub default_value: Option<Value>,
    pub required: bool,
    pub unique: bool,
    pub index: Index,
    pub user_writable: bool,
    pub created_at: DateTime<Utc>,
}

impl Field {
    /// The kind of its values in `unique_values`.
    pub fn unique_kind(&self) -> String {
        Self::unique_kind_of(self.field_id)
    }

    /// The kind of the values of the field with this id.
    pub fn unique_kind_of(field_id: i64) -> String {
        format!("field:{field_id}")
    }

    /// Checks a value of this field, and what being unique or indexed asks of it.
    pub fn check(&self, value: Value) -> Result<Value, Refusal> {
        let value = self.field_type.check(value)?;
        let too_long = |value: &Value| value.as_str().is_some_and(|text| text.chars().count() > MAX_KEY_TEXT);
        let has_long_text = match &value {
            Value::Array(items) => items.iter().any(too_long),
            other => too_long(other),
        };
        if (self.unique || self.index.is_maintained()) && has_long_text {
            return refuse(Fault::Length, format!("must have at most {MAX_KEY_TEXT} characters, for it is indexed"));
        }
        Ok(value)
    }
}

/// The definitions that hold at one moment.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    by_name: HashMap<String, Arc<Field>>,
    hidden: Vec<String>,
}

impl Fields {
    /// The fields, and the names of deleted ones whose values may still lie in documents.
    pub fn new(fields: impl IntoIterator<Item = Field>, hidden: Vec<String>) -> Self {
        Self { by_name: fields.into_iter().map(|field| (field.name.clone(), Arc::new(field))).collect(), hidden }
    }

    /// Names of deleted fields, whose values no reply may show.
    pub fn hidden(&self) -> &[String] {
        &self.hidden
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Field>> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Field>> {
        self.by_name.values()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The field that a mask's `name` means: the one of just that name, else, since JSON clients lose capitals and
    /// underscores in masks, the only one that equals it without `_` and case.
    pub fn get_loosely(&self, name: &str) -> Option<&Arc<Field>> {
        let bare = |name: &str| name.replace('_', "").to_lowercase();
        self.get(name).or_else(|| {
            let wanted = bare(name);
            let mut found = self.iter().filter(|field| bare(&field.name) == wanted);
            found.next().filter(|_| found.next().is_none())
        })
    }

    /// The document of a new profile: the given values checked, and defaults where none is given.
    pub fn new_document(&self, given: Map<String, Value>, path: &str, faults: &mut Violations) -> Map<String, Value> {
        let mut document = Map::new();
        for (name, value) in given {
            let at = || format!("{path}.{}", text::cut(&name, 64));
            match self.get(&name) {
                None => faults.add(at(), Fault::Unknown, "is no field of the application"),
                Some(field) if value.is_null() && field.required => {
                    faults.add(at(), Fault::Required, "must have a value");
                }
                Some(_) if value.is_null() => {
                    document.insert(name, value);
                }
                Some(field) => match field.check(value) {
                    Ok(value) => {
                        document.insert(name, value);
                    }
                    Err((inside, fault, why)) => faults.add(format!("{}{inside}", at()), fault, why),
                },
            }
        }
        for field in self.iter() {
            if document.contains_key(&field.name) {
                continue;
            }
            match &field.default_value {
                Some(value) => {
                    document.insert(field.name.clone(), value.clone());
                }
                // A value that was given and refused has its fault already; naming it twice says nothing more.
                None if field.required => {
                    faults.add(format!("{path}.{}", field.name), Fault::Required, "must have a value");
                }
                None => {}
            }
        }
        document
    }
}

/// Whether a document is within the limits of its size.
pub fn document_fits(document: &Map<String, Value>) -> bool {
    document.len() <= MAX_FIELDS && serde_json::to_vec(document).expect("valid: plain JSON").len() <= MAX_DOCUMENT
}

/// A number from a double, whole where it is whole, as it came over a wire that knows doubles alone.
pub fn number(double: f64) -> Option<Number> {
    if double.fract() == 0.0 && double.abs() <= MAX_SAFE_INTEGER as f64 {
        return Some(Number::from(double as i64));
    }
    Number::from_f64(double)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sort_keys_sort_as_their_values_do() {
        let sorted = |field_type: FieldType, values: &[Value]| {
            let keys: Vec<_> = values.iter().map(|value| field_type.sort_key(value).unwrap()).collect();
            keys.is_sorted()
        };
        assert!(sorted(FieldType::Integer, &[json!(i64::MIN), json!(-1), json!(0), json!(7), json!(i64::MAX)]));
        assert!(sorted(
            FieldType::Number,
            &[json!(-1e300), json!(-0.5), json!(0), json!(1e-7), json!(2), json!(1e300)]
        ));
        assert!(sorted(FieldType::String, &[json!("Z"), json!("a"), json!("é"), json!("汤"), json!("😀")]));
    }

    #[test]
    fn dates_are_kept_in_utc_with_microseconds() {
        let kept = FieldType::Date.check(json!("2018-09-26T11:22:51.1+08:00")).unwrap();
        assert_eq!(kept, json!("2018-09-26T03:22:51.100000Z"));
        assert!(FieldType::Date.check(json!("2020-01-01T00:00:00")).is_err());
    }

    #[test]
    fn integers_beyond_doubles_travel_as_text() {
        assert_eq!(FieldType::Integer.check(json!("9223372036854775807")).unwrap(), json!(i64::MAX));
        assert!(FieldType::Integer.check(json!("9223372036854775808")).is_err());
        assert!(FieldType::Integer.check(json!(1.5)).is_err());
    }
}
