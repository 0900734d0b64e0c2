//! `UserService` on the wire.

use tonic::{Request, Response, Status};

use super::caller;
use crate::{
    api::Api,
    error::{Error, Reason},
    wire::pb::{self, user_service_server},
};

pub struct UserService(pub Api);

/// What is not built yet.
fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Error::new(Reason::MethodUnknown).into())
}

#[tonic::async_trait]
impl user_service_server::UserService for UserService {
    async fn get_profile(
        &self,
        request: Request<pb::GetProfileRequest>,
    ) -> Result<Response<pb::GetProfileResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.0.get_profile(&caller, request.into_inner()).await?))
    }

    async fn list_profiles(
        &self,
        request: Request<pb::ListProfilesRequest>,
    ) -> Result<Response<pb::ListProfilesResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.0.list_profiles(&caller, request.into_inner()).await?))
    }

    async fn update_profile(
        &self,
        request: Request<pb::UpdateProfileRequest>,
    ) -> Result<Response<pb::UpdateProfileResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.0.update_profile(&caller, request.into_inner()).await?))
    }

    async fn bulk_update_fields(
        &self,
        _: Request<pb::BulkUpdateFieldsRequest>,
    ) -> Result<Response<pb::BulkUpdateFieldsResponse>, Status> {
        unimplemented()
    }

    async fn update_account(
        &self,
        _: Request<pb::UpdateAccountRequest>,
    ) -> Result<Response<pb::UpdateAccountResponse>, Status> {
        unimplemented()
    }

    async fn send_email_code(
        &self,
        _: Request<pb::SendEmailCodeRequest>,
    ) -> Result<Response<pb::SendEmailCodeResponse>, Status> {
        unimplemented()
    }

    async fn send_phone_code(
        &self,
        _: Request<pb::SendPhoneCodeRequest>,
    ) -> Result<Response<pb::SendPhoneCodeResponse>, Status> {
        unimplemented()
    }

    async fn confirm_email_change(
        &self,
        _: Request<pb::ConfirmEmailChangeRequest>,
    ) -> Result<Response<pb::ConfirmEmailChangeResponse>, Status> {
        unimplemented()
    }
}
