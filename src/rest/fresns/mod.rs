//! The clients of Fresns: POSTs with the headers `uid` and `token`, answered by a number and its
//! message.

mod body;
mod edit;
mod numbers;
mod send_code;

pub(super) use numbers::Language;

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::MethodFilter,
};
use serde_json::json;

use super::{
    Gateway,
    call::{Call, Rpc, USERS, endpoint, token_header},
    error::{self, RestError},
};
use crate::error::{Error, FieldError, Reason, Result};

/// The routes. Clients since v1.5 send an edit to another path.
pub(super) fn routes() -> Router<Gateway> {
    let edit = || {
        endpoint(
            MethodFilter::POST,
            Rpc(USERS, "UpdateAccount"),
            token_header,
            |call| Box::pin(edit::edit(call)),
        )
    };
    Router::new()
        .route("/api/fresns/user/edit", edit())
        .route("/api/fresns/account/edit", edit())
        .route(
            "/api/fresns/info/sendVerifyCode",
            endpoint(
                MethodFilter::POST,
                Rpc(USERS, "SendEmailCode"),
                token_header,
                |call| Box::pin(send_code::send_code(call)),
            ),
        )
}

/// An error in this flavor: the status is 200 for every error of the two methods themselves.
pub(super) fn render_error(rest_error: &RestError, language: Language) -> Response {
    let rest_error = &rest_error.of_user();
    let (status, number) = match rest_error.error.reason() {
        Reason::RouteNotFound | Reason::MethodNotAllowed | Reason::MessageTooLarge => {
            (rest_error.status, numbers::PARAMETER)
        }
        _ if rest_error.is_ours() => (rest_error.status, numbers::UNANSWERED),
        _ => (StatusCode::OK, numbers::number(&rest_error.error)),
    };
    error::response(
        rest_error,
        status,
        json!({ "code": number, "message": numbers::message(number, language) }),
    )
}

fn done() -> Response {
    Json(json!({ "code": 0, "message": "ok" })).into_response()
}

/// Checks that the header `uid` names the token's own user.
fn check_user(call: &Call) -> Result<()> {
    let mut given = call.headers.get_all("uid").iter();
    let uid = given.next().filter(|uid| !uid.is_empty());
    let uid = uid.ok_or_else(|| Error::invalid("uid", FieldError::Required, "is required"))?;
    let is_id = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let user_id = uid
        .to_str()
        .ok()
        .filter(is_id)
        .and_then(|text| text.parse::<i64>().ok());
    match (user_id, given.next()) {
        (Some(user_id), None) if call.caller.user() == Some(user_id) => Ok(()),
        (Some(_), None) => Err(Error::new(Reason::NotOwner)),
        _ => Err(Error::invalid(
            "uid",
            FieldError::Format,
            "must be a user ID",
        )),
    }
}
