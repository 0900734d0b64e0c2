//! Table `outbox`: mails and text messages that wait, and what became of them.
//!
//! A row is written in the transaction of its cause. Workers take due rows under a lease; the
//! moment that a lease ends is also its token, so a worker whose lease another has taken over can't
//! store a result any more.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryResult, Queryable,
    sql_types::{Array, BigInt, Bytea, Integer, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::{
    model::delivery::{Channel, Delivery, State, Template},
    store::sql::Sql,
};

/// The channel on which every insert is announced, so that workers need not wait for their next
/// poll.
pub const CHANNEL: &str = "user_service_outbox";

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub channel: Channel,
    /// The address as it was given.
    pub recipient: String,
    pub template: Template,
    /// Best first: the one that was asked for, then the profile's; those that are absent left out.
    pub languages: Vec<String>,
    /// Empty for the deployment's own name.
    pub app_name: String,
    pub user_id: Option<i64>,
    /// The code that it carries.
    pub code_id: Option<i64>,
    /// After this it is not sent any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Before this time it isn't sent; a summary includes every change until then.
    pub not_before: Option<DateTime<Utc>>,
    /// Who caused it, and may ask for its state.
    pub owner_caller: Option<String>,
}

/// A row that one worker holds.
#[derive(Clone, Queryable)]
pub struct Leased {
    pub outbox_id: i64,
    pub channel: String,
    pub recipient: String,
    pub template: String,
    pub languages: Vec<String>,
    pub app_name: String,
    pub user_id: Option<i64>,
    pub code_id: Option<i64>,
    pub message_id: Uuid,
    /// Tries before this one.
    pub attempts: i32,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    /// The number of changes in the summary.
    pub changes: i32,
}

type LeasedRow = (
    BigInt,
    Text,
    Text,
    Text,
    Array<Text>,
    Text,
    Nullable<BigInt>,
    Nullable<BigInt>,
    diesel::sql_types::Uuid,
    Integer,
    Nullable<Timestamptz>,
    Timestamptz,
    Integer,
);

/// What the digits of a code are derived from.
#[derive(Clone, Queryable)]
pub struct CodeSeed {
    pub user_id: i64,
    pub code_id: i64,
    pub channel: String,
    pub purpose: String,
    pub address: String,
    pub nonce: Vec<u8>,
    pub key_id: String,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    /// It is tried again at that time.
    Retry {
        at: DateTime<Utc>,
        error: String,
    },
    Failed {
        error: String,
    },
    /// It was not attempted: its code had expired, or could not be used any more.
    Expired,
}

type DeliveryRow = (
    BigInt,
    Text,
    Text,
    Text,
    Integer,
    Nullable<Text>,
    Nullable<BigInt>,
    Timestamptz,
    Timestamptz,
);

const DELIVERY: &str =
    "outbox_id, channel, template, state, attempts, last_error, user_id, created_at, updated_at";

/// Keeps what is to be sent and, once the transaction is committed, wakes the workers.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    new: NewDelivery,
    message_id: Uuid,
    now: DateTime<Utc>,
) -> QueryResult<i64> {
    // A message that waits on purpose isn't late.
    let due = new.not_before.unwrap_or(now);
    let statement = Sql::<(BigInt, Text)>::new(
        "insert into outbox (channel, recipient, template, languages, app_name, user_id, code_id, expires_at, \
         owner_caller, message_id, next_attempt_at, created_at, updated_at) values (",
    );
    let statement = statement
        .bind(new.channel.as_str())
        .push(", ")
        .bind(new.recipient)
        .push(", ")
        .bind(new.template.as_str())
        .push(", ")
        .bind(new.languages)
        .push(", ")
        .bind(new.app_name)
        .push(", ")
        .bind(new.user_id)
        .push(", ")
        .bind(new.code_id)
        .push(", ")
        .bind(new.expires_at)
        .push(", ")
        .bind(new.owner_caller)
        .push(", ")
        .bind(message_id)
        .push(", ")
        .bind(due)
        .push(", ")
        .bind(due)
        .push(", ")
        .bind(now)
        .push(") returning outbox_id, pg_notify('")
        .push(CHANNEL)
        .push("', '')::text");
    let (outbox_id, _notified): (i64, String) = statement.get_result(conn).await?;
    Ok(outbox_id)
}

/// Adds one change to a waiting message of this template to an address of the user, unless the
/// message is leased; false if there is none.
pub async fn add_change(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    template: Template,
    recipient: &str,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let statement =
        Sql::<()>::new("update outbox set changes = changes + 1 where user_id = ").bind(user_id);
    let added = statement
        .push(" and template = ")
        .bind(template.as_str())
        .push(" and recipient = ")
        .bind(recipient)
        .push(" and state = 'queued' and (leased_until is null or leased_until <= ")
        .bind(now)
        .push(")")
        .execute(conn)
        .await?;
    Ok(added > 0)
}

/// Takes up to `limit` due rows until `leased_until`, skipping those that another worker is
/// leasing.
pub async fn lease(
    conn: &mut AsyncPgConnection,
    limit: i64,
    leased_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Leased>> {
    // Materialized: in a sub-select the limit could be run more than once, and more rows than it
    // would be taken.
    let statement = Sql::<LeasedRow>::new(
        "with due as materialized (select outbox_id from outbox where state = 'queued' and next_attempt_at <= ",
    );
    statement
        .bind(now)
        .push(" and (leased_until is null or leased_until <= ")
        .bind(now)
        .push(") and (expires_at is null or expires_at > ")
        .bind(now)
        .push(") order by next_attempt_at limit ")
        .bind(limit)
        .push(" for update skip locked) update outbox o set leased_until = ")
        .bind(leased_until)
        .push(
            " from due where o.outbox_id = due.outbox_id returning o.outbox_id, o.channel, o.recipient, o.template, \
             o.languages, o.app_name, o.user_id, o.code_id, o.message_id, o.attempts, o.expires_at, o.created_at, \
             o.changes",
        )
        .load(conn)
        .await
}

/// What the live codes of these deliveries are derived from. A code that was used, invalidated, or
/// superseded by a newer one of its user, channel, and purpose is left out, and so is one that was
/// purged: it should not be used any more.
pub async fn code_seeds(
    conn: &mut AsyncPgConnection,
    leased: &[Leased],
) -> QueryResult<Vec<CodeSeed>> {
    let (users, codes): (Vec<i64>, Vec<i64>) = leased
        .iter()
        .filter_map(|row| row.user_id.zip(row.code_id))
        .unzip();
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    let statement = Sql::<(BigInt, BigInt, Text, Text, Text, Bytea, Text)>::new(
        "select user_id, code_id, channel, purpose, address, nonce, key_id from codes c where user_id = any(",
    );
    let statement = statement
        .bind(users)
        .push(") and code_id = any(")
        .bind(codes);
    statement
        .push(
            ") and used_at is null and superseded_at is null and not exists (select from codes newer \
             where newer.user_id = c.user_id and newer.channel = c.channel and newer.purpose = c.purpose \
             and newer.code_id > c.code_id)",
        )
        .load(conn)
        .await
}

/// Notes how a try ended and ends its lease; false where the lease was another's by now.
pub async fn settle(
    conn: &mut AsyncPgConnection,
    outbox_id: i64,
    leased_until: DateTime<Utc>,
    outcome: Outcome,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let (state, tries, next, error) = match outcome {
        Outcome::Accepted => (State::Accepted, 1, None, None),
        Outcome::Retry { at, error } => (State::Queued, 1, Some(at), Some(error)),
        Outcome::Failed { error } => (State::Failed, 1, None, Some(error)),
        Outcome::Expired => (State::Expired, 0, None, None),
    };
    let statement =
        Sql::<()>::new("update outbox set leased_until = null, state = ").bind(state.as_str());
    let settled = statement
        .push(", attempts = attempts + ")
        .bind(tries)
        .push(", next_attempt_at = coalesce(")
        .bind(next)
        .push(", next_attempt_at), last_error = coalesce(")
        .bind(error)
        .push(", last_error), updated_at = ")
        .bind(now)
        .push(" where outbox_id = ")
        .bind(outbox_id)
        .push(" and state = 'queued' and leased_until = ")
        .bind(leased_until)
        .execute(conn)
        .await?;
    Ok(settled > 0)
}

/// Gives rows back that were leased and not tried to the end.
pub async fn free(
    conn: &mut AsyncPgConnection,
    outbox_ids: Vec<i64>,
    leases: Vec<DateTime<Utc>>,
) -> QueryResult<usize> {
    let statement =
        Sql::<()>::new("update outbox o set leased_until = null from unnest(").bind(outbox_ids);
    statement
        .push(", ")
        .bind(leases)
        .push(
            ") as held (outbox_id, leased_until) where o.outbox_id = held.outbox_id \
             and o.leased_until = held.leased_until and o.state = 'queued'",
        )
        .execute(conn)
        .await
}

/// Ends messages without a lease whose time has passed; returns how many there were.
pub async fn expire(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> QueryResult<usize> {
    let statement =
        Sql::<()>::new("update outbox set state = 'expired', leased_until = null, updated_at = ")
            .bind(now);
    statement
        .push(" where state = 'queued' and expires_at <= ")
        .bind(now)
        .push(" and (leased_until is null or leased_until <= ")
        .bind(now)
        .push(")")
        .execute(conn)
        .await
}

/// The state of a message that a caller requested, of `owner` if given. Notices can't be queried.
pub async fn find(
    conn: &mut AsyncPgConnection,
    outbox_id: i64,
    owner: Option<&str>,
) -> QueryResult<Option<Delivery>> {
    let statement = Sql::<DeliveryRow>::new("select ")
        .push(DELIVERY)
        .push(" from outbox where outbox_id = ")
        .bind(outbox_id);
    let statement = match owner {
        Some(owner) => statement.push(" and owner_caller = ").bind(owner),
        None => statement.push(" and owner_caller is not null"),
    };
    statement.get_result(conn).await.optional()
}

/// Those that failed, newest first; those older than `before`, where it is given.
pub async fn list_failed(
    conn: &mut AsyncPgConnection,
    before: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<Delivery>> {
    let statement = Sql::<DeliveryRow>::new("select ")
        .push(DELIVERY)
        .push(" from outbox where state = 'failed'");
    let statement = match before {
        Some(before) => statement.push(" and outbox_id < ").bind(before),
        None => statement,
    };
    statement
        .push(" order by outbox_id desc limit ")
        .bind(limit)
        .load(conn)
        .await
}

/// Which messages are queued again.
#[derive(Clone, Copy, Debug)]
pub enum Requeue {
    One(i64),
    /// All that were queued first since then.
    Since(DateTime<Utc>),
}

/// Queues dead letters again with all their attempts, except those whose time has passed.
pub async fn requeue(
    conn: &mut AsyncPgConnection,
    which: Requeue,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    let statement =
        Sql::<()>::new("update outbox set state = 'queued', attempts = 0, next_attempt_at = ")
            .bind(now);
    let statement = statement
        .push(", updated_at = ")
        .bind(now)
        .push(" where state = 'failed' and (expires_at is null or expires_at > ")
        .bind(now)
        .push(")");
    let statement = match which {
        Requeue::One(outbox_id) => statement.push(" and outbox_id = ").bind(outbox_id),
        Requeue::Since(since) => statement.push(" and created_at > ").bind(since),
    };
    statement.execute(conn).await
}

/// Since when the oldest has been waiting, its tries included.
pub async fn oldest_queued(conn: &mut AsyncPgConnection) -> QueryResult<Option<DateTime<Utc>>> {
    Sql::<Nullable<Timestamptz>>::new("select min(created_at) from outbox where state = 'queued'")
        .get_result(conn)
        .await
}

/// How many have been waiting since before then.
pub async fn count_queued(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> QueryResult<i64> {
    let statement =
        Sql::<BigInt>::new("select count(*) from outbox where state = 'queued' and created_at < ");
    statement.bind(before).get_result(conn).await
}

/// How many failed or expired and still stand.
pub async fn count_dead(conn: &mut AsyncPgConnection) -> QueryResult<i64> {
    Sql::<BigInt>::new("select count(*) from outbox where state in ('failed', 'expired')")
        .get_result(conn)
        .await
}

/// Removes up to `limit` that ended before `before`; returns how many were deleted.
pub async fn purge(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    let statement = Sql::<()>::new(
        "delete from outbox where outbox_id in (select outbox_id from outbox where state <> 'queued' and updated_at < ",
    );
    statement
        .bind(before)
        .push(" limit ")
        .bind(limit)
        .push(")")
        .execute(conn)
        .await
}
