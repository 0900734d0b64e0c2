//! `user-service account …`.

use std::io::Read;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::output::Output;
use crate::{api::Api, convert::pb, domain::caller::Caller};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows how a user logs in.
    Show {
        /// The user's id.
        user_id: i64,
    },
    /// Changes a user's login methods without proof. The user is notified.
    Set(Box<Set>),
    /// Links a third-party login.
    Link {
        /// The user's id.
        user_id: i64,
        /// For example github.
        provider: String,
        /// The user's id there.
        subject: String,
        /// The user's name there.
        #[arg(long, default_value = "")]
        display_name: String,
    },
    /// Unlinks a third-party login.
    Unlink {
        /// The user's id.
        user_id: i64,
        /// The connection's id.
        connection_id: i64,
    },
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// The user's id.
    user_id: i64,
    #[arg(long)]
    username: Option<String>,
    #[arg(long)]
    email: Option<String>,
    /// In E.164, for example +8613800138000.
    #[arg(long)]
    phone: Option<String>,
    /// Fields to clear: username, email, phone, last_login_at.
    #[arg(long, value_delimiter = ',', value_name = "FIELD,…")]
    clear: Vec<String>,
    /// Reads a new password from stdin, so that it doesn't appear in the process list.
    #[arg(long)]
    password_stdin: bool,
}

pub(super) async fn run(command: Command, api: &Api, output: &Output) -> anyhow::Result<()> {
    let caller = Caller::operator();
    match command {
        Command::Show { user_id } => {
            let request = pb::GetProfileRequest {
                key: Some(pb::get_profile_request::Key::UserId(user_id)),
                read_mask: Some(prost_types::FieldMask {
                    paths: vec!["account".to_owned()],
                }),
            };
            let found = api
                .get_profile(&caller, request)
                .await?
                .profile
                .and_then(|profile| profile.account);
            output.message(&found.unwrap_or_default())?;
        }
        Command::Set(set) => {
            let done = api.update_account(&caller, request(*set)?).await?;
            output.message(&done.account.unwrap_or_default())?;
        }
        Command::Link {
            user_id,
            provider,
            subject,
            display_name,
        } => {
            let request = pb::LinkConnectionRequest {
                user_id,
                provider,
                subject,
                display_name,
                request_id: String::new(),
            };
            output.message(
                &api.link_connection(&caller, request)
                    .await?
                    .connection
                    .unwrap_or_default(),
            )?;
        }
        Command::Unlink {
            user_id,
            connection_id,
        } => {
            let request = pb::UpdateAccountRequest {
                user_id,
                unlink_connection_id: connection_id,
                ..Default::default()
            };
            output.message(
                &api.update_account(&caller, request)
                    .await?
                    .account
                    .unwrap_or_default(),
            )?;
        }
    }
    Ok(())
}

fn request(set: Set) -> anyhow::Result<pb::UpdateAccountRequest> {
    let given = [
        ("username", &set.username),
        ("email", &set.email),
        ("phone", &set.phone),
    ];
    let mut paths: Vec<String> = given
        .iter()
        .filter(|(_, value)| value.is_some())
        .map(|(name, _)| (*name).to_owned())
        .collect();
    paths.extend(set.clear);
    let mut new_password = String::new();
    if set.password_stdin {
        std::io::stdin()
            .read_to_string(&mut new_password)
            .context("cannot read the password")?;
        new_password.truncate(new_password.trim_end_matches(['\n', '\r']).len());
    }
    let account = pb::Account {
        username: set.username,
        email: set.email,
        phone: set.phone,
        ..Default::default()
    };
    Ok(pb::UpdateAccountRequest {
        user_id: set.user_id,
        account: (!paths.is_empty()).then_some(account),
        update_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
        new_password,
        ..Default::default()
    })
}
