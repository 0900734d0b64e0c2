//! minapp's names of what the service names otherwise, in requests and in errors.

use crate::{
    error::{Error, FieldError, Reason, Result, Violation},
    model::text,
};

/// minapp's names that differ from the service's.
const NAMES: [(&str, &str); 8] = [
    ("avatar", "avatar_url"),
    ("id", "user_id"),
    ("_username", "username"),
    ("_email", "email"),
    ("_phone", "phone"),
    ("_email_verified", "email_verified"),
    ("_phone_verified", "phone_verified"),
    ("_group", "group_ids"),
];

/// The service's name of a field, with the path that follows it.
///
/// # Errors
/// FILTER_INVALID for a name that minapp doesn't have, or whose values can't be searched.
pub(super) fn our_path(given: &str) -> Result<String> {
    let (base, rest) = match given.split_once('.') {
        Some((base, rest)) => (base, format!(".{rest}")),
        None => (given, String::new()),
    };
    let known = NAMES.iter().find(|(theirs, _)| *theirs == base);
    let is_hidden =
        known.is_none() && (base.starts_with('_') || NAMES.iter().any(|(_, ours)| *ours == base));
    if is_hidden {
        let why = match base {
            "_provider" | "_anonymous" => "can't be searched or sorted by",
            _ => "is not a field",
        };
        let path = format!("where.{}", text::cut(given, 64));
        return Err(Error::new(Reason::FilterInvalid).with_violation(
            path,
            FieldError::Unknown,
            why,
        ));
    }
    Ok(format!("{}{rest}", known.map_or(base, |(_, ours)| ours)))
}

/// The text of an error, with minapp's names.
pub(super) fn message(error: &Error) -> String {
    let mut text = match error.reason() {
        Reason::FilterRequired => {
            "The condition matches every user; to change every user, omit where.".to_owned()
        }
        reason => reason.message().replace("filter", "where"),
    };
    for violation in error.violations() {
        let why = description(error.reason(), violation);
        match path(error.reason(), &violation.field) {
            field if field.is_empty() => text.push_str(&format!(" It {why}.")),
            field => text.push_str(&format!(" {field}: {why}.")),
        }
    }
    text
}

fn description(reason: Reason, violation: &Violation) -> String {
    match (reason, violation.error) {
        (Reason::FilterRequired, _) => "matches every user".to_owned(),
        // Names similar fields.
        (Reason::FilterInvalid, FieldError::Unknown) => {
            let words = violation
                .description
                .split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.map(their_word).collect()
        }
        _ => violation.description.clone(),
    }
}

fn their_word(word: &str) -> String {
    let end = word
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(word.len());
    let (name, rest) = word.split_at(end);
    format!("{}{rest}", theirs(name))
}

fn path(reason: Reason, given: &str) -> String {
    let is_of_filter = matches!(
        reason,
        Reason::FilterInvalid | Reason::FilterTooComplex | Reason::FilterRequired
    );
    if let Some(rest) = given.strip_prefix("filter").filter(|_| is_of_filter) {
        let mut is_inside = false;
        let steps = rest.split('.').map(|step| {
            let is_name = !is_inside && !step.is_empty() && !step.starts_with('$');
            is_inside |= is_name;
            if is_name { theirs(step) } else { step }
        });
        return format!("where{}", steps.collect::<Vec<_>>().join("."));
    }
    let bare = ["custom_fields.", "account."]
        .into_iter()
        .find_map(|prefix| given.strip_prefix(prefix));
    match given {
        "custom_fields" => String::new(),
        "proof.current_password" => "password".to_owned(),
        _ => bare.unwrap_or(given).to_owned(),
    }
}

fn theirs(name: &str) -> &str {
    NAMES
        .iter()
        .find(|(_, ours)| *ours == name)
        .map_or(name, |(theirs, _)| theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_minapp_names() {
        let error = |reason: Reason, field: &str, error, why: &str| {
            message(&Error::new(reason).with_violation(field, error, why))
        };
        let unknown = error(
            Reason::FilterInvalid,
            "filter.$or[1].usr_id",
            FieldError::Unknown,
            "is not a field; did you mean user_id, avatar_url?",
        );
        assert!(
            unknown.ends_with("where.$or[1].usr_id: is not a field; did you mean id, avatar?."),
            "{unknown}"
        );
        assert!(!unknown.contains("filter"), "{unknown}");
        let guarded = error(
            Reason::FilterRequired,
            "filter.$and[0]",
            FieldError::Required,
            "needs allow_all",
        );
        assert!(
            guarded.ends_with(" where.$and[0]: matches every user."),
            "{guarded}"
        );
        assert!(!guarded.contains("allow_all"), "{guarded}");
        for (reason, given, told) in [
            (Reason::FilterInvalid, "filter.user_id", "where.id"),
            (
                Reason::FilterInvalid,
                "filter.$not.phone.$gt",
                "where.$not._phone.$gt",
            ),
            (
                Reason::FilterInvalid,
                "filter.stats.phone",
                "where.stats.phone",
            ),
            (Reason::FilterTooComplex, "filter", "where"),
            (
                Reason::InvalidRequest,
                "custom_fields.$set.level",
                "$set.level",
            ),
            (Reason::EmailTaken, "account.email", "email"),
            (
                Reason::PasswordMismatch,
                "proof.current_password",
                "password",
            ),
            (Reason::InvalidRequest, "filter", "filter"),
        ] {
            assert_eq!(path(reason, given), told);
        }
    }

    #[test]
    fn the_services_own_names_are_not_minapps() {
        assert_eq!(our_path("_phone").unwrap(), "phone");
        assert_eq!(our_path("stats.n").unwrap(), "stats.n");
        for name in [
            "group_ids",
            "user_id",
            "avatar_url",
            "email",
            "_no_such",
            "_provider.wechat",
            "_anonymous",
        ] {
            assert!(our_path(name).is_err(), "{name}");
        }
    }
}
