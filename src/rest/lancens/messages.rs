//! The vocabulary of Lancens' errors.

use crate::error::{Error, FieldError, Kind, Reason};

/// The text of a fact.
pub(super) fn word(error: &Error) -> String {
    match error.reason() {
        Reason::TokenMissing => "no token".to_owned(),
        reason
            if matches!(
                reason.kind(),
                Kind::Unauthenticated | Kind::PermissionDenied
            ) =>
        {
            "invalid token".to_owned()
        }
        Reason::UsernameTaken => "username exist".to_owned(),
        Reason::EmailTaken | Reason::AddressUnchanged => "email exist".to_owned(),
        Reason::CodeNotRequested => "not applying".to_owned(),
        Reason::CodeSendCooldown | Reason::CodeSendQuota => "send error".to_owned(),
        Reason::CodeInvalid
        | Reason::CodeExpired
        | Reason::CodeUsed
        | Reason::CodeSuperseded
        | Reason::CodeAttemptsExhausted
        | Reason::CodeBudgetExceeded
        | Reason::CurrentCodeRequired => "code error".to_owned(),
        Reason::UserNotFound => "no data error".to_owned(),
        // Without a database no token can be looked up either.
        Reason::DatabaseUnavailable | Reason::AuthBackendUnavailable => "10001".to_owned(),
        Reason::InvalidRequest => of_violation(error).unwrap_or_else(|| "paramer error".to_owned()),
        _ => "paramer error".to_owned(),
    }
}

/// The first violation of a parameter that Lancens has.
fn of_violation(error: &Error) -> Option<String> {
    error.violations().iter().find_map(|violation| {
        let name = parameter(&violation.field)?;
        Some(match violation.error {
            FieldError::Required => format!("undefined {name}"),
            FieldError::Length => format!("{name} length error"),
            _ => format!("{name} format error"),
        })
    })
}

/// Lancens' own name of a field.
fn parameter(field: &str) -> Option<&'static str> {
    Some(match field {
        "realm" | "profile.nickname" => "realm",
        "username" | "account.username" => "username",
        "email" => "email",
        "code" => "code",
        "appname" | "app_name" => "appname",
        "language" => "language",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_by_lancens_own_names() {
        let told = |field: &str, error| word(&Error::invalid(field, error, ""));
        assert_eq!(
            told("profile.nickname", FieldError::Length),
            "realm length error"
        );
        assert_eq!(
            told("account.username", FieldError::Format),
            "username format error"
        );
        assert_eq!(told("email", FieldError::Required), "undefined email");
        assert_eq!(told("", FieldError::Format), "paramer error");
    }

    #[test]
    fn reasons_have_their_words() {
        let told = |reason| word(&Error::new(reason));
        assert_eq!(told(Reason::TokenMissing), "no token");
        assert_eq!(told(Reason::NotOwner), "invalid token");
        assert_eq!(told(Reason::CurrentCodeRequired), "code error");
        assert_eq!(told(Reason::Internal), "paramer error");
    }
}
