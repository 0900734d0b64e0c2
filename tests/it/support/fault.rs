//! What an error says, read back from its details.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// An error as a client sees it.
#[derive(Debug)]
pub struct FieldError {
    pub code: Code,
    pub reason: String,
    pub fields: Vec<(String, String)>,
    pub metadata: std::collections::HashMap<String, String>,
    pub resource: Option<String>,
    /// Paths that a precondition failed on; the type of each is the reason.
    pub preconditions: Vec<String>,
    /// The limit that was hit.
    pub quota: Option<String>,
    pub retry: Option<std::time::Duration>,
    pub details_size: usize,
}

impl FieldError {
    /// The fields that are rejected.
    pub fn paths(&self) -> Vec<&str> {
        self.fields.iter().map(|(path, _)| path.as_str()).collect()
    }

    /// Reason and rejected fields.
    pub fn told(&self) -> (&str, Vec<&str>) {
        (&self.reason, self.paths())
    }

    /// Seconds to wait.
    pub fn wait(&self) -> u64 {
        self.retry.expect("the error tells the wait").as_secs()
    }
}

/// Reads the details; every error must have a reason and a request id.
pub fn fault<T: std::fmt::Debug>(answer: Result<T, Status>) -> FieldError {
    let status = answer.expect_err("an error");
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "userservice.v1");
    assert!(
        details
            .request_info()
            .is_some_and(|info| !info.request_id.is_empty()),
        "no request id in {status:?}"
    );
    let violations = details
        .bad_request()
        .map(|bad| bad.field_violations.clone())
        .unwrap_or_default();
    let failures = details
        .precondition_failure()
        .map(|failure| failure.violations.clone())
        .unwrap_or_default();
    assert!(
        failures.iter().all(|failure| failure.r#type == info.reason),
        "{status:?}"
    );
    let quota = details
        .quota_failure()
        .map(|failure| failure.violations[0].subject.clone());
    FieldError {
        preconditions: failures
            .into_iter()
            .map(|failure| failure.subject)
            .collect(),
        quota,
        code: status.code(),
        reason: info.reason.clone(),
        fields: violations
            .into_iter()
            .map(|violation| (violation.field, violation.reason))
            .collect(),
        metadata: info.metadata.clone(),
        resource: details
            .resource_info()
            .map(|resource| resource.resource_name.clone()),
        retry: details.retry_info().and_then(|retry| retry.retry_delay),
        details_size: status.details().len(),
    }
}
