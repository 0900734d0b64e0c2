//! Users as minapp shows them.

use prost_types::FieldMask;
use serde_json::{Map, Value, json};

use super::without_country;
use crate::{
    domain::caller::Caller,
    model::{
        field::{FieldType, Fields, ItemType},
        profile::BUILTIN,
        scope::Scope,
    },
    wire::{json, pb},
};

/// What a caller is shown of a user: the account too, where they may read it.
pub fn mask(caller: &Caller) -> Option<FieldMask> {
    let may_read = caller.user().is_some() || caller.has(Scope::AccountsRead);
    may_read.then(|| FieldMask {
        paths: BUILTIN.iter().copied().chain(["custom_fields", "account"]).map(str::to_owned).collect(),
    })
}

/// Unix seconds.
pub fn seconds(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds)
}

/// A user in the form of v2.
pub fn v2(profile: pb::Profile, fields: &Fields, country_code: &str) -> Value {
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
        show("_username", account.username.into());
        show("_email", account.email.into());
        show("_email_verified", account.email_verified.into());
        show("_phone", account.phone.map(|phone| without_country(&phone, country_code)).into());
        show("_phone_verified", account.phone_verified.into());
    }
    Value::Object(object)
}

/// A user in the form of v1.
pub fn v1(profile: pb::Profile) -> Value {
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
            (Some(FieldType::Array(ItemType::Integer)), Value::Array(items)) => items.iter_mut().for_each(whole),
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
            account: Some(pb::Account { phone: Some("+8613800138000".to_owned()), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn v2_shows_the_account_where_there_is_one() {
        let shown = v2(profile(), &Fields::new([], Vec::new()), "86");
        assert_eq!(shown["_phone"], "13800138000");
        assert_eq!((&shown["unionid"], &shown["id"]), (&Value::Null, &json!(7)));
        let without = pb::Profile { account: None, ..profile() };
        assert!(v2(without, &Fields::new([], Vec::new()), "86").get("_email").is_none());
    }

    #[test]
    fn v1_has_twelve_keys() {
        assert_eq!(v1(profile()).as_object().unwrap().len(), 12);
    }
}
