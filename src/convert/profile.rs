//! Profiles and accounts as messages, and patches from them.

use std::collections::HashSet;

use crate::{
    convert::{
        json, pb,
        proto_struct::{Show, Struct},
        timestamp,
    },
    error::{FieldError, Violations},
    model::{
        account::{AccountView, Connection},
        delivery::Channel,
        document::Document,
        field::Fields,
        profile::{
            AccountMask, BuiltinPatch, CustomMask, GroupChange, Profile, ReadMask, etag,
            parse_added_groups, parse_avatar, parse_groups, parse_language, parse_nickname,
            parse_place, parse_platform_id,
        },
        text,
    },
};

/// A profile's message, with what the mask names; the definitions tell integers from other numbers.
pub fn message(
    profile: Profile,
    account: Option<&AccountView>,
    mask: &ReadMask,
    fields: &Fields,
) -> pb::Profile {
    let optional = |name: &str, value: Option<String>| value.filter(|_| mask.has(name));
    let text = |name: &str, value: Option<String>| optional(name, value).unwrap_or_default();
    let time = |name: &str, value| mask.has(name).then(|| timestamp(value));
    pb::Profile {
        user_id: if mask.has("user_id") {
            profile.user_id
        } else {
            0
        },
        nickname: text("nickname", profile.nickname),
        avatar_url: text("avatar_url", profile.avatar_url),
        gender: if mask.has("gender") {
            i32::from(profile.gender)
        } else {
            0
        },
        country: text("country", profile.country),
        province: text("province", profile.province),
        city: text("city", profile.city),
        language: text("language", profile.language),
        openid: optional("openid", profile.openid),
        unionid: optional("unionid", profile.unionid),
        is_authorized: mask.has("is_authorized") && profile.is_authorized,
        group_ids: if mask.has("group_ids") {
            profile.group_ids
        } else {
            Vec::new()
        },
        custom_fields: custom_fields(&profile.custom_fields, &mask.custom, fields),
        created_by: if mask.has("created_by") {
            profile.user_id
        } else {
            0
        },
        created_at: time("created_at", profile.created_at),
        updated_at: time("updated_at", profile.updated_at),
        etag: etag(profile.version),
        account: account.and_then(|view| account_message(view, &mask.account)),
    }
}

fn custom_fields(document: &Document, mask: &CustomMask, fields: &Fields) -> Option<Struct> {
    let is_shown = |name: &str| match mask {
        CustomMask::All => !fields.hidden().iter().any(|hidden| hidden == name),
        CustomMask::Only(names) => names.iter().any(|shown| shown == name),
    };
    if !mask.is_any() {
        return None;
    }
    Some(Struct::of(document, |name| {
        if is_shown(name) {
            json::show(fields.get(name).map(|field| field.field_type))
        } else {
            Show::No
        }
    }))
}

/// A connection's message.
pub fn connection(connection: &Connection) -> pb::Connection {
    pb::Connection {
        connection_id: connection.connection_id,
        provider: connection.provider.clone(),
        display_name: connection.display_name.clone(),
        linked_at: Some(timestamp(connection.linked_at)),
        subject: connection.subject.clone(),
    }
}

/// An account's message, with what the mask names.
pub fn account_message(view: &AccountView, mask: &AccountMask) -> Option<pb::Account> {
    let has = |name: &str| match mask {
        AccountMask::None => false,
        AccountMask::All => true,
        AccountMask::Only(names) => name == "etag" || names.contains(&name),
    };
    let account = &view.account;
    (*mask != AccountMask::None).then(|| pb::Account {
        user_id: if has("user_id") { account.user_id } else { 0 },
        username: account.username.clone().filter(|_| has("username")),
        email: account.email.clone().filter(|_| has("email")),
        email_verified: has("email_verified") && account.email_verified,
        phone: account.phone.clone().filter(|_| has("phone")),
        phone_verified: has("phone_verified") && account.phone_verified,
        has_password: has("has_password") && account.has_password,
        has_wallet_password: has("has_wallet_password") && account.has_wallet_password,
        last_login_at: account
            .last_login_at
            .filter(|_| has("last_login_at"))
            .map(timestamp),
        connections: if has("connections") {
            view.connections.iter().map(connection).collect()
        } else {
            Vec::new()
        },
        etag: etag(account.version),
        email_confirmed: has("email_confirmed") && account.is_confirmed(Channel::Email),
        phone_confirmed: has("phone_confirmed") && account.is_confirmed(Channel::Phone),
    })
}

/// The built-in fields that a service may change.
pub const SERVICE_WRITABLE: &[&str] = &[
    "nickname",
    "avatar_url",
    "gender",
    "country",
    "province",
    "city",
    "language",
    "openid",
    "unionid",
    "is_authorized",
    "group_ids",
];

/// Fields that no one changes here.
const IMMUTABLE: &[&str] = &[
    "user_id",
    "created_by",
    "created_at",
    "updated_at",
    "etag",
    "account",
];

/// Reads the fields that `paths` names out of `given`; unset ones are cleared.
pub fn patch(given: pb::Profile, paths: &[String], violations: &mut Violations) -> BuiltinPatch {
    let mut patch = BuiltinPatch::default();
    let clearable = |violations: &mut Violations,
                     path: &str,
                     given: String,
                     parse: fn(String) -> _| match given {
        given if given.is_empty() => Some(None),
        given => violations.check(path, parse(given)).map(Some),
    };
    for path in paths {
        match path.as_str() {
            "nickname" => {
                patch.nickname = clearable(
                    violations,
                    "profile.nickname",
                    given.nickname.clone(),
                    parse_nickname,
                );
            }
            "avatar_url" => {
                patch.avatar_url = clearable(
                    violations,
                    "profile.avatar_url",
                    given.avatar_url.clone(),
                    parse_avatar,
                );
            }
            "country" => {
                patch.country = clearable(
                    violations,
                    "profile.country",
                    given.country.clone(),
                    parse_place,
                )
            }
            "province" => {
                patch.province = clearable(
                    violations,
                    "profile.province",
                    given.province.clone(),
                    parse_place,
                )
            }
            "city" => {
                patch.city = clearable(violations, "profile.city", given.city.clone(), parse_place)
            }
            "language" => {
                patch.language = clearable(
                    violations,
                    "profile.language",
                    given.language.clone(),
                    parse_language,
                );
            }
            "openid" => {
                patch.openid = platform_id("profile.openid", given.openid.clone(), violations)
            }
            "unionid" => {
                patch.unionid = platform_id("profile.unionid", given.unionid.clone(), violations)
            }
            "gender" => patch.gender = gender(given.gender, violations),
            "is_authorized" => patch.is_authorized = Some(given.is_authorized),
            "group_ids" => {
                patch.group_ids =
                    violations.check("profile.group_ids", parse_groups(given.group_ids.clone()));
            }
            path if IMMUTABLE.contains(&path.split('.').next().unwrap_or_default()) => {
                violations.add(
                    "update_mask",
                    FieldError::Immutable,
                    format!("{} cannot be changed", text::cut(path, 64)),
                );
            }
            path if path.split('.').next() == Some("custom_fields") => {
                violations.add(
                    "update_mask",
                    FieldError::Unknown,
                    format!("unknown path {}; {CUSTOM}", text::cut(path, 64)),
                );
            }
            path => violations.add(
                "update_mask",
                FieldError::Unknown,
                format!("unknown path {}", text::cut(path, 64)),
            ),
        }
    }
    if paths.is_empty() && given.custom_fields.is_some() {
        violations.add("profile.custom_fields", FieldError::Format, CUSTOM);
    }
    patch
}

/// Where changes of custom fields go: a profile that was read has them elsewhere.
const CUSTOM: &str = "changes to custom fields belong in custom_fields of the request";

/// Parses the groups to add and to remove.
pub fn groups(add: Vec<i64>, remove: Vec<i64>, violations: &mut Violations) -> GroupChange {
    let add = violations
        .check("add_group_ids", parse_added_groups(add))
        .unwrap_or_default();
    let remove = violations
        .check("remove_group_ids", parse_groups(remove))
        .unwrap_or_default();
    let added: HashSet<&i64> = add.iter().collect();
    if remove.iter().any(|group| added.contains(group)) {
        for (path, other) in [
            ("add_group_ids", "remove_group_ids"),
            ("remove_group_ids", "add_group_ids"),
        ] {
            violations.add(
                path,
                FieldError::Format,
                format!("must not contain a group that is also in {other}"),
            );
        }
    }
    GroupChange { add, remove }
}

/// Rejects a request that both updates and replaces the list of groups.
pub fn check_groups(paths: &[String], change: &GroupChange, violations: &mut Violations) {
    if !paths.iter().any(|path| path == "group_ids") {
        return;
    }
    for (path, groups) in [
        ("add_group_ids", &change.add),
        ("remove_group_ids", &change.remove),
    ] {
        if !groups.is_empty() {
            violations.add(
                path,
                FieldError::Format,
                "must be empty if update_mask names group_ids",
            );
        }
    }
}

fn platform_id(
    path: &str,
    given: Option<String>,
    violations: &mut Violations,
) -> Option<Option<String>> {
    match given.filter(|given| !given.is_empty()) {
        None => Some(None),
        Some(given) => violations.check(path, parse_platform_id(given)).map(Some),
    }
}

/// 0, 1 or 2.
pub fn gender(given: i32, violations: &mut Violations) -> Option<i16> {
    match given {
        0..=2 => Some(given as i16),
        _ => {
            violations.add("profile.gender", FieldError::Range, "must be 0, 1 or 2");
            None
        }
    }
}
