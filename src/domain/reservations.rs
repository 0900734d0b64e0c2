//! Reservations of values that only one user may hold.

use diesel_async::AsyncPgConnection;

use crate::{
    error::{Error, FieldError, Reason, Result},
    model::{user::Reservation, username::SKELETON},
    store::unique_values,
};

/// Reserves values for a user.
///
/// # Errors
/// As [`reject_conflicts`].
pub(crate) async fn reserve(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    reservations: &[Reservation],
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
    reject_conflicts(
        reservations
            .iter()
            .filter(|reservation| !held.contains(&reservation.pair())),
    )
}

/// Rejects a value that another user holds.
///
/// # Errors
/// The first reason of the table of errors, with a violation for each value that is taken.
pub(crate) fn reject_conflicts<'a>(conflicts: impl Iterator<Item = &'a Reservation>) -> Result<()> {
    let reason = |kind: &str| match kind {
        "username" | SKELETON => Reason::UsernameTaken,
        "email" => Reason::EmailTaken,
        "phone" => Reason::PhoneTaken,
        _ => Reason::ValueTaken,
    };
    let mut conflicts: Vec<(Reason, &str)> = conflicts
        .map(|reservation| (reason(&reservation.kind), reservation.path.as_str()))
        .collect();
    conflicts.sort_by_key(|(reason, _)| Reason::ALL.iter().position(|known| known == reason));
    // A name and what it looks like stand at one path.
    conflicts.dedup();
    let mut conflicts = conflicts.into_iter();
    match conflicts.next() {
        None => Ok(()),
        Some((reason, path)) => Err(conflicts
            .fold(Error::taken(reason, path), |error, (_, path)| {
                error.with_violation(path, FieldError::Format, "is already in use")
            })),
    }
}
