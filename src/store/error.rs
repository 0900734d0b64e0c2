//! What the errors of the database mean: the one place that classifies them.
//!
//! An error is classified by its SQLSTATE and by what the statement can violate, never by the name
//! of a constraint: a distributed Postgres adds a number to the names (`unique_values_pkey_102013`)
//! and leaves the fields for them empty. Diesel reports few SQLSTATEs, and Citus loses that of a
//! worker during COPY; for those the text decides, which every connection asks for in English (see
//! [`Connector`](crate::store::connector::Connector)).

use std::fmt;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio_postgres::error::SqlState;

use crate::error::{Error, Reason};

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A unique value is in use.
    Unique,
    /// A check of the table rejects the row.
    Check,
    /// A column that needs a value has none.
    NotNull,
    /// Other transactions were in the way; the transaction can be run again.
    Conflict,
    /// The server, or a node of it, can't be reached.
    Unavailable,
    /// The statement took too long.
    TooSlow,
    /// Anything else: an internal error.
    Other,
}

impl Class {
    /// The class of an error that Diesel reports.
    pub(crate) fn of(error: &DieselError) -> Self {
        match error {
            DieselError::DatabaseError(kind, information) => match kind {
                DatabaseErrorKind::UniqueViolation => Class::Unique,
                DatabaseErrorKind::CheckViolation => Class::Check,
                DatabaseErrorKind::NotNullViolation => Class::NotNull,
                DatabaseErrorKind::SerializationFailure => Class::Conflict,
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
                    Class::Unavailable
                }
                _ => Self::of_text(information.message()),
            },
            DieselError::BrokenTransactionManager => Class::Unavailable,
            _ => Class::Other,
        }
    }

    /// The class of an error of a statement that Diesel doesn't know of.
    pub(crate) fn of_statement(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(error) => Self::of_code(error.code(), error.message()),
            // What has no answer of the server is an error of the connection.
            None => Class::Unavailable,
        }
    }

    /// The class of a SQLSTATE; of the text where the state says nothing.
    fn of_code(code: &SqlState, message: &str) -> Self {
        match code.code() {
            "23505" => Class::Unique,
            "23514" => Class::Check,
            "23502" => Class::NotNull,
            // Serialization failure, deadlock, lock timeout.
            "40001" | "40P01" | "55P03" => Class::Conflict,
            "57014" => Class::TooSlow,
            // Too many connections.
            "53300" => Class::Unavailable,
            // Connections that fail, and servers that start or stop.
            code if code.starts_with("08") || code.starts_with("57P") => Class::Unavailable,
            _ => Self::of_text(message),
        }
    }

    fn of_text(message: &str) -> Self {
        let known = TEXTS.iter().find(|(text, _)| message.contains(text));
        known.map_or(Class::Other, |(_, class)| *class)
    }

    /// The reason that callers are given if the statement's caller expects none of its violations.
    fn reason(self) -> Reason {
        match self {
            Class::Conflict => Reason::WriteConflict,
            Class::Unavailable => Reason::DatabaseUnavailable,
            Class::TooSlow => Reason::QueryTooSlow,
            Class::Unique | Class::Check | Class::NotNull | Class::Other => Reason::Internal,
        }
    }
}

/// Parts of messages, for errors whose SQLSTATE isn't known here.
const TEXTS: &[(&str, Class)] = &[
    // 23505 of a worker during COPY, which Citus reports as XX000.
    (
        "duplicate key value violates unique constraint",
        Class::Unique,
    ),
    ("deadlock detected", Class::Conflict),
    ("involved in a distributed deadlock", Class::Conflict),
    ("due to lock timeout", Class::Conflict),
    ("due to statement timeout", Class::TooSlow),
    // A server that starts or stops, or that has no connection left.
    ("terminating connection", Class::Unavailable),
    ("the database system is", Class::Unavailable),
    ("remaining connection slots", Class::Unavailable),
    ("too many clients", Class::Unavailable),
    ("too many connections", Class::Unavailable),
    // A client whose server has closed the connection.
    ("connection closed", Class::Unavailable),
    ("error communicating with the server", Class::Unavailable),
    ("error connecting to server", Class::Unavailable),
    ("server closed", Class::Unavailable),
    // An unreachable node of a distributed database, as the node that has the client reports it.
    ("connection to the remote node", Class::Unavailable),
    (
        "could not establish any connections to the node",
        Class::Unavailable,
    ),
    ("failed to execute task", Class::Unavailable),
];

/// Whether a unique value is in use.
pub(crate) fn is_unique_violation(error: &DieselError) -> bool {
    Class::of(error) == Class::Unique
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        if let DieselError::DeserializationError(why) = &error {
            tracing::error!(%why, "a stored row cannot be read");
        }
        Error::new(Class::of(&error).reason()).with_source(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::new(Class::of_statement(&error).reason()).with_source(error)
    }
}

/// A stored row that this binary can't read, for example of a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The table and the key of the row.
    pub row: String,
    /// The column and its value.
    pub what: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} is not known to this version",
            self.row, self.what
        )
    }
}

impl std::error::Error for Unreadable {}

impl From<Unreadable> for DieselError {
    fn from(unreadable: Unreadable) -> Self {
        DieselError::DeserializationError(Box::new(unreadable))
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorInformation;

    use super::*;

    /// An error as a node of a distributed database reports it: a text without fields.
    struct Bare(&'static str);

    impl DatabaseErrorInformation for Bare {
        fn message(&self) -> &str {
            self.0
        }

        fn details(&self) -> Option<&str> {
            None
        }

        fn hint(&self) -> Option<&str> {
            None
        }

        fn table_name(&self) -> Option<&str> {
            None
        }

        fn column_name(&self) -> Option<&str> {
            None
        }

        fn constraint_name(&self) -> Option<&str> {
            None
        }

        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    const REFUSED: &str = "new row for relation \"users_102009\" violates check constraint \"users_custom_fields_object\"";
    const MISSING: &str = "null value in column \"group_ids\" of relation \"users_102009\" violates not-null constraint";
    const TAKEN: &str =
        "duplicate key value violates unique constraint \"unique_values_pkey_102013\"";
    const GONE: &str = "connection to the remote node us@10.0.0.7:5432 failed with the following error: Connection refused";

    #[test]
    fn errors_of_a_distributed_postgres_have_the_class_of_their_sqlstate() {
        let class = |kind, text| Class::of(&DieselError::DatabaseError(kind, Box::new(Bare(text))));

        assert_eq!(
            class(DatabaseErrorKind::CheckViolation, REFUSED),
            Class::Check
        );
        assert_eq!(
            class(DatabaseErrorKind::NotNullViolation, MISSING),
            Class::NotNull
        );
        assert_eq!(
            class(DatabaseErrorKind::UniqueViolation, TAKEN),
            Class::Unique
        );
        // Diesel has no kind for the state of a COPY's error, nor for those below.
        assert_eq!(class(DatabaseErrorKind::Unknown, TAKEN), Class::Unique);
        assert_eq!(class(DatabaseErrorKind::Unknown, GONE), Class::Unavailable);
        let deadlock = "canceling the transaction since it was involved in a distributed deadlock";
        assert_eq!(class(DatabaseErrorKind::Unknown, deadlock), Class::Conflict);
        assert_eq!(
            class(DatabaseErrorKind::Unknown, "deadlock detected"),
            Class::Conflict
        );
        assert_eq!(
            class(DatabaseErrorKind::Unknown, "column \"x\" does not exist"),
            Class::Other
        );
    }

    #[test]
    fn statements_outside_of_diesel_have_the_same_classes() {
        let class = |code: &str, text| Class::of_code(&SqlState::from_code(code), text);

        for (code, expected) in [
            ("23505", Class::Unique),
            ("23514", Class::Check),
            ("23502", Class::NotNull),
            ("40001", Class::Conflict),
            ("40P01", Class::Conflict),
            ("55P03", Class::Conflict),
            ("57014", Class::TooSlow),
            ("08006", Class::Unavailable),
            ("57P01", Class::Unavailable),
            ("57P03", Class::Unavailable),
            ("53300", Class::Unavailable),
            ("42703", Class::Other),
        ] {
            assert_eq!(class(code, ""), expected, "{code}");
        }
        assert_eq!(class("XX000", TAKEN), Class::Unique);
        assert_eq!(class("XX000", GONE), Class::Unavailable);
    }

    #[test]
    fn callers_are_told_whether_a_retry_helps() {
        let reason = |text| {
            Error::from(DieselError::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new(Bare(text)),
            ))
            .reason()
        };

        assert_eq!(reason(GONE), Reason::DatabaseUnavailable);
        assert_eq!(reason("deadlock detected"), Reason::WriteConflict);
        assert_eq!(
            reason("canceling statement due to statement timeout"),
            Reason::QueryTooSlow
        );
        assert_eq!(
            reason(TAKEN),
            Reason::Internal,
            "only the statement's caller knows what is taken"
        );
    }

    #[test]
    fn an_unreadable_row_names_itself() {
        let error = Unreadable {
            row: "field_definitions 7".to_owned(),
            what: "kind \"color\"".to_owned(),
        };

        assert_eq!(
            error.to_string(),
            "field_definitions 7: kind \"color\" is not known to this version"
        );
        assert_eq!(
            Error::from(DieselError::from(error)).reason(),
            Reason::Internal
        );
    }
}
