//! The definition of a field, and all definitions that hold at one moment.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    FieldType, MAX_KEY_TEXT,
    value::{Rejection, document_fits, reject},
};
use crate::{
    error::{FieldError, Violations},
    model::text,
};

/// What there is of a field's index. It comes and goes in two steps, so that at no time a replica
/// reads what another does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Nothing.
    None,
    /// Writers keep it up; values that were there before are being added.
    Filling,
    /// It holds every value, so that readers may rest on it.
    Ready,
    /// Readers rest on it no more, but some may not have heard of that, so that writers still keep
    /// it up.
    Leaving,
}

impl Index {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Index::None => "none",
            Index::Filling => "filling",
            Index::Ready => "ready",
            Index::Leaving => "leaving",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Index::None, Index::Filling, Index::Ready, Index::Leaving]
            .into_iter()
            .find(|state| state.as_str() == name)
    }

    /// Whether the field is declared `indexed`.
    pub fn is_declared(self) -> bool {
        matches!(self, Index::Filling | Index::Ready)
    }

    /// Whether writers keep it up.
    pub fn is_maintained(self) -> bool {
        self != Index::None
    }
}

/// The definition of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub field_id: i64,
    pub name: String,
    pub field_type: FieldType,
    pub description: String,
    pub default_value: Option<Value>,
    pub required: bool,
    pub unique: bool,
    pub index: Index,
    pub user_writable: bool,
    pub created_at: DateTime<Utc>,
    /// Counts the changes by callers, not those of the index.
    pub version: i64,
}

/// What of a field changes; absent parts stay.
#[derive(Clone, Debug, Default)]
pub struct FieldPatch {
    pub description: Option<String>,
    /// As it was given, to be checked against the field's type; `Some(None)` clears it.
    pub default_value: Option<Option<Value>>,
    pub required: Option<bool>,
    pub unique: Option<bool>,
    pub indexed: Option<bool>,
    pub user_writable: Option<bool>,
}

impl Field {
    /// The opaque text of this version. It names the field by its id too: a field that took the
    /// name of a deleted one is never mistaken for it.
    pub fn etag(&self) -> String {
        format!("{:x}-{:x}", self.field_id, self.version)
    }

    /// The kind of its values in `unique_values`.
    pub fn unique_kind(&self) -> String {
        Self::unique_kind_of(self.field_id)
    }

    /// The kind of the values of the field with this id.
    pub fn unique_kind_of(field_id: i64) -> String {
        format!("field:{field_id}")
    }

    /// Checks a value of this field, and what being unique or indexed asks of it.
    pub fn check(&self, value: Value) -> Result<Value, Rejection> {
        let value = self.field_type.check(value)?;
        let too_long = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| text.chars().count() > MAX_KEY_TEXT)
        };
        let has_long_text = match &value {
            Value::Array(items) => items.iter().any(too_long),
            other => too_long(other),
        };
        if (self.unique || self.index.is_maintained()) && has_long_text {
            return reject(
                FieldError::Length,
                format!(
                    "must be at most {MAX_KEY_TEXT} characters long because the field is indexed"
                ),
            );
        }
        Ok(value)
    }
}

/// Whether these defaults fit into one document. They must: a new user gets all of them.
pub fn defaults_fit<'a>(fields: impl IntoIterator<Item = &'a Field>) -> bool {
    let default = |field: &Field| Some((field.name.clone(), field.default_value.clone()?));
    document_fits(&fields.into_iter().filter_map(default).collect())
}

/// The definitions that hold at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    by_name: HashMap<String, Arc<Field>>,
    hidden: Vec<String>,
}

impl Fields {
    /// The fields, and the names of deleted ones whose values may still lie in documents.
    pub fn new(fields: impl IntoIterator<Item = Field>, mut hidden: Vec<String>) -> Self {
        hidden.sort_unstable();
        Self {
            by_name: fields
                .into_iter()
                .map(|field| (field.name.clone(), Arc::new(field)))
                .collect(),
            hidden,
        }
    }

    /// Names of deleted fields, whose values no reply may show.
    pub fn hidden(&self) -> &[String] {
        &self.hidden
    }

    /// The field of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Field>> {
        self.by_name.get(name)
    }

    /// All fields, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Field>> {
        self.by_name.values()
    }

    /// Their names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The field that a mask's `name` means: the one of just that name, else, since JSON clients
    /// lose capitals and underscores in masks, the only one that equals it without `_` and case.
    pub fn get_loosely(&self, name: &str) -> Option<&Arc<Field>> {
        let bare = |name: &str| name.replace('_', "").to_lowercase();
        self.get(name).or_else(|| {
            let wanted = bare(name);
            let mut found = self.iter().filter(|field| bare(&field.name) == wanted);
            found.next().filter(|_| found.next().is_none())
        })
    }

    /// The document of a new profile: the given values checked, and defaults where none is given.
    pub fn new_document(
        &self,
        given: Map<String, Value>,
        path: &str,
        violations: &mut Violations,
    ) -> Map<String, Value> {
        let mut document = Map::new();
        for (name, value) in given {
            let at = || format!("{path}.{}", text::cut(&name, 64));
            match self.get(&name) {
                None => violations.add(at(), FieldError::Unknown, "is not a custom field"),
                Some(field) if value.is_null() && field.required => {
                    violations.add(at(), FieldError::Required, "is required");
                }
                Some(_) if value.is_null() => {
                    document.insert(name, value);
                }
                Some(field) => match field.check(value) {
                    Ok(value) => {
                        document.insert(name, value);
                    }
                    Err((inside, error, why)) => {
                        violations.add(format!("{}{inside}", at()), error, why)
                    }
                },
            }
        }
        for field in self.iter() {
            if document.contains_key(&field.name) {
                continue;
            }
            match &field.default_value {
                Some(value) => {
                    document.insert(field.name.clone(), value.clone());
                }
                // A value that was sent and rejected has its violation already.
                None if field.required => {
                    violations.add(
                        format!("{path}.{}", field.name),
                        FieldError::Required,
                        "is required",
                    );
                }
                None => {}
            }
        }
        document
    }
}
