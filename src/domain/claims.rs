//! Claims of values that only one user may hold.

use diesel_async::AsyncPgConnection;

use crate::{
    error::{Error, Fault, Reason, Result},
    model::username::SKELETON,
    store::unique_values,
};

/// A value that is to be one user's alone.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Where it stands in the request.
    pub path: String,
    /// As `unique_values` names it.
    pub kind: String,
    /// The folded value.
    pub value: String,
}

impl Claim {
    /// Its kind and value.
    pub fn pair(&self) -> (String, String) {
        (self.kind.clone(), self.value.clone())
    }
}

/// Claims values for a user.
///
/// # Errors
/// As [`refuse_taken`].
pub async fn take(conn: &mut AsyncPgConnection, user_id: i64, claims: &[Claim]) -> Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let values: Vec<_> = claims.iter().map(|claim| (user_id, claim.kind.as_str(), claim.value.as_str())).collect();
    let held = unique_values::claim(conn, &values).await?;
    refuse_taken(claims.iter().filter(|claim| !held.contains(&claim.pair())))
}

/// Refuses where there is a claim that another user holds.
///
/// # Errors
/// The first reason of the table of errors, with a violation for each value that is taken.
pub fn refuse_taken<'a>(lost: impl Iterator<Item = &'a Claim>) -> Result<()> {
    let reason = |kind: &str| match kind {
        "username" | SKELETON => Reason::UsernameTaken,
        "email" => Reason::EmailTaken,
        "phone" => Reason::PhoneTaken,
        _ => Reason::ValueTaken,
    };
    let mut lost: Vec<(Reason, &str)> = lost.map(|claim| (reason(&claim.kind), claim.path.as_str())).collect();
    lost.sort_by_key(|(reason, _)| Reason::ALL.iter().position(|known| known == reason));
    // A name and what it looks like stand at one path.
    lost.dedup();
    let mut lost = lost.into_iter();
    match lost.next() {
        None => Ok(()),
        Some((reason, path)) => Err(lost.fold(Error::taken(reason, path), |error, (_, path)| {
            error.with_violation(path, Fault::Format, "is taken by another user")
        })),
    }
}
