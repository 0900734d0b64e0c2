//! The details of an error as google.rpc has them, the same for every transport.

use std::collections::HashMap;

use prost::Message;
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation};

use crate::{
    error::{Error, Violation},
    model::text,
};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "userservice.v1";
/// Bytes of details that a gRPC client at its defaults takes, base64 and the other metadata
/// counted.
const MAX_DETAILS: usize = 2700;
/// Characters of a caller's own names that an error repeats.
const MAX_NAME: usize = 200;

/// The details of an error in the call of this request id.
pub fn details(error: &Error, request_id: String) -> ErrorDetails {
    let mut metadata: HashMap<String, String> = error
        .metadata()
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let (kept, omitted) = cut(error.violations());
    if omitted > 0 {
        metadata.insert("violationsOmitted".to_owned(), omitted.to_string());
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason().as_str(), DOMAIN, metadata);
    details.set_request_info(request_id, "");
    if !kept.is_empty() {
        details.set_bad_request(kept);
    }
    if let Some(resource) = error.resource() {
        details.set_resource_info(resource.kind, text::cut(&resource.name, MAX_NAME), "", "");
    }
    if !error.preconditions().is_empty() {
        let reason = error.reason();
        let violations = error
            .preconditions()
            .iter()
            .map(|path| PreconditionViolation {
                r#type: reason.as_str().to_owned(),
                subject: path.clone(),
                description: reason.message().to_owned(),
            });
        details.set_precondition_failure(violations.collect::<Vec<_>>());
    }
    if let Some(limit) = error.quota() {
        let description = error.reason().message().to_owned();
        details.set_quota_failure(vec![QuotaViolation {
            subject: limit.to_owned(),
            description,
            ..Default::default()
        }]);
    }
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    details
}

/// As many violations as fit, and how many do not.
fn cut(violations: &[Violation]) -> (Vec<FieldViolation>, usize) {
    let mut room = MAX_DETAILS;
    let mut kept = Vec::new();
    for violation in violations {
        let field = text::cut(&violation.field, MAX_NAME);
        let description = text::cut(&violation.description, MAX_NAME);
        let reason = violation.error.as_str();
        let size = tonic_types::pb::bad_request::FieldViolation {
            field: field.clone(),
            description: description.clone(),
            reason: reason.to_owned(),
            localized_message: None,
        }
        .encoded_len()
            + 4;
        if size > room {
            break;
        }
        room -= size;
        kept.push(FieldViolation {
            field,
            description,
            reason: reason.to_owned(),
            localized_message: None,
        });
    }
    let omitted = violations.len() - kept.len();
    (kept, omitted)
}
