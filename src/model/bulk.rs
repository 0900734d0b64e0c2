//! Bulk updates: one change of many profiles.

use crate::{
    error::{Error, FieldError, Result},
    model::{
        filter::Filter,
        profile::GroupChange,
        update::{Change, Op},
    },
};

/// The change and the users that it applies to.
pub struct BulkUpdate {
    pub filter: Filter,
    pub changes: Vec<Change>,
    pub groups: GroupChange,
    /// The hash of the filter as the request has it, to which page tokens are bound.
    pub query_hash: String,
    /// The path of what makes the filter match every profile, unless the request allows that.
    pub match_all: Option<String>,
    /// Of the call before; empty for the first call.
    pub page_token: String,
    /// Users to skip before the first call.
    pub skip: i64,
    pub limit: i64,
    pub with_total: bool,
    pub expected_total: Option<i64>,
    pub validate_only: bool,
    pub all_or_nothing: bool,
}

/// Rejects a change that can't be decided for many profiles at once.
///
/// # Errors
/// INVALID_REQUEST for `$incr_by` on a unique field.
pub fn check(changes: &[Change]) -> Result<()> {
    for change in changes.iter().filter(|change| change.field.unique) {
        if matches!(change.op, Op::IncrBy(_)) {
            let path = format!("custom_fields.{}", change.field.name);
            return Err(Error::invalid(
                path,
                FieldError::Type,
                "$incr_by isn't supported on unique fields in bulk updates",
            ));
        }
    }
    Ok(())
}
