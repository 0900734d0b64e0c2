//! `user-service token …`.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use crate::{api::Api, convert::pb, domain::caller::Caller, model::scope::Scope};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Issues a token and shows its secret, this once.
    Issue(Issue),
    /// Shows the tokens of a service or a user, or all, and who issued them.
    List(List),
    /// Revokes a token, or with --all every token of a service or a user.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Shows the tokens of every service and user.
    #[arg(long, required_unless_present = "owner")]
    all: bool,
    #[command(flatten)]
    subject: ListedSubject,
}

#[derive(Debug, Args)]
#[group(id = "owner", multiple = false, conflicts_with = "all")]
pub(super) struct ListedSubject {
    /// The service whose tokens are meant.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The user whose tokens are meant.
    #[arg(long = "user", visible_alias = "user-id", value_name = "USER_ID")]
    user_id: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The token's id.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    token_id: Option<i64>,
    /// Revokes every token of the service or the user, also those that an identity provider signed.
    #[arg(long, requires = "subject")]
    all: bool,
    #[command(flatten)]
    subject: RevokedSubject,
}

#[derive(Debug, Args)]
#[group(id = "subject", multiple = false, requires = "all")]
pub(super) struct RevokedSubject {
    /// The service whose tokens are meant.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The user whose tokens are meant.
    #[arg(long = "user", visible_alias = "user-id", value_name = "USER_ID")]
    user_id: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    subject: Subject,
    /// What a service may do.
    #[arg(long, value_delimiter = ',', value_name = "SCOPE,…")]
    scopes: Option<Vec<String>>,
    /// Lets a service do everything.
    #[arg(long, conflicts_with = "scopes", requires = "service")]
    all_scopes: bool,
    /// How many days it is good; without it 365 for a service and 30 for a user, at most what
    /// `[tokens]` allows.
    #[arg(long, value_name = "DAYS")]
    days: Option<i64>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Subject {
    /// The service that it speaks for.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The user that it speaks for.
    #[arg(long = "user", visible_alias = "user-id", value_name = "USER_ID")]
    user_id: Option<i64>,
}

pub(super) async fn run(command: Command, api: &Api, output: &Output) -> anyhow::Result<()> {
    let caller = Caller::operator();
    match command {
        Command::Issue(issue) => {
            let request = pb::IssueTokenRequest {
                scopes: scopes(&issue)?,
                ttl: issue.days.map(|days| prost_types::Duration {
                    seconds: days.saturating_mul(86_400),
                    nanos: 0,
                }),
                subject: match (issue.subject.service, issue.subject.user_id) {
                    (Some(name), _) => Some(pb::issue_token_request::Subject::Service(name)),
                    (None, user_id) => user_id.map(pb::issue_token_request::Subject::UserId),
                },
                request_id: String::new(),
            };
            output.message_with_secrets(&api.issue_token(&caller, request).await?)?;
        }
        Command::List(list) => {
            let tokens = match (list.subject.service, list.subject.user_id) {
                (Some(name), _) => {
                    list_of(
                        api,
                        &caller,
                        pb::list_tokens_request::Subject::Service(name),
                    )
                    .await?
                }
                (None, Some(user_id)) => {
                    list_of(
                        api,
                        &caller,
                        pb::list_tokens_request::Subject::UserId(user_id),
                    )
                    .await?
                }
                (None, None) => list_all(api).await?,
            };
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
        Command::Revoke(Revoke {
            token_id: Some(token_id),
            ..
        }) => {
            api.revoke_token(&caller, pb::RevokeTokenRequest { token_id })
                .await?;
            output.line(
                &format!("token {token_id} revoked"),
                &json!({ "tokenId": token_id.to_string() }),
            )?;
        }
        Command::Revoke(Revoke {
            token_id: None,
            all: _,
            subject,
        }) => {
            let subject = match (subject.service, subject.user_id) {
                (Some(name), _) => Some(pb::revoke_tokens_request::Subject::Service(name)),
                (None, user_id) => user_id.map(pb::revoke_tokens_request::Subject::UserId),
            };
            let revoked = api
                .revoke_tokens(&caller, pb::RevokeTokensRequest { subject })
                .await?
                .revoked;
            output.line(
                &format!("{revoked} tokens are revoked"),
                &json!({ "revoked": revoked }),
            )?;
        }
    }
    Ok(())
}

/// The scopes of a new token. Those of a service are named: a token that may do everything is no
/// default.
fn scopes(issue: &Issue) -> anyhow::Result<Vec<String>> {
    match (&issue.scopes, &issue.subject.service) {
        (Some(scopes), _) => Ok(scopes.clone()),
        (None, Some(_)) if issue.all_scopes => Ok(Scope::ALL
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect()),
        (None, Some(_)) => {
            let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            bail!(
                "name the scopes of the service with --scopes, or give it all with --all-scopes: {}",
                known.join(", ")
            )
        }
        (None, None) => Ok(Vec::new()),
    }
}

async fn list_of(
    api: &Api,
    caller: &Caller,
    subject: pb::list_tokens_request::Subject,
) -> anyhow::Result<Vec<pb::Token>> {
    let mut request = pb::ListTokensRequest {
        subject: Some(subject),
        page_size: 1000,
        page_token: String::new(),
    };
    let mut tokens = Vec::new();
    loop {
        let page = api.list_tokens(caller, request.clone()).await?;
        tokens.extend(page.tokens);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(tokens);
        }
    }
}

async fn list_all(api: &Api) -> anyhow::Result<Vec<pb::Token>> {
    let mut tokens: Vec<pb::Token> = Vec::new();
    loop {
        let page = api
            .list_all_tokens(tokens.last().map(|last| last.token_id))
            .await?;
        if page.is_empty() {
            return Ok(tokens);
        }
        tokens.extend(page);
    }
}
