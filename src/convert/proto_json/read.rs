//! JSON to messages, with the path of the first violation.

use std::collections::HashSet;

use bytes::BufMut;
use chrono::{DateTime, Datelike};
use prost::{Message, Name, encoding};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use prost_types::{
    Duration, FieldMask, ListValue, Struct, Timestamp, Value, value::Kind as ValueKind,
};

use super::{JsonValue, descriptor, path::Path, tree::repeated};
use crate::{
    error::{Error, FieldError, Result},
    model::field::MAX_SAFE_INTEGER,
};

/// The format of a mask. Clients that serialize the message directly send an object with `paths`.
const MASK_TYPE: &str = "must be text: a mask in ProtoJSON is text, for example \"nickname,city\"";

/// Reads a message.
///
/// # Errors
/// INVALID_REQUEST with the first violation and its path, in the contract's names.
pub fn read<M: Message + Name + Default>(json: &JsonValue) -> Result<M> {
    let mut bytes = Vec::new();
    read_into(&descriptor::<M>(), json, &mut bytes)?;
    M::decode(bytes.as_slice())
        .map_err(|_| Error::invalid("", FieldError::Format, "is nested too deeply"))
}

/// Reads a message of this type into its bytes.
///
/// # Errors
/// As [`read`].
fn read_into(message: &MessageDescriptor, json: &JsonValue, out: &mut Vec<u8>) -> Result<()> {
    object(message, json, Path::Text(""), out)
}

/// The field of that name, in the contract's own form or in JSON's.
pub fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_json_name(name)
        .or_else(|| message.get_field_by_name(name))
}

fn object(
    message: &MessageDescriptor,
    json: &JsonValue,
    path: Path<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let JsonValue::Object(entries) = json else {
        return Err(Error::invalid(path, FieldError::Type, "must be an object"));
    };
    let (mut seen, mut chosen) = (HashSet::new(), HashSet::new());
    for (name, value) in entries {
        let Some(field) = field(message, name) else {
            return Err(Error::invalid(
                Path::Key(&path, name),
                FieldError::Unknown,
                "unknown field",
            ));
        };
        let inside = Path::Key(&path, field.name());
        if !seen.insert(field.number()) {
            return Err(repeated(inside));
        }
        let is_value = matches!(field.kind(), Kind::Message(kind) if kind.full_name() == "google.protobuf.Value");
        if *value == JsonValue::Null && !is_value {
            continue;
        }
        let oneof = field
            .containing_oneof()
            .filter(|oneof| !oneof.is_synthetic());
        if oneof.is_some_and(|oneof| !chosen.insert(oneof.name().to_owned())) {
            return Err(Error::invalid(
                inside,
                FieldError::Format,
                "can't be combined with another field of the same oneof",
            ));
        }
        match value {
            JsonValue::List(items) if field.is_list() => {
                for (index, item) in items.iter().enumerate() {
                    single(&field, item, Path::Item(&inside, index), out)?;
                }
            }
            _ if field.is_list() => {
                return Err(Error::invalid(inside, FieldError::Type, "must be a list"));
            }
            value => single(&field, value, inside, out)?,
        }
    }
    Ok(())
}

fn single(
    field: &FieldDescriptor,
    json: &JsonValue,
    path: Path<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let number = field.number();
    match field.kind() {
        Kind::Bool => match json {
            JsonValue::Bool(flag) => encoding::bool::encode(number, flag, out),
            _ => {
                return Err(Error::invalid(
                    path,
                    FieldError::Type,
                    "must be true or false",
                ));
            }
        },
        Kind::String => encoding::string::encode(number, &text(json, path)?.to_owned(), out),
        Kind::Int64 => encoding::int64::encode(number, &integer(json, path)?, out),
        Kind::Int32 => match i32::try_from(integer(json, path)?) {
            Ok(whole) => encoding::int32::encode(number, &whole, out),
            Err(_) => {
                return Err(Error::invalid(
                    path,
                    FieldError::Range,
                    "must be within 32 bits",
                ));
            }
        },
        Kind::Enum(kind) => encoding::int32::encode(number, &choice(&kind, json, path)?, out),
        Kind::Message(kind) => {
            let bytes = message(&kind, json, path)?;
            encoding::encode_key(number, encoding::WireType::LengthDelimited, out);
            encoding::encode_varint(bytes.len() as u64, out);
            out.put_slice(&bytes);
        }
        _ => unreachable!("valid: the contract has no fields of other kinds"),
    }
    Ok(())
}

fn message(kind: &MessageDescriptor, json: &JsonValue, path: Path<'_>) -> Result<Vec<u8>> {
    Ok(match kind.full_name() {
        "google.protobuf.Timestamp" => timestamp(json, path)?.encode_to_vec(),
        "google.protobuf.Duration" => duration(json, path)?.encode_to_vec(),
        "google.protobuf.FieldMask" => match json {
            JsonValue::Text(paths) => FieldMask {
                paths: mask_paths(paths),
            }
            .encode_to_vec(),
            _ => return Err(Error::invalid(path, FieldError::Type, MASK_TYPE)),
        },
        "google.protobuf.Struct" => match json {
            JsonValue::Object(entries) => structure(entries, path)?.encode_to_vec(),
            _ => return Err(Error::invalid(path, FieldError::Type, "must be an object")),
        },
        "google.protobuf.Value" => value(json, path)?.encode_to_vec(),
        _ => {
            let mut bytes = Vec::new();
            object(kind, json, path, &mut bytes)?;
            bytes
        }
    })
}

fn text<'a>(json: &'a JsonValue, path: Path<'_>) -> Result<&'a str> {
    match json {
        JsonValue::Text(text) => Ok(text),
        _ => Err(Error::invalid(path, FieldError::Type, "must be text")),
    }
}

/// A whole number: as a number up to 2^53, quoted up to 64 bits.
fn integer(json: &JsonValue, path: Path<'_>) -> Result<i64> {
    let too_large = || Error::invalid(path, FieldError::Range, "must be within 64 bits");
    match json {
        JsonValue::Integer(whole) => {
            safe(*whole, path)?;
            i64::try_from(*whole).map_err(|_| too_large())
        }
        JsonValue::Float(float)
            if float.fract() == 0.0 && float.abs() <= MAX_SAFE_INTEGER as f64 =>
        {
            Ok(*float as i64)
        }
        JsonValue::Float(_) => Err(Error::invalid(
            path,
            FieldError::Type,
            "must be a whole number",
        )),
        JsonValue::Text(digits) => {
            let unsigned = digits.strip_prefix('-').unwrap_or(digits);
            if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Error::invalid(
                    path,
                    FieldError::Format,
                    "must be a whole number",
                ));
            }
            digits.parse().map_err(|_| too_large())
        }
        _ => Err(Error::invalid(
            path,
            FieldError::Type,
            "must be a whole number",
        )),
    }
}

/// Many readers of JSON keep numbers as doubles, so what a double cannot hold must not look like a
/// number.
fn safe(whole: i128, path: Path<'_>) -> Result<()> {
    if whole.unsigned_abs() <= MAX_SAFE_INTEGER as u128 {
        return Ok(());
    }
    Err(Error::invalid(
        path,
        FieldError::Range,
        "an integer beyond 2^53 must be a quoted string",
    ))
}

/// A whole number as a double. JavaScript writes doubles below 10^21 without an exponent, by the
/// fewest digits that lead back to them, so such a number is accepted; one whose digits the double
/// loses is not.
fn double(whole: i128, path: Path<'_>) -> Result<f64> {
    let double = whole as f64;
    let is_kept = double as i128 == whole || double.to_string() == whole.to_string();
    if is_kept {
        Ok(double)
    } else {
        safe(whole, path).map(|()| double)
    }
}

fn choice(kind: &EnumDescriptor, json: &JsonValue, path: Path<'_>) -> Result<i32> {
    match json {
        JsonValue::Text(name) => match kind.get_value_by_name(name) {
            Some(value) => Ok(value.number()),
            None => {
                let names: Vec<String> =
                    kind.values().map(|value| value.name().to_owned()).collect();
                let told = format!("must be one of {}", names.join(", "));
                Err(Error::invalid(path, FieldError::Format, told))
            }
        },
        json => i32::try_from(integer(json, path)?)
            .map_err(|_| Error::invalid(path, FieldError::Range, "must be within 32 bits")),
    }
}

fn timestamp(json: &JsonValue, path: Path<'_>) -> Result<Timestamp> {
    DateTime::parse_from_rfc3339(text(json, path)?)
        .ok()
        .map(|time| time.to_utc())
        .filter(|time| {
            (1..=9999).contains(&time.year()) && time.timestamp_subsec_nanos() < 1_000_000_000
        })
        .map(super::super::timestamp)
        .ok_or_else(|| {
            Error::invalid(
                path,
                FieldError::Format,
                "must be RFC 3339 text with an offset",
            )
        })
}

fn duration(json: &JsonValue, path: Path<'_>) -> Result<Duration> {
    let form = || {
        Error::invalid(
            path,
            FieldError::Format,
            "must be seconds such as 3600s or 1.5s",
        )
    };
    let given = text(json, path)?;
    if !given.ends_with('s') || given.len() > 32 {
        return Err(form());
    }
    given.parse().map_err(|_| form())
}

/// The paths of a mask in JSON, in the contract's names. Names may be written either way; what
/// follows `custom_fields.` is a name of the application's own and stays.
fn mask_paths(given: &str) -> Vec<String> {
    let paths = given
        .split(',')
        .map(str::trim)
        .filter(|path| !path.is_empty());
    paths
        .map(|path| match path.split_once('.') {
            Some((first, rest)) if snake(first) == "custom_fields" => {
                format!("custom_fields.{rest}")
            }
            _ => snake(path),
        })
        .collect()
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn structure(entries: &[(String, JsonValue)], path: Path<'_>) -> Result<Struct> {
    let mut structure = Struct::default();
    for (key, json) in entries {
        let inside = Path::Key(&path, key);
        if structure
            .fields
            .insert(key.clone(), value(json, inside)?)
            .is_some()
        {
            return Err(repeated(inside));
        }
    }
    Ok(structure)
}

fn value(json: &JsonValue, path: Path<'_>) -> Result<Value> {
    let kind = match json {
        JsonValue::Null => ValueKind::NullValue(0),
        JsonValue::Bool(flag) => ValueKind::BoolValue(*flag),
        JsonValue::Integer(whole) => ValueKind::NumberValue(double(*whole, path)?),
        JsonValue::Float(float) => ValueKind::NumberValue(*float),
        JsonValue::Text(text) => ValueKind::StringValue(text.clone()),
        JsonValue::List(items) => {
            let items = items.iter().enumerate();
            let values = items.map(|(index, item)| value(item, Path::Item(&path, index)));
            ValueKind::ListValue(ListValue {
                values: values.collect::<Result<_>>()?,
            })
        }
        JsonValue::Object(entries) => ValueKind::StructValue(structure(entries, path)?),
    };
    Ok(Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{pb, proto_json::from_json};

    fn first_fault(text: &str) -> (String, FieldError) {
        let error = from_json::<pb::UpdateProfileRequest>(text).unwrap_err();
        (
            error.violations()[0].field.clone(),
            error.violations()[0].error,
        )
    }

    #[test]
    fn names_are_read_in_both_forms() {
        let text = r#"{"userId": "7", "profile": {"avatar_url": "x", "gender": "GENDER_MALE", "groupIds": [1, "2"]},
                       "update_mask": "avatarUrl,custom_fields.aB,group_ids", "customFields": {"a": null}}"#;
        let read: pb::UpdateProfileRequest = from_json(text).unwrap();
        let profile = read.profile.unwrap();
        assert_eq!(
            (read.user_id, profile.avatar_url.as_str(), profile.gender),
            (7, "x", 1)
        );
        assert_eq!(profile.group_ids, [1, 2]);
        assert_eq!(
            read.update_mask.unwrap().paths,
            ["avatar_url", "custom_fields.aB", "group_ids"]
        );
        assert!(crate::convert::json::object(read.custom_fields.unwrap()).contains_key("a"));
    }

    #[test]
    fn the_first_fault_is_told_with_its_path() {
        assert_eq!(
            first_fault(r#"{"profile": 5}"#),
            ("profile".into(), FieldError::Type)
        );
        assert_eq!(
            first_fault(r#"{"noSuch": 1}"#),
            ("noSuch".into(), FieldError::Unknown)
        );
        assert_eq!(
            first_fault(r#"{"profile": {"groupIds": [1, "x"]}}"#),
            ("profile.group_ids[1]".into(), FieldError::Format)
        );
        assert_eq!(
            first_fault(r#"{"userId": 1, "user_id": 1}"#),
            ("user_id".into(), FieldError::Format)
        );
        assert_eq!(
            first_fault(r#"{"customFields": {"a": 1, "a": 1}}"#),
            ("custom_fields.a".into(), FieldError::Format)
        );
        assert_eq!(first_fault("[1]"), (String::new(), FieldError::Type));
    }

    #[test]
    fn a_mask_is_text() {
        for given in [
            r#"{"updateMask": {"paths": ["nickname"]}}"#,
            r#"{"updateMask": ["nickname"]}"#,
        ] {
            let error = from_json::<pb::UpdateProfileRequest>(given).unwrap_err();
            let violation = &error.violations()[0];
            assert_eq!(
                (violation.field.as_str(), violation.error),
                ("update_mask", FieldError::Type)
            );
            assert!(
                violation
                    .description
                    .contains("is text, for example \"nickname,city\""),
                "{given}"
            );
        }
    }

    #[test]
    fn whole_numbers_beyond_a_double_must_be_quoted() {
        assert_eq!(
            first_fault(r#"{"userId": 9007199254740993}"#),
            ("user_id".into(), FieldError::Range)
        );
        assert_eq!(
            first_fault(r#"{"customFields": {"a": [9007199254740993]}}"#),
            ("custom_fields.a[0]".into(), FieldError::Range)
        );
        // As JavaScript writes 1e17, 2^53 + 2, 123456789012345683968 and 1e21.
        let text = r#"{"customFields": {"a": [100000000000000000, 9007199254740994, 123456789012345680000, 1e21]}}"#;
        let read: pb::UpdateProfileRequest = from_json(text).unwrap();
        let numbers = crate::convert::json::object(read.custom_fields.unwrap());
        assert_eq!(
            numbers["a"],
            serde_json::json!([
                1e17,
                9_007_199_254_740_994.0,
                123_456_789_012_345_683_968.0,
                1e21
            ])
        );
        let read: pb::UpdateProfileRequest =
            from_json(r#"{"userId": "9007199254740993"}"#).unwrap();
        assert_eq!(read.user_id, 9_007_199_254_740_993);
    }

    #[test]
    fn one_of_a_choice_excludes_the_others() {
        let error =
            from_json::<pb::GetProfileRequest>(r#"{"userId": 1, "email": "x"}"#).unwrap_err();
        assert_eq!(error.violations()[0].field, "email");
    }

    #[test]
    fn times_and_durations_are_text() {
        let read: pb::IssueTokenRequest = from_json(r#"{"ttl": "1.5s"}"#).unwrap();
        assert_eq!(read.ttl.unwrap().nanos, 500_000_000);
        assert!(from_json::<pb::IssueTokenRequest>(r#"{"ttl": 5}"#).is_err());
        assert!(
            from_json::<pb::Account>(r#"{"lastLoginAt": "2024-01-01T00:00:00+08:00"}"#).is_ok()
        );
        assert!(from_json::<pb::Account>(r#"{"lastLoginAt": "2024-01-01"}"#).is_err());
    }
}
