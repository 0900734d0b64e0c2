//! A second, plain reading of filters: straight from their JSON, over profiles in memory, one rule
//! of the language a line. It shares nothing with the service, so that the two can be wrong
//! together only by a common misreading.

use std::cmp::Ordering;

use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::make::{Field, Kind, Person};

/// Whether the person passes the filter.
pub fn matches(filter: &Map<String, Value>, person: &Person, fields: &[Field]) -> bool {
    let inside = |part: &Value| matches(part.as_object().unwrap(), person, fields);
    filter.iter().all(|(key, value)| match key.as_str() {
        "$and" => value.as_array().unwrap().iter().all(inside),
        "$or" => value.as_array().unwrap().iter().any(inside),
        "$not" => !inside(value),
        name => {
            let (kind, found) = find(name, person, fields);
            tests(value)
                .into_iter()
                .all(|(operator, operand)| passes(&operator, kind, found, &folded(name, operand)))
        }
    })
}

/// The operators of one field; a bare value means `$eq`.
fn tests(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(tests) if tests.keys().any(|key| key.starts_with('$')) => {
            tests.clone().into_iter().collect()
        }
        value => vec![("$eq".to_owned(), value.clone())],
    }
}

/// What a name means for this person: its kind, and the value unless it is missing.
pub fn find<'a>(name: &str, person: &'a Person, fields: &[Field]) -> (Kind, Option<&'a Value>) {
    if let Some((stored, kind)) = builtin(name) {
        return (kind, person.builtin.get(stored));
    }
    let mut steps = name.split('.');
    let first = steps.next().unwrap();
    let field = fields.iter().find(|field| field.name == first).unwrap();
    let found = person
        .custom
        .get(first)
        .and_then(|value| steps.try_fold(value, |value, step| value.get(step)));
    (
        if name == first {
            field.kind
        } else {
            Kind::Free
        },
        found,
    )
}

/// Where a built-in name stands, and its kind.
pub fn builtin(name: &str) -> Option<(&str, Kind)> {
    Some(match name {
        "id" | "created_by" | "user_id" => ("user_id", Kind::Integer),
        "gender" => (name, Kind::Integer),
        "_group" | "group_ids" => ("group_ids", Kind::List(&Kind::Integer)),
        "is_authorized" | "email_verified" | "phone_verified" => (name, Kind::Flag),
        "created_at" | "updated_at" | "last_login_at" => (name, Kind::Date),
        "nickname" | "avatar_url" | "country" | "province" | "city" | "language" | "openid"
        | "unionid" | "username" | "email" | "phone" => (name, Kind::Text),
        _ => return None,
    })
}

fn passes(operator: &str, kind: Kind, found: Option<&Value>, operand: &Value) -> bool {
    let value = found.filter(|value| !value.is_null());
    match operator {
        "$eq" => equals(kind, value, operand),
        "$ne" => !equals(kind, value, operand),
        "$in" => is_among(kind, value, operand),
        "$nin" => !is_among(kind, value, operand),
        "$isnull" => value.is_none() == operand.as_bool().unwrap(),
        "$exists" => found.is_some() == operand.as_bool().unwrap(),
        _ => value.is_some_and(|value| holds(operator, kind, value, operand)),
    }
}

/// The operators that nothing passes which is null or missing.
fn holds(operator: &str, kind: Kind, value: &Value, operand: &Value) -> bool {
    let order = |operand| compare(kind, value, operand);
    let text = |test: fn(&str, &str) -> bool| {
        value
            .as_str()
            .is_some_and(|text| test(&nfc(text), &nfc_of(operand)))
    };
    match operator {
        "$lt" => order(operand) == Some(Ordering::Less),
        "$lte" => matches!(order(operand), Some(Ordering::Less | Ordering::Equal)),
        "$gt" => order(operand) == Some(Ordering::Greater),
        "$gte" => matches!(order(operand), Some(Ordering::Greater | Ordering::Equal)),
        "$range" => {
            holds("$gte", kind, value, &operand[0]) && holds("$lte", kind, value, &operand[1])
        }
        "$all" => {
            let wanted = operand.as_array().unwrap();
            !wanted.is_empty() && wanted.iter().all(|wanted| has_item(kind, value, wanted))
        }
        "$contains" => text(|text, pattern| text.contains(pattern)),
        "$icontains" => text(|text, pattern| lower(text).contains(&lower(pattern))),
        "$starts_with" => text(|text, pattern| text.starts_with(pattern)),
        "$has_key" => value
            .as_object()
            .is_some_and(|entries| entries.contains_key(operand.as_str().unwrap())),
        operator => panic!("{operator} is no operator"),
    }
}

/// `$eq`: a list is exactly this list; anything else may also be an item of an array.
fn equals(kind: Kind, value: Option<&Value>, operand: &Value) -> bool {
    match (value, operand) {
        (None, operand) => operand.is_null(),
        (Some(_), Value::Null) => false,
        (Some(value), Value::Array(_)) => is_same(kind, value, operand),
        (Some(value), operand) => is_same(kind, value, operand) || has_item(kind, value, operand),
    }
}

fn is_among(kind: Kind, value: Option<&Value>, operand: &Value) -> bool {
    operand
        .as_array()
        .unwrap()
        .iter()
        .any(|operand| match value {
            None => operand.is_null(),
            Some(value) => is_same(kind, value, operand) || has_item(kind, value, operand),
        })
}

fn has_item(kind: Kind, value: &Value, operand: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().any(|item| is_same(kind.item(), item, operand)))
}

fn is_same(kind: Kind, value: &Value, operand: &Value) -> bool {
    match (kind, value, operand) {
        (Kind::List(item), Value::Array(values), Value::Array(operands)) => {
            values.len() == operands.len()
                && values
                    .iter()
                    .zip(operands)
                    .all(|(value, other)| is_same(*item, value, other))
        }
        (Kind::List(_), ..) => false,
        (Kind::Integer | Kind::Number | Kind::Date | Kind::Text, ..) => {
            compare(kind, value, operand) == Some(Ordering::Equal)
        }
        _ => is_deeply_same(value, operand),
    }
}

/// The order of a value to an operand, within one type.
pub fn compare(kind: Kind, value: &Value, operand: &Value) -> Option<Ordering> {
    match kind {
        Kind::Integer => whole(value)?.partial_cmp(&whole(operand)?),
        Kind::Number => value.as_f64()?.partial_cmp(&operand.as_f64()?),
        Kind::Flag => value.as_bool()?.partial_cmp(&operand.as_bool()?),
        Kind::Text => Some(nfc(value.as_str()?).cmp(&nfc(operand.as_str()?))),
        Kind::Date => match operand.as_f64() {
            Some(seconds) if seconds.fract() == 0.0 => Some(
                microseconds(value)?
                    .div_euclid(1_000_000)
                    .cmp(&(seconds as i64)),
            ),
            Some(seconds) => Some(microseconds(value)?.cmp(&((seconds * 1e6).round() as i64))),
            None => Some(microseconds(value)?.cmp(&microseconds(operand)?)),
        },
        Kind::Free if value.is_number() => compare(Kind::Number, value, operand),
        Kind::Free => compare(Kind::Text, value, operand),
        _ => None,
    }
}

/// Equality of JSON: numbers by value, texts in NFC.
pub fn is_deeply_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => left == right,
            _ => left.as_f64() == right.as_f64(),
        },
        (Value::String(left), Value::String(right)) => nfc(left) == nfc(right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| is_deeply_same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(key, value)| {
                right
                    .get(key)
                    .is_some_and(|other| is_deeply_same(value, other))
            };
            left.len() == right.len() && left.iter().all(same)
        }
        (left, right) => left == right,
    }
}

/// A whole number, which beyond 2^53 is decimal text.
pub fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|double| double as i64)),
        value => value.as_str()?.parse().ok(),
    }
}

/// The moment of a date's text.
pub fn microseconds(value: &Value) -> Option<i64> {
    Some(
        chrono::DateTime::parse_from_rfc3339(value.as_str()?)
            .ok()?
            .timestamp_micros(),
    )
}

pub fn nfc(text: &str) -> String {
    text.nfc().collect()
}

fn nfc_of(value: &Value) -> String {
    nfc(value.as_str().unwrap())
}

/// The simple lower case of each code point; only U+0130 has none of its own in what Rust knows.
fn lower(text: &str) -> String {
    text.chars()
        .map(|c| c.to_lowercase().next().unwrap())
        .collect()
}

/// Operands in the form in which accounts are compared: usernames by NFKC and full case folding,
/// which of the texts that are made here differs from lower case in two letters; emails in lower
/// case.
fn folded(name: &str, operand: Value) -> Value {
    match (name, operand) {
        ("username", Value::String(text)) => {
            let text = text.nfkc().collect::<String>().to_lowercase();
            Value::String(text.replace('ß', "ss").replace('ς', "σ"))
        }
        ("email", Value::String(text)) => Value::String(text.to_lowercase()),
        ("username" | "email", Value::Array(items)) => {
            items.into_iter().map(|item| folded(name, item)).collect()
        }
        (_, other) => other,
    }
}
