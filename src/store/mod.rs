//! Where things are kept: one file a table, functions over a connection that return what the database said.

pub mod accounts;
pub mod bulk;
pub mod codes;
pub mod connector;
#[cfg(feature = "dev")]
pub mod copy;
mod document;
pub mod field_work;
pub mod fields;
pub mod filter;
pub mod gathered;
pub mod hash_kinds;
pub mod idempotency;
pub mod known_clients;
pub mod limits;
pub mod listing;
pub mod outbox;
pub mod profiles;
pub mod reserved_values;
pub mod schema;
pub mod sql;
pub mod text_messages;
pub mod tokens;
pub mod unique_values;
pub mod users;
pub mod wire;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::error::{Error, Reason};

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        let reason = match &error {
            DieselError::DatabaseError(kind, information) => match kind {
                DatabaseErrorKind::SerializationFailure => Reason::WriteConflict,
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
                    Reason::DatabaseUnavailable
                }
                _ if information.message().starts_with("deadlock detected") => Reason::WriteConflict,
                _ if information.message().contains("due to lock timeout") => Reason::WriteConflict,
                _ if is_going_down(information.message()) => Reason::DatabaseUnavailable,
                _ => Reason::Internal,
            },
            DieselError::BrokenTransactionManager => Reason::DatabaseUnavailable,
            _ => Reason::Internal,
        };
        Error::new(reason).with_source(error)
    }
}

/// What a server says, or a client of one, while it stops, starts or is gone.
fn is_going_down(message: &str) -> bool {
    const SIGNS: &[&str] = &[
        "terminating connection",
        "the database system is",
        "connection closed",
        "error communicating with the server",
        "error connecting to server",
        "server closed",
        "remaining connection slots",
        "too many clients",
    ];
    SIGNS.iter().any(|sign| message.contains(sign))
}
