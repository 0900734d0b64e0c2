//! Reads a filter; every violation is reported with its path.

use serde_json::{Map, Value};

use super::{Column, Filter, Operand, Order, Subject, Test, check_cost, operand};
use crate::{
    error::{FieldError, Reason, Result, Violations},
    model::{
        field::{FieldType, Fields, is_key},
        text::{self, misplaced},
    },
};

/// Every field that the filter names, however deep, as it is written.
pub fn names(filter: &Map<String, Value>) -> Vec<&str> {
    let mut found = Vec::new();
    let mut left = vec![filter];
    while let Some(filter) = left.pop() {
        for (key, value) in filter {
            match (key.as_str(), value) {
                ("$and" | "$or", Value::Array(parts)) => {
                    left.extend(parts.iter().filter_map(Value::as_object))
                }
                ("$not", Value::Object(part)) => left.push(part),
                (name, _) => found.push(name),
            }
        }
    }
    found
}

/// Reads a filter.
///
/// # Errors
/// FILTER_TOO_COMPLEX, or FILTER_INVALID with every violation and its path.
pub fn parse(given: Map<String, Value>, fields: &Fields) -> Result<Filter> {
    check_cost(&given)?;
    let mut reader = Reader {
        fields,
        violations: Violations::new(),
    };
    let filter = reader.filter(given, "filter");
    reader.violations.into_result_as(Reason::FilterInvalid)?;
    Ok(filter)
}

struct Reader<'a> {
    fields: &'a Fields,
    violations: Violations,
}

impl Reader<'_> {
    fn filter(&mut self, given: Map<String, Value>, path: &str) -> Filter {
        let mut parts = Vec::with_capacity(given.len());
        for (key, value) in given {
            let path = format!("{path}.{}", text::cut(&key, 64));
            match key.as_str() {
                "$and" => parts.push(Filter::All(self.parts(value, &path))),
                "$or" => parts.push(Filter::Any(self.parts(value, &path))),
                "$not" => match value {
                    Value::Object(inside) => parts.push(self.filter(inside, &path).negated()),
                    _ => self
                        .violations
                        .add(path, FieldError::Type, "must be a filter"),
                },
                name if name.starts_with('$') => {
                    let known = || OPERATORS.iter().map(|(operator, _)| *operator);
                    self.violations.add(
                        path,
                        FieldError::Unknown,
                        misplaced(name, &["$and", "$or", "$not"], known()),
                    );
                }
                name => {
                    if let Some(subject) = self.subject(name, &path) {
                        parts.extend(self.tests(&subject, value, &path));
                    }
                }
            }
        }
        match parts.len() {
            1 => parts.remove(0),
            _ => Filter::All(parts),
        }
    }

    fn parts(&mut self, value: Value, path: &str) -> Vec<Filter> {
        let Value::Array(items) = value else {
            self.violations
                .add(path, FieldError::Type, "must be an array of filters");
            return Vec::new();
        };
        if items.is_empty() {
            self.violations
                .add(path, FieldError::Length, "must not be empty");
        }
        let mut parts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            match item {
                Value::Object(inside) => parts.push(self.filter(inside, &path)),
                _ => self
                    .violations
                    .add(path, FieldError::Type, "must be a filter"),
            }
        }
        parts
    }

    fn subject(&mut self, name: &str, path: &str) -> Option<Subject> {
        if let Some(column) = Column::parse(name) {
            return Some(Subject::Column(column));
        }
        let (first, steps) = match name.split_once('.') {
            None => (name, None),
            Some((first, rest)) => (
                first,
                Some(rest.split('.').map(str::to_owned).collect::<Vec<_>>()),
            ),
        };
        match (self.fields.get(first).cloned(), steps) {
            (Some(field), None) => return Some(Subject::Custom(field)),
            (Some(field), Some(steps)) if field.field_type == FieldType::Object => {
                if steps.iter().all(|step| is_key(step)) {
                    return Some(Subject::Inside(field, steps));
                }
                self.violations.add(
                    path,
                    FieldError::Format,
                    "each path segment must be a letter followed by letters, digits, or \"_\"",
                );
            }
            (Some(_), Some(_)) => self.violations.add(
                path,
                FieldError::Type,
                "a path is supported only in object fields",
            ),
            (None, _) => {
                let known = Column::NAMES
                    .iter()
                    .map(|(name, _)| *name)
                    .chain(self.fields.names());
                self.violations.add(
                    path,
                    FieldError::Unknown,
                    format!("is not a field{}", text::suggestion(first, known)),
                );
            }
        }
        None
    }

    /// The tests of one field: a bare value, or operators that all hold.
    fn tests(&mut self, subject: &Subject, value: Value, path: &str) -> Vec<Filter> {
        match value {
            Value::Object(tests) if tests.keys().any(|name| name.starts_with('$')) => tests
                .into_iter()
                .filter_map(|(name, operand)| self.test(subject, &name, operand, path))
                .collect(),
            value => self.test(subject, "$eq", value, path).into_iter().collect(),
        }
    }

    fn test(
        &mut self,
        subject: &Subject,
        operator: &str,
        operand: Value,
        path: &str,
    ) -> Option<Filter> {
        let Some(takes) = takes(operator) else {
            let known = OPERATORS.iter().map(|(operator, _)| *operator);
            let hint = text::suggestion(operator, known);
            self.violations.add(
                path,
                FieldError::Unknown,
                format!("unknown operator {}{hint}", text::cut(operator, 64)),
            );
            return None;
        };
        if let Some(kind) = subject.field_type()
            && !takes(subject, kind)
        {
            let why = format!(
                "{operator} doesn't apply to a field of type {}",
                kind.names().0
            );
            self.violations.add(path, FieldError::Type, why);
            return None;
        }
        match read_test(subject, operator, operand) {
            Ok(filter) => Some(filter),
            Err((inside, error, why)) => {
                self.violations.add(
                    format!("{path}{inside}"),
                    error,
                    format!("{operator}: {why}"),
                );
                None
            }
        }
    }
}

type Takes = fn(&Subject, FieldType) -> bool;

const EQUALITY: Takes = |_, kind| !matches!(kind, FieldType::Geojson | FieldType::File);
const ORDER: Takes = |_, kind| {
    matches!(
        kind,
        FieldType::Integer | FieldType::Number | FieldType::Date | FieldType::String
    )
};
const MEMBERSHIP: Takes = |_, kind| {
    !matches!(
        kind,
        FieldType::Object | FieldType::Geojson | FieldType::File
    )
};
const PATTERN: Takes = |_, kind| kind == FieldType::String;

/// The operators of one field, and the field types that each is for; inside an object it is for
/// all.
const OPERATORS: &[(&str, Takes)] = &[
    ("$eq", EQUALITY),
    ("$ne", EQUALITY),
    ("$lt", ORDER),
    ("$lte", ORDER),
    ("$gt", ORDER),
    ("$gte", ORDER),
    ("$range", |_, kind| {
        matches!(
            kind,
            FieldType::Integer | FieldType::Number | FieldType::Date
        )
    }),
    ("$in", MEMBERSHIP),
    ("$nin", MEMBERSHIP),
    ("$all", |_, kind| matches!(kind, FieldType::Array(_))),
    ("$contains", PATTERN),
    ("$icontains", PATTERN),
    ("$starts_with", PATTERN),
    ("$isnull", |_, _| true),
    ("$exists", |subject, _| {
        matches!(subject, Subject::Custom(_))
    }),
    ("$has_key", |_, kind| kind == FieldType::Object),
];

fn takes(operator: &str) -> Option<Takes> {
    OPERATORS
        .iter()
        .find(|(known, _)| *known == operator)
        .map(|(_, takes)| *takes)
}

type Rejected<T> = Result<T, crate::model::field::Rejection>;

fn read_test(subject: &Subject, operator: &str, given: Value) -> Rejected<Filter> {
    let is = |test| Filter::Is(subject.clone(), test);
    Ok(match operator {
        "$eq" => is(equals(subject, given)?),
        "$ne" => is(equals(subject, given)?).negated(),
        "$lt" => is(Test::Ordered(Order::Less, ordered(subject, given)?)),
        "$lte" => is(Test::Ordered(Order::LessOrEqual, ordered(subject, given)?)),
        "$gt" => is(Test::Ordered(Order::Greater, ordered(subject, given)?)),
        "$gte" => is(Test::Ordered(
            Order::GreaterOrEqual,
            ordered(subject, given)?,
        )),
        "$range" => {
            let [from, to] = <[Value; 2]>::try_from(items(given)?).map_err(|_| {
                (
                    String::new(),
                    FieldError::Length,
                    "must be an array of two values".to_owned(),
                )
            })?;
            Filter::All(vec![
                is(Test::Ordered(
                    Order::GreaterOrEqual,
                    ordered(subject, from)?,
                )),
                is(Test::Ordered(Order::LessOrEqual, ordered(subject, to)?)),
            ])
        }
        "$in" => among(subject, given)?,
        "$nin" => among(subject, given)?.negated(),
        "$all" => is(Test::HoldsAll(operands(
            subject,
            items(given)?.into_iter().enumerate(),
        )?)),
        "$contains" => is(Test::Contains(operand::pattern(subject, given)?)),
        "$icontains" => is(Test::ContainsFolded(operand::pattern(subject, given)?)),
        "$starts_with" => is(Test::StartsWith(operand::pattern(subject, given)?)),
        "$isnull" if operand::flag(&given)? => is(Test::Null),
        "$isnull" => is(Test::Null).negated(),
        "$exists" if operand::flag(&given)? => is(Test::Exists),
        "$exists" => is(Test::Exists).negated(),
        _ => is(Test::HasKey(operand::key(given)?)),
    })
}

fn equals(subject: &Subject, given: Value) -> Rejected<Test> {
    Ok(match (subject.field_type(), given) {
        (_, Value::Null) => Test::Null,
        (Some(FieldType::Array(_)) | None, Value::Array(items)) => {
            Test::EqualsList(operands(subject, items.into_iter().enumerate())?)
        }
        (_, given) => Test::Equals(operand::one(subject, given)?),
    })
}

/// An operand that has an order: a number, a text or a time.
fn ordered(subject: &Subject, given: Value) -> Rejected<Operand> {
    match operand::one(subject, given)? {
        Operand::Json(value) if !value.is_number() && !value.is_string() => Err((
            String::new(),
            FieldError::Type,
            "must be a number or text".to_owned(),
        )),
        operand => Ok(operand),
    }
}

fn among(subject: &Subject, given: Value) -> Rejected<Filter> {
    let (nulls, mut values): (Vec<_>, Vec<_>) = items(given)?
        .into_iter()
        .enumerate()
        .partition(|(_, value)| value.is_null());
    let has_null = !nulls.is_empty();
    // Only inside an object may an array hold nulls.
    if subject.field_type().is_none() {
        values.extend(nulls);
    }
    let listed = Filter::Is(subject.clone(), Test::In(operands(subject, values)?));
    Ok(if has_null {
        Filter::Any(vec![Filter::Is(subject.clone(), Test::Null), listed])
    } else {
        listed
    })
}

fn items(given: Value) -> Rejected<Vec<Value>> {
    match given {
        Value::Array(items) => Ok(items),
        _ => Err((
            String::new(),
            FieldError::Type,
            "must be an array".to_owned(),
        )),
    }
}

/// Reads values, each with its place.
fn operands(
    subject: &Subject,
    given: impl IntoIterator<Item = (usize, Value)>,
) -> Rejected<Vec<Operand>> {
    let read = given.into_iter().map(|(index, value)| {
        operand::one(subject, value)
            .map_err(|(inside, error, why)| (format!("[{index}]{inside}"), error, why))
    });
    read.collect()
}
