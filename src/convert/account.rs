//! Changes of accounts, codes and logins from messages.

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::Timestamp;

use crate::{
    convert::{key, mask, pb, time, user::check_request_id},
    error::{FieldError, Result, Violations},
    model::{
        account::{Link, VerifyPassword, is_provider, parse_email, parse_phone, parse_subject},
        account_change::{AccountPatch, Paths, Proof, UPDATE_ACCOUNT, check_proof},
        code::{self, Purpose},
        delivery::Channel,
        password::{self, Kind, Lengths, Secret},
        text,
        username::UsernameRules,
    },
};

/// How far ahead of us a caller's clock may be.
pub const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// Fields of an account that no one changes here.
const IMMUTABLE: &[&str] = &[
    "user_id",
    "email_verified",
    "phone_verified",
    "has_password",
    "has_wallet_password",
    "connections",
    "etag",
    "email_confirmed",
    "phone_confirmed",
];

/// Reads what changes, and what is shown for it.
pub fn update(
    request: pb::UpdateAccountRequest,
    usernames: &UsernameRules,
    now: DateTime<Utc>,
    lengths: Lengths,
    violations: &mut Violations,
) -> (AccountPatch, Proof) {
    let paths = mask::paths("update_mask", request.update_mask, violations);
    let names_no_secret = request.new_password.is_empty() && request.new_wallet_password.is_empty();
    let names_nothing = names_no_secret && request.unlink_connection_id == 0;
    if paths.is_empty() && (names_nothing || request.account.is_some()) {
        violations.add(
            "update_mask",
            FieldError::Required,
            "must list the fields to update",
        );
    }
    let mut patch = fields(
        request.account.unwrap_or_default(),
        &paths,
        usernames,
        now,
        violations,
    );
    let mut secret = |path, kind, given| new_secret(path, kind, given, lengths, violations);
    patch.password = secret("new_password", Kind::Login, request.new_password);
    patch.wallet_password = secret(
        "new_wallet_password",
        Kind::Wallet,
        request.new_wallet_password,
    );
    if request.unlink_connection_id < 0 {
        violations.add(
            "unlink_connection_id",
            FieldError::Range,
            "must not be negative",
        );
    }
    patch
        .unlink
        .extend(Some(request.unlink_connection_id).filter(|id| *id > 0));
    let proof = proof(request.proof.unwrap_or_default(), violations);
    check_proof(&patch, &proof, UPDATE_ACCOUNT, violations);
    (patch, proof)
}

fn fields(
    given: pb::Account,
    paths: &[String],
    usernames: &UsernameRules,
    now: DateTime<Utc>,
    violations: &mut Violations,
) -> AccountPatch {
    let mut patch = AccountPatch::default();
    for path in paths {
        let clearable = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        match path.as_str() {
            "username" => {
                patch.username = match clearable(&given.username) {
                    Some(value) => violations
                        .check("account.username", usernames.parse(value))
                        .map(Some),
                    None => Some(None),
                }
            }
            "email" => {
                patch.email = match clearable(&given.email) {
                    Some(value) => violations
                        .check("account.email", parse_email(value))
                        .map(Some),
                    None => Some(None),
                }
            }
            "phone" => {
                patch.phone = match clearable(&given.phone) {
                    Some(value) => violations
                        .check("account.phone", parse_phone(value))
                        .map(Some),
                    None => Some(None),
                }
            }
            "last_login_at" => {
                patch.last_login_at = last_login(given.last_login_at.as_ref(), now, violations)
            }
            path if IMMUTABLE.contains(&path.split('.').next().unwrap_or_default()) => {
                violations.add(
                    "update_mask",
                    FieldError::Immutable,
                    format!("{} cannot be changed", text::cut(path, 64)),
                );
            }
            path => violations.add(
                "update_mask",
                FieldError::Unknown,
                format!("unknown path {}", text::cut(path, 64)),
            ),
        }
    }
    patch
}

/// Reads a time of the last login.
pub fn last_login(
    given: Option<&Timestamp>,
    now: DateTime<Utc>,
    violations: &mut Violations,
) -> Option<Option<DateTime<Utc>>> {
    match given.map(time) {
        None => Some(None),
        Some(Some(at)) if at <= now + AHEAD => Some(Some(at)),
        Some(_) => {
            violations.add(
                "account.last_login_at",
                FieldError::Range,
                "must not be more than one minute in the future",
            );
            None
        }
    }
}

/// Reads a new password, where there is one.
pub fn new_secret(
    path: &str,
    kind: Kind,
    given: String,
    lengths: Lengths,
    violations: &mut Violations,
) -> Option<Secret> {
    if given.is_empty() {
        return None;
    }
    password::parse(kind, given, lengths)
        .map_err(|(error, why)| violations.add(path, error, why))
        .ok()
}

fn shown_secret(path: &str, given: String, violations: &mut Violations) -> Option<Secret> {
    if given.is_empty() {
        return None;
    }
    violations.check(path, password::parse_attempt(given))
}

fn shown_code(path: &str, given: String, violations: &mut Violations) -> Option<String> {
    if given.is_empty() {
        return None;
    }
    violations.check(path, code::parse(given))
}

fn proof(given: pb::Proof, violations: &mut Violations) -> Proof {
    let channel = match pb::CodeChannel::try_from(given.channel) {
        Ok(pb::CodeChannel::Unspecified) => None,
        Ok(pb::CodeChannel::Email) => Some(Channel::Email),
        Ok(pb::CodeChannel::Phone) => Some(Channel::Phone),
        Err(_) => {
            violations.add("proof.channel", FieldError::Range, "unknown channel");
            None
        }
    };
    Proof {
        channel,
        code: shown_code("proof.code", given.code, violations),
        new_code: shown_code("proof.new_code", given.new_code, violations),
        password: shown_secret("proof.current_password", given.current_password, violations),
        wallet_password: shown_secret(
            "proof.current_wallet_password",
            given.current_wallet_password,
            violations,
        ),
    }
}

/// An address to bind, and its codes, as in ConfirmEmailChange and ConfirmPhoneChange.
pub struct Confirmation {
    pub channel: Channel,
    pub user_id: i64,
    pub address: String,
    /// The code of the address.
    pub code: String,
    /// The code of the current address.
    pub current_code: String,
    pub request_id: String,
}

impl From<pb::ConfirmEmailChangeRequest> for Confirmation {
    fn from(request: pb::ConfirmEmailChangeRequest) -> Self {
        let pb::ConfirmEmailChangeRequest {
            user_id,
            email,
            code,
            current_email_code,
            request_id,
        } = request;
        let channel = Channel::Email;
        Self {
            channel,
            user_id,
            address: email,
            code,
            current_code: current_email_code,
            request_id,
        }
    }
}

impl From<pb::ConfirmPhoneChangeRequest> for Confirmation {
    fn from(request: pb::ConfirmPhoneChangeRequest) -> Self {
        let pb::ConfirmPhoneChangeRequest {
            user_id,
            phone,
            code,
            current_phone_code,
            request_id,
        } = request;
        let channel = Channel::Phone;
        Self {
            channel,
            user_id,
            address: phone,
            code,
            current_code: current_phone_code,
            request_id,
        }
    }
}

/// Parses an address to bind, and its codes.
pub fn confirm(given: Confirmation, violations: &mut Violations) -> (AccountPatch, Proof, Paths) {
    let paths = Paths::of_confirmation(given.channel);
    let path = paths.address(given.channel);
    for (path, given) in [(path, &given.address), (paths.new_code, &given.code)] {
        if given.is_empty() {
            violations.add(path, FieldError::Required, "is required");
        }
    }
    let mut patch = AccountPatch::default();
    if !given.address.is_empty() {
        match given.channel {
            Channel::Email => {
                patch.email = violations.check(path, parse_email(given.address)).map(Some)
            }
            Channel::Phone => {
                patch.phone = violations.check(path, parse_phone(given.address)).map(Some)
            }
        }
    }
    let proof = Proof {
        new_code: shown_code(paths.new_code, given.code, violations),
        code: shown_code(paths.code, given.current_code, violations),
        ..Proof::default()
    };
    (patch, proof, paths)
}

/// Reads what a code is for.
pub fn purpose(given: i32, violations: &mut Violations) -> Purpose {
    match pb::CodePurpose::try_from(given) {
        Ok(pb::CodePurpose::Unspecified | pb::CodePurpose::Bind) => Purpose::Bind,
        Ok(pb::CodePurpose::Replace) => Purpose::Replace,
        Ok(pb::CodePurpose::Password) => Purpose::Password,
        Ok(pb::CodePurpose::WalletPassword) => Purpose::WalletPassword,
        Ok(pb::CodePurpose::Unlink) => Purpose::Unlink,
        Err(_) => {
            violations.add("purpose", FieldError::Range, "unknown purpose");
            Purpose::Bind
        }
    }
}

/// Reads a login that is tried.
///
/// # Errors
/// INVALID_REQUEST with all violations.
pub fn verify(request: pb::VerifyPasswordRequest) -> Result<VerifyPassword> {
    use pb::{profile_key::Key as ProfileKey, verify_password_request::Key};
    let mut violations = Violations::new();
    let key = match request.key.unwrap_or(Key::UserId(0)) {
        Key::UserId(user_id) => ProfileKey::UserId(user_id),
        Key::Username(given) => ProfileKey::Username(given),
        Key::Email(given) => ProfileKey::Email(given),
        Key::Phone(given) => ProfileKey::Phone(given),
    };
    let key = key::read(key, &mut violations);
    let secret = if request.password.is_empty() {
        violations.add("password", FieldError::Required, "is required");
        None
    } else {
        shown_secret("password", request.password, &mut violations)
    };
    let client = violations.check(
        "client",
        text::line(request.client, 0, 128, "must have at most 128 characters"),
    );
    violations.into_result()?;
    Ok(VerifyPassword {
        key: key.expect("valid: a missing key is a violation"),
        secret: secret.expect("valid: a missing password is a violation"),
        kind: if request.wallet {
            Kind::Wallet
        } else {
            Kind::Login
        },
        client: client.unwrap_or_default(),
    })
}

/// Reads a third-party login.
///
/// # Errors
/// INVALID_REQUEST with all violations.
pub fn link(request: pb::LinkConnectionRequest) -> Result<Link> {
    let mut violations = Violations::new();
    check_request_id(&request.request_id, &mut violations);
    match request.user_id {
        0 => violations.add("user_id", FieldError::Required, "is required"),
        user_id if user_id < 0 => {
            violations.add("user_id", FieldError::Range, "must not be negative")
        }
        _ => {}
    }
    if request.provider.is_empty() {
        violations.add("provider", FieldError::Required, "is required");
    } else if !is_provider(&request.provider) {
        violations.add(
            "provider",
            FieldError::Format,
            "must be a lowercase letter followed by letters, digits, or \"_\"; at most 32 characters",
        );
    }
    let subject = if request.subject.is_empty() {
        violations.add("subject", FieldError::Required, "is required");
        None
    } else {
        violations.check("subject", parse_subject(request.subject))
    };
    let display_name = violations.check(
        "display_name",
        text::line(
            request.display_name,
            0,
            64,
            "must have at most 64 characters",
        ),
    );
    violations.into_result()?;
    Ok(Link {
        user_id: request.user_id,
        provider: request.provider,
        subject: subject.unwrap_or_default(),
        display_name: display_name.unwrap_or_default(),
    })
}
