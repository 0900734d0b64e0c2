//! One user: read in both versions, and its custom fields changed.

use axum::{
    Json,
    response::{IntoResponse, Response},
};

use super::{body, in_production, keys::Keys, language::Language, object, page::Params, user_id};
use crate::{
    convert::{
        json,
        pb::{self, get_profile_request::Key},
    },
    domain::authorization::authorize_method,
    error::Result,
    model::update,
    rest::{call::Call, error::RestError},
};

/// `GET …/:id/` in the form of v2.
pub(super) async fn get(call: Call) -> Result<Response, RestError> {
    in_production(&call)?;
    let params = Params::read(&call, &["keys", "expand"])?;
    let keys = keys(&call, &params).await?;
    let profile = read(&call, user_id(&call)?).await?;
    show(&call, &keys, profile).await
}

/// `GET v1/miniapp/user-profile/:id/`.
pub(super) async fn get_v1(call: Call) -> Result<Response, RestError> {
    in_production(&call)?;
    show_v1(&call, user_id(&call)?).await
}

/// One user in the form of v1.
pub(super) async fn show_v1(call: &Call, user_id: i64) -> Result<Response, RestError> {
    let request = pb::GetProfileRequest {
        key: Some(Key::UserId(user_id)),
        read_mask: None,
    };
    let reply = call.api().get_profile(&call.caller, request).await?;
    Ok(Json(object::v1(reply.profile.unwrap_or_default())).into_response())
}

/// `PUT …/:id/`: changes what the body names, and shows the user.
pub(super) async fn put(call: Call) -> Result<Response, RestError> {
    in_production(&call)?;
    let params = Params::read(&call, &["keys", "expand", "enable_trigger"])?;
    params.flag("enable_trigger")?;
    let (user_id, keys) = (user_id(&call)?, keys(&call, &params).await?);
    let fields = call.api().definitions().await?;
    let language = Language {
        fields: &fields,
        country_code: &call.gateway.config.country_code,
    };
    let change = language.change(body(&call)?)?;
    if update::is_empty(&change) {
        authorize_method(&call.caller, "GetProfile")?;
        let profile = read(&call, user_id).await?;
        return show(&call, &keys, profile).await;
    }
    let request = pb::UpdateProfileRequest {
        user_id,
        custom_fields: Some(json::to_struct(change.iter())),
        ..Default::default()
    };
    let reply = call.api().update_profile(&call.caller, request).await?;
    // The reply of a change holds no account; who may read it is shown it here too.
    let reads_account = object::mask(&call.caller).is_some();
    let may_read = authorize_method(&call.caller, "GetProfile").is_ok();
    let profile = if reads_account && may_read {
        read(&call, user_id).await?
    } else {
        reply.profile.unwrap_or_default()
    };
    show(&call, &keys, profile).await
}

async fn read(call: &Call, user_id: i64) -> Result<pb::Profile> {
    let request = pb::GetProfileRequest {
        key: Some(Key::UserId(user_id)),
        read_mask: object::mask(&call.caller),
    };
    let reply = call.api().get_profile(&call.caller, request).await?;
    Ok(reply.profile.unwrap_or_default())
}

async fn keys(call: &Call, params: &Params<'_>) -> Result<Keys> {
    let fields = call.api().definitions().await?;
    Keys::read(params, || object::sample_v2(&fields))
}

async fn show(call: &Call, keys: &Keys, profile: pb::Profile) -> Result<Response, RestError> {
    let fields = call.api().definitions().await?;
    let object = object::v2(profile, &fields, &call.gateway.config.country_code);
    Ok(Json(keys.select(object)).into_response())
}
