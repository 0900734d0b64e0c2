//! The users of the bench: who has a password, who has none, and who is about to bind an address.

use anyhow::{Context, bail};
use tokio_stream::iter;
use user_service::{
    convert::pb,
    model::{
        password,
        password_hash::{self, HashParameters},
    },
};

use crate::service::Client;

pub(crate) const PASSWORD: &str = "violet-lantern-93";
/// How many have the password.
pub(crate) const WITH_PASSWORD: usize = 4000;
/// How many have a username alone.
pub(crate) const WITHOUT_PASSWORD: usize = 400;
/// How many bind an address.
pub(crate) const MAILED: usize = 6000;
/// How many moved in with a hash that is checked fast, and as many with one that is checked slowly.
pub(crate) const MIGRATED: usize = 200;
/// The costs of their hashes, of bcrypt.
const COSTS: [u32; 2] = [4, 10];

/// A user with the password.
pub(crate) fn with_password(number: usize) -> (i64, String) {
    user(0, number % WITH_PASSWORD)
}

/// A user without one.
pub(crate) fn without_password(number: usize) -> (i64, String) {
    user(WITH_PASSWORD, number % WITHOUT_PASSWORD)
}

/// A user who has no address yet, with the one that is to be bound.
pub(crate) fn mailed(number: usize) -> (i64, String) {
    let (user_id, name) = user(WITH_PASSWORD + WITHOUT_PASSWORD, number % MAILED);
    (user_id, format!("{name}@example.org"))
}

/// A user who moved in with a hash that is checked fast.
pub(crate) fn with_fast_hash(number: usize) -> String {
    user(WITH_PASSWORD + WITHOUT_PASSWORD + MAILED, number % MIGRATED).1
}

/// A user who moved in with a hash that is checked slowly.
pub(crate) fn with_slow_hash(number: usize) -> String {
    user(
        WITH_PASSWORD + WITHOUT_PASSWORD + MAILED + MIGRATED,
        number % MIGRATED,
    )
    .1
}

/// No one's name.
pub(crate) fn nobody(number: usize) -> String {
    format!("nobody-{number:05}")
}

fn user(first: usize, number: usize) -> (i64, String) {
    let place = first + number;
    (place as i64 + 1, format!("person-{place:05}"))
}

/// Makes them all.
pub(crate) async fn move_in(client: &Client) -> anyhow::Result<()> {
    let secret = password::parse_attempt(PASSWORD.to_owned())
        .ok()
        .context("the password is none")?;
    let hash = password_hash::hash(&secret, *b"salt of the test", HashParameters::default())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let native = WITH_PASSWORD + WITHOUT_PASSWORD + MAILED;
    let all = native + COSTS.len() * MIGRATED;
    let migrated = COSTS.map(|cost| bcrypt::hash(PASSWORD, cost));
    let migrated = migrated.into_iter().collect::<Result<Vec<_>, _>>()?;
    let users = (0..all).map(move |place| {
        let (user_id, name) = user(0, place);
        pb::CreateUserRequest {
            profile: Some(pb::Profile {
                user_id,
                nickname: name.clone(),
                ..Default::default()
            }),
            account: Some(pb::Account {
                username: Some(name),
                ..Default::default()
            }),
            password_hash: match place.checked_sub(native) {
                Some(place) => migrated[place / MIGRATED].clone(),
                None if place < WITH_PASSWORD => hash.clone(),
                None => String::new(),
            },
            ..Default::default()
        }
    });
    let users = iter(users.map(|user| pb::ImportUsersRequest { user: Some(user) }));
    let mut answers = client.admin.clone().import_users(users).await?.into_inner();
    while let Some(batch) = answers.message().await? {
        if let Some(failure) = batch.failures.first() {
            bail!("the users cannot be made: {failure:?}");
        }
    }
    Ok(())
}
