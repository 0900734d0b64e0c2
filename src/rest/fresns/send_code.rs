//! `POST /api/fresns/info/sendVerifyCode`.

use axum::response::Response;

use super::{body::Body, check_user, done};
use crate::{
    convert::pb::{self, CodeChannel, CodePurpose},
    error::{Error, FieldError, Result},
    model::profile::parse_language,
    rest::{call::Call, error::RestError},
};

/// Sends a code to the address that is to be bound, or to the one that is.
pub(super) async fn send_code(call: Call) -> Result<Response, RestError> {
    check_user(&call)?;
    let body = Body::read(&call.body)?;
    let missing =
        |name: &'static str| move || Error::invalid(name, FieldError::Required, "is required");
    let channel = body.channel("type")?.ok_or_else(missing("type"))?;
    let purpose = purpose(body.number("useType")?, body.number("templateId")?)?;
    let language = match body.text("langTag")? {
        Some(tag) => tag,
        None => header_language(&call),
    };
    let (api, caller) = (call.api(), &call.caller);
    let is_new = purpose == CodePurpose::Bind;
    match channel {
        CodeChannel::Phone => {
            let phone = if is_new {
                given("phone", body.phone("countryCode", "account"))?
                    .ok_or_else(missing("account"))?
            } else {
                String::new()
            };
            let request = pb::SendPhoneCodeRequest {
                purpose: purpose.into(),
                phone,
                language,
                ..Default::default()
            };
            api.send_phone_code(caller, request).await?;
        }
        _ => {
            let email = if is_new {
                given("email", body.text("account"))?.ok_or_else(missing("account"))?
            } else {
                String::new()
            };
            let request = pb::SendEmailCodeRequest {
                purpose: purpose.into(),
                email,
                language,
                ..Default::default()
            };
            api.send_email_code(caller, request).await?;
        }
    }
    Ok(done())
}

/// What `account` holds, whose violations are those of a phone or an email.
fn given(channel: &'static str, account: Result<Option<String>>) -> Result<Option<String>> {
    account.map_err(|error| match error.violations() {
        [violation] if violation.field == "account" => {
            Error::invalid(channel, violation.error, violation.description.clone())
        }
        _ => error,
    })
}

/// The header's language, where it is a tag at all: a message's language is no reason to send none.
fn header_language(call: &Call) -> String {
    let tag = call
        .headers
        .get("langTag")
        .and_then(|tag| tag.to_str().ok())
        .unwrap_or_default();
    parse_language(tag.to_owned()).unwrap_or_default()
}

fn purpose(use_type: Option<i64>, template: Option<i64>) -> Result<CodePurpose> {
    match (use_type, template) {
        (Some(1 | 3 | 5), _) => Ok(CodePurpose::Bind),
        (Some(4), Some(4)) => Ok(CodePurpose::Replace),
        (Some(4), Some(5)) => Ok(CodePurpose::Password),
        (Some(4), Some(6)) => Ok(CodePurpose::WalletPassword),
        (Some(4), _) => Ok(CodePurpose::Unlink),
        _ => Err(Error::invalid(
            "useType",
            FieldError::Range,
            "unsupported value",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_and_template_name_the_purpose() {
        assert_eq!(purpose(Some(3), None).unwrap(), CodePurpose::Bind);
        assert_eq!(purpose(Some(4), Some(4)).unwrap(), CodePurpose::Replace);
        assert_eq!(
            purpose(Some(4), Some(6)).unwrap(),
            CodePurpose::WalletPassword
        );
        assert_eq!(purpose(Some(4), Some(2)).unwrap(), CodePurpose::Unlink);
        assert_eq!(purpose(Some(4), None).unwrap(), CodePurpose::Unlink);
        assert!(purpose(Some(2), Some(4)).is_err() && purpose(None, Some(4)).is_err());
    }
}
