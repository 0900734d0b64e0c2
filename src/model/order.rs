//! The order of a list.

use std::sync::Arc;

use crate::{
    error::{Error, FieldError, Reason, Result, Violations},
    model::{
        field::{Field, Fields},
        text,
    },
};

/// Most keys of an order.
const MAX_KEYS: usize = 4;

/// What a list is ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    UserId,
    Nickname,
    AvatarUrl,
    Openid,
    Unionid,
    IsAuthorized,
    CreatedAt,
    UpdatedAt,
    Custom(Arc<Field>),
}

/// A key and its direction; nulls are last in both.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderKey {
    pub key: Key,
    pub descending: bool,
}

/// Parses `-created_at,nickname`, or `created_at desc, nickname` for the same, with the keys of
/// [`with_ties`].
///
/// # Errors
/// ORDER_BY_UNSUPPORTED with all violations.
pub fn parse(given: &str, fields: &Fields) -> Result<Vec<OrderKey>> {
    Ok(with_ties(parse_named(given, fields)?))
}

/// Parses the keys that a request names, without those that make the order total.
///
/// # Errors
/// ORDER_BY_UNSUPPORTED with all violations.
pub fn parse_named(given: &str, fields: &Fields) -> Result<Vec<OrderKey>> {
    let given = if given.is_empty() {
        "-created_at"
    } else {
        given
    };
    let mut violations = Violations::new();
    let mut keys: Vec<OrderKey> = Vec::new();
    if given.len() > 512 || given.split(',').count() > MAX_KEYS {
        return Err(Error::new(Reason::OrderByUnsupported).with_violation(
            "order_by",
            FieldError::Length,
            "must have at most four sort keys",
        ));
    }
    for part in given.split(',') {
        let Part { name, sign, word } = Part::read(part);
        let descending = sign || word;
        match key(name, fields) {
            _ if sign && word => {
                let why = format!(
                    "{} must have either the prefix \"-\" or the suffix \" desc\"",
                    text::cut(name, 64)
                );
                violations.add("order_by", FieldError::Format, why);
            }
            Some(key) if keys.iter().any(|known| known.key == key) => {
                violations.add(
                    "order_by",
                    FieldError::Format,
                    format!("duplicate sort key {}", text::cut(name, 64)),
                );
            }
            Some(key) => keys.push(OrderKey { key, descending }),
            None => violations.add(
                "order_by",
                FieldError::Unknown,
                format!("can't sort by {:?}", text::cut(name, 64)),
            ),
        }
    }
    violations.into_result_as(Reason::OrderByUnsupported)?;
    Ok(keys)
}

/// Makes an order total: adds `user_id` in the direction of the last key. If the last key is an
/// indexed field, also adds `created_at` before it, because its index contains it.
pub fn with_ties(mut named: Vec<OrderKey>) -> Vec<OrderKey> {
    if let Some(last) = named.last().cloned() {
        let indexed = matches!(&last.key, Key::Custom(field) if field.index.is_declared());
        for key in indexed
            .then_some(Key::CreatedAt)
            .into_iter()
            .chain([Key::UserId])
        {
            if named.iter().all(|known| known.key != key)
                && named.iter().all(|known| known.key != Key::UserId)
            {
                named.push(OrderKey {
                    key,
                    descending: last.descending,
                });
            }
        }
    }
    named
}

/// The total order of a list whose cursors have `len` values, even if an index has changed since
/// the list began; `None` if no order of these keys has such cursors.
pub fn continued(named: &[OrderKey], len: usize) -> Option<Vec<OrderKey>> {
    let ties: &[Key] = match len.checked_sub(named.len())? {
        0 => &[],
        1 => &[Key::UserId],
        2 => &[Key::CreatedAt, Key::UserId],
        _ => return None,
    };
    let descending = named.last()?.descending;
    let ties = ties.iter().map(|key| OrderKey {
        key: key.clone(),
        descending,
    });
    Some(named.iter().cloned().chain(ties).collect())
}

/// One sort key as written: a name, and the marker of a descending direction.
#[derive(Debug, PartialEq)]
struct Part<'a> {
    name: &'a str,
    /// The prefix `-`.
    sign: bool,
    /// The suffix ` desc`.
    word: bool,
}

impl<'a> Part<'a> {
    fn read(part: &'a str) -> Self {
        let part = part.trim();
        // A custom field may itself be named `desc`; the word is a direction only after a space.
        let before = part
            .strip_suffix("desc")
            .filter(|before| before.ends_with(char::is_whitespace));
        let signed = before.map_or(part, str::trim_end);
        let name = signed.strip_prefix('-');
        Self {
            name: name.unwrap_or(signed),
            sign: name.is_some(),
            word: before.is_some(),
        }
    }
}

/// The custom fields that an order names.
pub fn custom_names(given: &str) -> impl Iterator<Item = &str> {
    let names = given.split(',').map(|part| Part::read(part).name);
    names.filter(|name| !name.is_empty() && builtin(name).is_none())
}

/// The parsed keys. A field that was deleted and created again under the same name is a different
/// key, because a cursor is valid in only one order.
pub fn signature(keys: &[OrderKey]) -> String {
    let name = |key: &Key| match key {
        Key::UserId => "user_id".to_owned(),
        Key::Nickname => "nickname".to_owned(),
        Key::AvatarUrl => "avatar_url".to_owned(),
        Key::Openid => "openid".to_owned(),
        Key::Unionid => "unionid".to_owned(),
        Key::IsAuthorized => "is_authorized".to_owned(),
        Key::CreatedAt => "created_at".to_owned(),
        Key::UpdatedAt => "updated_at".to_owned(),
        Key::Custom(field) => field.field_id.to_string(),
    };
    let parts = keys.iter().map(|OrderKey { key, descending }| {
        let direction = if *descending { "-" } else { "" };
        format!("{direction}{}", name(key))
    });
    parts.collect::<Vec<_>>().join(",")
}

fn key(name: &str, fields: &Fields) -> Option<Key> {
    let custom = || {
        Some(Key::Custom(
            fields
                .get(name)
                .filter(|field| field.field_type.is_scalar())?
                .clone(),
        ))
    };
    builtin(name).or_else(custom)
}

fn builtin(name: &str) -> Option<Key> {
    Some(match name {
        "user_id" | "id" | "created_by" => Key::UserId,
        "nickname" => Key::Nickname,
        "avatar_url" => Key::AvatarUrl,
        "openid" => Key::Openid,
        "unionid" => Key::Unionid,
        "is_authorized" => Key::IsAuthorized,
        "created_at" => Key::CreatedAt,
        "updated_at" => Key::UpdatedAt,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_a_sign_or_a_word() {
        let read = |part| {
            let Part { name, sign, word } = Part::read(part);
            (name, sign, word)
        };
        assert_eq!(read("created_at"), ("created_at", false, false));
        assert_eq!(read(" -created_at "), ("created_at", true, false));
        assert_eq!(read("created_at \t desc "), ("created_at", false, true));
        assert_eq!(read("-created_at desc"), ("created_at", true, true));
        assert_eq!(read("desc"), ("desc", false, false));
        assert_eq!(read("desc desc"), ("desc", false, true));
        assert_eq!(read("created_atdesc"), ("created_atdesc", false, false));
        assert_eq!(read("created_at DESC"), ("created_at DESC", false, false));
        assert_eq!(read("created_at asc"), ("created_at asc", false, false));
    }

    #[test]
    fn a_place_tells_the_order_in_which_its_list_began() {
        let fields = Fields::default();
        for given in [
            "nickname",
            "-nickname,created_at",
            "user_id",
            "nickname,-user_id",
        ] {
            let named = parse_named(given, &fields).unwrap();
            let total = with_ties(named.clone());
            assert_eq!(continued(&named, total.len()), Some(total), "{given}");
        }
        let named = parse_named("-nickname", &fields).unwrap();
        let by_time = continued(&named, 3).unwrap();
        assert_eq!(signature(&by_time), "-nickname,-created_at,-user_id");
        assert_eq!(
            [
                continued(&named, 0),
                continued(&named, 4),
                continued(&[], 0)
            ],
            [None, None, None]
        );
    }

    #[test]
    fn both_spellings_have_one_signature() {
        let fields = Fields::default();
        let signature = |given| signature(&parse(given, &fields).unwrap());
        assert_eq!(
            signature("-created_at,nickname"),
            signature("created_at desc, nickname")
        );
        assert_ne!(signature("-created_at"), signature("created_at"));
        assert!(parse("-created_at desc", &fields).is_err());
    }
}
