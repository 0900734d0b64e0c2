//! The one place where a fact becomes a gRPC status, with its details.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    door,
    error::{Error, Kind},
    wire::details::details,
};

/// The code of a kind.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        door::log(&error);
        let reason = error.reason();
        let details = details(&error, door::request_id());
        Status::with_error_details(code(reason.kind()), reason.message(), details)
    }
}
