//! google.protobuf.Struct and JSON values.

use prost_types::{ListValue, Struct, Value as PbValue, value::Kind};
use serde_json::{Map, Value};

use crate::model::field::{MAX_SAFE_INTEGER, number};

/// A Struct as JSON. Numbers that are no numbers become text that no type takes, so that they are refused where they
/// stand.
pub fn object(given: Struct) -> Map<String, Value> {
    given.fields.into_iter().map(|(key, value)| (key, self::value(value))).collect()
}

/// A Value as JSON.
pub fn value(given: PbValue) -> Value {
    match given.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::NumberValue(double)) => match number(double) {
            Some(number) => Value::Number(number),
            None => Value::String("not a finite number\u{0}".to_owned()),
        },
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
        Some(Kind::StructValue(object)) => Value::Object(self::object(object)),
    }
}

/// JSON as a Value; whole numbers beyond ±2^53 as decimal text.
pub fn to_value(given: &Value) -> PbValue {
    let kind = match given {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) if whole.unsigned_abs() > MAX_SAFE_INTEGER as u64 => Kind::StringValue(whole.to_string()),
            Some(whole) => Kind::NumberValue(whole as f64),
            None => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_value).collect() }),
        Value::Object(entries) => Kind::StructValue(to_struct(entries.iter())),
    };
    PbValue { kind: Some(kind) }
}

/// JSON entries as a Struct.
pub fn to_struct<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>) -> Struct {
    Struct { fields: entries.map(|(key, value)| (key.clone(), to_value(value))).collect() }
}
