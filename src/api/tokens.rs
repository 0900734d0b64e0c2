//! IssueToken, ListTokens and RevokeToken.

use super::Api;
use crate::{
    domain::{caller::Caller, tokens::Tokens},
    error::{Error, Fault, Reason, Result, Violations},
    model::{page, scope::Scope, token::Subject},
    wire::{pb, token},
};

impl Api {
    /// Issues a token, with no scope that its issuer lacks.
    pub async fn issue_token(&self, caller: &Caller, request: pb::IssueTokenRequest) -> Result<pb::IssueTokenResponse> {
        use pb::issue_token_request::Subject as Given;
        let given = request.subject.map(|given| match given {
            Given::Service(name) => Subject::Service(name),
            Given::UserId(user_id) => Subject::User(user_id),
        });
        may_handle(caller, given.as_ref())?;
        let lacking = request.scopes.iter().filter_map(|name| Scope::parse(name)).find(|scope| !caller.has(*scope));
        if let Some(scope) = lacking {
            return Err(Error::scope_missing(scope.as_str()));
        }
        let mut faults = Violations::new();
        let subject = token::subject(given, &mut faults);
        let scopes = token::scopes(&request.scopes, &mut faults);
        let ttl = token::ttl(request.ttl, subject.as_ref(), &mut faults);
        faults.into_result()?;
        let subject = subject.expect("valid: a missing subject is a fault");
        let (issued, secret) = self.0.tokens.issue(&subject, &scopes, ttl).await?;
        Ok(pb::IssueTokenResponse { token: Some(token::message(&issued)), secret })
    }

    /// Lists the tokens of a service or a user.
    pub async fn list_tokens(&self, caller: &Caller, request: pb::ListTokensRequest) -> Result<pb::ListTokensResponse> {
        use pb::list_tokens_request::Subject as Given;
        let given = request.subject.map(|given| match given {
            Given::Service(name) => Subject::Service(name),
            Given::UserId(user_id) => Subject::User(user_id),
        });
        may_handle(caller, given.as_ref())?;
        let mut faults = Violations::new();
        let subject = token::subject(given, &mut faults);
        let limit = page::size(request.page_size, &mut faults);
        faults.into_result()?;
        let subject = subject.expect("valid: a missing subject is a fault");
        let query = format!("tokens of {subject:?}");
        let now = self.0.clock.now();
        let before = match request.page_token.as_str() {
            "" => None,
            given => page::read(&self.0.keys, &query, given, now)?.first().and_then(serde_json::Value::as_i64),
        };
        let mut found = self.0.tokens.list(&subject, before, limit + 1).await?;
        let has_more = found.len() as i64 > limit;
        found.truncate(limit as usize);
        let next_page_token = match found.last() {
            Some(last) if has_more => page::write(&self.0.keys, &query, vec![last.token_id.into()], now),
            _ => String::new(),
        };
        Ok(pb::ListTokensResponse { tokens: found.iter().map(token::message).collect(), next_page_token })
    }

    /// Revokes a token.
    pub async fn revoke_token(
        &self,
        caller: &Caller,
        request: pb::RevokeTokenRequest,
    ) -> Result<pb::RevokeTokenResponse> {
        if request.token_id <= 0 {
            return Err(Error::invalid("token_id", Fault::Range, "must be positive"));
        }
        let revoked = self.0.tokens.revoke(caller, request.token_id).await?;
        self.0.authenticator.hear(revoked);
        Ok(pb::RevokeTokenResponse {})
    }

    /// Revokes every token of a service or a user.
    pub async fn revoke_tokens(&self, _: &Caller, _: pb::RevokeTokensRequest) -> Result<pb::RevokeTokensResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }
}

/// The scope that goes with the kind of token.
fn may_handle(caller: &Caller, given: Option<&Subject>) -> Result<()> {
    given.map_or(Ok(()), |given| caller.require(Tokens::scope(given)))
}
