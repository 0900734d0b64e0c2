//! Sends what the outbox holds: [`templates`] write the texts, [`transport`] carries them, and a
//! [`worker`] in every replica brings the two together.
//!
//! Whatever causes a message writes a row of the outbox in its own transaction and calls nothing
//! here.

pub mod templates;
pub mod transport;
pub mod worker;

use std::{borrow::Cow, fmt};

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A message that is ready to be sent. It shows neither address nor text when it is logged.
#[derive(Clone)]
pub struct Message<Content> {
    /// The same over all tries.
    pub message_id: Uuid,
    /// When its cause was.
    pub created_at: DateTime<Utc>,
    pub recipient: String,
    pub content: Content,
}

impl<Content> fmt::Debug for Message<Content> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

/// What a mail says.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// What a text message says.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub String);

/// Whether another try could go better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    Retry,
    Permanent,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SendError {
    pub class: RetryClass,
    /// A few words without addresses, for example `smtp 451`.
    pub what: Cow<'static, str>,
}

impl SendError {
    /// One that may pass.
    pub fn retry(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            class: RetryClass::Retry,
            what: what.into(),
        }
    }

    /// One that stays.
    pub fn permanent(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            class: RetryClass::Permanent,
            what: what.into(),
        }
    }
}
