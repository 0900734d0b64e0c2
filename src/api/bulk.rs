//! BulkUpdateFields.

use super::Api;
use crate::{
    convert::{json, pb, profile, timestamp, user::check_request_id},
    domain::{
        bulk::{self, BulkDone, BulkUpdate},
        caller::Caller,
        idempotency,
    },
    error::{FieldError, Result, Violations},
    model::{filter, page, scope::Scope, update},
};

impl Api {
    /// Changes custom fields and groups of the profiles that a filter finds.
    pub async fn bulk_update_fields(
        &self,
        caller: &Caller,
        request: pb::BulkUpdateFieldsRequest,
    ) -> Result<pb::BulkUpdateFieldsResponse> {
        let filter = request.filter.clone().map(json::object).unwrap_or_default();
        if filter::names_account(&filter) {
            caller.require(Scope::AccountsRead)?;
        }
        let key = match request.validate_only {
            true => None,
            false => self.idempotency_key(caller, "BulkUpdateFields", &request.request_id, &request),
        };
        let update = async {
            let custom = request.custom_fields.map(json::object).unwrap_or_default();
            let changed = update::names(&custom);
            let named = filter::custom_names(&filter).chain(changed.iter().map(String::as_str));
            let fields = self.0.fields.load_including(named).await?;
            let mut violations = Violations::new();
            check_request_id(&request.request_id, &mut violations);
            let names_no_group = request.add_group_ids.is_empty() && request.remove_group_ids.is_empty();
            if update::is_empty(&custom) && names_no_group {
                violations.add("custom_fields", FieldError::Required, "must contain at least one field to update");
            }
            let groups = profile::groups(request.add_group_ids, request.remove_group_ids, &mut violations);
            if !(0..=page::MAX_SIZE).contains(&i64::from(request.limit)) {
                violations.add("limit", FieldError::Range, "must be between 1 and 1000");
            }
            let skip = page::skip(request.skip, &mut violations);
            if request.expected_total.is_some_and(|expected| expected < 0) {
                violations.add("expected_total", FieldError::Range, "must not be negative");
            }
            let changes = update::parse(custom, &fields, &mut violations);
            violations.into_result()?;
            let changes = changes?;
            bulk::check(&changes)?;
            let parsed = filter::parse(filter.clone(), &fields)?;
            let update = BulkUpdate {
                filter: parsed,
                query_hash: filter::query_hash(&filter),
                match_all: if request.allow_all { None } else { filter::find_match_all(&filter) },
                page_token: request.page_token,
                changes,
                groups,
                skip,
                limit: if request.limit == 0 { page::DEFAULT_SIZE } else { i64::from(request.limit) },
                with_total: request.return_total_size,
                expected_total: request.expected_total,
                validate_only: request.validate_only,
                all_or_nothing: request.all_or_nothing,
            };
            self.0.bulk.update(&update, key.as_ref(), response).await
        };
        idempotency::respond(key.as_ref(), update).await
    }
}

fn response(done: &BulkDone, next_page_token: String) -> pb::BulkUpdateFieldsResponse {
    use pb::update_result::Outcome;
    let results = done.results.iter().map(|(user_id, outcome)| pb::UpdateResult {
        user_id: *user_id,
        outcome: Some(match outcome {
            Ok(time) => Outcome::UpdatedAt(timestamp(*time)),
            Err(error) => Outcome::Failure(pb::UpdateFailure {
                reason: error.reason().as_str().to_owned(),
                field: error.violations().first().map(|violation| violation.field.clone()).unwrap_or_default(),
                message: error.reason().message().to_owned(),
            }),
        }),
    });
    let succeeded = done.results.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    pb::BulkUpdateFieldsResponse {
        results: results.collect(),
        succeeded: succeeded as i32,
        failed: (done.results.len() - succeeded) as i32,
        total_size: done.total,
        next_page_token,
    }
}
