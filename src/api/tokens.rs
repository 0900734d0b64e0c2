//! IssueToken, ListTokens, RevokeToken and RevokeTokens.

use super::{Api, check_id};
use crate::{
    convert::{pb, token, user::check_request_id},
    domain::{
        authorization::{Action, authorize},
        caller::Caller,
        idempotency::{self, IdempotencyKey},
        tokens::Issue,
    },
    error::{Error, Result, Violations},
    model::{
        page,
        scope::Scope,
        token::{Revoked, Subject},
    },
};

impl Api {
    /// Issues a token, with no scope that its issuer lacks.
    pub async fn issue_token(
        &self,
        caller: &Caller,
        request: pb::IssueTokenRequest,
    ) -> Result<pb::IssueTokenResponse> {
        use pb::issue_token_request::Subject as Given;
        // The response contains the secret, so it can't be stored.
        let key = self.idempotency_key(caller, "IssueToken", &request.request_id, &request);
        let key = key.map(IdempotencyKey::that_runs_again);
        let given = request.subject.map(|given| match given {
            Given::Service(name) => Subject::Service(name),
            Given::UserId(user_id) => Subject::User(user_id),
        });
        may_handle(caller, "IssueToken", given.as_ref())?;
        let lacking = request
            .scopes
            .iter()
            .filter_map(|name| Scope::parse(name))
            .find(|scope| !caller.has(*scope));
        if let Some(scope) = lacking {
            return Err(Error::scope_missing(scope.as_str()));
        }
        let issue = async {
            let mut violations = Violations::new();
            check_request_id(&request.request_id, &mut violations);
            let subject = token::new_subject(given, &mut violations);
            let scopes = token::scopes(&request.scopes, &mut violations);
            let lifetimes = self.0.tokens.lifetimes();
            let max = subject
                .as_ref()
                .map_or(lifetimes.service, |subject| lifetimes.of(subject));
            let ttl = token::ttl(request.ttl, subject.as_ref(), max, &mut violations);
            violations.into_result()?;
            let subject = subject.expect("valid: a missing subject is a violation");
            let issue = Issue {
                subject: &subject,
                scopes: &scopes,
                ttl,
            };
            let issued = self
                .0
                .tokens
                .issue_for(caller, &issue, key.as_ref())
                .await?;
            self.apply_revocations(issued.revoked);
            Ok(pb::IssueTokenResponse {
                token: Some(token::message(&issued.token)),
                secret: issued.secret,
            })
        };
        idempotency::respond(key.as_ref(), issue).await
    }

    /// Lists the tokens of a service or a user.
    pub async fn list_tokens(
        &self,
        caller: &Caller,
        request: pb::ListTokensRequest,
    ) -> Result<pb::ListTokensResponse> {
        use pb::list_tokens_request::Subject as Given;
        let given = request.subject.map(|given| match given {
            Given::Service(name) => Subject::Service(name),
            Given::UserId(user_id) => Subject::User(user_id),
        });
        may_handle(caller, "ListTokens", given.as_ref())?;
        let mut violations = Violations::new();
        let subject = token::known_subject(given, &mut violations);
        let limit = self.0.pages.size(request.page_size, &mut violations);
        violations.into_result()?;
        let subject = subject.expect("valid: a missing subject is a violation");
        let (found, next_page_token) = self
            .0
            .tokens
            .list_page(&subject, &request.page_token, limit)
            .await?;
        Ok(pb::ListTokensResponse {
            tokens: found.iter().map(token::message).collect(),
            next_page_token,
        })
    }

    /// Lists the tokens of every service and user, newest first, for an operator: those older than
    /// `before`, where it is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_all_tokens(&self, before: Option<i64>) -> Result<Vec<pb::Token>> {
        let found = self.0.tokens.list(None, before, page::MAX_SIZE).await?;
        Ok(found.iter().map(token::message).collect())
    }

    /// Revokes a token.
    pub async fn revoke_token(
        &self,
        caller: &Caller,
        request: pb::RevokeTokenRequest,
    ) -> Result<pb::RevokeTokenResponse> {
        check_id("token_id", request.token_id)?;
        let revoked = self.0.tokens.revoke(caller, request.token_id).await?;
        self.apply_revocations(revoked);
        Ok(pb::RevokeTokenResponse {})
    }

    /// Revokes every token of a service or a user.
    pub async fn revoke_tokens(
        &self,
        caller: &Caller,
        request: pb::RevokeTokensRequest,
    ) -> Result<pb::RevokeTokensResponse> {
        use pb::revoke_tokens_request::Subject as Given;
        let given = request.subject.map(|given| match given {
            Given::Service(name) => Subject::Service(name),
            Given::UserId(user_id) => Subject::User(user_id),
        });
        may_handle(caller, "RevokeTokens", given.as_ref())?;
        let mut violations = Violations::new();
        let subject = token::known_subject(given, &mut violations);
        violations.into_result()?;
        let subject = subject.expect("valid: a missing subject is a violation");
        let (count, revoked) = self.0.tokens.revoke_all(&subject).await?;
        self.apply_revocations(revoked);
        Ok(pb::RevokeTokensResponse {
            revoked: i32::try_from(count).unwrap_or(i32::MAX),
        })
    }

    /// Lets this replica know what was revoked before the response; the others are notified.
    fn apply_revocations(&self, revoked: Vec<Revoked>) {
        for revoked in revoked {
            self.0.authenticator.apply_revocation(revoked);
        }
    }
}

/// Checks whether a caller may handle tokens of this subject.
fn may_handle(caller: &Caller, method: &str, given: Option<&Subject>) -> Result<()> {
    authorize(
        caller,
        method,
        None,
        given.map(Action::on_tokens_of).as_slice(),
    )
}
