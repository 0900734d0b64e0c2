//! `UserAdminService` on the wire.

use std::{sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::caller;
use crate::{
    api::{Api, Batch},
    call_guard::StreamPermits,
    convert::pb::{self, user_admin_service_server},
    domain::caller::Caller,
    error::{Error, FieldError, Reason},
    telemetry::call,
};

/// How long an import waits for the next message.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A batch is written when its sender pauses this long, so that a slow one sees its answers.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct UserAdminService(pub Api);

#[tonic::async_trait]
impl user_admin_service_server::UserAdminService for UserAdminService {
    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::CreateUserResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.create_user(&caller, request.into_inner()).await?,
        ))
    }

    type ImportUsersStream = ReceiverStream<Result<pb::ImportUsersResponse, Status>>;

    async fn import_users(
        &self,
        request: Request<Streaming<pb::ImportUsersRequest>>,
    ) -> Result<Response<Self::ImportUsersStream>, Status> {
        let caller = caller(&request)?;
        let (answers, stream) = mpsc::channel(4);
        let api = self.0.clone();
        let permits = request.extensions().get::<StreamPermits>().cloned();
        tokio::spawn(call::detached(async move {
            // The import goes on after its response has begun, and is in flight until then.
            let _permits = permits;
            if let Err(status) = import(api, caller, request.into_inner(), &answers).await {
                // The receiver is dropped when the client disconnects; there is no one left to
                // respond to.
                tell(&answers, Err(status)).await.unwrap_or_default();
            }
        }));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.delete_user(&caller, request.into_inner()).await?,
        ))
    }

    async fn link_connection(
        &self,
        request: Request<pb::LinkConnectionRequest>,
    ) -> Result<Response<pb::LinkConnectionResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0
                .link_connection(&caller, request.into_inner())
                .await?,
        ))
    }

    async fn verify_password(
        &self,
        request: Request<pb::VerifyPasswordRequest>,
    ) -> Result<Response<pb::VerifyPasswordResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0
                .verify_password(&caller, request.into_inner())
                .await?,
        ))
    }

    async fn create_field(
        &self,
        request: Request<pb::CreateFieldRequest>,
    ) -> Result<Response<pb::CreateFieldResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.create_field(&caller, request.into_inner()).await?,
        ))
    }

    async fn list_fields(
        &self,
        request: Request<pb::ListFieldsRequest>,
    ) -> Result<Response<pb::ListFieldsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.list_fields(&caller, request.into_inner()).await?,
        ))
    }

    async fn update_field(
        &self,
        request: Request<pb::UpdateFieldRequest>,
    ) -> Result<Response<pb::UpdateFieldResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.update_field(&caller, request.into_inner()).await?,
        ))
    }

    async fn delete_field(
        &self,
        request: Request<pb::DeleteFieldRequest>,
    ) -> Result<Response<pb::DeleteFieldResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.delete_field(&caller, request.into_inner()).await?,
        ))
    }

    async fn get_delivery(
        &self,
        request: Request<pb::GetDeliveryRequest>,
    ) -> Result<Response<pb::GetDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.get_delivery(&caller, request.into_inner()).await?,
        ))
    }

    async fn issue_token(
        &self,
        request: Request<pb::IssueTokenRequest>,
    ) -> Result<Response<pb::IssueTokenResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.issue_token(&caller, request.into_inner()).await?,
        ))
    }

    async fn list_tokens(
        &self,
        request: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::ListTokensResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.list_tokens(&caller, request.into_inner()).await?,
        ))
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.revoke_token(&caller, request.into_inner()).await?,
        ))
    }

    async fn revoke_tokens(
        &self,
        request: Request<pb::RevokeTokensRequest>,
    ) -> Result<Response<pb::RevokeTokensResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.0.revoke_tokens(&caller, request.into_inner()).await?,
        ))
    }
}

/// Reads the stream batch by batch and answers once for each that is committed.
async fn import(
    api: Api,
    caller: Arc<Caller>,
    mut users: Streaming<pb::ImportUsersRequest>,
    answers: &mpsc::Sender<Result<pb::ImportUsersResponse, Status>>,
) -> Result<(), Status> {
    let mut index = 0;
    let mut batch = Batch::default();
    loop {
        let wait = if batch.is_empty() {
            IDLE_TIMEOUT
        } else {
            PAUSE
        };
        let is_over = match tokio::time::timeout(wait, users.message()).await {
            Ok(message) => match message? {
                Some(message) => {
                    let missing = || Error::invalid("user", FieldError::Required, "is required");
                    let bytes = message.encoded_len();
                    batch.push(message.user.ok_or_else(missing), bytes);
                    false
                }
                None => true,
            },
            Err(_) if batch.is_empty() => return Err(Error::new(Reason::DeadlineExceeded).into()),
            Err(_) => {
                answer(&api, &caller, &mut index, &mut batch, answers).await?;
                continue;
            }
        };
        if (is_over && !batch.is_empty()) || batch.is_full() {
            answer(&api, &caller, &mut index, &mut batch, answers).await?;
        }
        if is_over {
            return Ok(());
        }
    }
}

async fn answer(
    api: &Api,
    caller: &Caller,
    index: &mut i64,
    batch: &mut Batch,
    answers: &mpsc::Sender<Result<pb::ImportUsersResponse, Status>>,
) -> Result<(), Status> {
    let told = api
        .import_batch(caller, *index, std::mem::take(batch))
        .await?;
    *index = told.next_index;
    tell(answers, Ok(told)).await
}

/// Passes a response on. The stream ends if its client reads nothing for as long as it may send
/// nothing.
async fn tell(
    answers: &mpsc::Sender<Result<pb::ImportUsersResponse, Status>>,
    answer: Result<pb::ImportUsersResponse, Status>,
) -> Result<(), Status> {
    match tokio::time::timeout(IDLE_TIMEOUT, answers.send(answer)).await {
        Ok(sent) => sent.map_err(|_| Error::new(Reason::ShuttingDown).into()),
        Err(_) => Err(Error::new(Reason::DeadlineExceeded).into()),
    }
}
