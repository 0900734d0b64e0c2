//! Sending codes: to which address, how often, and what the owner of the address is notified of.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use prost::Message;

use crate::{
    clock::{Clock, random_bytes},
    domain::{
        db::{Db, End},
        deliveries::Deliveries,
        idempotency::{self, IdempotencyKey, Outcome},
        rate_limiter::{Bucket, exceeded, whole_seconds},
        texts::TextLimits,
    },
    error::{Error, FieldError, Reason, Result},
    model::{
        account::{Bound, Login, Normalized},
        code::{self, Purpose},
        delivery::{Channel, State, Template},
        keys::Keys,
        rate_limit::{CodeLimits, TEXT_MESSAGE_DAY},
        token,
    },
    store::{
        accounts::{self, Locked},
        codes::{self, NewCode},
        outbox::{self, NewDelivery},
        reserved_values, unique_values,
    },
    telemetry::metrics,
};

/// A code to be sent.
pub struct SendCode {
    pub user_id: i64,
    pub channel: Channel,
    pub purpose: Purpose,
    /// The address to be bound, with BIND alone.
    pub address: Option<Normalized>,
    pub app_name: String,
    pub language: Option<String>,
    /// Whether the caller may know that another user has the address.
    pub may_know_owner: bool,
    /// Who asks.
    pub caller: String,
}

/// A code that was sent.
pub struct Sent {
    pub expires_at: DateTime<Utc>,
    pub resend_after: DateTime<Utc>,
    pub delivery_id: i64,
}

/// Use cases of codes.
#[derive(Clone)]
pub struct Codes {
    db: Db,
    clock: Clock,
    keys: Keys,
    deliveries: Deliveries,
    texts: TextLimits,
    limits: CodeLimits,
    /// How long an answer waits for its message to be on its way. Nothing in production, where a
    /// relay takes its time; in development the file is there when the call has answered.
    wait_for_delivery: Duration,
}

/// Between two looks whether a message is on its way.
const LOOK: Duration = Duration::from_millis(1);

impl Codes {
    pub fn new(
        db: Db,
        clock: Clock,
        keys: Keys,
        deliveries: Deliveries,
        texts: TextLimits,
        limits: CodeLimits,
        wait_for_delivery: Duration,
    ) -> Self {
        Self {
            db,
            clock,
            keys,
            deliveries,
            texts,
            limits,
            wait_for_delivery,
        }
    }

    /// Queues a code, and makes the response of it.
    ///
    /// # Errors
    /// USER_NOT_FOUND, ADDRESS_NOT_BOUND, ADDRESS_NOT_CONFIRMED, ADDRESS_UNCHANGED,
    /// CODE_SEND_COOLDOWN, CODE_SEND_QUOTA; to whom may know it, EMAIL_TAKEN or PHONE_TAKEN.
    pub async fn send<R: Message + Default>(
        &self,
        send: &SendCode,
        key: Option<&IdempotencyKey>,
        respond: impl Fn(&Sent) -> R + Sync,
    ) -> Result<R> {
        let now = self.clock.now();
        let db = self.db.of_user(send.user_id);
        let outcome = idempotency::write(&db, End::Commit, key, Some(send.user_id), async |conn| {
            self.queue(conn, send, now).await.map(|sent| respond(&sent))
        })
        .await?;
        if matches!(outcome, Outcome::New(_)) {
            metrics::codes(metrics::Code::Sent, 1);
        }
        Ok(outcome.into_response())
    }

    /// Waits until a message that was queued is on its way, in development.
    pub async fn wait_for_delivery(&self, delivery_id: i64) {
        if self.wait_for_delivery.is_zero() {
            // A poll that is abandoned at once would cost a statement and a connection.
            return;
        }
        let sent = async {
            while self
                .deliveries
                .find(delivery_id)
                .await
                .is_ok_and(|delivery| delivery.state == State::Queued)
            {
                tokio::time::sleep(LOOK).await;
            }
        };
        // A message that takes longer is only late; the call has succeeded.
        tokio::time::timeout(self.wait_for_delivery, sent)
            .await
            .unwrap_or_default();
    }

    async fn queue(
        &self,
        conn: &mut AsyncPgConnection,
        send: &SendCode,
        now: DateTime<Utc>,
    ) -> Result<Sent> {
        let locked = accounts::lock(conn, send.user_id).await?;
        let Locked { login, language } =
            locked.ok_or_else(|| Error::user_not_found(send.user_id))?;
        let target = target(send, &login)?;
        if send.channel == Channel::Phone && !self.texts.allows(&target.key) {
            let why = "must have a country code that the deployment sends text messages to";
            return Err(Error::invalid("phone", FieldError::Range, why));
        }
        let owner = match send.purpose {
            Purpose::Bind => owner(conn, send, &target, now).await?,
            _ => None,
        };
        let resend_after = self
            .consume_limits(conn, send, &login, &target.key, now)
            .await?;
        if owner.is_some() && send.may_know_owner {
            return Err(taken(send.channel));
        }
        let expires_at = now + self.limits.lifetime;
        let code = NewCode {
            user_id: send.user_id,
            channel: send.channel,
            purpose: send.purpose,
            address: target.key.clone(),
            nonce: random_bytes::<16>().to_vec(),
            key_id: self.keys.current().to_owned(),
            created_at: now,
            expires_at,
        };
        let code_id = codes::insert(conn, code).await?;
        let mut delivery = NewDelivery {
            channel: send.channel,
            recipient: target.shown,
            template: send.purpose.template(),
            languages: send.language.iter().cloned().chain(language).collect(),
            app_name: send.app_name.clone(),
            user_id: Some(send.user_id),
            code_id: Some(code_id),
            expires_at: Some(expires_at),
            not_before: None,
            owner_caller: Some(send.caller.clone()),
        };
        if let Some((owner, address)) = owner {
            // The owner is notified instead; the caller sees no difference.
            (delivery.recipient, delivery.user_id) = (address, Some(owner));
            (delivery.template, delivery.code_id) = (Template::AddressInUse, None);
        }
        // Last, for the day's count is locked from here on.
        if send.channel == Channel::Phone
            && let Some(wait) = self.texts.count(conn, now).await?
        {
            return Err(
                Error::new(Reason::CodeSendQuota).with_quota(TEXT_MESSAGE_DAY, whole_seconds(wait))
            );
        }
        let delivery_id = outbox::insert(conn, delivery, uuid::Uuid::new_v4(), now).await?;
        Ok(Sent {
            expires_at,
            resend_after,
            delivery_id,
        })
    }

    /// Counts one send against every limit, and returns when the next one is possible.
    ///
    /// # Errors
    /// CODE_SEND_COOLDOWN or CODE_SEND_QUOTA, with the longest wait.
    async fn consume_limits(
        &self,
        conn: &mut AsyncPgConnection,
        send: &SendCode,
        login: &Login,
        address: &str,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>> {
        let CodeLimits {
            cooldown,
            user,
            address: per_address,
            ..
        } = self.limits;
        let (user_id, channel) = (send.user_id, send.channel.as_str());
        let mut wanted = vec![
            (
                format!("send/{user_id}/{channel}/{}", send.purpose.as_str()),
                vec![cooldown],
            ),
            (format!("send_user/{user_id}"), user.to_vec()),
        ];
        let is_own = login
            .bound(send.channel)
            .is_some_and(|bound| bound.key == address);
        if send.purpose == Purpose::Bind && !is_own {
            wanted.push((
                format!("send_address/{channel}/{}", fingerprint(address)),
                vec![per_address],
            ));
        }
        let mut buckets = Vec::with_capacity(wanted.len());
        for (key, windows) in wanted {
            buckets.push(Bucket::lock(conn, key, &windows, now).await?);
        }
        if let Some((window, wait)) = buckets
            .iter()
            .filter_map(Bucket::exceeded)
            .max_by_key(|(_, wait)| *wait)
        {
            let is_cooldown = window == cooldown;
            let reason = if is_cooldown {
                Reason::CodeSendCooldown
            } else {
                Reason::CodeSendQuota
            };
            return Err(exceeded(reason, window, wait));
        }
        let mut next = now;
        for mut bucket in buckets {
            bucket.add();
            next = next.max(bucket.next());
            bucket.save(conn).await?;
        }
        Ok(next)
    }
}

/// EMAIL_TAKEN or PHONE_TAKEN.
fn taken(channel: Channel) -> Error {
    match channel {
        Channel::Email => Error::taken(Reason::EmailTaken, "email"),
        Channel::Phone => Error::taken(Reason::PhoneTaken, "phone"),
    }
}

/// Where the code goes.
fn target(send: &SendCode, login: &Login) -> Result<Bound> {
    let path = send.channel.as_str();
    let bound = login.bound(send.channel);
    if let Some(given) = &send.address {
        if bound.is_some_and(|bound| bound.verified && bound.key == given.key) {
            return Err(Error::new(Reason::AddressUnchanged).with_precondition(path));
        }
        return Ok(Bound {
            shown: given.shown.clone(),
            key: given.key.clone(),
            verified: false,
            bound_at: None,
            set_at: None,
        });
    }
    let not_bound = || Error::new(Reason::AddressNotBound).with_precondition(path);
    let bound = bound
        .filter(|bound| bound.verified || !send.purpose.needs_verified())
        .ok_or_else(not_bound)?;
    if send.purpose.needs_verified() && login.confirmed(send.channel).is_none() {
        return Err(Error::address_not_confirmed(path));
    }
    Ok(bound)
}

/// The other user whose address it is: verified, or verified until this user released it a while
/// ago.
async fn owner(
    conn: &mut AsyncPgConnection,
    send: &SendCode,
    target: &Bound,
    now: DateTime<Utc>,
) -> Result<Option<(i64, String)>> {
    if let Some(owner) = verified_owner(conn, send.channel, &target.key, send.user_id).await? {
        return Ok(Some(owner));
    }
    let kinds = vec![send.channel.as_str().to_owned()];
    let reserved = reserved_values::find(conn, kinds, vec![target.key.clone()])
        .await?
        .into_iter();
    let mut others = reserved
        .filter(|row| row.proved && row.reserved_until > now && row.user_id != send.user_id);
    Ok(others.next().map(|row| (row.user_id, target.shown.clone())))
}

/// The other user who has verified an address, with the address as it is shown.
async fn verified_owner(
    conn: &mut AsyncPgConnection,
    channel: Channel,
    key: &str,
    user_id: i64,
) -> Result<Option<(i64, String)>> {
    let Some(owner) = unique_values::find(conn, channel.as_str(), key)
        .await?
        .filter(|owner| *owner != user_id)
    else {
        return Ok(None);
    };
    let login = accounts::find_login(conn, owner).await?;
    Ok(login
        .and_then(|login| login.verified(channel))
        .filter(|bound| bound.key == key)
        .map(|bound| (owner, bound.shown)))
}

/// An address in the table of limits is not readable.
fn fingerprint(address: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(token::hash(address))
}

/// The digits of a code; `None` where its key is no longer configured.
pub fn digits(keys: &Keys, key_id: &str, seed: &[u8]) -> Option<String> {
    code::digits(&keys.sign_with(key_id, "code", seed)?)
}
