//! `UserService` on the wire.

use tonic::{Request, Response, Status};

use super::{accepts_compressed, caller, compressible};
use crate::{
    api::Api,
    convert::pb::{self, user_service_server},
};

pub(super) struct UserService(pub Api);

#[tonic::async_trait]
impl user_service_server::UserService for UserService {
    async fn get_profile(
        &self,
        request: Request<pb::GetProfileRequest>,
    ) -> Result<Response<pb::GetProfileResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.get_profile(&caller, request.into_inner()).await?,
        ))
    }

    async fn batch_get_profiles(
        &self,
        request: Request<pb::BatchGetProfilesRequest>,
    ) -> Result<Response<pb::BatchGetProfilesResponse>, Status> {
        let (caller, is_accepted) = (caller(&request)?, accepts_compressed(&request));
        Ok(compressible(
            self.0
                .batch_get_profiles(&caller, request.into_inner())
                .await?,
            is_accepted,
        ))
    }

    async fn list_profiles(
        &self,
        request: Request<pb::ListProfilesRequest>,
    ) -> Result<Response<pb::ListProfilesResponse>, Status> {
        let (caller, is_accepted) = (caller(&request)?, accepts_compressed(&request));
        Ok(compressible(
            self.0.list_profiles(&caller, request.into_inner()).await?,
            is_accepted,
        ))
    }

    async fn update_profile(
        &self,
        request: Request<pb::UpdateProfileRequest>,
    ) -> Result<Response<pb::UpdateProfileResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.update_profile(&caller, request.into_inner()).await?,
        ))
    }

    async fn bulk_update_fields(
        &self,
        request: Request<pb::BulkUpdateFieldsRequest>,
    ) -> Result<Response<pb::BulkUpdateFieldsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0
                .bulk_update_fields(&caller, request.into_inner())
                .await?,
        ))
    }

    async fn update_account(
        &self,
        request: Request<pb::UpdateAccountRequest>,
    ) -> Result<Response<pb::UpdateAccountResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.update_account(&caller, request.into_inner()).await?,
        ))
    }

    async fn send_email_code(
        &self,
        request: Request<pb::SendEmailCodeRequest>,
    ) -> Result<Response<pb::SendEmailCodeResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0
                .send_email_code(&caller, request.into_inner())
                .await?,
        ))
    }

    async fn send_phone_code(
        &self,
        request: Request<pb::SendPhoneCodeRequest>,
    ) -> Result<Response<pb::SendPhoneCodeResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0
                .send_phone_code(&caller, request.into_inner())
                .await?,
        ))
    }

    async fn confirm_email_change(
        &self,
        request: Request<pb::ConfirmEmailChangeRequest>,
    ) -> Result<Response<pb::ConfirmEmailChangeResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0
                .confirm_email_change(&caller, request.into_inner())
                .await?,
        ))
    }

    async fn confirm_phone_change(
        &self,
        request: Request<pb::ConfirmPhoneChangeRequest>,
    ) -> Result<Response<pb::ConfirmPhoneChangeResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0
                .confirm_phone_change(&caller, request.into_inner())
                .await?,
        ))
    }
}
