//! `user-service token …`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use crate::{api::Api, domain::caller::Caller, model::scope::Scope, wire::pb};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issues a token and shows its secret, this once.
    Issue(Issue),
    /// Shows the tokens of a service or a user.
    List(Subject),
    /// Revokes a token, or with --all every token of a service or a user.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// The token's id.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    token_id: Option<i64>,
    /// Revokes every token of the service or the user, also those that an identity provider signed.
    #[arg(long, requires = "subject")]
    all: bool,
    #[command(flatten)]
    subject: OptionalSubject,
}

#[derive(Debug, Args)]
#[group(id = "subject", multiple = false, requires = "all")]
pub struct OptionalSubject {
    /// The service whose tokens are meant.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The user whose tokens are meant.
    #[arg(long = "user", visible_alias = "user-id", value_name = "USER_ID")]
    user_id: Option<i64>,
}

#[derive(Debug, Args)]
pub struct Issue {
    #[command(flatten)]
    subject: Subject,
    /// What a service may do; without it, everything.
    #[arg(long, value_delimiter = ',', value_name = "SCOPE,…")]
    scopes: Option<Vec<String>>,
    /// How many days it is good; without it 365 for a service and 30 for a user.
    #[arg(long, value_name = "DAYS")]
    days: Option<i64>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Subject {
    /// The service that it speaks for.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The user that it speaks for.
    #[arg(long = "user", visible_alias = "user-id", value_name = "USER_ID")]
    user_id: Option<i64>,
}

pub async fn run(command: Command, api: &Api, output: &Output) -> anyhow::Result<()> {
    let caller = Caller::operator();
    match command {
        Command::Issue(issue) => {
            let all = || match issue.subject.user_id {
                None => Scope::ALL.iter().map(|scope| scope.as_str().to_owned()).collect(),
                Some(_) => Vec::new(),
            };
            let request = pb::IssueTokenRequest {
                scopes: issue.scopes.clone().unwrap_or_else(all),
                ttl: issue.days.map(|days| prost_types::Duration { seconds: days.saturating_mul(86_400), nanos: 0 }),
                subject: match (issue.subject.service, issue.subject.user_id) {
                    (Some(name), _) => Some(pb::issue_token_request::Subject::Service(name)),
                    (None, user_id) => user_id.map(pb::issue_token_request::Subject::UserId),
                },
                request_id: String::new(),
            };
            output.message_with_secrets(&api.issue_token(&caller, request).await?)?;
        }
        Command::List(subject) => {
            let subject = match (subject.service, subject.user_id) {
                (Some(name), _) => Some(pb::list_tokens_request::Subject::Service(name)),
                (None, user_id) => user_id.map(pb::list_tokens_request::Subject::UserId),
            };
            let mut request = pb::ListTokensRequest { subject, page_size: 1000, page_token: String::new() };
            let mut tokens = Vec::new();
            loop {
                let page = api.list_tokens(&caller, request.clone()).await?;
                tokens.extend(page.tokens);
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            if output.is_json() {
                let tokens: Vec<_> = tokens.iter().map(Output::value).collect();
                output.line("", &json!({ "tokens": tokens }))?;
            } else if tokens.is_empty() {
                output.text("no tokens\n")?;
            } else {
                for token in &tokens {
                    output.message(token)?;
                    output.text("\n")?;
                }
            }
        }
        Command::Revoke(Revoke { token_id: Some(token_id), .. }) => {
            api.revoke_token(&caller, pb::RevokeTokenRequest { token_id }).await?;
            output.line(&format!("token {token_id} is revoked"), &json!({ "tokenId": token_id.to_string() }))?;
        }
        Command::Revoke(Revoke { token_id: None, all: _, subject }) => {
            let subject = match (subject.service, subject.user_id) {
                (Some(name), _) => Some(pb::revoke_tokens_request::Subject::Service(name)),
                (None, user_id) => user_id.map(pb::revoke_tokens_request::Subject::UserId),
            };
            let revoked = api.revoke_tokens(&caller, pb::RevokeTokensRequest { subject }).await?.revoked;
            output.line(&format!("{revoked} tokens are revoked"), &json!({ "revoked": revoked }))?;
        }
    }
    Ok(())
}
