//! What a list needs to know of its filter before the filter is parsed, and what its page tokens
//! are bound to.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Column, names};
use crate::model::token;

/// Whether a filter names a field of the account anywhere, which requires more permissions.
pub fn names_account(filter: &Map<String, Value>) -> bool {
    names(filter)
        .into_iter()
        .filter_map(Column::parse)
        .any(Column::is_of_account)
}

/// The custom fields that a filter names, those before a dot included.
pub fn custom_names(filter: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let names = names(filter)
        .into_iter()
        .filter(|name| Column::parse(name).is_none());
    names.map(|name| name.split('.').next().unwrap_or_default())
}

/// A hash of a filter: a page token of one filter is not valid for another.
pub fn query_hash(filter: &Map<String, Value>) -> String {
    let text = serde_json::to_string(filter).expect("valid: plain JSON");
    URL_SAFE_NO_PAD.encode(&token::hash(&text)[..16])
}
