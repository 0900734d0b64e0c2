//! The one place where a fact becomes an HTTP status, and its AIP-193 body.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    convert::details::details,
    error::{Error, FieldError, Kind, Reason},
    telemetry::call,
};

/// A fact that ends a call, on its way to the flavor that gives it its form.
#[derive(Clone, Debug)]
pub(super) struct RestError {
    pub error: Error,
    pub status: StatusCode,
}

impl From<Error> for RestError {
    fn from(error: Error) -> Self {
        let status = match error.reason() {
            Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Reason::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            reason => status(reason.kind()),
        };
        Self { error, status }
    }
}

impl From<Reason> for RestError {
    fn from(reason: Reason) -> Self {
        Error::new(reason).into()
    }
}

impl RestError {
    /// A body whose bytes did not come in time.
    pub(super) fn slow_body() -> Self {
        Self {
            error: Error::new(Reason::DeadlineExceeded),
            status: StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// A body of a content type that is not accepted.
    pub(super) fn content_type() -> Self {
        let error = Error::invalid(
            "",
            FieldError::Format,
            "must have the content type application/json",
        );
        Self {
            error,
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// A body in an encoding that is not accepted.
    pub(super) fn content_encoding() -> Self {
        let error = Error::invalid(
            "",
            FieldError::Format,
            "must have the content encoding gzip, zstd or identity",
        );
        Self {
            error,
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// The same fact where the caller made it a condition by `If-Match`.
    pub(super) fn of_condition(self) -> Self {
        match self.error.reason() {
            Reason::EtagMismatch => Self {
                status: StatusCode::PRECONDITION_FAILED,
                ..self
            },
            _ => self,
        }
    }

    /// The same fact for the clients of an older API, whose rules name a user who was deleted, not
    /// the token.
    pub(super) fn of_user(&self) -> Self {
        match self.error.deleted_user() {
            Some(user_id) => Error::user_not_found(user_id).into(),
            None => self.clone(),
        }
    }

    /// Whether the service failed, rather than the request being invalid.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self.error.kind(),
            Kind::Unavailable | Kind::Internal | Kind::DeadlineExceeded | Kind::Aborted
        ) || self.error.reason() == Reason::MethodUnknown
    }
}

impl IntoResponse for RestError {
    /// The fact travels in the extensions until the flavor that was addressed gives it its form.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The status of a kind, by google.rpc.Code's own comments.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::InvalidArgument => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::PermissionDenied => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists => StatusCode::CONFLICT,
        Kind::FailedPrecondition => StatusCode::BAD_REQUEST,
        Kind::Aborted => StatusCode::CONFLICT,
        Kind::OutOfRange => StatusCode::BAD_REQUEST,
        Kind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A response with this status and JSON body, and what headers say of the fact.
pub(super) fn response(rest_error: &RestError, status: StatusCode, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    if let Some(after) = rest_error.error.retry_after() {
        // Rounded up, so that who waits so long waits long enough.
        let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The error in the form of AIP-193.
pub(super) fn aip_193(rest_error: &RestError) -> Response {
    let error = &rest_error.error;
    let body = json!({ "error": {
        "code": rest_error.status.as_u16(),
        "status": error.kind().as_str(),
        "message": error.reason().message(),
        "details": details_json(error),
    } });
    response(rest_error, rest_error.status, body)
}

fn details_json(error: &Error) -> Vec<Value> {
    let details = details(error, call::request_id());
    let mut told = Vec::new();
    let mut tell = |name: &str, mut value: Value| {
        value["@type"] = format!("type.googleapis.com/google.rpc.{name}").into();
        told.push(value);
    };
    if let Some(info) = details.error_info() {
        tell(
            "ErrorInfo",
            json!({ "reason": info.reason, "domain": info.domain, "metadata": info.metadata }),
        );
    }
    if let Some(info) = details.request_info() {
        tell("RequestInfo", json!({ "requestId": info.request_id }));
    }
    if let Some(bad) = details.bad_request() {
        let violations = bad.field_violations.iter();
        let violations: Vec<Value> = violations
            .map(|v| json!({ "field": v.field, "reason": v.reason, "description": v.description }))
            .collect();
        tell("BadRequest", json!({ "fieldViolations": violations }));
    }
    if let Some(info) = details.resource_info() {
        tell(
            "ResourceInfo",
            json!({ "resourceType": info.resource_type, "resourceName": info.resource_name }),
        );
    }
    if let Some(failure) = details.precondition_failure() {
        let violations = failure.violations.iter();
        let violations: Vec<Value> = violations
            .map(
                |v| json!({ "type": v.r#type, "subject": v.subject, "description": v.description }),
            )
            .collect();
        tell("PreconditionFailure", json!({ "violations": violations }));
    }
    if let Some(failure) = details.quota_failure() {
        let violations = failure.violations.iter();
        let violations: Vec<Value> = violations
            .map(|v| json!({ "subject": v.subject, "description": v.description }))
            .collect();
        tell("QuotaFailure", json!({ "violations": violations }));
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        tell(
            "RetryInfo",
            json!({ "retryDelay": format!("{}s", delay.as_secs_f64()) }),
        );
    }
    told
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_reason_has_a_status_that_is_an_error() {
        for reason in Reason::ALL {
            let status = RestError::from(*reason).status;
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds() {
        let error = Error::new(Reason::CodeSendCooldown)
            .with_quota("code_send_cooldown", Duration::from_millis(59_001));
        let response = aip_193(&error.into());
        assert_eq!(response.headers()[header::RETRY_AFTER], "60");
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn a_stale_condition_has_a_status_of_its_own() {
        let stale = || RestError::from(Reason::EtagMismatch);
        assert_eq!(stale().status, StatusCode::CONFLICT);
        assert_eq!(
            stale().of_condition().status,
            StatusCode::PRECONDITION_FAILED
        );
    }
}
