//! What a value of a field may be, type by type.

use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};

use super::{MAX_DEPTH, MAX_DOCUMENT, MAX_FIELDS, MAX_ITEMS, MAX_SAFE_INTEGER, MAX_TEXT};
use crate::{error::FieldError, model::text};

/// Why a value is rejected: where inside it (empty, or such as `[3]` or `.a`), the error, and its
/// description.
pub type Rejection = (String, FieldError, String);

pub(super) fn reject<T>(error: FieldError, description: impl Into<String>) -> Result<T, Rejection> {
    Err((String::new(), error, description.into()))
}

pub(super) fn checked_text(given: String) -> Result<String, Rejection> {
    if given.len() > MAX_TEXT * 4 {
        return reject(FieldError::Length, "must have at most 16 KiB");
    }
    let text = text::nfc(given).map_err(|(error, why)| (String::new(), error, why.to_owned()))?;
    if text.len() > MAX_TEXT {
        return reject(FieldError::Length, "must have at most 16 KiB");
    }
    Ok(text)
}

/// A whole number within 64 bits; beyond ±2^53 as decimal text, for a double would not hold it.
pub fn integer(value: &Value) -> Result<i64, Rejection> {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(whole),
            (None, Some(double))
                if double.fract() == 0.0 && double.abs() <= MAX_SAFE_INTEGER as f64 =>
            {
                Ok(double as i64)
            }
            (None, Some(double)) if double.fract() == 0.0 => reject(
                FieldError::Range,
                "must fit in 64 bits; write integers beyond 2^53 as a decimal string",
            ),
            _ => reject(FieldError::Type, "must be a whole number"),
        },
        Value::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty()
                || digits.len() > 40
                || !digits.bytes().all(|byte| byte.is_ascii_digit())
            {
                return reject(FieldError::Type, "must be a whole number");
            }
            text.parse()
                .or_else(|_| reject(FieldError::Range, "must be within 64 bits"))
        }
        _ => reject(FieldError::Type, "must be a whole number"),
    }
}

/// RFC 3339 text with an offset, in the years 0 to 9999.
pub fn parse_date(text: &str) -> Option<DateTime<Utc>> {
    if text.len() > 64 {
        return None;
    }
    let date = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    let plain = (0..=9999).contains(&chrono::Datelike::year(&date))
        && date.timestamp_subsec_nanos() < 1_000_000_000;
    plain.then_some(date)
}

/// UTC with microseconds, always of the same width, so that it sorts as text.
pub fn date_text(date: DateTime<Utc>) -> String {
    date.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Whether the key may stand in an object, or be the name of a field.
pub fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The inside of an object, where types are free; `depth` is that of this value.
pub(super) fn nested(value: Value, depth: usize) -> Result<Value, Rejection> {
    if depth > MAX_DEPTH && matches!(value, Value::Object(_) | Value::Array(_)) {
        return reject(
            FieldError::Range,
            format!("must not nest deeper than {MAX_DEPTH}"),
        );
    }
    Ok(match value {
        Value::Object(entries) => {
            let mut checked = Map::with_capacity(entries.len());
            for (key, value) in entries {
                if !is_key(&key) {
                    let why = format!(
                        "invalid key {}: must be a letter followed by letters, digits, or \"_\"",
                        text::cut(&key, 64)
                    );
                    return reject(FieldError::Format, why);
                }
                let value = nested(value, depth + 1).map_err(|(path, error, why)| {
                    (format!(".{}{path}", text::cut(&key, 64)), error, why)
                })?;
                checked.insert(key, value);
            }
            Value::Object(checked)
        }
        Value::Array(items) => {
            if items.len() > MAX_ITEMS {
                return reject(
                    FieldError::Length,
                    format!("must have at most {MAX_ITEMS} items"),
                );
            }
            Value::Array(
                items
                    .into_iter()
                    .map(|item| nested(item, depth + 1))
                    .collect::<Result<_, _>>()?,
            )
        }
        Value::String(text) => Value::String(checked_text(text)?),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar,
    })
}

pub(super) fn geojson(value: Value) -> Result<Value, Rejection> {
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
        (None, Value::Object(_)) => reject(
            FieldError::Format,
            "must be a Point, or a Polygon of closed rings, with longitude before latitude",
        ),
        (None, _) => reject(FieldError::Type, "must be a GeoJSON object"),
    }
}

pub(super) fn file(value: Value) -> Result<Value, Rejection> {
    let Value::Object(object) = &value else {
        return reject(FieldError::Type, "must be a file object");
    };
    let is_text = |key: &str| {
        object
            .get(key)
            .is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty()))
    };
    let has_size = object
        .get("size")
        .is_some_and(|size| size.as_i64().is_some_and(|size| size >= 0));
    if !(["id", "name", "mime_type"].into_iter().all(is_text)
        && has_size
        && (is_text("url") || is_text("cdn_path")))
    {
        return reject(
            FieldError::Format,
            "must have id, name, mime_type, size, and url or cdn_path",
        );
    }
    nested(value, 1)
}

/// Whether a document is within the limits of its size.
pub fn document_fits(document: &Map<String, Value>) -> bool {
    document.len() <= MAX_FIELDS
        && serde_json::to_vec(document)
            .expect("valid: plain JSON")
            .len()
            <= MAX_DOCUMENT
}

/// A number from a double, whole where it is whole, as it came over a wire that knows doubles
/// alone.
pub fn number(double: f64) -> Option<Number> {
    if double.fract() == 0.0 && double.abs() <= MAX_SAFE_INTEGER as f64 {
        return Some(Number::from(double as i64));
    }
    Number::from_f64(double)
}
