//! Usernames and addresses beyond who holds them: an unverified address gives way to whoever proves it, and what a user
//! releases stays reserved for that user.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;

use crate::{
    domain::claims::{Claim, refuse_taken},
    error::Result,
    model::{delivery::Channel, username::SKELETON},
    store::{
        accounts::{self, Changes},
        reserved_values::{self, Reserved},
        unique_values,
    },
};

/// What a deployment decides about names.
#[derive(Clone, Copy, Debug)]
pub struct NamePolicy {
    /// How long a name that a user released stays reserved; zero for not at all.
    pub release_hold: TimeDelta,
    /// How long an unverified address that is a user's only login method keeps others from it.
    pub unverified_hold: TimeDelta,
}

/// The number of reserved values from which no more are reserved for the same user: about twenty usernames, each with what
/// it looks like. A token could otherwise take every name for a moment, and keep all of them from everybody.
const MAX_RESERVED: i64 = 60;

/// Whether a kind of value can be reserved.
fn is_name(kind: &str) -> bool {
    matches!(kind, "username" | SKELETON | "email" | "phone")
}

/// Who holds an address unverified and has to let it go to somebody who proved it; `None` where it stays. The holder is
/// locked. `taken` are the login methods that this holder loses besides.
///
/// # Errors
/// The database's.
pub async fn find_yielding(
    conn: &mut AsyncPgConnection,
    holder: i64,
    channel: Channel,
    key: &str,
    taken: i64,
    policy: NamePolicy,
    now: DateTime<Utc>,
) -> Result<bool> {
    // Two users who lock each other's rows are a deadlock, which is tried again.
    let other = accounts::lock(conn, holder).await?;
    let Some(bound) = other.and_then(|other| other.login.bound(channel)).filter(|bound| bound.key == key) else {
        return Ok(false);
    };
    let is_old = bound.set_at.is_some_and(|set_at| set_at + policy.unverified_hold <= now);
    Ok(!bound.verified && (is_old || unique_values::count_credentials(conn, holder).await? > taken + 1))
}

/// Takes an address away from its holder, who is locked.
///
/// # Errors
/// The database's.
pub async fn take_away(conn: &mut AsyncPgConnection, holder: i64, channel: Channel, key: &str) -> Result<()> {
    unique_values::release(conn, holder, channel.as_str(), key).await?;
    let mut changes = Changes::default();
    match channel {
        Channel::Email => changes.email = Some(None),
        Channel::Phone => changes.phone = Some(None),
    }
    accounts::update(conn, holder, changes).await?;
    Ok(())
}

/// Frees an address that a user has proved from another user who holds it unverified. One that stays is told with all
/// else that is taken.
///
/// # Errors
/// The database's.
pub async fn take_over(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    channel: Channel,
    key: &str,
    policy: NamePolicy,
    now: DateTime<Utc>,
) -> Result<()> {
    let holder = unique_values::find(conn, channel.as_str(), key).await?;
    if let Some(holder) = holder.filter(|holder| *holder != user_id)
        && find_yielding(conn, holder, channel, key, 0, policy, now).await?
    {
        take_away(conn, holder, channel, key).await?;
    }
    Ok(())
}

/// Reserves what a user released, each with its kind and whether it was verified. Where too much is reserved already, what
/// was released first stays reserved: it is what the user had before a token was stolen.
///
/// # Errors
/// The database's.
pub async fn reserve(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    released: &[(String, String, bool)],
    policy: NamePolicy,
    now: DateTime<Utc>,
) -> Result<()> {
    if !released.is_empty()
        && policy.release_hold > TimeDelta::zero()
        && reserved_values::count(conn, user_id, now).await? < MAX_RESERVED
    {
        reserved_values::insert(conn, user_id, released, now + policy.release_hold).await?;
    }
    Ok(())
}

/// What is reserved of the values that are to be claimed.
#[derive(Default)]
pub struct Reservations {
    rows: HashMap<(String, String), Reserved>,
    now: DateTime<Utc>,
}

impl Reservations {
    /// Those of these claims.
    ///
    /// # Errors
    /// The database's.
    pub async fn find<'a>(
        conn: &mut AsyncPgConnection,
        claims: impl Iterator<Item = &'a Claim>,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let (kinds, values): (Vec<_>, Vec<_>) = claims.filter(|claim| is_name(&claim.kind)).map(Claim::pair).unzip();
        if kinds.is_empty() {
            return Ok(Self { rows: HashMap::new(), now });
        }
        let rows = reserved_values::find(conn, kinds, values).await?;
        Ok(Self { rows: rows.into_iter().map(|row| ((row.kind.clone(), row.value.clone()), row)).collect(), now })
    }

    /// Whether the value is reserved for somebody else than `user_id`, and a proof of the address does not help.
    pub fn keeps(&self, claim: &Claim, user_id: i64, is_proved: bool) -> bool {
        let row = self.rows.get(&claim.pair());
        row.is_some_and(|row| row.reserved_until > self.now && row.user_id != user_id && (row.proved || !is_proved))
    }

    /// Removes the reservation of a value that was claimed.
    ///
    /// # Errors
    /// The database's.
    pub async fn end(&self, conn: &mut AsyncPgConnection, claim: &Claim) -> Result<()> {
        if self.rows.contains_key(&claim.pair()) {
            reserved_values::delete(conn, &claim.kind, &claim.value).await?;
        }
        Ok(())
    }
}

/// Claims names for a user, whose own reservations end with it. `proved` are the kinds of addresses that are proved.
///
/// # Errors
/// As [`refuse_taken`], for values that are in use and for those that are reserved.
pub async fn take(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    claims: &[Claim],
    proved: &[Channel],
    now: DateTime<Utc>,
) -> Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let values: Vec<_> = claims.iter().map(|claim| (user_id, claim.kind.as_str(), claim.value.as_str())).collect();
    let held = unique_values::claim(conn, &values).await?;
    // Looked up after the claim, which waits for a release that is under way.
    let reservations = Reservations::find(conn, claims.iter(), now).await?;
    let is_proved = |claim: &Claim| proved.iter().any(|channel| channel.as_str() == claim.kind);
    let is_lost =
        |claim: &&Claim| !held.contains(&claim.pair()) || reservations.keeps(claim, user_id, is_proved(claim));
    refuse_taken(claims.iter().filter(is_lost))?;
    for claim in claims {
        reservations.end(conn, claim).await?;
    }
    Ok(())
}
