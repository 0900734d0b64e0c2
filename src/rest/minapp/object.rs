//! Users as minapp shows them.

use prost_types::FieldMask;
use serde_json::{Map, Value, json};

use super::without_country;
use crate::{
    convert::{json, pb},
    domain::{
        authorization::{Action, is_permitted},
        caller::Caller,
    },
    model::{
        field::{FieldType, Fields, ItemType},
        profile::BUILTIN,
    },
};

/// What a caller is shown of a user: the account too, where they may read it.
pub(super) fn mask(caller: &Caller) -> Option<FieldMask> {
    let may_read = is_permitted(caller, "GetProfile", Action::ReadAccount);
    may_read.then(|| FieldMask {
        paths: BUILTIN
            .iter()
            .copied()
            .chain(["custom_fields", "account"])
            .map(str::to_owned)
            .collect(),
    })
}

/// Unix seconds.
pub(super) fn seconds(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds)
}

/// A user in the form of v2.
pub(super) fn v2(profile: pb::Profile, fields: &Fields, country_code: &str) -> Value {
    let has_openid = profile.openid.is_some() || profile.unionid.is_some();
    let mut object = match profile.custom_fields {
        Some(custom) => custom_fields(json::object(custom), fields),
        None => Map::new(),
    };
    let mut show = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    show("id", profile.user_id.into());
    show("created_by", profile.created_by.into());
    show("created_at", seconds(profile.created_at.as_ref()).into());
    show("updated_at", seconds(profile.updated_at.as_ref()).into());
    show("avatar", profile.avatar_url.into());
    show("nickname", profile.nickname.into());
    show("gender", profile.gender.into());
    show("country", profile.country.into());
    show("province", profile.province.into());
    show("city", profile.city.into());
    show("language", profile.language.into());
    show("openid", profile.openid.into());
    show("unionid", profile.unionid.into());
    show("is_authorized", profile.is_authorized.into());
    show("_group", profile.group_ids.into());
    if let Some(account) = profile.account {
        show("_anonymous", has_no_login(&account, has_openid).into());
        show("_provider", providers(account.connections));
        show("_username", account.username.into());
        show("_email", account.email.into());
        show("_email_verified", account.email_verified.into());
        show(
            "_phone",
            account
                .phone
                .map(|phone| without_country(&phone, country_code))
                .into(),
        );
        show("_phone_verified", account.phone_verified.into());
    }
    Value::Object(object)
}

/// A user in the form of v2 with every field.
pub(super) fn sample_v2(fields: &Fields) -> Value {
    let everything = pb::Profile {
        account: Some(pb::Account::default()),
        ..Default::default()
    };
    let mut sample = v2(everything, fields, "");
    fields.names().for_each(|name| sample[name] = Value::Null);
    sample
}

/// Whether nothing identifies the user at a login, as for minapp's anonymous users.
fn has_no_login(account: &pb::Account, has_openid: bool) -> bool {
    let has_name = account.username.is_some() || account.email.is_some() || account.phone.is_some();
    !has_openid && !has_name && account.connections.is_empty()
}

/// What is known of the user at each provider, by the provider's name.
fn providers(connections: Vec<pb::Connection>) -> Value {
    let providers = connections.into_iter().map(|connection| {
        (
            connection.provider,
            json!({ "id": connection.subject, "nickname": connection.display_name }),
        )
    });
    Value::Object(providers.collect())
}

/// A user in the form of v1.
pub(super) fn v1(profile: pb::Profile) -> Value {
    json!({
        "id": profile.user_id,
        "user_id": profile.user_id,
        "avatar": profile.avatar_url,
        "nickname": profile.nickname,
        "gender": profile.gender,
        "country": profile.country,
        "province": profile.province,
        "city": profile.city,
        "openid": profile.openid,
        "unionid": profile.unionid,
        "user_group": profile.group_ids,
        "created_at": seconds(profile.created_at.as_ref()),
    })
}

/// Custom fields with integers of any size as numbers.
fn custom_fields(mut values: Map<String, Value>, fields: &Fields) -> Map<String, Value> {
    for (name, value) in &mut values {
        match (fields.get(name).map(|field| field.field_type), value) {
            (Some(FieldType::Integer), value) => whole(value),
            (Some(FieldType::Array(ItemType::Integer)), Value::Array(items)) => {
                items.iter_mut().for_each(whole)
            }
            _ => {}
        }
    }
    values
}

fn whole(value: &mut Value) {
    if let Some(number) = value.as_str().and_then(|digits| digits.parse::<i64>().ok()) {
        *value = number.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> pb::Profile {
        pb::Profile {
            user_id: 7,
            nickname: "Tom".to_owned(),
            group_ids: vec![137],
            account: Some(pb::Account {
                phone: Some("+8613800138000".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn v2_shows_the_account_where_there_is_one() {
        let shown = v2(profile(), &Fields::new([], Vec::new()), "86");
        assert_eq!(shown["_phone"], "13800138000");
        assert_eq!((&shown["unionid"], &shown["id"]), (&Value::Null, &json!(7)));
        let without = pb::Profile {
            account: None,
            ..profile()
        };
        assert!(
            v2(without, &Fields::new([], Vec::new()), "86")
                .get("_email")
                .is_none()
        );
    }

    #[test]
    fn v2_shows_linked_providers_and_who_has_no_login() {
        let github = pb::Connection {
            provider: "github".to_owned(),
            subject: "42".to_owned(),
            display_name: "tom".to_owned(),
            ..Default::default()
        };
        let shown = |account| {
            v2(
                pb::Profile {
                    account: Some(account),
                    ..profile()
                },
                &Fields::default(),
                "86",
            )
        };
        let linked = shown(pb::Account {
            connections: vec![github],
            ..Default::default()
        });
        assert_eq!(
            linked["_provider"],
            json!({ "github": { "id": "42", "nickname": "tom" } })
        );
        assert_eq!(
            (
                &linked["_anonymous"],
                &shown(pb::Account::default())["_anonymous"]
            ),
            (&json!(false), &json!(true))
        );
    }

    #[test]
    fn v1_has_twelve_keys() {
        assert_eq!(v1(profile()).as_object().unwrap().len(), 12);
    }
}
