//! New users from messages.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::{
    convert::{
        account::{last_login, new_secret},
        json, pb, profile, time,
    },
    error::{Error, FieldError, Result, Violations},
    model::{
        account::{parse_email, parse_phone},
        document::Document,
        field::{Fields, document_fits},
        password::{Kind, Lengths, Secret},
        password_hash::PasswordHash,
        profile::{Profile, parse_etag},
        user::{DeleteUser, NewAccount, NewUser, Reservation},
        username::{SKELETON, UsernameRules, skeletons},
    },
};

/// Largest explicit id: what a JSON number holds without a gap.
const MAX_USER_ID: i64 = (1 << 53) - 1;

/// The passwords of a new user, in the clear to be hashed, or as hashes that move in.
pub struct Secrets {
    pub password: Option<Secret>,
    pub wallet_password: Option<Secret>,
    pub password_hash: Option<String>,
    pub wallet_password_hash: Option<String>,
}

impl Secrets {
    /// Whether the user is created with a password, and with a wallet password.
    pub fn are_set(&self) -> (bool, bool) {
        (
            self.password.is_some() || self.password_hash.is_some(),
            self.wallet_password.is_some() || self.wallet_password_hash.is_some(),
        )
    }

    fn reject_both(&self, violations: &mut Violations) {
        for (path, both) in [
            (
                "password_hash",
                self.password.is_some() && self.password_hash.is_some(),
            ),
            (
                "wallet_password_hash",
                self.wallet_password.is_some() && self.wallet_password_hash.is_some(),
            ),
        ] {
            if both {
                violations.add(
                    path,
                    FieldError::Format,
                    "can't be combined with the password",
                );
            }
        }
    }
}

fn moved_hash(name: &str, given: String, violations: &mut Violations) -> Option<String> {
    if given.is_empty() {
        return None;
    }
    violations.check(&format!("{name}_hash"), PasswordHash::parse(&given))?;
    Some(given)
}

/// Checks the format of a request id. The nil UUID is sent by a client that didn't generate one:
/// two such requests would count as one.
pub fn check_request_id(given: &str, violations: &mut Violations) {
    if !given.is_empty() && !uuid::Uuid::parse_str(given).is_ok_and(|parsed| !parsed.is_nil()) {
        violations.add(
            "request_id",
            FieldError::Format,
            "must be a UUID other than the nil UUID",
        );
    }
}

/// Reads a new user.
///
/// # Errors
/// INVALID_REQUEST with all violations.
pub fn new_user(
    given: pb::CreateUserRequest,
    fields: &Fields,
    usernames: &UsernameRules,
    now: DateTime<Utc>,
    lengths: Lengths,
) -> Result<(NewUser, Secrets)> {
    let mut violations = Violations::new();
    check_request_id(&given.request_id, &mut violations);
    let secrets = Secrets {
        password: new_secret(
            "password",
            Kind::Login,
            given.password,
            lengths,
            &mut violations,
        ),
        wallet_password: new_secret(
            "wallet_password",
            Kind::Wallet,
            given.wallet_password,
            lengths,
            &mut violations,
        ),
        password_hash: moved_hash("password", given.password_hash, &mut violations),
        wallet_password_hash: moved_hash(
            "wallet_password",
            given.wallet_password_hash,
            &mut violations,
        ),
    };
    secrets.reject_both(&mut violations);
    let given_profile = given.profile.unwrap_or_default();
    let account = new_account(
        given.account.unwrap_or_default(),
        usernames,
        now,
        &mut violations,
    );

    if !(0..=MAX_USER_ID).contains(&given_profile.user_id) {
        violations.add(
            "profile.user_id",
            FieldError::Range,
            "must be between 1 and 2^53 - 1",
        );
    }
    let immutable = [
        ("profile.created_by", given_profile.created_by != 0),
        ("profile.updated_at", given_profile.updated_at.is_some()),
        ("profile.etag", !given_profile.etag.is_empty()),
        ("profile.account", given_profile.account.is_some()),
    ];
    for (path, _) in immutable.into_iter().filter(|(_, is_set)| *is_set) {
        violations.add(path, FieldError::Immutable, "is output only");
    }
    let created_at = match given_profile.created_at.as_ref().map(time) {
        None => now,
        Some(Some(past)) if past <= now + TimeDelta::minutes(1) => past,
        Some(_) => {
            violations.add(
                "profile.created_at",
                FieldError::Range,
                "must be in the past",
            );
            now
        }
    };
    let user_id = given_profile.user_id;
    let custom = given_profile
        .custom_fields
        .clone()
        .map(json::object)
        .unwrap_or_default();
    let document = fields.new_document(custom, "profile.custom_fields", &mut violations);
    if violations.is_empty() && !document_fits(&document) {
        return Err(
            Error::new(crate::error::Reason::DocumentTooLarge).with_violation(
                "profile.custom_fields",
                FieldError::Length,
                "must have at most 128 fields and 64 KiB",
            ),
        );
    }
    let paths: Vec<String> = profile::SERVICE_WRITABLE
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    let patch = profile::patch(given_profile, &paths, &mut violations);
    violations.into_result()?;

    let profile = Profile {
        user_id,
        nickname: patch.nickname.flatten(),
        avatar_url: patch.avatar_url.flatten(),
        gender: patch.gender.unwrap_or_default(),
        country: patch.country.flatten(),
        province: patch.province.flatten(),
        city: patch.city.flatten(),
        language: patch.language.flatten(),
        openid: patch.openid.flatten(),
        unionid: patch.unionid.flatten(),
        is_authorized: patch.is_authorized.unwrap_or_default(),
        group_ids: patch.group_ids.unwrap_or_default(),
        custom_fields: Document::from(&document),
        created_at,
        updated_at: now,
        version: 1,
    };
    let reservations = reservations(&profile, &account, &document, fields);
    Ok((
        NewUser {
            profile,
            account,
            reservations,
        },
        secrets,
    ))
}

/// Parses which user to delete, and under which condition.
///
/// # Errors
/// INVALID_REQUEST with all violations.
pub fn deletion(request: &pb::DeleteUserRequest) -> Result<DeleteUser> {
    let mut violations = Violations::new();
    check_request_id(&request.request_id, &mut violations);
    match request.user_id {
        0 => violations.add("user_id", FieldError::Required, "is required"),
        user_id if user_id < 0 => {
            violations.add("user_id", FieldError::Range, "must not be negative")
        }
        _ => {}
    }
    violations.into_result()?;
    Ok(DeleteUser {
        user_id: request.user_id,
        version: (!request.etag.is_empty()).then(|| parse_etag(&request.etag)),
        allow_missing: request.allow_missing,
        validate_only: request.validate_only,
    })
}

/// The unique values of a new user.
fn reservations(
    profile: &Profile,
    account: &NewAccount,
    document: &Map<String, Value>,
    fields: &Fields,
) -> Vec<Reservation> {
    let mut reservations = Vec::new();
    let mut reservation = |path: String, kind: String, value: Option<String>| {
        reservations.extend(value.map(|value| Reservation { path, kind, value }));
    };
    for (kind, folded) in [
        ("username", &account.username),
        ("email", &account.email),
        ("phone", &account.phone),
    ] {
        reservation(
            format!("account.{kind}"),
            kind.to_owned(),
            folded.as_ref().map(|folded| folded.key.clone()),
        );
    }
    for value in account.username.iter().flat_map(skeletons) {
        reservation(
            "account.username".to_owned(),
            SKELETON.to_owned(),
            Some(value),
        );
    }
    for (kind, value) in [("openid", &profile.openid), ("unionid", &profile.unionid)] {
        reservation(format!("profile.{kind}"), kind.to_owned(), value.clone());
    }
    for field in fields.iter().filter(|field| field.unique) {
        let value = document
            .get(&field.name)
            .and_then(|value| field.field_type.unique_key(value));
        reservation(
            format!("profile.custom_fields.{}", field.name),
            field.unique_kind(),
            value,
        );
    }
    reservations
}

fn new_account(
    given: pb::Account,
    usernames: &UsernameRules,
    now: DateTime<Utc>,
    violations: &mut Violations,
) -> NewAccount {
    let immutable = [
        ("account.user_id", given.user_id != 0),
        ("account.has_password", given.has_password),
        ("account.has_wallet_password", given.has_wallet_password),
        ("account.connections", !given.connections.is_empty()),
        ("account.etag", !given.etag.is_empty()),
        ("account.email_confirmed", given.email_confirmed),
        ("account.phone_confirmed", given.phone_confirmed),
    ];
    for (path, _) in immutable.into_iter().filter(|(_, is_set)| *is_set) {
        violations.add(path, FieldError::Immutable, "is output only");
    }
    let given_text = |value: Option<String>| value.filter(|value| !value.is_empty());
    let (username, email, phone) = (
        given_text(given.username),
        given_text(given.email),
        given_text(given.phone),
    );
    for (path, is_verified, address) in [
        ("account.email", given.email_verified, &email),
        ("account.phone", given.phone_verified, &phone),
    ] {
        if is_verified && address.is_none() {
            violations.add(
                path,
                FieldError::Required,
                "is required where it is said to be verified",
            );
        }
    }
    let username =
        username.and_then(|value| violations.check("account.username", usernames.parse(value)));
    let email = email.and_then(|value| violations.check("account.email", parse_email(value)));
    let phone = phone.and_then(|value| violations.check("account.phone", parse_phone(value)));
    let last_login_at = last_login(given.last_login_at.as_ref(), now, violations).flatten();
    NewAccount {
        email_verified: given.email_verified && email.is_some(),
        phone_verified: given.phone_verified && phone.is_some(),
        username,
        email,
        phone,
        set_at: Some(now),
        last_login_at,
        password_hash: None,
        wallet_password_hash: None,
    }
}
