//! SendEmailCode, SendPhoneCode, ConfirmEmailChange and GetDelivery.

use super::Api;
use crate::{
    domain::caller::Caller,
    error::{Error, Reason, Result},
    wire::pb,
};

impl Api {
    /// Sends a code by mail.
    pub async fn send_email_code(&self, _: &Caller, _: pb::SendEmailCodeRequest) -> Result<pb::SendEmailCodeResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }

    /// Sends a code by text message.
    pub async fn send_phone_code(&self, _: &Caller, _: pb::SendPhoneCodeRequest) -> Result<pb::SendPhoneCodeResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }

    /// Binds a new email.
    pub async fn confirm_email_change(
        &self,
        _: &Caller,
        _: pb::ConfirmEmailChangeRequest,
    ) -> Result<pb::ConfirmEmailChangeResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }

    /// Tells what became of a mail or a text message.
    pub async fn get_delivery(&self, _: &Caller, _: pb::GetDeliveryRequest) -> Result<pb::GetDeliveryResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }
}
