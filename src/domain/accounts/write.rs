//! Writes a change of an account, once everything is proved.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use super::{Hashes, Policy, UpdateAccount, connection_not_found, login::clear_attempts, notices};
use crate::{
    domain::names::{reserve, set_aside, take_over},
    error::{Error, Reason, Result},
    model::{
        account::{Bound, Login, Normalized, connection_key},
        account_change::{AddressChange, Binding, Plan},
        code::Purpose,
        delivery::{Channel, Template},
        password::Kind,
        token::Revoked,
        user::Reservation,
        username::{SKELETON, skeletons},
    },
    store::{
        accounts::{self, Address, Changes, Written},
        codes, tokens, unique_values,
    },
};

/// A change that may be made.
pub(super) struct Change<'a> {
    pub update: &'a UpdateAccount,
    pub planned: &'a Plan,
    pub hashes: &'a Hashes,
    pub policy: &'a Policy,
    /// The profile's, for the notices.
    pub language: Option<&'a String>,
}

/// Makes the change, with all that hangs on it, and gives the account as it is then. The user's row
/// is locked.
pub(super) async fn apply(
    conn: &mut AsyncPgConnection,
    change: &Change<'_>,
    login: &Login,
    now: DateTime<Utc>,
) -> Result<Written> {
    let Change {
        update,
        planned,
        hashes,
        policy,
        language,
    } = change;
    let user_id = login.user_id;
    let is_user = update.caller.user().is_some();
    let patch = &update.patch;
    let mut changes = Changes {
        username: patch.username.clone(),
        email: address(&planned.email, login, Channel::Email, now),
        phone: address(&planned.phone, login, Channel::Phone, now),
        last_login_at: patch
            .last_login_at
            .filter(|at| !is_user || is_later(*at, login.last_login_at)),
        password_hash: hashes.password.clone(),
        password_unproven_at: password_unproven_at(change, now),
        wallet_password_hash: hashes.wallet_password.clone(),
        revoked: patch
            .password
            .is_some()
            .then(|| (now, update.caller.token.map(|hash| hash.to_vec()))),
    };
    let changes_nothing = changes.username.is_none()
        && changes.email.is_none()
        && changes.phone.is_none()
        && changes.last_login_at.is_none()
        && patch.password.is_none()
        && patch.wallet_password.is_none()
        && patch.unlink.is_empty();
    if changes_nothing {
        return Ok(Written {
            login: login.clone(),
            has_connections: true,
        });
    }
    confirm_unrestricted(&mut changes, login, patch.password.is_some());
    reservation(conn, change, login, now).await?;
    let removed = unlink(conn, change).await?;
    let written = accounts::update(conn, user_id, changes).await?;
    let cleared = cleared(change, login);
    let lost = removed.or(cleared);
    if let Some(path) = lost
        && accounts::count_credentials(conn, user_id).await? == 0
    {
        return Err(Error::new(Reason::LastCredential).with_precondition(path));
    }
    for (kind, is_new) in [
        (Kind::Login, patch.password.is_some()),
        (Kind::Wallet, patch.wallet_password.is_some()),
    ] {
        if is_new {
            clear_attempts(conn, user_id, kind).await?;
        }
    }
    if patch.password.is_some() {
        let kept = update
            .caller
            .token
            .filter(|_| is_user)
            .map(|hash| hash.to_vec());
        tokens::revoke_all(conn, user_id, kept, now).await?;
        codes::invalidate(conn, user_id, now).await?;
    }
    if !patch.unlink.is_empty() {
        // A token of an identity provider may have authenticated the user through the connection.
        tokens::notify_revoked(conn, &[Revoked::User(user_id)]).await?;
    }
    let is_other =
        |change: &AddressChange| matches!(change, AddressChange::Bind(..) | AddressChange::Clear);
    let username = patch
        .username
        .as_ref()
        .map(|username| username.as_ref().map(|name| &name.shown));
    let happened = [
        (is_other(&planned.email), Template::EmailChanged),
        (is_other(&planned.phone), Template::PhoneChanged),
        (patch.password.is_some(), Template::PasswordChanged),
        (
            patch.wallet_password.is_some(),
            Template::WalletPasswordChanged,
        ),
        (!patch.unlink.is_empty(), Template::ConnectionUnlinked),
        (
            username.is_some_and(|username| username != login.username.as_ref()),
            Template::UsernameChanged,
        ),
    ];
    let happened = happened
        .into_iter()
        .filter_map(|(is, template)| is.then_some(template));
    notices::queue(
        conn,
        login,
        *language,
        happened,
        (&policy.texts, &policy.notices),
        now,
    )
    .await?;
    Ok(written)
}

/// A user moves the last login forwards only.
fn is_later(given: Option<DateTime<Utc>>, stored: Option<DateTime<Utc>>) -> bool {
    given.is_some_and(|given| stored.is_none_or(|stored| given > stored))
}

/// What is written of an address.
fn address(
    change: &AddressChange,
    login: &Login,
    channel: Channel,
    now: DateTime<Utc>,
) -> Option<Option<Address>> {
    let bound = login.bound(channel);
    Some(match change {
        AddressChange::None => return None,
        AddressChange::Clear => None,
        AddressChange::Bind(folded, binding) => {
            let verified = *binding != Binding::Unverified;
            let bound_at = (*binding == Binding::Unconfirmed).then_some(now);
            Some(Address {
                folded: folded.clone(),
                verified,
                bound_at,
                set_at: Some(now),
            })
        }
        AddressChange::Respell(folded) => bound.map(|bound| Address {
            folded: folded.clone(),
            verified: bound.verified,
            bound_at: bound.bound_at,
            set_at: bound.set_at,
        }),
        // An unverified address was set by a service, which is trusted.
        AddressChange::Verify | AddressChange::Confirm => bound.map(|bound| Address {
            folded: Normalized {
                shown: bound.shown,
                key: bound.key,
            },
            verified: true,
            bound_at: None,
            set_at: bound.set_at,
        }),
    })
}

/// The value that records when the password was set without the proof of an older factor. If the
/// previous password was the proof, the new one inherits its value. is as good as that was.
fn password_unproven_at(change: &Change<'_>, now: DateTime<Utc>) -> Option<Option<DateTime<Utc>>> {
    let Change {
        update, planned, ..
    } = change;
    update.patch.password.as_ref()?;
    let by_code = planned
        .codes
        .iter()
        .any(|shown| shown.purpose == Purpose::Password);
    let by_password = planned
        .passwords_given
        .iter()
        .any(|attempt| attempt.kind == Kind::Login);
    match (update.caller.user().is_some(), by_code, by_password) {
        (false, ..) | (true, true, _) => Some(None),
        (true, false, true) => None,
        (true, false, false) => Some(Some(now)),
    }
}

/// Confirms addresses that no older factor restricts after the change. Such an address stays
/// confirmed: a factor that is added later isn't older.
fn confirm_unrestricted(changes: &mut Changes, login: &Login, sets_password: bool) {
    let mut after = login.clone();
    if sets_password {
        // A dry run doesn't hash it.
        after.password_hash.get_or_insert_default();
    }
    for (channel, changed) in [
        (Channel::Email, &changes.email),
        (Channel::Phone, &changes.phone),
    ] {
        if let Some(address) = changed {
            after.bind(
                channel,
                address.as_ref().map(|address| Bound {
                    shown: address.folded.shown.clone(),
                    key: address.folded.key.clone(),
                    verified: address.verified,
                    bound_at: address.bound_at,
                    set_at: address.set_at,
                }),
            );
        }
    }
    for (channel, changed) in [
        (Channel::Email, &mut changes.email),
        (Channel::Phone, &mut changes.phone),
    ] {
        if let Some(bound) = after
            .confirmed(channel)
            .filter(|bound| bound.bound_at.is_some())
        {
            let folded = Normalized {
                shown: bound.shown,
                key: bound.key,
            };
            *changed = Some(Some(Address {
                folded,
                verified: true,
                bound_at: None,
                set_at: bound.set_at,
            }));
        }
    }
}

/// Updates the unique values. A user who proved an address gets it from another user who has it
/// unverified, and a value that a user releases stays reserved.
async fn reservation(
    conn: &mut AsyncPgConnection,
    change: &Change<'_>,
    login: &Login,
    now: DateTime<Utc>,
) -> Result<()> {
    let Change {
        update,
        planned,
        policy,
        ..
    } = change;
    let mut kinds = Vec::new();
    let mut reservations = Vec::new();
    let mut released = Vec::new();
    let mut proved = Vec::new();
    let reservation = |path: &str, kind: &str, value: String| Reservation {
        path: path.to_owned(),
        kind: kind.to_owned(),
        value,
    };
    if let Some(username) = &update.patch.username {
        kinds.extend(["username", SKELETON]);
        for (kind, value) in username.iter().flat_map(values_of_username) {
            reservations.push(reservation("account.username", kind, value));
        }
        let held = login.username.clone().zip(login.username_key.clone());
        let held = held.map(|(shown, key)| Normalized { shown, key });
        let values = held.iter().flat_map(values_of_username);
        released.extend(values.map(|(kind, value)| (kind.to_owned(), value, true)));
    }
    let addresses = [
        (update.paths.email, Channel::Email, &planned.email),
        (update.paths.phone, Channel::Phone, &planned.phone),
    ];
    for (path, channel, address) in addresses {
        match address {
            AddressChange::Clear => {}
            AddressChange::Bind(folded, binding) => {
                if *binding != Binding::Unverified {
                    take_over(conn, login.user_id, channel, &folded.key, policy.names, now).await?;
                    proved.push(channel);
                }
                reservations.push(reservation(path, channel.as_str(), folded.key.clone()));
            }
            AddressChange::None
            | AddressChange::Verify
            | AddressChange::Confirm
            | AddressChange::Respell(_) => {
                continue;
            }
        }
        kinds.push(channel.as_str());
        released.extend(
            login
                .bound(channel)
                .map(|bound| (channel.as_str().to_owned(), bound.key, bound.verified)),
        );
    }
    if kinds.is_empty() {
        return Ok(());
    }
    if kinds.contains(&SKELETON) {
        // All of them: an older version may have reserved other look-alikes.
        unique_values::free_kind(conn, login.user_id, SKELETON).await?;
    }
    let held = released.iter().filter(|(kind, ..)| kind != SKELETON);
    let held = held
        .map(|(kind, value, _)| (kind.clone(), value.clone()))
        .collect();
    unique_values::free(conn, login.user_id, held).await?;
    if update.caller.user().is_some() {
        let is_kept = |kind: &str, value: &str| {
            reservations
                .iter()
                .any(|reservation| reservation.kind == kind && reservation.value == value)
        };
        released.retain(|(kind, value, _)| !is_kept(kind, value));
        set_aside(conn, login.user_id, &released, policy.names, now).await?;
    }
    reserve(conn, login.user_id, &reservations, &proved, now).await
}

/// Kinds and values that are unique to the user with this name.
fn values_of_username(name: &Normalized) -> impl Iterator<Item = (&'static str, String)> {
    let skeletons = skeletons(name).into_iter().map(|value| (SKELETON, value));
    std::iter::once(("username", name.key.clone())).chain(skeletons)
}

/// Removes the connections; gives the path where a way to log in went.
async fn unlink(conn: &mut AsyncPgConnection, change: &Change<'_>) -> Result<Option<&'static str>> {
    let UpdateAccount { user_id, patch, .. } = change.update;
    if patch.unlink.is_empty() {
        return Ok(None);
    }
    let connections = accounts::list_connections(conn, vec![*user_id]).await?;
    for connection_id in &patch.unlink {
        let found = connections
            .iter()
            .find(|connection| connection.connection_id == *connection_id);
        let connection = found.ok_or_else(|| connection_not_found(*connection_id))?;
        accounts::delete_connection(conn, *user_id, *connection_id).await?;
        let value = connection_key(&connection.provider, &connection.subject);
        unique_values::release(conn, *user_id, "connection", &value).await?;
    }
    Ok(Some("unlink_connection_id"))
}

/// The path of a way to log in that is cleared.
fn cleared(change: &Change<'_>, login: &Login) -> Option<&'static str> {
    if change.update.patch.username == Some(None) && login.username.is_some() {
        return Some("account.username");
    }
    if change.planned.email == AddressChange::Clear {
        return Some(change.update.paths.email);
    }
    (change.planned.phone == AddressChange::Clear).then_some(change.update.paths.phone)
}
