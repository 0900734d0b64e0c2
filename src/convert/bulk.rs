//! The request of BulkUpdateFields.

use serde_json::{Map, Value};

use super::{json, pb, profile, user::check_request_id};
use crate::{
    error::{FieldError, Result, Violations},
    model::{
        bulk::{self, BulkUpdate},
        field::Fields,
        filter, page, update,
    },
};

/// The custom fields that the request names, in its filter and its changes.
pub fn custom_names<'a>(
    request: &'a pb::BulkUpdateFieldsRequest,
    filter: &'a Map<String, Value>,
) -> Vec<String> {
    let changed = update::names(
        &request
            .custom_fields
            .clone()
            .map(json::object)
            .unwrap_or_default(),
    );
    filter::custom_names(filter)
        .map(str::to_owned)
        .chain(changed)
        .collect()
}

/// Reads the request, whose filter is given as JSON.
///
/// # Errors
/// INVALID_REQUEST with all violations; those of the operators; FILTER_TOO_COMPLEX, FILTER_INVALID.
pub fn update(
    request: pb::BulkUpdateFieldsRequest,
    filter: Map<String, Value>,
    fields: &Fields,
) -> Result<BulkUpdate> {
    let custom = request.custom_fields.map(json::object).unwrap_or_default();
    let mut violations = Violations::new();
    check_request_id(&request.request_id, &mut violations);
    let names_no_group = request.add_group_ids.is_empty() && request.remove_group_ids.is_empty();
    if update::is_empty(&custom) && names_no_group {
        violations.add(
            "custom_fields",
            FieldError::Required,
            "must contain at least one field to update",
        );
    }
    let groups = profile::groups(
        request.add_group_ids,
        request.remove_group_ids,
        &mut violations,
    );
    if !(0..=page::MAX_SIZE).contains(&i64::from(request.limit)) {
        violations.add("limit", FieldError::Range, "must be between 1 and 1000");
    }
    let skip = page::skip(request.skip, &mut violations);
    if request.expected_total.is_some_and(|expected| expected < 0) {
        violations.add("expected_total", FieldError::Range, "must not be negative");
    }
    let changes = update::parse(custom, fields, &mut violations);
    violations.into_result()?;
    let changes = changes?;
    bulk::check(&changes)?;
    Ok(BulkUpdate {
        // Parsed first: that bounds what the hash and the search for a match of everything walk
        // through.
        filter: filter::parse(filter.clone(), fields)?,
        query_hash: filter::query_hash(&filter),
        match_all: if request.allow_all {
            None
        } else {
            filter::find_match_all(&filter)
        },
        page_token: request.page_token,
        changes,
        groups,
        skip,
        limit: if request.limit == 0 {
            page::DEFAULT_SIZE
        } else {
            i64::from(request.limit)
        },
        with_total: request.return_total_size,
        expected_total: request.expected_total,
        validate_only: request.validate_only,
        all_or_nothing: request.all_or_nothing,
    })
}
