//! The fields of a user that a caller selects with `keys`.

use std::collections::HashSet;

use serde_json::Value;

use super::page::Params;
use crate::{
    error::{Error, FieldError, Result},
    model::text,
};

/// Which fields are shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    Only(HashSet<String>),
    Without(HashSet<String>),
}

impl Keys {
    /// Reads the parameter `keys`: names to show, or names after `-` to leave out. Both together
    /// show everything, as in minapp. `sample` is a user with every field.
    ///
    /// # Errors
    /// INVALID_REQUEST for an unknown name.
    pub(super) fn read(params: &Params<'_>, sample: impl FnOnce() -> Value) -> Result<Self> {
        match params.get("keys") {
            Some(given) if !given.is_empty() => Self::parse(given, &sample()),
            _ => Ok(Keys::All),
        }
    }

    fn parse(given: &str, sample: &Value) -> Result<Self> {
        let (mut only, mut without) = (HashSet::new(), HashSet::new());
        for key in given
            .split(',')
            .map(str::trim)
            .filter(|key| !key.is_empty())
        {
            let (names, path) = match key.strip_prefix('-') {
                Some(path) => (&mut without, path),
                None => (&mut only, key),
            };
            // A path would select a part of what `expand` adds.
            let name = path.split('.').next().unwrap_or_default();
            if sample.get(name).is_none() {
                let why = format!("{} is not a field", text::cut(name, 64));
                return Err(Error::invalid("keys", FieldError::Unknown, why));
            }
            names.insert(name.to_owned());
        }
        Ok(match (only.is_empty(), without.is_empty()) {
            (false, true) => Keys::Only(only),
            (true, false) => Keys::Without(without),
            _ => Keys::All,
        })
    }

    /// The selected fields of a user.
    pub(super) fn select(&self, mut user: Value) -> Value {
        if let Value::Object(fields) = &mut user {
            fields.retain(|name, _| match self {
                Keys::All => true,
                Keys::Only(names) => names.contains(name),
                Keys::Without(names) => !names.contains(name),
            });
        }
        user
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn select(given: &str) -> Value {
        let user = json!({ "id": 7, "nickname": "Tom", "_email": "tom@example.org" });
        Keys::parse(given, &user).unwrap().select(user)
    }

    #[test]
    fn keys_select_or_leave_out() {
        assert_eq!(select("nickname"), json!({ "nickname": "Tom" }));
        assert_eq!(
            select("id, nickname,"),
            json!({ "id": 7, "nickname": "Tom" })
        );
        assert_eq!(select("-_email,-nickname"), json!({ "id": 7 }));
        for everything in ["", ",", "nickname,-id"] {
            assert_eq!(
                select(everything).as_object().unwrap().len(),
                3,
                "{everything}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_rejected() {
        for bad in ["nickname,nothing", "-nothing", "-"] {
            assert!(
                Keys::parse(bad, &json!({ "nickname": "" })).is_err(),
                "{bad}"
            );
        }
    }
}
