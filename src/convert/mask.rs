//! Masks: which fields are shown, and which change.

use std::collections::HashSet;

use prost_types::FieldMask;

use crate::{
    error::{FieldError, Violations},
    model::{
        field::Fields,
        profile::{ACCOUNT, AccountMask, BUILTIN, CustomMask, ReadMask},
        text,
    },
};

/// Most different paths of a mask; no message has half as many fields.
const MAX_PATHS: usize = 1000;

/// The paths of the mask at `field`, each once.
pub fn paths(field: &str, mask: Option<FieldMask>, violations: &mut Violations) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut paths = mask.unwrap_or_default().paths;
    paths.retain(|path| seen.insert(path.clone()));
    if paths.len() > MAX_PATHS {
        violations.add(field, FieldError::Length, "must have at most 1000 paths");
        paths.truncate(MAX_PATHS);
    }
    paths
}

/// Whether a mask names the account, which asks for more rights.
pub fn names_account(mask: Option<&FieldMask>) -> bool {
    mask.is_some_and(|mask| {
        mask.paths
            .iter()
            .any(|path| path == "account" || path.starts_with("account."))
    })
}

/// The custom fields that a mask names.
pub fn custom_names(mask: Option<&FieldMask>) -> impl Iterator<Item = &str> {
    mask.into_iter()
        .flat_map(|mask| mask.paths.iter())
        .filter_map(|path| path.strip_prefix("custom_fields."))
}

/// Reads a mask; without one, all but the account.
pub fn read(mask: Option<FieldMask>, fields: &Fields, violations: &mut Violations) -> ReadMask {
    let paths = paths("read_mask", mask, violations);
    if paths.is_empty() {
        return ReadMask::default_fields();
    }
    let mut builtin = Vec::new();
    let mut custom = CustomMask::Only(Vec::new());
    let mut account = AccountMask::None;
    for path in &paths {
        let known =
            |names: &[&'static str], name: &str| names.iter().copied().find(|known| *known == name);
        if let Some(name) = known(BUILTIN, path) {
            builtin.push(name);
        } else if path == "custom_fields" {
            custom = CustomMask::All;
        } else if path == "account" {
            account = AccountMask::All;
        } else if let Some(field) = path
            .strip_prefix("custom_fields.")
            .and_then(|name| fields.get_loosely(name))
        {
            if let CustomMask::Only(names) = &mut custom {
                names.push(field.name.clone());
            }
        } else if let Some(name) = path
            .strip_prefix("account.")
            .and_then(|name| known(ACCOUNT, name))
        {
            match &mut account {
                AccountMask::All => {}
                AccountMask::Only(names) => names.push(name),
                AccountMask::None => account = AccountMask::Only(vec![name]),
            }
        } else {
            violations.add(
                "read_mask",
                FieldError::Unknown,
                format!("unknown path {}", text::cut(path, 64)),
            );
        }
    }
    ReadMask {
        builtin: Some(builtin),
        custom,
        account,
    }
}
