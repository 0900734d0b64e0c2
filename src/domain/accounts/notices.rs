//! Tells whoever was bound before a change that there was one.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use crate::{
    error::Result,
    model::{
        account::Login,
        delivery::{Channel, Template},
    },
    store::outbox::{self, NewDelivery},
};

/// What happened to an account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Happened {
    pub email: bool,
    pub phone: bool,
    pub password: bool,
    pub wallet_password: bool,
    pub unlinked: bool,
}

/// Queues the notices: by mail to the email that was bound, by text to the phone where the phone changes or no email
/// was bound.
pub async fn queue(
    conn: &mut AsyncPgConnection,
    before: &Login,
    language: Option<&String>,
    happened: Happened,
    now: DateTime<Utc>,
) -> Result<()> {
    let changes = [
        (happened.email, Template::EmailChanged),
        (happened.phone, Template::PhoneChanged),
        (happened.password, Template::PasswordChanged),
        (happened.wallet_password, Template::WalletPasswordChanged),
        (happened.unlinked, Template::ConnectionUnlinked),
    ];
    for (_, template) in changes.into_iter().filter(|(happened, _)| *happened) {
        let email = before.bound(Channel::Email);
        let by_text = email.is_none() || template == Template::PhoneChanged;
        let phone = before.bound(Channel::Phone).filter(|_| by_text);
        for (channel, bound) in [(Channel::Email, email), (Channel::Phone, phone)] {
            let Some(bound) = bound else { continue };
            let notice = NewDelivery {
                channel,
                recipient: bound.shown,
                template,
                languages: language.cloned().into_iter().collect(),
                app_name: String::new(),
                user_id: Some(before.user_id),
                code_id: None,
                expires_at: None,
                owner_caller: None,
            };
            outbox::insert(conn, notice, uuid::Uuid::new_v4(), now).await?;
        }
    }
    Ok(())
}
