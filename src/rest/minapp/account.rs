//! `PUT …/miniapp/user/account/:id/`: how a user logs in.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use prost_types::FieldMask;
use serde_json::{Map, Value, json};

use super::{body, in_production, user_id, with_country, without_country};
use crate::{
    convert::pb::{self, get_profile_request::Key},
    error::{Error, FieldError, Result},
    model::text,
    rest::{call::Call, error::RestError},
};

/// Changes the account, and shows it.
pub(super) async fn put(call: Call) -> Result<Response, RestError> {
    in_production(&call)?;
    let country_code = &call.gateway.config.country_code;
    let (user_id, body) = (user_id(&call)?, body(&call)?.into_object("")?);
    let account = if body.is_empty() {
        read(&call, user_id).await?
    } else {
        let request = request(user_id, body, country_code)?;
        call.api()
            .update_account(&call.caller, request)
            .await?
            .account
            .unwrap_or_default()
    };
    let phone = account
        .phone
        .map(|phone| without_country(&phone, country_code));
    Ok(Json(json!({
        "username": account.username,
        "email": account.email,
        "email_verified": account.email_verified,
        "phone": phone,
        "phone_verified": account.phone_verified,
    }))
    .into_response())
}

async fn read(call: &Call, user_id: i64) -> Result<pb::Account> {
    let read_mask = Some(FieldMask {
        paths: vec!["account".to_owned()],
    });
    let request = pb::GetProfileRequest {
        key: Some(Key::UserId(user_id)),
        read_mask,
    };
    let reply = call.api().get_profile(&call.caller, request).await?;
    Ok(reply
        .profile
        .and_then(|profile| profile.account)
        .unwrap_or_default())
}

fn request(
    user_id: i64,
    body: Map<String, Value>,
    country_code: &str,
) -> Result<pb::UpdateAccountRequest> {
    let mut request = pb::UpdateAccountRequest {
        user_id,
        ..Default::default()
    };
    let (mut account, mut paths) = (pb::Account::default(), Vec::new());
    for (name, value) in body {
        let given = match value {
            Value::Null => None,
            Value::String(text) if text.is_empty() => {
                return Err(Error::invalid(
                    name,
                    FieldError::Length,
                    "must not be empty; use null to clear it",
                ));
            }
            Value::String(text) => Some(text),
            _ => {
                return Err(Error::invalid(
                    text::cut(&name, 64),
                    FieldError::Type,
                    "must be text or null",
                ));
            }
        };
        let secret = |given: Option<String>| {
            given.ok_or_else(|| {
                Error::invalid(&name, FieldError::Required, "a password cannot be cleared")
            })
        };
        match name.as_str() {
            "username" => account.username = given,
            "email" => account.email = given,
            "phone" => account.phone = given.map(|phone| with_country(&phone, country_code)),
            "new_password" => request.new_password = secret(given)?,
            // A service needs none; a user shows the one in force.
            "password" => {
                request.proof = Some(pb::Proof {
                    current_password: secret(given)?,
                    ..Default::default()
                });
            }
            _ => {
                return Err(Error::invalid(
                    text::cut(&name, 64),
                    FieldError::Unknown,
                    "unknown field",
                ));
            }
        }
        if matches!(name.as_str(), "username" | "email" | "phone") {
            paths.push(name);
        }
    }
    if !paths.is_empty() {
        request.account = Some(account);
        request.update_mask = Some(FieldMask { paths });
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<pb::UpdateAccountRequest> {
        request(7, body.as_object().unwrap().clone(), "86")
    }

    #[test]
    fn null_clears_and_absent_stays() {
        let request = read(json!({ "email": null, "phone": "13800138000" })).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["email", "phone"]);
        let account = request.account.unwrap();
        assert_eq!(
            (account.email, account.phone.as_deref()),
            (None, Some("+8613800138000"))
        );
    }

    #[test]
    fn empty_text_other_types_and_other_names_are_refused() {
        for bad in [
            json!({ "email": "" }),
            json!({ "username": 5 }),
            json!({ "new_password": null }),
            json!({ "nickname": "x" }),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
