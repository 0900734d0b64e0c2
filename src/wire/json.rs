//! google.protobuf.Struct and JSON values.

use prost_types::{ListValue, Struct, Value as PbValue, value::Kind};
use serde_json::{Map, Value};

use crate::model::field::{FieldType, ItemType, MAX_SAFE_INTEGER, number};

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
    written(given, true)
}

/// A value of a field of this type. Only where integers are declared is one beyond ±2^53 decimal text: any other
/// number came as a double, and goes as one.
pub fn field_value(field_type: Option<FieldType>, given: &Value) -> PbValue {
    written(given, matches!(field_type, None | Some(FieldType::Integer | FieldType::Array(ItemType::Integer))))
}

fn written(given: &Value, large_as_text: bool) -> PbValue {
    let kind = match given {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) if large_as_text && whole.unsigned_abs() > MAX_SAFE_INTEGER as u64 => {
                Kind::StringValue(whole.to_string())
            }
            _ => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(|item| written(item, large_as_text)).collect() })
        }
        Value::Object(entries) => {
            let fields = entries.iter().map(|(key, value)| (key.clone(), written(value, large_as_text)));
            Kind::StructValue(Struct { fields: fields.collect() })
        }
    };
    PbValue { kind: Some(kind) }
}

/// JSON entries as a Struct.
pub fn to_struct<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>) -> Struct {
    Struct { fields: entries.map(|(key, value)| (key.clone(), to_value(value))).collect() }
}
