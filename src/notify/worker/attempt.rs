//! One try of one message: write it, send it, and say how it ended.

use std::time::Duration;

use chrono::TimeDelta;

use super::Worker;
use crate::{
    model::delivery::{Channel, Template},
    notify::{Message, SendError, templates::TemplateContext},
    store::outbox::{CodeSeed, Leased, Outcome},
};

impl Worker {
    pub(super) async fn attempt(&self, row: &Leased, seed: Option<&CodeSeed>) -> Outcome {
        // A code that can't be used any more would only cost its reader an attempt, and the newer
        // code is on its way.
        let is_obsolete = row.code_id.is_some() && seed.is_none();
        let Some(limit) = self.limit(row).filter(|_| !is_obsolete) else {
            return Outcome::Expired;
        };
        match self.send(row, seed, limit).await {
            Ok(()) => Outcome::Accepted,
            Err(error) => {
                tracing::info!(
                    outbox.id = row.outbox_id,
                    error = error.to_string(),
                    "send attempt failed"
                );
                self.after_error(row.attempts, error)
            }
        }
    }

    /// How long the send may take: never past the moment from which the message is of no use.
    /// `None` from then on.
    fn limit(&self, row: &Leased) -> Option<Duration> {
        let longest = self.settings.send_timeout.min(self.settings.lease / 2);
        let Some(expires_at) = row.expires_at else {
            return Some(longest);
        };
        let left = (expires_at - self.clock.now()).to_std().ok()?;
        (!left.is_zero()).then(|| left.min(longest))
    }

    async fn send(
        &self,
        row: &Leased,
        seed: Option<&CodeSeed>,
        limit: Duration,
    ) -> Result<(), SendError> {
        let template =
            Template::parse(&row.template).ok_or(SendError::permanent("unknown template"))?;
        let channel =
            Channel::parse(&row.channel).ok_or(SendError::permanent("unknown channel"))?;
        let code = if template.has_code() {
            let seed = seed.ok_or(SendError::permanent("code gone"))?;
            (self.digits)(seed).ok_or(SendError::permanent("key gone"))?
        } else {
            String::new()
        };
        let context = TemplateContext {
            template,
            languages: &row.languages,
            app_name: &row.app_name,
            code: &code,
            minutes: minutes(row),
            at: row.created_at,
            changes: row.changes,
        };
        let unwritten = |_| SendError::permanent("template");
        match channel {
            Channel::Email => {
                let content = self.templates.mail(&context).map_err(unwritten)?;
                self.transports.mail(&message(row, content), limit).await
            }
            Channel::Phone => {
                let content = self.templates.text(&context).map_err(unwritten)?;
                self.transports.text(&message(row, content), limit).await
            }
        }
    }
}

fn message<Content>(row: &Leased, content: Content) -> Message<Content> {
    Message {
        message_id: row.message_id,
        created_at: row.created_at,
        recipient: row.recipient.clone(),
        content,
    }
}

/// How long the code is good, from its cause on.
fn minutes(row: &Leased) -> i64 {
    let life = row
        .expires_at
        .map_or(TimeDelta::zero(), |end| end - row.created_at);
    // A code of less than a minute is still good for "1 minutes", not for none.
    life.num_minutes().max(1)
}
