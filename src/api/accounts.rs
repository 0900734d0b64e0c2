//! UpdateAccount, ConfirmEmailChange, ConfirmPhoneChange, LinkConnection and VerifyPassword.

use prost::Message;

use super::Api;
use crate::{
    convert::{
        account::{self, Confirmation},
        pb,
        profile::{account_message, connection},
        user::check_request_id,
    },
    domain::{
        accounts::UpdateAccount,
        authorization::authorize,
        caller::Caller,
        idempotency::{self, IdempotencyKey},
    },
    error::{Result, Violations},
    model::{
        account::{AccountView, Connection},
        account_change::UPDATE_ACCOUNT,
        profile::{AccountMask, parse_etag},
        token::Revoked,
    },
};

impl Api {
    /// Changes how a user logs in.
    pub async fn update_account(
        &self,
        caller: &Caller,
        request: pb::UpdateAccountRequest,
    ) -> Result<pb::UpdateAccountResponse> {
        self.update_account_and_unlink(caller, request, &[]).await
    }

    /// The same, and unlinks these connections too: a request names one, and a proof stands for all
    /// of a call.
    pub async fn update_account_and_unlink(
        &self,
        caller: &Caller,
        request: pb::UpdateAccountRequest,
        more_links: &[i64],
    ) -> Result<pb::UpdateAccountResponse> {
        authorize(caller, "UpdateAccount", Some(request.user_id), &[])?;
        let key = if request.validate_only {
            None
        } else {
            self.idempotency_key(caller, "UpdateAccount", &request.request_id, &request)
        };
        let update = async {
            let mut violations = Violations::new();
            check_request_id(&request.request_id, &mut violations);
            let user_id = violations.check("user_id", caller.target(request.user_id));
            let version = (!request.etag.is_empty()).then(|| parse_etag(&request.etag));
            let validate_only = request.validate_only;
            let (now, lengths) = (self.0.clock.now(), self.0.password_lengths);
            let (mut patch, proof) =
                account::update(request, &self.0.usernames, now, lengths, &mut violations);
            patch.unlink.extend(more_links);
            violations.into_result()?;
            let update = UpdateAccount {
                caller: caller.clone(),
                user_id: user_id.expect("valid: a bad id is a violation"),
                patch,
                proof,
                paths: UPDATE_ACCOUNT,
                needs_codes: false,
                version,
                validate_only,
            };
            let response = self
                .0
                .accounts
                .update(&update, key.as_ref(), updated)
                .await?;
            let ends_tokens = update.patch.password.is_some() || !update.patch.unlink.is_empty();
            if ends_tokens && !update.validate_only {
                self.0
                    .authenticator
                    .apply_revocation(Revoked::User(update.user_id));
            }
            Ok(response)
        };
        idempotency::respond(key.as_ref(), update).await
    }

    /// Changes the email address of an account to one that is verified by a code.
    ///
    /// # Errors
    /// Those of ConfirmEmailChange.
    pub async fn confirm_email_change(
        &self,
        caller: &Caller,
        request: pb::ConfirmEmailChangeRequest,
    ) -> Result<pb::ConfirmEmailChangeResponse> {
        let key = self.idempotency_key(caller, "ConfirmEmailChange", &request.request_id, &request);
        let response = |account| pb::ConfirmEmailChangeResponse { account };
        self.confirm_change(
            caller,
            request.into(),
            ("ConfirmEmailChange", key),
            response,
        )
        .await
    }

    /// Changes the phone number of an account to one that is verified by a code.
    ///
    /// # Errors
    /// Those of ConfirmPhoneChange.
    pub async fn confirm_phone_change(
        &self,
        caller: &Caller,
        request: pb::ConfirmPhoneChangeRequest,
    ) -> Result<pb::ConfirmPhoneChangeResponse> {
        let key = self.idempotency_key(caller, "ConfirmPhoneChange", &request.request_id, &request);
        let response = |account| pb::ConfirmPhoneChangeResponse { account };
        self.confirm_change(
            caller,
            request.into(),
            ("ConfirmPhoneChange", key),
            response,
        )
        .await
    }

    async fn confirm_change<R: Message + Default>(
        &self,
        caller: &Caller,
        confirmation: Confirmation,
        (method, key): (&'static str, Option<IdempotencyKey>),
        response: fn(Option<pb::Account>) -> R,
    ) -> Result<R> {
        authorize(caller, method, Some(confirmation.user_id), &[])?;
        let confirm = async {
            let mut violations = Violations::new();
            check_request_id(&confirmation.request_id, &mut violations);
            let user_id = violations.check("user_id", caller.target(confirmation.user_id));
            let (patch, proof, paths) = account::confirm(confirmation, &mut violations);
            violations.into_result()?;
            let update = UpdateAccount {
                caller: caller.clone(),
                user_id: user_id.expect("valid: a bad id is a violation"),
                patch,
                proof,
                paths,
                needs_codes: true,
                version: None,
                validate_only: false,
            };
            let respond = |view: &AccountView| response(account_message(view, &AccountMask::All));
            self.0.accounts.update(&update, key.as_ref(), respond).await
        };
        idempotency::respond(key.as_ref(), confirm).await
    }

    /// Links a third-party login.
    ///
    /// # Errors
    /// USER_NOT_FOUND, CONNECTION_TAKEN, and those of a `request_id`.
    pub async fn link_connection(
        &self,
        caller: &Caller,
        request: pb::LinkConnectionRequest,
    ) -> Result<pb::LinkConnectionResponse> {
        let key = self.idempotency_key(caller, "LinkConnection", &request.request_id, &request);
        let link = async {
            self.0
                .accounts
                .link(&account::link(request)?, key.as_ref(), linked)
                .await
        };
        idempotency::respond(key.as_ref(), link).await
    }

    /// Checks a password for a login service.
    pub async fn verify_password(
        &self,
        caller: &Caller,
        request: pb::VerifyPasswordRequest,
    ) -> Result<pb::VerifyPasswordResponse> {
        let user_id = self
            .0
            .accounts
            .verify_password(caller, &account::verify(request)?)
            .await?;
        Ok(pb::VerifyPasswordResponse { user_id })
    }
}

fn linked(made: &Connection) -> pb::LinkConnectionResponse {
    pb::LinkConnectionResponse {
        connection: Some(connection(made)),
    }
}

fn updated(view: &AccountView) -> pb::UpdateAccountResponse {
    pb::UpdateAccountResponse {
        account: account_message(view, &AccountMask::All),
    }
}
