//! What a filter may cost, looked at with a list of things to do instead of recursion.

use serde_json::{Map, Value};

use crate::{
    error::{Error, FieldError, Reason, Result},
    model::text,
};

/// Most bytes as compact JSON.
const MAX_BYTES: usize = 16 * 1024;
/// How deep filters nest; the outermost has depth 1.
const MAX_DEPTH: usize = 8;
/// Most conditions in all.
const MAX_CONDITIONS: usize = 64;
/// Most values of `$in`, `$nin` and `$all`.
const MAX_VALUES: usize = 500;
/// Most characters of a pattern.
const MAX_PATTERN: usize = 128;

/// Rejects a filter that is too long, deep or wide, before anything else reads it.
///
/// # Errors
/// FILTER_TOO_COMPLEX.
pub fn check_cost(filter: &Map<String, Value>) -> Result<()> {
    let mut bytes = Counter(0);
    serde_json::to_writer(&mut bytes, filter).map_err(Error::internal)?;
    if bytes.0 > MAX_BYTES {
        return Err(too_complex("filter", "must have at most 16 KiB"));
    }
    let mut conditions = 0;
    let mut left = vec![(filter, "filter".to_owned(), 1)];
    while let Some((filter, path, depth)) = left.pop() {
        if depth > MAX_DEPTH {
            return Err(too_complex(path, "must not nest deeper than 8"));
        }
        for (key, value) in filter {
            let path = format!("{path}.{}", text::cut(key, 64));
            match (key.as_str(), value) {
                ("$and" | "$or", Value::Array(parts)) => {
                    let parts = parts.iter().enumerate();
                    let parts = parts.filter_map(|(index, part)| {
                        Some((part.as_object()?, format!("{path}[{index}]")))
                    });
                    left.extend(parts.map(|(part, path)| (part, path, depth + 1)));
                }
                ("$not", Value::Object(part)) => left.push((part, path, depth + 1)),
                (_, Value::Object(tests)) if tests.keys().any(|name| name.starts_with('$')) => {
                    conditions += tests.len();
                    check_tests(tests, &path)?;
                }
                _ => conditions += 1,
            }
        }
        if conditions > MAX_CONDITIONS {
            return Err(too_complex("filter", "must have at most 64 conditions"));
        }
    }
    Ok(())
}

fn check_tests(tests: &Map<String, Value>, path: &str) -> Result<()> {
    for (name, operand) in tests {
        match (name.as_str(), operand) {
            ("$in" | "$nin" | "$all", Value::Array(values)) if values.len() > MAX_VALUES => {
                return Err(too_complex(path, "must have at most 500 values"));
            }
            ("$contains" | "$icontains" | "$starts_with", Value::String(pattern))
                if pattern.chars().nth(MAX_PATTERN).is_some() =>
            {
                return Err(too_complex(
                    path,
                    "a pattern must have at most 128 characters",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn too_complex(path: impl Into<String>, why: &str) -> Error {
    Error::new(Reason::FilterTooComplex).with_violation(path, FieldError::Length, why)
}

/// Counts what is written to it.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
