//! The change language: new values of custom fields and the operators on them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    error::{Error, FieldError, Reason, Result, Violations},
    model::{
        field::{Field, FieldType, Fields, MAX_DEPTH, MAX_ITEMS, is_key},
        text,
    },
};

/// Most fields that a change names.
const MAX_CHANGES: usize = 1000;
/// The maximum number of unknown names for which suggestions are computed.
const MAX_HINTS: usize = 10;

/// The operators in the value of a field.
const OPERATORS: &[&str] = &[
    "$incr_by",
    "$append",
    "$append_unique",
    "$remove",
    "$pop",
    "$update",
];

/// One change of one field, checked against its type.
#[derive(Clone, Debug)]
pub struct Change {
    pub field: Arc<Field>,
    /// The field's name, then steps into the object for `$incr_by`.
    pub path: Vec<String>,
    pub op: Op,
}

/// What is done to the field.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Set(Value),
    Unset,
    IncrBy(Value),
    Append(Vec<Value>),
    AppendUnique(Vec<Value>),
    Remove(Vec<Value>),
    PopLast,
    PopFirst,
    Update(Map<String, Value>),
}

impl Change {
    /// As the database's function `change_document` reads them.
    pub fn list(changes: &[Change]) -> Value {
        Value::from(changes.iter().map(Change::to_json).collect::<Vec<_>>())
    }

    fn to_json(&self) -> Value {
        let (op, value) = match &self.op {
            Op::Set(value) => ("set", value.clone()),
            Op::Unset => ("unset", Value::Null),
            Op::IncrBy(value) => ("incr_by", value.clone()),
            Op::Append(items) => ("append", json!(items)),
            Op::AppendUnique(items) => ("append_unique", json!(items)),
            Op::Remove(items) => ("remove", json!(items)),
            Op::PopLast => ("pop", json!(1)),
            Op::PopFirst => ("pop", json!(-1)),
            Op::Update(entries) => ("update", json!(entries)),
        };
        let kind = if self.path.len() == 1 {
            self.field.field_type.names().0
        } else {
            "free"
        };
        json!({ "op": op, "path": self.path, "value": value, "kind": kind })
    }
}

/// The fields that a change names, those inside `$set` and `$unset` and before a dot too.
pub fn names(given: &Map<String, Value>) -> Vec<String> {
    let base = |name: &String| name.split('.').next().unwrap_or_default().to_owned();
    given
        .iter()
        .flat_map(|(name, value)| match (name.as_str(), value) {
            ("$set" | "$unset", Value::Object(entries)) => entries.keys().map(base).collect(),
            ("$set" | "$unset", _) => Vec::new(),
            _ => vec![base(name)],
        })
        .collect()
}

/// Whether a change names nothing, inside `$set` and `$unset` either.
pub fn is_empty(given: &Map<String, Value>) -> bool {
    given.iter().all(|(name, value)| {
        matches!(name.as_str(), "$set" | "$unset") && value.as_object().is_some_and(Map::is_empty)
    })
}

/// Reads a change, in the request at `custom_fields`.
///
/// # Errors
/// OP_TYPE_MISMATCH where an operator does not fit a field's type and nothing else is wrong, else
/// INVALID_REQUEST; all violations.
pub fn parse(
    given: Map<String, Value>,
    fields: &Fields,
    violations: &mut Violations,
) -> Result<Vec<Change>> {
    if names(&given).len() > MAX_CHANGES {
        violations.add(
            "custom_fields",
            FieldError::Length,
            "must contain at most 1000 fields",
        );
        return Ok(Vec::new());
    }
    let mut reader = Reader {
        fields,
        violations,
        mismatched: None,
        changes: Vec::new(),
        hints: 0,
    };
    for (name, value) in given {
        match name.as_str() {
            "$set" => match value {
                Value::Object(entries) => {
                    entries
                        .into_iter()
                        .for_each(|(name, value)| reader.entry(&name, value, "$set."));
                }
                _ => reader.violations.add(
                    "custom_fields.$set",
                    FieldError::Type,
                    "must be an object",
                ),
            },
            "$unset" => match value {
                Value::Object(entries) => entries
                    .into_iter()
                    .for_each(|(name, _)| reader.unset(&name)),
                _ => reader.violations.add(
                    "custom_fields.$unset",
                    FieldError::Type,
                    "must be an object",
                ),
            },
            name if name.starts_with('$') => {
                let path = format!("custom_fields.{}", text::cut(name, 64));
                let why = text::misplaced(name, &["$set", "$unset"], OPERATORS.iter().copied());
                reader.violations.add(path, FieldError::Unknown, why);
            }
            name => reader.entry(name, value, ""),
        }
    }
    reader.reject_repeats();
    let Reader {
        mismatched,
        changes,
        violations,
        ..
    } = reader;
    match mismatched {
        Some(error) if violations.is_empty() => Err(error),
        Some(error) => {
            violations.extend(error.violations().to_vec());
            Ok(changes)
        }
        None => Ok(changes),
    }
}

struct Reader<'a> {
    fields: &'a Fields,
    violations: &'a mut Violations,
    mismatched: Option<Error>,
    changes: Vec<Change>,
    hints: usize,
}

impl Reader<'_> {
    fn field(&mut self, name: &str, path: &str) -> Option<Arc<Field>> {
        let found = self.fields.get(name).cloned();
        if found.is_none() {
            self.hints += 1;
            let hint = if self.hints <= MAX_HINTS {
                text::suggestion(name, self.fields.names())
            } else {
                String::new()
            };
            self.violations.add(
                path,
                FieldError::Unknown,
                format!("is not a custom field{hint}"),
            );
        }
        found
    }

    fn unset(&mut self, name: &str) {
        let path = format!("custom_fields.$unset.{}", text::cut(name, 64));
        if let Some((first, _)) = name.split_once('.')
            && self.fields.get(first).is_some()
        {
            return self.violations.add(
                path,
                FieldError::Format,
                "must be a field; only $incr_by takes a path",
            );
        }
        let Some(field) = self.field(name, &path) else {
            return;
        };
        if field.required {
            return self.violations.add(
                path,
                FieldError::Required,
                "can't be removed because it is required",
            );
        }
        self.changes.push(Change {
            path: vec![field.name.clone()],
            field,
            op: Op::Unset,
        });
    }

    fn entry(&mut self, name: &str, value: Value, under: &str) {
        let path = format!("custom_fields.{under}{}", text::cut(name, 64));
        if let Some((first, rest)) = name.split_once('.') {
            return self.inside(first, rest, value, &path);
        }
        let Some(field) = self.field(name, &path) else {
            return;
        };
        if value.is_null() && field.required {
            return self.violations.add(
                path,
                FieldError::Required,
                "can't be null because it is required",
            );
        }
        let op = match value {
            Value::Null => Some(Op::Set(Value::Null)),
            Value::Object(entries) if entries.keys().any(|key| key.starts_with('$')) => {
                self.operator(&field, entries, &path)
            }
            value => self.checked(&field, value, &path).map(Op::Set),
        };
        if let Some(op) = op {
            self.changes.push(Change {
                path: vec![field.name.clone()],
                field,
                op,
            });
        }
    }

    /// `{"stats.logins": {"$incr_by": 1}}`.
    fn inside(&mut self, first: &str, rest: &str, value: Value, path: &str) {
        let Some(field) = self.field(first, path) else {
            return;
        };
        let steps: Vec<String> = rest.split('.').map(str::to_owned).collect();
        if field.field_type != FieldType::Object {
            return self.violations.add(
                path,
                FieldError::Type,
                "a path is supported only in object fields",
            );
        }
        if steps.len() > MAX_DEPTH || !steps.iter().all(|step| is_key(step)) {
            return self.violations.add(
                path,
                FieldError::Format,
                "each path segment must be a letter followed by letters, digits, or \"_\"",
            );
        }
        let operand = match &value {
            Value::Object(entries) if entries.len() == 1 => entries.get("$incr_by"),
            _ => None,
        };
        match operand {
            Some(Value::Number(number)) => {
                let path = std::iter::once(field.name.clone()).chain(steps).collect();
                self.changes.push(Change {
                    path,
                    field,
                    op: Op::IncrBy(Value::Number(number.clone())),
                });
            }
            Some(_) => self
                .violations
                .add(path, FieldError::Type, "$incr_by takes a number"),
            None => self.violations.add(
                path,
                FieldError::Format,
                "a path supports only {\"$incr_by\": number}",
            ),
        }
    }

    fn operator(
        &mut self,
        field: &Arc<Field>,
        entries: Map<String, Value>,
        path: &str,
    ) -> Option<Op> {
        let mut entries = entries.into_iter();
        let (Some((name, operand)), None) = (entries.next(), entries.next()) else {
            self.violations
                .add(path, FieldError::Format, "must have exactly one operator");
            return None;
        };
        let kind = field.field_type;
        let fits = match name.as_str() {
            "$incr_by" => matches!(kind, FieldType::Integer | FieldType::Number),
            "$append" | "$append_unique" | "$remove" | "$pop" => {
                matches!(kind, FieldType::Array(_))
            }
            "$update" => kind == FieldType::Object,
            _ => {
                let hint = text::suggestion(&name, OPERATORS.iter().copied());
                self.violations.add(
                    path,
                    FieldError::Unknown,
                    format!("unknown operator {}{hint}", text::cut(&name, 64)),
                );
                return None;
            }
        };
        if !fits {
            let error = self
                .mismatched
                .take()
                .unwrap_or_else(|| Error::new(Reason::OpTypeMismatch));
            let why = format!("{name} doesn't apply to a field of type {}", kind.names().0);
            self.mismatched = Some(error.with_violation(path, FieldError::Type, why));
            return None;
        }
        match name.as_str() {
            "$incr_by" => self.checked(field, operand, path).map(Op::IncrBy),
            "$update" => match self.checked(field, operand, path)? {
                Value::Object(entries) => Some(Op::Update(entries)),
                _ => None,
            },
            "$pop" => match operand.as_f64() {
                Some(1.0) => Some(Op::PopLast),
                Some(-1.0) => Some(Op::PopFirst),
                _ => {
                    self.violations.add(
                        path,
                        FieldError::Range,
                        "$pop takes 1 for the last or -1 for the first",
                    );
                    None
                }
            },
            _ => match self.checked(field, operand, path)? {
                Value::Array(items) if items.len() > MAX_ITEMS => None,
                Value::Array(items) => Some(match name.as_str() {
                    "$append" => Op::Append(items),
                    "$append_unique" => Op::AppendUnique(items),
                    _ => Op::Remove(items),
                }),
                _ => None,
            },
        }
    }

    fn checked(&mut self, field: &Field, value: Value, path: &str) -> Option<Value> {
        field
            .check(value)
            .map_err(|(inside, error, why)| {
                self.violations.add(format!("{path}{inside}"), error, why)
            })
            .ok()
    }

    /// A field that is named twice, or beside a path into it, leaves open what should come of it.
    fn reject_repeats(&mut self) {
        for (index, change) in self.changes.iter().enumerate() {
            let clashes = self.changes[..index].iter().any(|earlier| {
                let shared = earlier.path.len().min(change.path.len());
                earlier.path[..shared] == change.path[..shared]
            });
            if clashes {
                let path = format!("custom_fields.{}", change.path.join("."));
                self.violations
                    .add(path, FieldError::Format, "is specified more than once");
            }
        }
    }
}
