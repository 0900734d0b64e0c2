//! Filters that match every profile by their form, whatever the profiles are.

use serde_json::{Map, Value};

use crate::model::text;

/// The path of what makes a filter match every profile by its form, such as `filter.$or[1]`; `None`
/// if it can exclude a profile. A client that loses an undefined value sends such a filter without
/// meaning it.
///
/// The filter must have passed [`check_cost`](super::check_cost), which bounds the recursion.
pub fn find_match_all(filter: &Map<String, Value>) -> Option<String> {
    matches_all(filter, "filter")
}

fn matches_all(filter: &Map<String, Value>, path: &str) -> Option<String> {
    let parts: Option<Vec<String>> = filter
        .iter()
        .map(|(key, value)| entry_matches_all(key, value, path))
        .collect();
    parts.map(|causes| causes.into_iter().next().unwrap_or_else(|| path.to_owned()))
}

fn entry_matches_all(key: &str, value: &Value, path: &str) -> Option<String> {
    let path = inner(path, key);
    match (key, value) {
        ("$and", Value::Array(parts)) => {
            let causes: Option<Vec<String>> = objects(parts, &path)
                .map(|(part, path)| matches_all(part?, &path))
                .collect();
            causes?.into_iter().next()
        }
        ("$or", Value::Array(parts)) => {
            objects(parts, &path).find_map(|(part, path)| matches_all(part?, &path))
        }
        ("$not", Value::Object(part)) => matches_nothing(part, &path),
        (_, Value::Object(tests)) => {
            let is_no_test = |(operator, operand): (&String, &Value)| {
                operator == "$nin" && is_empty_list(operand)
            };
            (!tests.is_empty() && tests.iter().all(is_no_test)).then_some(path)
        }
        _ => None,
    }
}

fn matches_nothing(filter: &Map<String, Value>, path: &str) -> Option<String> {
    filter
        .iter()
        .find_map(|(key, value)| entry_matches_nothing(key, value, path))
}

fn entry_matches_nothing(key: &str, value: &Value, path: &str) -> Option<String> {
    let path = inner(path, key);
    match (key, value) {
        ("$and", Value::Array(parts)) => {
            objects(parts, &path).find_map(|(part, path)| matches_nothing(part?, &path))
        }
        ("$or", Value::Array(parts)) => {
            let causes: Option<Vec<String>> = objects(parts, &path)
                .map(|(part, path)| matches_nothing(part?, &path))
                .collect();
            causes?.into_iter().next()
        }
        ("$not", Value::Object(part)) => matches_all(part, &path),
        (_, Value::Object(tests)) => {
            let is_never = |(operator, operand): (&String, &Value)| {
                matches!(operator.as_str(), "$in" | "$all") && is_empty_list(operand)
            };
            tests.iter().any(is_never).then_some(path)
        }
        _ => None,
    }
}

fn inner(path: &str, key: &str) -> String {
    format!("{path}.{}", text::cut(key, 64))
}

/// The filters of an array, each with its path.
fn objects<'a>(
    parts: &'a [Value],
    path: &str,
) -> impl Iterator<Item = (Option<&'a Map<String, Value>>, String)> {
    parts
        .iter()
        .enumerate()
        .map(move |(index, part)| (part.as_object(), format!("{path}[{index}]")))
}

fn is_empty_list(operand: &Value) -> bool {
    operand.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cause(filter: Value) -> Option<String> {
        find_match_all(filter.as_object().unwrap())
    }

    #[test]
    fn p24_a_filter_that_matches_all_by_its_form_is_found_with_its_cause() {
        for (filter, path) in [
            (json!({}), "filter"),
            (json!({ "$and": [{}] }), "filter.$and[0]"),
            (
                json!({ "$and": [{ "$and": [{}, {}] }, {}] }),
                "filter.$and[0].$and[0]",
            ),
            (json!({ "$or": [{ "level": 99 }, {}] }), "filter.$or[1]"),
            (
                json!({ "$and": [{ "$or": [{}] }] }),
                "filter.$and[0].$or[0]",
            ),
            (json!({ "level": { "$nin": [] } }), "filter.level"),
            (
                json!({ "$not": { "level": { "$in": [] } } }),
                "filter.$not.level",
            ),
            (
                json!({ "$not": { "tags": { "$all": [] }, "level": 1 } }),
                "filter.$not.tags",
            ),
            (json!({ "$not": { "$not": {} } }), "filter.$not.$not"),
            (
                json!({ "$not": { "$or": [{ "level": { "$in": [] } }, { "$not": {} }] } }),
                "filter.$not.$or[0].level",
            ),
            (
                json!({ "$not": { "$and": [{ "level": 1 }, { "$not": { "$and": [{}] } }] } }),
                "filter.$not.$and[1].$not.$and[0]",
            ),
        ] {
            assert_eq!(cause(filter.clone()).as_deref(), Some(path), "{filter}");
        }
    }

    #[test]
    fn p24_a_filter_with_a_condition_excludes_profiles() {
        for filter in [
            json!({ "level": 1 }),
            json!({ "stats": {} }),
            json!({ "level": { "$nin": [1] } }),
            json!({ "level": { "$nin": [], "$gt": 1 } }),
            json!({ "level": { "$in": [] } }),
            json!({ "$and": [{}, { "level": 1 }] }),
            json!({ "$or": [{ "level": 1 }, { "level": 2 }] }),
            json!({ "$not": {} }),
            json!({ "$not": { "$or": [{ "level": { "$in": [] } }, { "level": 1 }] } }),
            json!({ "$not": { "level": { "$nin": [] } } }),
        ] {
            assert_eq!(cause(filter.clone()), None, "{filter}");
        }
    }
}
