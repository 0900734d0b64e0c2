//! Writes a change of an account, once everything is proved.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use super::{
    Hashes, UpdateAccount, connection_not_found,
    notices::{self, Happened},
};
use crate::{
    domain::claims::{Claim, take},
    error::{Error, Reason, Result},
    model::{
        account::{Bound, Folded, Login, connection_key},
        account_change::{AddressChange, Binding, Plan},
        delivery::Channel,
        token::Revoked,
    },
    store::{
        accounts::{self, Address, Changes, Written},
        codes, tokens, unique_values,
    },
};

/// A change that may be made.
pub struct Change<'a> {
    pub update: &'a UpdateAccount,
    pub planned: &'a Plan,
    pub hashes: &'a Hashes,
    /// The profile's, for the notices.
    pub language: Option<&'a String>,
}

/// Makes the change, with all that hangs on it, and gives the account as it is then. The user's row is locked.
pub async fn apply(
    conn: &mut AsyncPgConnection,
    change: &Change<'_>,
    login: &Login,
    now: DateTime<Utc>,
) -> Result<Written> {
    let Change { update, planned, hashes, language } = change;
    let user_id = login.user_id;
    let is_user = update.caller.user().is_some();
    let patch = &update.patch;
    let mut changes = Changes {
        username: patch.username.clone(),
        email: address(&planned.email, login, Channel::Email, now),
        phone: address(&planned.phone, login, Channel::Phone, now),
        last_login_at: patch.last_login_at.filter(|at| !is_user || is_later(*at, login.last_login_at)),
        password_hash: hashes.password.clone(),
        wallet_password_hash: hashes.wallet_password.clone(),
        revoked: patch.password.is_some().then(|| (now, update.caller.token.map(|hash| hash.to_vec()))),
    };
    let changes_nothing = changes.username.is_none()
        && changes.email.is_none()
        && changes.phone.is_none()
        && changes.last_login_at.is_none()
        && patch.password.is_none()
        && patch.wallet_password.is_none()
        && patch.unlink.is_empty();
    if changes_nothing {
        return Ok(Written { login: login.clone(), has_connections: true });
    }
    confirm_unrestricted(&mut changes, login, patch.password.is_some());
    claim(conn, change, login).await?;
    let removed = unlink(conn, change).await?;
    let written = accounts::update(conn, user_id, changes).await?;
    let cleared = cleared(change, login);
    let lost = removed.or(cleared);
    if let Some(path) = lost
        && unique_values::count_credentials(conn, user_id).await? == 0
    {
        return Err(Error::new(Reason::LastCredential).with_precondition(path));
    }
    if patch.password.is_some() {
        let kept = update.caller.token.filter(|_| is_user).map(|hash| hash.to_vec());
        tokens::revoke_all(conn, user_id, kept, now).await?;
        codes::void(conn, user_id, now).await?;
    }
    if !patch.unlink.is_empty() {
        // A token of an identity provider may have spoken for the user by the connection.
        tokens::tell(conn, &[Revoked::User(user_id)]).await?;
    }
    let is_other = |change: &AddressChange| matches!(change, AddressChange::Bind(..) | AddressChange::Clear);
    let happened = Happened {
        email: is_other(&planned.email),
        phone: is_other(&planned.phone),
        password: patch.password.is_some(),
        wallet_password: patch.wallet_password.is_some(),
        unlinked: !patch.unlink.is_empty(),
    };
    notices::queue(conn, login, *language, happened, now).await?;
    Ok(written)
}

/// A user moves the last login forwards only.
fn is_later(given: Option<DateTime<Utc>>, stored: Option<DateTime<Utc>>) -> bool {
    given.is_some_and(|given| stored.is_none_or(|stored| given > stored))
}

/// What is written of an address.
fn address(change: &AddressChange, login: &Login, channel: Channel, now: DateTime<Utc>) -> Option<Option<Address>> {
    let bound = login.bound(channel);
    Some(match change {
        AddressChange::None => return None,
        AddressChange::Clear => None,
        AddressChange::Bind(folded, binding) => {
            let verified = *binding != Binding::Unverified;
            let bound_at = (*binding == Binding::Unconfirmed).then_some(now);
            Some(Address { folded: folded.clone(), verified, bound_at })
        }
        AddressChange::Respell(folded) => {
            bound.map(|bound| Address { folded: folded.clone(), verified: bound.verified, bound_at: bound.bound_at })
        }
        // An unverified address is one that came from a service, which vouches for it.
        AddressChange::Verify | AddressChange::Confirm => bound.map(|bound| Address {
            folded: Folded { shown: bound.shown, key: bound.key },
            verified: true,
            bound_at: None,
        }),
    })
}

/// Confirms addresses that no older factor restricts any more after the change. Such an address stays confirmed: a factor
/// that comes later is not older.
fn confirm_unrestricted(changes: &mut Changes, login: &Login, sets_password: bool) {
    let mut after = login.clone();
    if sets_password {
        // In a dry run it is not hashed.
        after.password_hash.get_or_insert_default();
    }
    for (channel, changed) in [(Channel::Email, &changes.email), (Channel::Phone, &changes.phone)] {
        if let Some(address) = changed {
            after.bind(
                channel,
                address.as_ref().map(|address| Bound {
                    shown: address.folded.shown.clone(),
                    key: address.folded.key.clone(),
                    verified: address.verified,
                    bound_at: address.bound_at,
                }),
            );
        }
    }
    for (channel, changed) in [(Channel::Email, &mut changes.email), (Channel::Phone, &mut changes.phone)] {
        if let Some(bound) = after.confirmed(channel).filter(|bound| bound.bound_at.is_some()) {
            let folded = Folded { shown: bound.shown, key: bound.key };
            *changed = Some(Some(Address { folded, verified: true, bound_at: None }));
        }
    }
}

/// Brings the unique values in line. One who proved an address takes it from another who has not.
async fn claim(conn: &mut AsyncPgConnection, change: &Change<'_>, login: &Login) -> Result<()> {
    let paths = change.update.paths;
    let mut kinds = Vec::new();
    let mut claims = Vec::new();
    if let Some(username) = &change.update.patch.username {
        kinds.push("username".to_owned());
        let claim = |folded: &Folded| Claim {
            path: "account.username".to_owned(),
            kind: "username".to_owned(),
            value: folded.key.clone(),
        };
        claims.extend(username.as_ref().map(claim));
    }
    let addresses =
        [(Channel::Email, paths.email, &change.planned.email), (Channel::Phone, paths.phone, &change.planned.phone)];
    for (channel, path, planned) in addresses {
        match planned {
            AddressChange::Clear => kinds.push(channel.as_str().to_owned()),
            AddressChange::Bind(folded, binding) => {
                if *binding != Binding::Unverified {
                    take_over(conn, login.user_id, channel, &folded.key).await?;
                }
                kinds.push(channel.as_str().to_owned());
                let (path, kind) = (path.to_owned(), channel.as_str().to_owned());
                claims.push(Claim { path, kind, value: folded.key.clone() });
            }
            AddressChange::None | AddressChange::Verify | AddressChange::Confirm | AddressChange::Respell(_) => {}
        }
    }
    if kinds.is_empty() {
        return Ok(());
    }
    unique_values::free(conn, login.user_id, kinds).await?;
    take(conn, login.user_id, &claims).await
}

/// Frees an address that another user holds without having proved it, unless it is that user's last way to log in.
/// One that stays is told with all else that is taken.
async fn take_over(conn: &mut AsyncPgConnection, user_id: i64, channel: Channel, key: &str) -> Result<()> {
    let kind = channel.as_str();
    let Some(holder) = unique_values::find(conn, kind, key).await?.filter(|holder| *holder != user_id) else {
        return Ok(());
    };
    // Two users who lock each other's rows are a deadlock, which is tried again.
    let other = accounts::lock(conn, holder).await?;
    let Some(other) = other.and_then(|other| other.login.bound(channel)).filter(|bound| bound.key == key) else {
        return Ok(());
    };
    if other.verified || unique_values::count_credentials(conn, holder).await? <= 1 {
        return Ok(());
    }
    unique_values::release(conn, holder, kind, key).await?;
    let mut changes = Changes::default();
    match channel {
        Channel::Email => changes.email = Some(None),
        Channel::Phone => changes.phone = Some(None),
    }
    accounts::update(conn, holder, changes).await?;
    Ok(())
}

/// Removes the connections; gives the path where a way to log in went.
async fn unlink(conn: &mut AsyncPgConnection, change: &Change<'_>) -> Result<Option<&'static str>> {
    let UpdateAccount { user_id, patch, .. } = change.update;
    if patch.unlink.is_empty() {
        return Ok(None);
    }
    let connections = accounts::list_connections(conn, vec![*user_id]).await?;
    for connection_id in &patch.unlink {
        let found = connections.iter().find(|connection| connection.connection_id == *connection_id);
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
