//! google.protobuf.Struct and JSON values.

use prost_types::{ListValue, Value as PbValue, value::Kind};
use serde_json::{Map, Value};

use super::proto_struct::{Show, Struct};
use crate::model::{
    field::{FieldType, ItemType, MAX_SAFE_INTEGER, number},
    text::NOT_FINITE,
};

/// A Struct as JSON. NaN and the infinities become a text that no type accepts, so that they are
/// rejected with their path.
pub fn object(given: Struct) -> Map<String, Value> {
    entries(given.into())
}

fn entries(given: prost_types::Struct) -> Map<String, Value> {
    given
        .fields
        .into_iter()
        .map(|(key, value)| (key, self::value(value)))
        .collect()
}

/// A Value as JSON.
pub fn value(given: PbValue) -> Value {
    match given.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::NumberValue(double)) => match number(double) {
            Some(number) => Value::Number(number),
            None => Value::String(NOT_FINITE.to_owned()),
        },
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
        Some(Kind::StructValue(object)) => Value::Object(entries(object)),
    }
}

/// JSON as a Value; whole numbers beyond ±2^53 as decimal text.
pub fn to_value(given: &Value) -> PbValue {
    written(given, true)
}

/// A value of a field of this type.
pub fn field_value(field_type: FieldType, given: &Value) -> PbValue {
    written(given, show(Some(field_type)) == Show::LargeAsText)
}

/// How values of a field of this type are shown. Only where integers are declared is one beyond
/// ±2^53 decimal text: any other number came as a double, and goes as one.
pub fn show(field_type: Option<FieldType>) -> Show {
    match field_type {
        None | Some(FieldType::Integer | FieldType::Array(ItemType::Integer)) => Show::LargeAsText,
        Some(_) => Show::Yes,
    }
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
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items
                .iter()
                .map(|item| written(item, large_as_text))
                .collect(),
        }),
        Value::Object(entries) => {
            let fields = entries
                .iter()
                .map(|(key, value)| (key.clone(), written(value, large_as_text)));
            Kind::StructValue(prost_types::Struct {
                fields: fields.collect(),
            })
        }
    };
    PbValue { kind: Some(kind) }
}

/// JSON entries as a Struct.
pub fn to_struct<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>) -> Struct {
    prost_types::Struct {
        fields: entries
            .map(|(key, value)| (key.clone(), to_value(value)))
            .collect(),
    }
    .into()
}
