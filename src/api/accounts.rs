//! UpdateAccount, LinkConnection and VerifyPassword.

use super::Api;
use crate::{
    domain::caller::Caller,
    error::{Error, Reason, Result},
    wire::pb,
};

impl Api {
    /// Changes how a user logs in.
    pub async fn update_account(&self, _: &Caller, _: pb::UpdateAccountRequest) -> Result<pb::UpdateAccountResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }

    /// Links a third-party login.
    pub async fn link_connection(
        &self,
        _: &Caller,
        _: pb::LinkConnectionRequest,
    ) -> Result<pb::LinkConnectionResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }

    /// Checks a password for a login service.
    pub async fn verify_password(
        &self,
        _: &Caller,
        _: pb::VerifyPasswordRequest,
    ) -> Result<pb::VerifyPasswordResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }
}
