//! `user-service user …`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{import, output::Output};
use crate::{
    api::Api,
    convert::{json, pb},
    domain::caller::Caller,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a user.
    Create(Create),
    /// Shows a user, with the account.
    Get(Key),
    /// Deletes a user and erases all of its data; the id is never assigned again.
    Delete(Delete),
    /// Creates users from a file with one JSON CreateUserRequest per line. Safe to rerun after an
    /// interruption.
    Import {
        /// The file; `-` reads stdin.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Explicit user ID. Default: the next free one.
    #[arg(long = "id")]
    user_id: Option<i64>,
    #[arg(long)]
    nickname: Option<String>,
    #[arg(long)]
    username: Option<String>,
    #[arg(long)]
    email: Option<String>,
    /// In E.164, for example +8613800138000.
    #[arg(long)]
    phone: Option<String>,
    /// For example zh-CN.
    #[arg(long)]
    language: Option<String>,
    /// Custom fields as a JSON object.
    #[arg(long, value_name = "JSON")]
    custom_fields: Option<String>,
    /// Checks without writing.
    #[arg(long, visible_alias = "dry-run")]
    validate_only: bool,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The user's id.
    user_id: i64,
    /// Deletes only if the profile still has this etag.
    #[arg(long, default_value = "")]
    etag: String,
    /// Succeeds if the user does not exist.
    #[arg(long)]
    allow_missing: bool,
    /// Checks without deleting.
    #[arg(long, visible_alias = "dry-run")]
    validate_only: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Key {
    /// The user's id.
    user_id: Option<i64>,
    #[arg(long)]
    username: Option<String>,
    #[arg(long)]
    email: Option<String>,
    #[arg(long)]
    phone: Option<String>,
    #[arg(long)]
    openid: Option<String>,
    #[arg(long)]
    unionid: Option<String>,
}

impl Key {
    fn into_request(self) -> pb::GetProfileRequest {
        use pb::get_profile_request::Key as Given;
        let key = (self.user_id.map(Given::UserId))
            .or(self.username.map(Given::Username))
            .or(self.email.map(Given::Email))
            .or(self.phone.map(Given::Phone))
            .or(self.openid.map(Given::Openid))
            .or(self.unionid.map(Given::Unionid));
        let paths = crate::model::profile::BUILTIN
            .iter()
            .chain(&["custom_fields", "account"]);
        let read_mask = prost_types::FieldMask {
            paths: paths.map(|&path| path.to_owned()).collect(),
        };
        pb::GetProfileRequest {
            key,
            read_mask: Some(read_mask),
        }
    }
}

pub(super) async fn run(command: Command, api: &Api, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = Caller::operator();
    match command {
        Command::Create(create) => {
            let made = api.create_user(&caller, create_request(create)?).await?;
            output.message(&made.profile.unwrap_or_default())?;
        }
        Command::Get(key) => {
            let found = api.get_profile(&caller, key.into_request()).await?;
            output.message(&found.profile.unwrap_or_default())?;
        }
        Command::Delete(Delete {
            user_id,
            etag,
            allow_missing,
            validate_only,
        }) => {
            let request = pb::DeleteUserRequest {
                user_id,
                etag,
                allow_missing,
                validate_only,
                ..Default::default()
            };
            api.delete_user(&caller, request).await?;
            let sentence = if validate_only {
                format!("user {user_id} can be deleted")
            } else if allow_missing {
                format!("user {user_id} does not exist any more")
            } else {
                format!("user {user_id} is deleted")
            };
            let json =
                serde_json::json!({ "userId": user_id.to_string(), "validateOnly": validate_only });
            output.line(&sentence, &json)?;
        }
        Command::Import { file } => return import::run(&file, api, output).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn create_request(create: Create) -> anyhow::Result<pb::CreateUserRequest> {
    let custom = create
        .custom_fields
        .as_deref()
        .map(serde_json::from_str::<serde_json::Map<_, _>>)
        .transpose();
    let profile = pb::Profile {
        user_id: create.user_id.unwrap_or_default(),
        nickname: create.nickname.unwrap_or_default(),
        language: create.language.unwrap_or_default(),
        custom_fields: custom
            .context("--custom-fields is not a JSON object")?
            .map(|given| json::to_struct(given.iter())),
        ..Default::default()
    };
    let account = pb::Account {
        username: create.username,
        email: create.email,
        phone: create.phone,
        ..Default::default()
    };
    Ok(pb::CreateUserRequest {
        profile: Some(profile),
        account: Some(account),
        validate_only: create.validate_only,
        ..Default::default()
    })
}
