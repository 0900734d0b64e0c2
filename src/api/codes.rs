//! SendEmailCode, SendPhoneCode and GetDelivery.

use prost::Message;

use super::{Api, check_id};
use crate::{
    convert::{account, pb, timestamp, user::check_request_id},
    domain::{
        authorization::{Action, authorize, is_permitted},
        caller::Caller,
        codes::{SendCode, Sent},
        idempotency::{self, IdempotencyKey},
    },
    error::{FieldError, Result, Violations},
    model::{
        account::{parse_email, parse_phone},
        app_name::parse_app_name,
        code::Purpose,
        delivery::{Channel, State},
        profile::parse_language,
    },
};

/// What both requests hold.
struct Given {
    user_id: i64,
    purpose: i32,
    address: String,
    app_name: String,
    language: String,
    request_id: String,
}

impl Api {
    /// Sends a code by mail.
    pub async fn send_email_code(
        &self,
        caller: &Caller,
        request: pb::SendEmailCodeRequest,
    ) -> Result<pb::SendEmailCodeResponse> {
        let key = self.idempotency_key(caller, "SendEmailCode", &request.request_id, &request);
        let given = Given {
            user_id: request.user_id,
            purpose: request.purpose,
            address: request.email,
            app_name: request.app_name,
            language: request.language,
            request_id: request.request_id,
        };
        let made = |sent: &Sent| pb::SendEmailCodeResponse {
            expires_at: Some(timestamp(sent.expires_at)),
            resend_after: Some(timestamp(sent.resend_after)),
            delivery_id: sent.delivery_id,
        };
        let response = self
            .send_code(caller, Channel::Email, given, key, made)
            .await?;
        self.0.codes.wait_for_delivery(response.delivery_id).await;
        Ok(response)
    }

    /// Sends a code by text message.
    pub async fn send_phone_code(
        &self,
        caller: &Caller,
        request: pb::SendPhoneCodeRequest,
    ) -> Result<pb::SendPhoneCodeResponse> {
        let key = self.idempotency_key(caller, "SendPhoneCode", &request.request_id, &request);
        let given = Given {
            user_id: request.user_id,
            purpose: request.purpose,
            address: request.phone,
            app_name: request.app_name,
            language: request.language,
            request_id: request.request_id,
        };
        let made = |sent: &Sent| pb::SendPhoneCodeResponse {
            expires_at: Some(timestamp(sent.expires_at)),
            resend_after: Some(timestamp(sent.resend_after)),
            delivery_id: sent.delivery_id,
        };
        let response = self
            .send_code(caller, Channel::Phone, given, key, made)
            .await?;
        self.0.codes.wait_for_delivery(response.delivery_id).await;
        Ok(response)
    }

    async fn send_code<R: Message + Default>(
        &self,
        caller: &Caller,
        channel: Channel,
        given: Given,
        key: Option<IdempotencyKey>,
        made: fn(&Sent) -> R,
    ) -> Result<R> {
        authorize(caller, method(channel), Some(given.user_id), &[])?;
        let send = async {
            self.0
                .codes
                .send(&read(caller, channel, given)?, key.as_ref(), made)
                .await
        };
        idempotency::respond(key.as_ref(), send).await
    }

    /// Tells what became of a mail or a text message.
    ///
    /// # Errors
    /// DELIVERY_NOT_FOUND, for one that another caller asked for too.
    pub async fn get_delivery(
        &self,
        caller: &Caller,
        request: pb::GetDeliveryRequest,
    ) -> Result<pb::GetDeliveryResponse> {
        check_id("delivery_id", request.delivery_id)?;
        let found = self
            .0
            .deliveries
            .find_for(caller, request.delivery_id)
            .await?;
        let state = match found.state {
            State::Queued => pb::DeliveryState::Queued,
            State::Accepted => pb::DeliveryState::Accepted,
            State::Failed => pb::DeliveryState::Failed,
            State::Expired => pb::DeliveryState::Expired,
        };
        let updated_at = Some(timestamp(found.updated_at));
        Ok(pb::GetDeliveryResponse {
            state: state.into(),
            attempts: found.attempts,
            updated_at,
        })
    }
}

/// The RPC that sends codes on this channel.
fn method(channel: Channel) -> &'static str {
    match channel {
        Channel::Email => "SendEmailCode",
        Channel::Phone => "SendPhoneCode",
    }
}

fn read(caller: &Caller, channel: Channel, given: Given) -> Result<SendCode> {
    let path = channel.as_str();
    let parse = match channel {
        Channel::Email => parse_email,
        Channel::Phone => parse_phone,
    };
    let mut violations = Violations::new();
    check_request_id(&given.request_id, &mut violations);
    let user_id = violations.check("user_id", caller.target(given.user_id));
    let purpose = account::purpose(given.purpose, &mut violations);
    let address = match (purpose, given.address.is_empty()) {
        (Purpose::Bind, true) => {
            violations.add(
                path,
                FieldError::Required,
                "is required: it is the address to bind",
            );
            None
        }
        (Purpose::Bind, false) => violations.check(path, parse(given.address)),
        (_, true) => None,
        (_, false) => {
            violations.add(
                path,
                FieldError::Format,
                "must be empty: the code is sent to the bound address",
            );
            None
        }
    };
    let app_name = violations.check("app_name", parse_app_name(given.app_name));
    let language = if given.language.is_empty() {
        None
    } else {
        violations.check("language", parse_language(given.language))
    };
    violations.into_result()?;
    Ok(SendCode {
        user_id: user_id.expect("valid: a bad id is a violation"),
        channel,
        purpose,
        address,
        app_name: app_name.unwrap_or_default(),
        language,
        may_know_owner: is_permitted(caller, method(channel), Action::LearnOwner),
        caller: caller.to_string(),
    })
}
