//! The profile: its built-in fields, their rules, masks over it, and patches of it.

use chrono::{DateTime, Utc};
use diesel::Queryable;

use crate::{
    error::FieldError,
    model::{
        document::Document,
        text::{self, Rejection},
    },
};

/// A profile, as its table holds it.
#[derive(Clone, Debug, Queryable)]
pub struct Profile {
    pub user_id: i64,
    pub nickname: Option<String>,
    pub avatar_url: Option<String>,
    pub gender: i16,
    pub country: Option<String>,
    pub province: Option<String>,
    pub city: Option<String>,
    pub language: Option<String>,
    pub openid: Option<String>,
    pub unionid: Option<String>,
    pub is_authorized: bool,
    pub group_ids: Vec<i64>,
    pub custom_fields: Document,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

/// The opaque text of a version; profile and account make theirs alike.
pub fn etag(version: i64) -> String {
    format!("{version:x}")
}

/// The version of an etag; `None` for what is no etag of ours and so matches nothing.
pub fn parse_etag(etag: &str) -> Option<i64> {
    let version = i64::from_str_radix(etag, 16)
        .ok()
        .filter(|version| *version > 0)?;
    // Each version has one spelling: another one was not given by this service.
    (self::etag(version) == etag).then_some(version)
}

/// A shown name, of which at least one character can be seen.
pub fn parse_nickname(given: String) -> Result<String, Rejection> {
    let shown = text::line(given, 1, 32, "must have 1 to 32 characters")?;
    if shown.chars().any(text::is_visible) {
        return Ok(shown);
    }
    Err((
        FieldError::Format,
        "must contain at least one visible character",
    ))
}

/// An https URL of at most 2048 characters. The URL standard that browsers follow would find a host
/// in `https:///x.png` and encode blanks and quotes; both are mistakes here.
pub fn parse_avatar(given: String) -> Result<String, Rejection> {
    let shown = text::line(given, 1, 2048, "must have at most 2048 characters")?;
    let has_authority = shown
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.starts_with(['/', '\\', '?', '#']));
    let is_encoded = !shown.contains(|c: char| c.is_whitespace() || "\"<>`\\".contains(c));
    match url::Url::parse(&shown) {
        Ok(parsed)
            if parsed.scheme() == "https" && parsed.has_host() && has_authority && is_encoded =>
        {
            Ok(shown)
        }
        _ => Err((FieldError::Format, "must be an https URL")),
    }
}

/// A country, province or city.
pub fn parse_place(given: String) -> Result<String, Rejection> {
    text::line(given, 1, 64, "must have at most 64 characters")
}

/// A BCP 47 tag, with `_` as good as `-`; kept as it was typed.
pub fn parse_language(given: String) -> Result<String, Rejection> {
    let shown = text::line(given, 1, 64, "must have at most 64 characters")?;
    let mut parts = shown.split(['-', '_']);
    let first = parts.next().unwrap_or_default();
    let first_fits =
        (2..=8).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphabetic());
    let rest_fits = parts.all(|part| {
        (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    if first_fits && rest_fits {
        Ok(shown)
    } else {
        Err((FieldError::Format, "must be a language tag such as zh_CN"))
    }
}

/// An id at a platform.
pub fn parse_platform_id(given: String) -> Result<String, Rejection> {
    text::line(given, 1, 128, "must have 1 to 128 characters")
}

/// Group ids: positive, 1000 at most, kept without repeats in the order given.
pub fn parse_groups(given: Vec<i64>) -> Result<Vec<i64>, Rejection> {
    let kept = distinct_groups(given)?;
    if kept.len() > MAX_GROUPS {
        Err((FieldError::Length, "must have at most 1000 entries"))
    } else {
        Ok(kept)
    }
}

/// Group ids that are added; more than a user can have cannot all be.
pub fn parse_added_groups(given: Vec<i64>) -> Result<Vec<i64>, Rejection> {
    let kept = distinct_groups(given)?;
    if kept.len() > MAX_GROUPS {
        Err((FieldError::Range, TOO_MANY_GROUPS))
    } else {
        Ok(kept)
    }
}

/// Why groups cannot be added.
pub const TOO_MANY_GROUPS: &str = "would make more than 1000 groups";

fn distinct_groups(given: Vec<i64>) -> Result<Vec<i64>, Rejection> {
    if given.iter().any(|group| *group <= 0) {
        return Err((FieldError::Range, "must be positive"));
    }
    let mut seen = std::collections::HashSet::new();
    Ok(given
        .into_iter()
        .filter(|group| seen.insert(*group))
        .collect())
}

/// Most groups of a user.
pub const MAX_GROUPS: usize = 1000;

/// Groups that are added to the stored ones and removed from them, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    pub add: Vec<i64>,
    pub remove: Vec<i64>,
}

impl GroupChange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        let Self { add, remove } = self;
        add.is_empty() && remove.is_empty()
    }
}

/// New values of built-in fields: outside absent, inside the value or cleared.
#[derive(Clone, Debug, Default)]
pub struct BuiltinPatch {
    pub nickname: Option<Option<String>>,
    pub avatar_url: Option<Option<String>>,
    pub gender: Option<i16>,
    pub country: Option<Option<String>>,
    pub province: Option<Option<String>>,
    pub city: Option<Option<String>>,
    pub language: Option<Option<String>>,
    pub openid: Option<Option<String>>,
    pub unionid: Option<Option<String>>,
    pub is_authorized: Option<bool>,
    pub group_ids: Option<Vec<i64>>,
}

/// Which parts of a profile a response holds. The etag is always in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadMask {
    /// Names of built-in fields; `None` for all of them.
    pub builtin: Option<Vec<&'static str>>,
    pub custom: CustomMask,
    /// Which fields of the account.
    pub account: AccountMask,
}

/// Which custom fields a reply holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomMask {
    All,
    Only(Vec<String>),
}

impl CustomMask {
    /// Whether it holds any.
    pub fn is_any(&self) -> bool {
        !matches!(self, CustomMask::Only(names) if names.is_empty())
    }
}

/// Which account fields a reply holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountMask {
    None,
    All,
    Only(Vec<&'static str>),
}

/// The built-in fields of Profile that a mask may name.
pub const BUILTIN: &[&str] = &[
    "user_id",
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
    "created_by",
    "created_at",
    "updated_at",
    "etag",
];

/// The fields of Account that a mask may name.
pub const ACCOUNT: &[&str] = &[
    "user_id",
    "username",
    "email",
    "email_verified",
    "phone",
    "phone_verified",
    "has_password",
    "has_wallet_password",
    "last_login_at",
    "connections",
    "etag",
    "email_confirmed",
    "phone_confirmed",
];

impl ReadMask {
    /// All but the account.
    pub fn default_fields() -> Self {
        Self {
            builtin: None,
            custom: CustomMask::All,
            account: AccountMask::None,
        }
    }

    /// Whether the reply holds this built-in field.
    pub fn has(&self, name: &str) -> bool {
        name == "etag"
            || self
                .builtin
                .as_ref()
                .is_none_or(|names| names.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn avatars_are_https_urls_with_a_host() {
        for good in [
            "https://example.com/a.png",
            "HTTPS://Example.COM/a.png?x=1#y",
            "https://example.com/%22a%20b%22.png",
        ] {
            assert_eq!(parse_avatar(good.to_owned()).as_deref(), Ok(good));
        }
        for bad in [
            "http://example.com/a.png",
            "https:///a.png",
            "https:example.com/a.png",
            "https://?a",
            "https://example.com/a b.png",
            "https://example.com/\"a\".png",
            "example.com/a.png",
        ] {
            assert!(parse_avatar(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
