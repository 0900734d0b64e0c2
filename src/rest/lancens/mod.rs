//! The clients of Lancens: four PUTs with a `token` header, answered by 204 without a body or by
//! one of its words.

mod messages;

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::MethodFilter,
};
use serde_json::json;

use super::{
    Gateway,
    call::{Call, Reply, Rpc, USERS, endpoint, token_header},
    error::{self, RestError},
};
use crate::{
    convert::{pb, proto_json::JsonValue},
    error::{Error, FieldError, Reason, Result},
};

/// The language of mails where a client names none.
const LANGUAGE: &str = "en";

/// The four routes.
pub(super) fn routes() -> Router<Gateway> {
    let put = |method: &'static str, run: fn(Call) -> Reply| {
        endpoint(MethodFilter::PUT, Rpc(USERS, method), token_header, run)
    };
    Router::new()
        .route(
            "/v1/api/user",
            put("UpdateProfile", |call| Box::pin(set_realm(call))),
        )
        .route(
            "/v1/api/user/username",
            put("UpdateAccount", |call| Box::pin(set_username(call))),
        )
        .route(
            "/v1/api/user/emailcode/email",
            put("SendEmailCode", |call| Box::pin(send_code(call))),
        )
        .route(
            "/v1/api/user/emails",
            put("ConfirmEmailChange", |call| Box::pin(set_email(call))),
        )
}

/// An error in this flavor's form.
pub(super) fn render_error(rest_error: &RestError) -> Response {
    let rest_error = &rest_error.of_user();
    error::response(
        rest_error,
        rest_error.status,
        json!({ "error": messages::word(&rest_error.error) }),
    )
}

/// The nickname.
async fn set_realm(call: Call) -> Result<Response, RestError> {
    let body = Body::read(&call)?;
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            nickname: body.needed("realm")?,
            ..Default::default()
        }),
        update_mask: mask("nickname"),
        ..Default::default()
    };
    call.api().update_profile(&call.caller, request).await?;
    Ok(done())
}

/// The name to log in with.
async fn set_username(call: Call) -> Result<Response, RestError> {
    let body = Body::read(&call)?;
    let request = pb::UpdateAccountRequest {
        account: Some(pb::Account {
            username: Some(body.needed("username")?),
            ..Default::default()
        }),
        update_mask: mask("username"),
        ..Default::default()
    };
    call.api().update_account(&call.caller, request).await?;
    Ok(done())
}

/// A code to the new address.
async fn send_code(call: Call) -> Result<Response, RestError> {
    let body = Body::read(&call)?;
    let request = pb::SendEmailCodeRequest {
        purpose: pb::CodePurpose::Bind.into(),
        email: body.needed("email")?,
        app_name: body.optional("appname")?,
        language: Some(body.optional("language")?)
            .filter(|language| !language.is_empty())
            .unwrap_or_else(|| LANGUAGE.to_owned()),
        ..Default::default()
    };
    call.api().send_email_code(&call.caller, request).await?;
    Ok(done())
}

/// The new address, with its code.
async fn set_email(call: Call) -> Result<Response, RestError> {
    let body = Body::read(&call)?;
    let request = pb::ConfirmEmailChangeRequest {
        code: body.needed("code")?,
        email: body.needed("email")?,
        ..Default::default()
    };
    call.api()
        .confirm_email_change(&call.caller, request)
        .await?;
    Ok(done())
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: vec![path.to_owned()],
    })
}

fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The parameters of a body.
struct Body(serde_json::Map<String, serde_json::Value>);

impl Body {
    /// Reads the body of a user's call. A service token has no user of its own here.
    fn read(call: &Call) -> Result<Self> {
        if call.caller.user().is_none() {
            return Err(Error::new(Reason::NotOwner));
        }
        if call.body.is_empty() {
            return Ok(Self(serde_json::Map::new()));
        }
        Ok(Self(JsonValue::parse(&call.body)?.into_object("")?))
    }

    /// A parameter that must be there; an empty one has no length.
    fn needed(&self, name: &str) -> Result<String> {
        match self.0.get(name) {
            None | Some(serde_json::Value::Null) => {
                Err(Error::invalid(name, FieldError::Required, "is required"))
            }
            Some(serde_json::Value::String(text)) if text.is_empty() => Err(Error::invalid(
                name,
                FieldError::Length,
                "must not be empty",
            )),
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Error::invalid(name, FieldError::Type, "must be text")),
        }
    }

    /// A parameter that may be left out.
    fn optional(&self, name: &str) -> Result<String> {
        match self.0.get(name) {
            None | Some(serde_json::Value::Null) => Ok(String::new()),
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Error::invalid(name, FieldError::Type, "must be text")),
        }
    }
}
