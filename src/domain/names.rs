//! Unverified addresses and released values. A user who proves an address gets it from a user who
//! has it unverified. A value that a user releases stays reserved for that user.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;

use crate::{
    domain::reservations::reject_conflicts,
    error::Result,
    model::{delivery::Channel, user::Reservation, username::SKELETON},
    store::{
        accounts::{self, Changes},
        reserved_values::{self, Reserved},
        unique_values,
    },
};

/// The configuration of names.
#[derive(Clone, Copy, Debug)]
pub struct NamePolicy {
    /// How long a value that a user released stays reserved; zero disables reservations.
    pub release_hold: TimeDelta,
    /// How long an unverified address that is a user's only login method can't be claimed by
    /// another user.
    pub unverified_hold: TimeDelta,
}

/// The number of reserved values at which no more are reserved for the same user: about twenty
/// usernames, each with its look-alike form. Without this limit, a stolen token could claim names
/// one after another and keep all of them reserved.
const MAX_RESERVED: i64 = 60;

/// Whether a kind of value can be reserved.
fn is_name(kind: &str) -> bool {
    matches!(kind, "username" | SKELETON | "email" | "phone")
}

/// The user who has the address unverified and must release it to the user who proved it; `None` if
/// the address stays. The returned user is locked. `taken` are the login methods that the same user
/// loses in the same write.
///
/// # Errors
/// The database's.
pub(crate) async fn find_yielding(
    conn: &mut AsyncPgConnection,
    holder: i64,
    channel: Channel,
    key: &str,
    taken: i64,
    policy: NamePolicy,
    now: DateTime<Utc>,
) -> Result<bool> {
    // Two users who lock each other's rows cause a deadlock, and the transaction is retried.
    let other = accounts::lock(conn, holder).await?;
    let Some(bound) = other
        .and_then(|other| other.login.bound(channel))
        .filter(|bound| bound.key == key)
    else {
        return Ok(false);
    };
    let is_old = bound
        .set_at
        .is_some_and(|set_at| set_at + policy.unverified_hold <= now);
    Ok(!bound.verified && (is_old || accounts::count_credentials(conn, holder).await? > taken + 1))
}

/// Removes an address from its user, who is locked.
///
/// # Errors
/// The database's.
pub(crate) async fn take_away(
    conn: &mut AsyncPgConnection,
    holder: i64,
    channel: Channel,
    key: &str,
) -> Result<()> {
    unique_values::release(conn, holder, channel.as_str(), key).await?;
    let mut changes = Changes::default();
    match channel {
        Channel::Email => changes.email = Some(None),
        Channel::Phone => changes.phone = Some(None),
    }
    accounts::update(conn, holder, changes).await?;
    Ok(())
}

/// Releases an address that a user has proved from another user who has it unverified. An address
/// that stays is reported with all other values that are in use.
///
/// # Errors
/// The database's.
pub(crate) async fn take_over(
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

/// Reserves the values that a user released, each with its kind and whether it was verified. If the
/// user has too many reserved values, the oldest stay reserved: the user had them before a token
/// was stolen.
///
/// # Errors
/// The database's.
pub(crate) async fn set_aside(
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

/// The reservations among the values to be claimed.
#[derive(Default)]
pub(crate) struct ReleasedNames {
    rows: HashMap<(String, String), Reserved>,
    now: DateTime<Utc>,
}

impl ReleasedNames {
    /// Loads the reservations for these claims.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn find<'a>(
        conn: &mut AsyncPgConnection,
        reservations: impl Iterator<Item = &'a Reservation>,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let (kinds, values): (Vec<_>, Vec<_>) = reservations
            .filter(|reservation| is_name(&reservation.kind))
            .map(Reservation::pair)
            .unzip();
        if kinds.is_empty() {
            return Ok(Self {
                rows: HashMap::new(),
                now,
            });
        }
        let rows = reserved_values::find(conn, kinds, values).await?;
        Ok(Self {
            rows: rows
                .into_iter()
                .map(|row| ((row.kind.clone(), row.value.clone()), row))
                .collect(),
            now,
        })
    }

    /// Whether the value is reserved for a user other than `user_id`, and a proof of the address
    /// doesn't help.
    pub(crate) fn keeps(&self, reservation: &Reservation, user_id: i64, is_proved: bool) -> bool {
        let row = self.rows.get(&reservation.pair());
        row.is_some_and(|row| {
            row.reserved_until > self.now && row.user_id != user_id && (row.proved || !is_proved)
        })
    }

    /// Removes the reservation of a value that was claimed.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn end(
        &self,
        conn: &mut AsyncPgConnection,
        reservation: &Reservation,
    ) -> Result<()> {
        if self.rows.contains_key(&reservation.pair()) {
            reserved_values::delete(conn, &reservation.kind, &reservation.value).await?;
        }
        Ok(())
    }
}

/// Reserves values for a user. A reservation ends the user's own reservation of the value. `proved`
/// are the kinds of the proved addresses.
///
/// # Errors
/// As [`reject_conflicts`], for values that are in use and for those that are reserved.
pub(crate) async fn reserve(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    reservations: &[Reservation],
    proved: &[Channel],
    now: DateTime<Utc>,
) -> Result<()> {
    if reservations.is_empty() {
        return Ok(());
    }
    let values: Vec<_> = reservations
        .iter()
        .map(|reservation| {
            (
                user_id,
                reservation.kind.as_str(),
                reservation.value.as_str(),
            )
        })
        .collect();
    let held = unique_values::reserve(conn, &values).await?;
    // Read after the reservation, which waits for a concurrent release.
    let released = ReleasedNames::find(conn, reservations.iter(), now).await?;
    let is_proved = |reservation: &Reservation| {
        proved
            .iter()
            .any(|channel| channel.as_str() == reservation.kind)
    };
    let is_lost = |reservation: &&Reservation| {
        !held.contains(&reservation.pair())
            || released.keeps(reservation, user_id, is_proved(reservation))
    };
    reject_conflicts(reservations.iter().filter(is_lost))?;
    for reservation in reservations {
        released.end(conn, reservation).await?;
    }
    Ok(())
}
