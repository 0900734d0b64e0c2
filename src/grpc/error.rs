//! The one place where a fact becomes a gRPC status, with its details.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{convert::details::details, error::Error, telemetry::call};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        call::fail(&error);
        let reason = error.reason();
        let details = details(&error, call::request_id());
        Status::with_error_details(
            Code::from_i32(reason.kind().code()),
            reason.message(),
            details,
        )
    }
}
