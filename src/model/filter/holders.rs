//! Unique values in filters, and the users who hold them.
//!
//! A test of a username, an email and so on is a test of the user's ID once the user is known.
//! Asked that way it uses the primary key wherever it is in the filter. As a subquery, a
//! distributed Postgres rejects it below `$or` and `$not`, and asks every node.

use std::collections::HashMap;

use serde_json::Value;

use super::{Column, Filter, Operand, Subject, Test};

/// A kind of unique value, and the normalized value.
pub type UniqueKey = (&'static str, String);

impl Filter {
    /// The unique values that the filter tests for equality, each once.
    pub fn unique_keys(&self) -> Vec<UniqueKey> {
        let mut keys = Vec::new();
        self.collect_keys(&mut keys);
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn collect_keys(&self, keys: &mut Vec<UniqueKey>) {
        match self {
            Filter::All(parts) | Filter::Any(parts) => {
                parts.iter().for_each(|part| part.collect_keys(keys))
            }
            Filter::Not(inside) => inside.collect_keys(keys),
            Filter::Is(subject, test) => {
                keys.extend(tested_keys(subject, test).into_iter().flatten())
            }
        }
    }

    /// The same filter by IDs, where `holders` has the users with the [unique
    /// values](Filter::unique_keys). A value that it doesn't have is no user's.
    pub fn by_holders(&self, holders: &HashMap<UniqueKey, i64>) -> Self {
        let each = |parts: &[Filter]| parts.iter().map(|part| part.by_holders(holders)).collect();
        match self {
            Filter::All(parts) => Filter::All(each(parts)),
            Filter::Any(parts) => Filter::Any(each(parts)),
            Filter::Not(inside) => inside.by_holders(holders).negated(),
            Filter::Is(subject, test) => match tested_keys(subject, test) {
                Some(keys) => held_by(keys.iter().filter_map(|key| holders.get(key))),
                None => self.clone(),
            },
        }
    }
}

/// The unique values that a test of equality names; `None` for any other test.
fn tested_keys(subject: &Subject, test: &Test) -> Option<Vec<UniqueKey>> {
    let Subject::Column(column) = subject else {
        return None;
    };
    let kind = column.unique_kind()?;
    let operands = match test {
        Test::Equals(operand) => std::slice::from_ref(operand),
        Test::In(operands) => operands.as_slice(),
        _ => return None,
    };
    let text = |operand: &Operand| match operand {
        Operand::Json(Value::String(text)) => Some(text.clone()),
        Operand::Json(_) | Operand::Time(_) => None,
    };
    Some(
        operands
            .iter()
            .filter_map(text)
            .map(|text| (kind, text))
            .collect(),
    )
}

/// The test that a user is one of these.
fn held_by<'a>(user_ids: impl Iterator<Item = &'a i64>) -> Filter {
    let mut user_ids: Vec<Operand> = user_ids
        .map(|user_id| Operand::Json(Value::from(*user_id)))
        .collect();
    let test = match user_ids.len() {
        0 => return Filter::Any(Vec::new()),
        1 => Test::Equals(user_ids.remove(0)),
        _ => Test::In(user_ids),
    };
    Filter::Is(Subject::Column(Column::UserId), test)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{field::Fields, filter};

    fn parsed(filter: Value) -> Filter {
        filter::parse(
            filter.as_object().unwrap().clone(),
            &Fields::new(Vec::new(), Vec::new()),
        )
        .unwrap()
    }

    #[test]
    fn unique_values_become_ids_at_any_depth() {
        let filter = parsed(json!({ "$or": [
            { "username": "wang.fang" },
            { "$not": { "email": { "$in": ["a@example.com", "b@example.com", "c@example.com"] } } },
            { "nickname": "Fang", "openid": "o-1" },
        ] }));
        let key = |kind, value: &str| (kind, value.to_owned());
        let holders = HashMap::from([
            (key("username", "wang.fang"), 7),
            (key("email", "a@example.com"), 8),
            (key("email", "c@example.com"), 9),
        ]);

        let nobody = Filter::Any(Vec::new());
        let expected = Filter::Any(vec![
            parsed(json!({ "user_id": 7 })),
            parsed(json!({ "$not": { "user_id": { "$in": [8, 9] } } })),
            Filter::All(vec![parsed(json!({ "nickname": "Fang" })), nobody]),
        ]);
        assert_eq!(filter.by_holders(&holders), expected);
        assert_eq!(filter.unique_keys().len(), 5);
        assert_eq!(expected.unique_keys(), []);
    }

    #[test]
    fn other_tests_stay() {
        let filter = parsed(
            json!({ "username": { "$starts_with": "wang" }, "email": null, "nickname": "Fang" }),
        );

        assert_eq!(filter.unique_keys(), []);
        assert_eq!(filter.by_holders(&HashMap::new()), filter);
    }
}
