//! BulkUpdateFields.

use super::Api;
use crate::{
    convert::{self, json, pb, timestamp},
    domain::{
        authorization::{Action, authorize},
        bulk::BulkDone,
        caller::Caller,
        idempotency,
    },
    error::Result,
    model::filter,
};

impl Api {
    /// Changes custom fields and groups of the profiles that a filter finds.
    pub async fn bulk_update_fields(
        &self,
        caller: &Caller,
        request: pb::BulkUpdateFieldsRequest,
    ) -> Result<pb::BulkUpdateFieldsResponse> {
        let filter = request.filter.clone().map(json::object).unwrap_or_default();
        let actions = filter::names_account(&filter).then_some(Action::ReadAccount);
        authorize(caller, "BulkUpdateFields", None, actions.as_slice())?;
        let key = if request.validate_only {
            None
        } else {
            self.idempotency_key(caller, "BulkUpdateFields", &request.request_id, &request)
        };
        let update = async {
            let named = convert::bulk::custom_names(&request, &filter);
            let fields = self
                .0
                .fields
                .load_including(named.iter().map(String::as_str))
                .await?;
            let update = convert::bulk::update(request, filter, &fields)?;
            self.0.bulk.update(&update, key.as_ref(), response).await
        };
        idempotency::respond(key.as_ref(), update).await
    }
}

fn response(done: &BulkDone, next_page_token: String) -> pb::BulkUpdateFieldsResponse {
    use pb::update_result::Outcome;
    let results = done
        .results
        .iter()
        .map(|(user_id, outcome)| pb::UpdateResult {
            user_id: *user_id,
            outcome: Some(match outcome {
                Ok(time) => Outcome::UpdatedAt(timestamp(*time)),
                Err(error) => Outcome::Failure(pb::UpdateFailure {
                    reason: error.reason().as_str().to_owned(),
                    field: error
                        .violations()
                        .first()
                        .map(|violation| violation.field.clone())
                        .unwrap_or_default(),
                    message: error.reason().message().to_owned(),
                }),
            }),
        });
    let succeeded = done
        .results
        .iter()
        .filter(|(_, outcome)| outcome.is_ok())
        .count();
    pb::BulkUpdateFieldsResponse {
        results: results.collect(),
        succeeded: succeeded as i32,
        failed: (done.results.len() - succeeded) as i32,
        total_size: done.total,
        next_page_token,
    }
}
