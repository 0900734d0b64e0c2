//! Field definitions as messages.

use chrono::{DateTime, Utc};

use crate::{
    convert::{json, mask, pb, timestamp, user::check_request_id},
    error::{FieldError, Result, Violations},
    model::{
        field::{Field, FieldPatch, FieldType, Index, is_key},
        text,
    },
};

/// Names that a field may not have: those a filter knows already, and two of an older system's.
pub const RESERVED: &[&str] = &[
    "user_id",
    "id",
    "nickname",
    "avatar_url",
    "gender",
    "country",
    "province",
    "city",
    "language",
    "openid",
    "unionid",
    "is_authorized",
    "group_ids",
    "custom_fields",
    "created_by",
    "created_at",
    "updated_at",
    "etag",
    "account",
    "username",
    "email",
    "phone",
    "email_verified",
    "phone_verified",
    "last_login_at",
    "avatar",
    "user_group",
];

/// A definition's message.
pub fn message(field: &Field) -> pb::FieldDefinition {
    let (kind, item) = field.field_type.names();
    let number = |name: &str| {
        pb::FieldType::from_str_name(&format!("FIELD_TYPE_{}", name.to_uppercase()))
            .unwrap_or_default() as i32
    };
    pb::FieldDefinition {
        name: field.name.clone(),
        r#type: number(kind),
        item_type: item.map(number).unwrap_or_default(),
        description: field.description.clone(),
        default_value: field
            .default_value
            .as_ref()
            .map(|value| json::field_value(field.field_type, value)),
        required: field.required,
        unique: field.unique,
        indexed: field.index.is_declared(),
        user_writable: field.user_writable,
        created_at: Some(timestamp(field.created_at)),
        index_ready: field.index == Index::Ready,
        etag: field.etag(),
    }
}

fn type_name(number: i32) -> Option<String> {
    let name = pb::FieldType::try_from(number)
        .ok()?
        .as_str_name()
        .strip_prefix("FIELD_TYPE_")?
        .to_lowercase();
    (name != "unspecified").then_some(name)
}

/// Reads a new definition.
///
/// # Errors
/// INVALID_REQUEST with all violations.
pub fn new_field(request: pb::CreateFieldRequest) -> Result<Field> {
    let mut violations = Violations::new();
    check_request_id(&request.request_id, &mut violations);
    let given = request.field.unwrap_or_default();
    if given.name.is_empty() {
        violations.add("field.name", FieldError::Required, "is required");
    } else if !is_key(&given.name) || given.name.len() > 32 {
        violations.add(
            "field.name",
            FieldError::Format,
            "must be a letter, then letters, digits and \"_\", at most 32 in all",
        );
    } else if RESERVED.contains(&given.name.as_str()) {
        violations.add("field.name", FieldError::Format, "is a reserved name");
    }
    for (path, is_set) in [
        ("field.created_at", given.created_at.is_some()),
        ("field.index_ready", given.index_ready),
        ("field.etag", !given.etag.is_empty()),
    ] {
        if is_set {
            violations.add(path, FieldError::Immutable, "is output only");
        }
    }
    let description = description(given.description, &mut violations);
    let item = type_name(given.item_type);
    let field_type = match type_name(given.r#type) {
        None => {
            violations.add("field.type", FieldError::Required, "is required");
            None
        }
        Some(kind) if kind == "array" && item.is_none() => {
            violations.add(
                "field.item_type",
                FieldError::Required,
                "is required for an array",
            );
            None
        }
        Some(kind) => {
            let found = FieldType::from_names(&kind, item.as_deref());
            if found.is_none() {
                violations.add(
                    "field.item_type",
                    FieldError::Type,
                    "is not a valid item type",
                );
            }
            found
        }
    };
    let Some(field_type) = field_type else {
        violations.into_result()?;
        unreachable!("valid: a missing type is a violation");
    };
    if given.unique && !field_type.can_be_unique() {
        violations.add(
            "field.unique",
            FieldError::Type,
            "only a string, integer, number or date can be unique",
        );
    }
    if given.indexed && !field_type.can_be_indexed() {
        violations.add(
            "field.indexed",
            FieldError::Type,
            "only a scalar or an array of scalars can be indexed",
        );
    }
    let mut field = Field {
        field_id: 0,
        name: given.name,
        field_type,
        description,
        default_value: None,
        required: given.required,
        unique: given.unique,
        // No profile has a value of it yet, so there is nothing to backfill.
        index: if given.indexed {
            Index::Ready
        } else {
            Index::None
        },
        user_writable: given.user_writable,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        version: 1,
    };
    if let Some(value) = given
        .default_value
        .map(json::value)
        .filter(|value| !value.is_null())
    {
        match field.check(value) {
            Ok(_) if field.unique => {
                violations.add(
                    "field.default_value",
                    FieldError::Format,
                    "a unique field can't have a default value",
                );
            }
            Ok(value) => field.default_value = Some(value),
            Err((inside, error, why)) => {
                violations.add(format!("field.default_value{inside}"), error, why)
            }
        }
    }
    violations.into_result()?;
    Ok(field)
}

fn description(given: String, violations: &mut Violations) -> String {
    let text = violations
        .check("field.description", text::nfc(given))
        .unwrap_or_default();
    if text.chars().nth(1000).is_some() {
        violations.add(
            "field.description",
            FieldError::Length,
            "must be at most 1000 characters long",
        );
    }
    text
}

/// Parses the name of an existing field. An invalid name is left to the look-up.
pub fn known_name(path: &str, given: String, violations: &mut Violations) -> Option<String> {
    if given.is_empty() {
        violations.add(path, FieldError::Required, "is required");
        return None;
    }
    violations.check(path, text::nfc(given))
}

/// Reads which field is meant, and what of it changes.
///
/// # Errors
/// INVALID_REQUEST with all violations.
pub fn patch(request: pb::UpdateFieldRequest) -> Result<(String, FieldPatch)> {
    let mut violations = Violations::new();
    let given = request.field.unwrap_or_default();
    let name = known_name("field.name", given.name, &mut violations);
    let paths = mask::paths("update_mask", request.update_mask, &mut violations);
    if paths.is_empty() {
        violations.add(
            "update_mask",
            FieldError::Required,
            "must list the fields to update",
        );
    }
    let mut patch = FieldPatch::default();
    for path in &paths {
        match path.as_str() {
            "description" => {
                patch.description = Some(description(given.description.clone(), &mut violations))
            }
            "default_value" => {
                let value = given
                    .default_value
                    .clone()
                    .map(json::value)
                    .filter(|value| !value.is_null());
                patch.default_value = Some(value);
            }
            "required" => patch.required = Some(given.required),
            "unique" => patch.unique = Some(given.unique),
            "indexed" => patch.indexed = Some(given.indexed),
            "user_writable" => patch.user_writable = Some(given.user_writable),
            "name" | "type" | "item_type" | "created_at" | "index_ready" | "etag" => {
                violations.add(
                    "update_mask",
                    FieldError::Immutable,
                    format!("{path} cannot be changed"),
                );
            }
            path => violations.add(
                "update_mask",
                FieldError::Unknown,
                format!("unknown path {}", text::cut(path, 64)),
            ),
        }
    }
    violations.into_result()?;
    Ok((name.expect("valid: a bad name is a violation"), patch))
}
