//! The ways out: mails by SMTP or into a folder, text messages by a webhook or onto stderr.

pub mod file;
pub mod log;
pub mod mime;
mod replies;
pub mod smtp;
pub mod webhook;

use std::time::Duration;

use crate::notify::{Mail, Message, SendError, Text};

pub use self::{file::MailDir, mime::Sender, smtp::Smtp, webhook::Webhook};

/// How mails go.
pub enum MailTransport {
    Smtp(Smtp),
    /// For development.
    File(MailDir),
    /// Not at all: none is configured.
    None,
}

/// How text messages go.
pub enum TextTransport {
    Webhook(Box<Webhook>),
    /// For development: one line on stderr.
    Log,
    /// Not at all: none is configured.
    None,
}

/// Both ways out.
pub struct Transports {
    /// Who the mails are from.
    pub sender: Sender,
    pub mail: MailTransport,
    pub text: TextTransport,
}

impl Transports {
    /// Says what cannot be sent.
    pub fn warn(&self) {
        if matches!(self.mail, MailTransport::None) {
            tracing::warn!("mail.smtp is not configured: mails will fail");
        }
        if matches!(self.text, TextTransport::None) {
            tracing::warn!("sms.url is not configured: text messages will fail");
        }
    }

    /// Sends a mail within the limit.
    ///
    /// # Errors
    /// What the transport says; one that may pass where the limit is over.
    pub async fn mail(&self, mail: &Message<Mail>, limit: Duration) -> Result<(), SendError> {
        let mime = self.sender.mime(mail)?;
        match &self.mail {
            MailTransport::Smtp(smtp) => within(limit, smtp.send(&mime)).await,
            MailTransport::File(folder) => within(limit, folder.keep(mail, &mime)).await,
            MailTransport::None => Err(SendError::permanent("not_configured")),
        }
    }

    /// Sends a text message within the limit.
    ///
    /// # Errors
    /// What the transport says; one that may pass where the limit is over.
    pub async fn text(&self, text: &Message<Text>, limit: Duration) -> Result<(), SendError> {
        match &self.text {
            TextTransport::Webhook(webhook) => within(limit, webhook.send(text)).await,
            TextTransport::Log => log::print(text),
            TextTransport::None => Err(SendError::permanent("not_configured")),
        }
    }
}

/// Ends a send that takes too long. Both transports close the connection of an abandoned send.
async fn within(
    limit: Duration,
    send: impl Future<Output = Result<(), SendError>>,
) -> Result<(), SendError> {
    tokio::time::timeout(limit, send)
        .await
        .unwrap_or_else(|_| Err(SendError::retry("timeout")))
}
