//! Operands: checked against the type of what they are compared with.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{Column, Operand, Subject};
use crate::{
    error::FieldError,
    model::{
        account::{fold_email, fold_username},
        field::{FieldType, Rejection, parse_date},
        text,
    },
};

/// The times from `start` up to, and without, `end`: a whole second where seconds were given, else
/// one microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
}

fn reject<T>(error: FieldError, why: &str) -> Result<T, Rejection> {
    Err((String::new(), error, why.to_owned()))
}

/// Reads Unix seconds, or RFC 3339 text with an offset.
fn period(given: &Value) -> Result<Period, Rejection> {
    const FORM: &str = "must be Unix seconds or RFC 3339 text with an offset";
    let within = |time: DateTime<Utc>, length: TimeDelta| match time.checked_add_signed(length) {
        Some(end) if (0..=9999).contains(&chrono::Datelike::year(&time)) => {
            Ok(Period { start: time, end })
        }
        _ => reject(FieldError::Range, "must be in the years 0 to 9999"),
    };
    match given {
        Value::String(text) => match parse_date(text) {
            Some(time) => within(time, TimeDelta::microseconds(1)),
            None => reject(FieldError::Format, FORM),
        },
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => match DateTime::from_timestamp(seconds, 0) {
                Some(time) => within(time, TimeDelta::seconds(1)),
                None => reject(FieldError::Range, "must be in the years 0 to 9999"),
            },
            (None, Some(seconds)) if seconds.abs() < 1e12 => {
                let time = DateTime::from_timestamp_micros((seconds * 1e6).round() as i64);
                time.map_or_else(
                    || reject(FieldError::Range, FORM),
                    |time| within(time, TimeDelta::microseconds(1)),
                )
            }
            _ => reject(FieldError::Range, "must be in the years 0 to 9999"),
        },
        _ => reject(FieldError::Type, FORM),
    }
}

/// Reads one value that is compared with a value of the subject, or with an element of it where it
/// is an array.
pub(super) fn one(subject: &Subject, given: Value) -> Result<Operand, Rejection> {
    let kind = match subject.field_type() {
        Some(FieldType::Array(item)) => Some(item.as_field()),
        kind => kind,
    };
    match kind {
        Some(FieldType::Date) => period(&given).map(Operand::Time),
        Some(kind) => kind
            .check(given)
            .and_then(|value| fitting(subject, value))
            .map(Operand::Json),
        None => free(given).map(Operand::Json),
    }
}

/// What a column takes less than its type does, and how accounts compare.
fn fitting(subject: &Subject, value: Value) -> Result<Value, Rejection> {
    match (subject, value) {
        (Subject::Column(Column::Gender), value) if !matches!(value.as_i64(), Some(0..=2)) => {
            reject(FieldError::Range, "must be 0, 1 or 2")
        }
        (subject, Value::String(text)) => Ok(Value::String(folded(subject, text))),
        (_, value) => Ok(value),
    }
}

/// Usernames and emails are compared as they are made unique.
fn folded(subject: &Subject, text: String) -> String {
    match subject {
        Subject::Column(Column::Username) => fold_username(&text),
        Subject::Column(Column::Email) => fold_email(&text),
        _ => text,
    }
}

/// Any JSON, its texts in NFC as they are stored.
fn free(value: Value) -> Result<Value, Rejection> {
    Ok(match value {
        Value::String(given) => Value::String(normal(given)?),
        Value::Array(items) => Value::Array(items.into_iter().map(free).collect::<Result<_, _>>()?),
        Value::Object(entries) => {
            let entries = entries
                .into_iter()
                .map(|(key, value)| Ok((normal(key)?, free(value)?)));
            Value::Object(entries.collect::<Result<_, Rejection>>()?)
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar,
    })
}

fn normal(given: String) -> Result<String, Rejection> {
    text::nfc(given).map_err(|(error, why)| (String::new(), error, why.to_owned()))
}

/// Reads a text that is looked for.
pub(super) fn pattern(subject: &Subject, given: Value) -> Result<String, Rejection> {
    match given {
        Value::String(text) if text.is_empty() => reject(FieldError::Length, "must not be empty"),
        Value::String(text) => Ok(folded(subject, normal(text)?)),
        _ => reject(FieldError::Type, "must be text"),
    }
}

/// Reads a key of an object.
pub(super) fn key(given: Value) -> Result<String, Rejection> {
    match given {
        Value::String(text) => normal(text),
        _ => reject(FieldError::Type, "must be text"),
    }
}

/// Reads true or false.
pub(super) fn flag(given: &Value) -> Result<bool, Rejection> {
    given
        .as_bool()
        .map_or_else(|| reject(FieldError::Type, "must be true or false"), Ok)
}
