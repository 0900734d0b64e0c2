//! `PUT …/miniapp/user_profile/`: one change of many users.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    body, in_production,
    language::Language,
    object,
    page::{Page, Params},
};
use crate::{
    convert::{
        json,
        pb::{self, update_result::Outcome},
    },
    error::{Reason, Result},
    model::update,
    rest::{call::Call, error::RestError},
};

/// The numbers of minapp's own database: a value that is taken, and an operator that does not fit.
const TAKEN: u32 = 11000;
const FAILED: u32 = 16837;

/// Changes the users that `where` finds, all of them without it; counts them where it is asked to.
pub(super) async fn put(call: Call) -> Result<Response, RestError> {
    update(call, false).await
}

/// The same, and always counts.
pub(super) async fn put_counted(call: Call) -> Result<Response, RestError> {
    update(call, true).await
}

async fn update(call: Call, is_counted: bool) -> Result<Response, RestError> {
    in_production(&call)?;
    let params = Params::read(&call, &["where", "return_total_count", "enable_trigger"])?;
    params.flag("enable_trigger")?;
    let is_counted = params.flag("return_total_count")? || is_counted;
    let page = Page::read(&params, false)?;
    let fields = call.api().definitions().await?;
    let language = Language {
        fields: &fields,
        country_code: &call.gateway.config.country_code,
    };
    let filter = language.filter(params.get("where"))?;
    let change = language.change(body(&call)?)?;
    let request = pb::BulkUpdateFieldsRequest {
        allow_all: filter.is_empty(),
        filter: Some(json::to_struct(filter.iter())),
        custom_fields: Some(json::to_struct(change.iter())),
        // An empty page is checked and counted all the same.
        limit: page.limit.max(1),
        validate_only: page.limit == 0,
        page_token: page.token.clone(),
        skip: page.skip(),
        return_total_size: is_counted,
        ..Default::default()
    };
    let mut reply = if update::is_empty(&change) {
        pb::BulkUpdateFieldsResponse {
            total_size: is_counted.then_some(0),
            ..Default::default()
        }
    } else {
        call.api().bulk_update_fields(&call.caller, request).await?
    };
    if page.limit == 0 {
        (reply.succeeded, reply.results) = (0, Vec::new());
    }
    let results: Vec<Value> = reply.results.iter().map(result).collect();
    let mut told = json!({
        "succeed": reply.succeeded,
        "offset": page.offset,
        "limit": page.limit,
        "next": page.next(&call, results.len(), &reply.next_page_token),
        "operation_result": results,
    });
    if let Some(total) = reply.total_size {
        told["total_count"] = total.into();
    }
    Ok(Json(told).into_response())
}

fn result(result: &pb::UpdateResult) -> Value {
    match &result.outcome {
        Some(Outcome::Failure(failure)) => {
            let code = if failure.reason == Reason::ValueTaken.as_str() {
                TAKEN
            } else {
                FAILED
            };
            json!({ "error": { "code": code, "err_msg": "the user can't be updated" } })
        }
        Some(Outcome::UpdatedAt(time)) => success(result.user_id, Some(time)),
        None => success(result.user_id, None),
    }
}

fn success(user_id: i64, updated_at: Option<&prost_types::Timestamp>) -> Value {
    json!({ "success": { "id": user_id.to_string(), "updated_at": object::seconds(updated_at) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_told_by_its_id_or_by_a_number() {
        let row = |outcome| pb::UpdateResult {
            user_id: 7,
            outcome: Some(outcome),
        };
        let failure = |reason: &str| {
            let failure = pb::UpdateFailure {
                reason: reason.to_owned(),
                ..Default::default()
            };
            result(&row(Outcome::Failure(failure)))["error"]["code"].clone()
        };
        assert_eq!(
            (failure("VALUE_TAKEN"), failure("OP_OVERFLOW")),
            (json!(11000), json!(16837))
        );
        let time = prost_types::Timestamp {
            seconds: 1_564_411_939,
            nanos: 0,
        };
        assert_eq!(
            result(&row(Outcome::UpdatedAt(time))),
            json!({ "success": { "id": "7", "updated_at": 1_564_411_939 } })
        );
    }
}
