//! Notifies the owner of each address that was verified of the account before a change. What
//! exceeds the limits of notices is summed up in one message.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use crate::{
    domain::{rate_limiter::Bucket, texts::TextLimits},
    error::Result,
    model::{
        account::{Bound, Login},
        delivery::{Channel, Template},
        rate_limit::Window,
    },
    store::outbox::{self, NewDelivery},
};

/// Queues the security notices of an account: by mail to the verified email; by text message to the
/// verified phone, if the phone changes or no email is verified.
pub(super) async fn queue(
    conn: &mut AsyncPgConnection,
    before: &Login,
    language: Option<&String>,
    happened: impl Iterator<Item = Template>,
    (texts, windows): (&TextLimits, &[Window]),
    now: DateTime<Utc>,
) -> Result<()> {
    let email = before.verified(Channel::Email);
    let phone = before
        .verified(Channel::Phone)
        .filter(|phone| texts.allows(&phone.key));
    let mut happened = happened.peekable();
    if happened.peek().is_none() || email.is_none() && phone.is_none() {
        return Ok(());
    }
    let notifier = Notifier {
        user_id: before.user_id,
        language,
        texts,
        now,
    };
    // Concurrent changes of this user wait here.
    let mut bucket = Bucket::lock(conn, format!("notice/{}", before.user_id), windows, now).await?;
    for template in happened {
        let by_text = email.is_none() || template == Template::PhoneChanged;
        let phone = phone.as_ref().filter(|_| by_text);
        let bound = [(Channel::Email, email.as_ref()), (Channel::Phone, phone)];
        let targets = bound
            .into_iter()
            .filter_map(|(channel, bound)| Some((channel, bound?)));
        match bucket.exceeded() {
            None => {
                bucket.add();
                for (channel, bound) in targets {
                    notifier
                        .insert(conn, channel, bound, template, None)
                        .await?;
                }
            }
            Some((_, wait)) => {
                let mut is_new = false;
                for (channel, bound) in targets {
                    is_new |= notifier.sum_up(conn, channel, bound, now + wait).await?;
                }
                if is_new {
                    bucket.add_at(now + wait);
                }
            }
        }
    }
    bucket.save(conn).await
}

struct Notifier<'a> {
    user_id: i64,
    language: Option<&'a String>,
    texts: &'a TextLimits,
    now: DateTime<Utc>,
}

impl Notifier<'_> {
    async fn insert(
        &self,
        conn: &mut AsyncPgConnection,
        channel: Channel,
        bound: &Bound,
        template: Template,
        not_before: Option<DateTime<Utc>>,
    ) -> Result<()> {
        if channel == Channel::Phone && self.texts.count(conn, self.now).await?.is_some() {
            tracing::warn!(
                user.id = self.user_id,
                "a notice was not sent: the daily cap of text messages is reached"
            );
            return Ok(());
        }
        let notice = NewDelivery {
            channel,
            recipient: bound.shown.clone(),
            template,
            languages: self.language.cloned().into_iter().collect(),
            app_name: String::new(),
            user_id: Some(self.user_id),
            code_id: None,
            expires_at: None,
            not_before,
            owner_caller: None,
        };
        outbox::insert(conn, notice, uuid::Uuid::new_v4(), self.now).await?;
        Ok(())
    }

    /// Adds a change to the summary that is waiting, or to a new one; true for a new one.
    async fn sum_up(
        &self,
        conn: &mut AsyncPgConnection,
        channel: Channel,
        bound: &Bound,
        at: DateTime<Utc>,
    ) -> Result<bool> {
        if outbox::add_change(
            conn,
            self.user_id,
            Template::MoreChanges,
            &bound.shown,
            self.now,
        )
        .await?
        {
            return Ok(false);
        }
        self.insert(conn, channel, bound, Template::MoreChanges, Some(at))
            .await?;
        Ok(true)
    }
}
