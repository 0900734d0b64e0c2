//! A second, plain reading of changes: straight from their JSON, on one document in memory.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{
    evaluate::{is_deeply_same, microseconds, nfc, whole},
    make::{Field, Kind},
};

type Document = Map<String, Value>;

/// The document after the change, or the reasons of every part that cannot be done.
pub fn apply(
    change: &Document,
    document: &Document,
    fields: &[Field],
) -> Result<Document, Vec<&'static str>> {
    let mut made = document.clone();
    let mut refusals = Vec::new();
    let mut entry = |name: &str, value: &Value| {
        let steps: Vec<&str> = name.split('.').collect();
        let field = fields.iter().find(|field| field.name == steps[0]).unwrap();
        let done = match operator(value) {
            Some(("$incr_by", operand)) if steps.len() > 1 => {
                add_inside(&mut made, &steps, operand)
            }
            Some((operator, operand)) => change_one(&mut made, field, operator, operand),
            None => {
                made.insert(name.to_owned(), stored(field.kind, value));
                Ok(())
            }
        };
        refusals.extend(done.err());
    };
    for (name, value) in change {
        match name.as_str() {
            "$set" => value
                .as_object()
                .unwrap()
                .iter()
                .for_each(|(name, value)| entry(name, value)),
            "$unset" => {}
            name => entry(name, value),
        }
    }
    for name in change
        .get("$unset")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::keys)
    {
        made.remove(name);
    }
    if refusals.is_empty() {
        Ok(made)
    } else {
        Err(refusals)
    }
}

fn operator(value: &Value) -> Option<(&str, &Value)> {
    let (name, operand) = value.as_object()?.iter().next()?;
    name.starts_with('$').then_some((name.as_str(), operand))
}

fn change_one(
    document: &mut Document,
    field: &Field,
    operator: &str,
    operand: &Value,
) -> Result<(), &'static str> {
    let before = document
        .get(&field.name)
        .filter(|value| !value.is_null())
        .cloned();
    let operand = stored(field.kind, operand);
    let items = |value: Option<Value>| {
        value.map_or_else(Vec::new, |value| value.as_array().unwrap().clone())
    };
    let has =
        |items: &[Value], wanted: &Value| items.iter().any(|item| is_deeply_same(item, wanted));
    let made = match operator {
        "$incr_by" => sum(field.kind, before.as_ref(), &operand)?,
        "$append" => Value::Array([items(before), items(Some(operand))].concat()),
        "$append_unique" => {
            let mut made = items(before);
            for item in items(Some(operand)) {
                if !has(&made, &item) {
                    made.push(item);
                }
            }
            Value::Array(made)
        }
        "$update" => {
            let mut made =
                before.map_or_else(Document::new, |before| before.as_object().unwrap().clone());
            made.extend(operand.as_object().unwrap().clone());
            Value::Object(made)
        }
        "$remove" | "$pop" if before.is_none() => return Ok(()),
        "$remove" => {
            let gone = items(Some(operand));
            Value::Array(
                items(before)
                    .into_iter()
                    .filter(|item| !has(&gone, item))
                    .collect(),
            )
        }
        "$pop" => {
            let mut made = items(before);
            match operand.as_f64() {
                Some(1.0) => drop(made.pop()),
                _ if made.is_empty() => {}
                _ => drop(made.remove(0)),
            }
            Value::Array(made)
        }
        operator => panic!("{operator} is no operator"),
    };
    document.insert(field.name.clone(), made);
    Ok(())
}

/// Adds at a path; what is missing or null on the way becomes an object.
fn add_inside(
    document: &mut Document,
    steps: &[&str],
    operand: &Value,
) -> Result<(), &'static str> {
    let before = document
        .get(steps[0])
        .filter(|value| !value.is_null())
        .cloned();
    let made = match &steps[1..] {
        [] => sum(Kind::Free, before.as_ref(), operand)?,
        rest => {
            let mut inside = match before {
                None => Document::new(),
                Some(Value::Object(inside)) => inside,
                Some(_) => return Err("OP_TYPE_MISMATCH"),
            };
            add_inside(&mut inside, rest, operand)?;
            Value::Object(inside)
        }
    };
    document.insert(steps[0].to_owned(), made);
    Ok(())
}

/// Integers within 64 bits, other numbers as doubles that stay finite.
fn sum(kind: Kind, before: Option<&Value>, operand: &Value) -> Result<Value, &'static str> {
    let before = before.cloned().unwrap_or(json!(0));
    if !before.is_number() {
        return Err("OP_TYPE_MISMATCH");
    }
    if kind == Kind::Integer {
        let total = before
            .as_i64()
            .unwrap()
            .checked_add(operand.as_i64().unwrap());
        return total.map(Value::from).ok_or("OP_OVERFLOW");
    }
    let total = before.as_f64().unwrap() + operand.as_f64().unwrap();
    if total.is_finite() {
        Ok(json!(total))
    } else {
        Err("OP_OVERFLOW")
    }
}

/// A value as it is kept.
pub fn stored(kind: Kind, value: &Value) -> Value {
    match (kind, value) {
        (Kind::Integer, Value::Number(_) | Value::String(_)) => json!(whole(value).unwrap()),
        (Kind::Date, Value::String(_)) => {
            let moment =
                DateTime::<Utc>::from_timestamp_micros(microseconds(value).unwrap()).unwrap();
            json!(moment.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
        }
        (_, Value::Number(number)) => json!(number.as_f64().unwrap()),
        (_, Value::String(text)) => json!(nfc(text)),
        (kind, Value::Array(items)) => items.iter().map(|item| stored(kind.item(), item)).collect(),
        (_, Value::Object(entries)) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), stored(Kind::Free, value)))
                .collect(),
        ),
        (_, other) => other.clone(),
    }
}

/// A kept value as a client sees it: a declared integer beyond 2^53 is text, and every other number
/// a number.
pub fn shown(kind: Kind, value: &Value) -> Value {
    match (kind, value) {
        (Kind::Integer, Value::Number(_)) => match whole(value).unwrap() {
            large if large.unsigned_abs() > 1 << 53 => json!(large.to_string()),
            small => json!(small),
        },
        (Kind::List(item), Value::Array(items)) => {
            items.iter().map(|value| shown(*item, value)).collect()
        }
        (_, other) => other.clone(),
    }
}
