//! GetProfile, ListProfiles and UpdateProfile.

use std::sync::Arc;

use prost::Message;
use serde_json::Value;

use super::{Api, reply};
use crate::{
    domain::{
        caller::Caller,
        profiles::{Listing, Update},
    },
    error::{Error, Fault, Reason, Result, Violations},
    model::{
        account::{UserKey, connection_key},
        change,
        field::Fields,
        filter::{self, Column},
        order, page,
        profile::{AccountMask, Profile, ReadMask, parse_etag},
        scope::Scope,
    },
    store::listing::{Selection, place},
    wire::{
        json, key, mask,
        pb::{self, get_profile_request::Key},
        profile,
        user::check_request_id,
    },
};

/// Bytes of profiles after which a page ends early.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

impl Api {
    /// Reads one profile.
    pub async fn get_profile(&self, caller: &Caller, request: pb::GetProfileRequest) -> Result<pb::GetProfileResponse> {
        let by_account =
            matches!(request.key, Some(Key::Username(_) | Key::Email(_) | Key::Phone(_) | Key::Connection(_)));
        if caller.user().is_none() && (by_account || mask::names_account(request.read_mask.as_ref())) {
            caller.require(Scope::AccountsRead)?;
        }
        let mut faults = Violations::new();
        let lookup = lookup(caller, request.key, &mut faults);
        let lookup = match (caller.user(), lookup) {
            (Some(own), Some(UserKey::Id(user_id))) => {
                caller.must_own(user_id)?;
                Some(UserKey::Id(own))
            }
            // Another's key and nobody's are the same to a user.
            (Some(own), Some(UserKey::Unique(kind, value))) => match self.0.profiles.find_user(kind, &value).await? {
                Some(found) if found == own => Some(UserKey::Id(own)),
                _ => return Err(Error::new(Reason::NotOwner)),
            },
            (_, lookup) => lookup,
        };
        let fields = self.0.fields.knowing(mask::custom_names(request.read_mask.as_ref())).await?;
        let mask = mask::read(request.read_mask, &fields, &mut faults);
        faults.into_result()?;
        let lookup = lookup.expect("valid: a key that cannot be read is a fault");
        let with_account = mask.account != AccountMask::None;
        let (found, account) = self.0.profiles.get(&lookup, with_account).await?;
        // Another caller of the same moment has a copy.
        let found = Arc::unwrap_or_clone(found);
        Ok(pb::GetProfileResponse { profile: Some(profile::message(found, account.as_ref(), &mask, &fields)) })
    }

    /// Reads many profiles by any mixture of keys.
    pub async fn batch_get_profiles(
        &self,
        _: &Caller,
        _: pb::BatchGetProfilesRequest,
    ) -> Result<pb::BatchGetProfilesResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }

    /// Lists profiles.
    pub async fn list_profiles(
        &self,
        caller: &Caller,
        request: pb::ListProfilesRequest,
    ) -> Result<pb::ListProfilesResponse> {
        let filter = request.filter.map(json::object).unwrap_or_default();
        if mask::names_account(request.read_mask.as_ref()) || names_account(&filter) {
            caller.require(Scope::AccountsRead)?;
        }
        let mut faults = Violations::new();
        let named = mask::custom_names(request.read_mask.as_ref()).chain(custom_names(&filter));
        let named = named.chain(order::custom_names(&request.order_by));
        let fields = self.0.fields.knowing(named).await?;
        let mask = mask::read(request.read_mask, &fields, &mut faults);
        let limit = page::size(request.page_size, &mut faults);
        let skip = page::skip(request.skip, &mut faults);
        faults.into_result()?;
        let query = query_hash(&filter);
        let filter = filter::parse(filter, &fields)?;
        let order = order::parse(&request.order_by, &fields)?;
        let query = format!("{query} {}", order::signature(&order));
        let now = self.0.clock.now();
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(page::read(&self.0.keys, &query, token, now)?),
        };
        let listing = Listing {
            selection: Selection {
                filter,
                order: order.clone(),
                skip: if after.is_some() { 0 } else { skip },
                after,
                limit,
                with_document: mask.custom.is_any()
                    || order.iter().any(|order| matches!(order.key, order::Key::Custom(_))),
            },
            with_total: request.return_total_size,
            with_accounts: mask.account != AccountMask::None,
        };
        let mut room = PAGE_BYTES;
        let show = |row: Profile| {
            let here = place(&order, &row);
            let message = profile::message(row, None, &mask, &fields);
            let is_first = room == PAGE_BYTES;
            let left = room.checked_sub(message.encoded_len());
            room = left.unwrap_or_default();
            (is_first || left.is_some()).then_some((message, here))
        };
        let page = self.0.profiles.list(listing, show).await?;
        let (mut profiles, mut bytes, mut has_more, mut last) = (Vec::new(), 0, page.has_more, None);
        for ((mut message, here), account) in page.rows {
            message.account = account.and_then(|view| profile::account_message(&view, &mask.account));
            bytes += message.encoded_len();
            if bytes > PAGE_BYTES && !profiles.is_empty() {
                has_more = true;
                break;
            }
            profiles.push(message);
            last = Some(here);
        }
        let next_page_token = match last {
            Some(last) if has_more => page::write(&self.0.keys, &query, last, now),
            _ => String::new(),
        };
        Ok(pb::ListProfilesResponse { profiles, next_page_token, total_size: page.total })
    }

    /// Changes named fields of one profile.
    pub async fn update_profile(
        &self,
        caller: &Caller,
        request: pb::UpdateProfileRequest,
    ) -> Result<pb::UpdateProfileResponse> {
        caller.must_own(request.user_id)?;
        let mut faults = Violations::new();
        let paths = mask::paths("update_mask", request.update_mask.clone(), &mut faults);
        let names_login = paths.iter().any(|path| path == "openid" || path == "unionid");
        if caller.user().is_none() && names_login {
            caller.require(Scope::AccountsWrite)?;
        }
        let custom = request.custom_fields.clone().map(json::object).unwrap_or_default();
        let names: Vec<String> = change::names(&custom);
        let fields = self.0.fields.knowing(names.iter().map(String::as_str)).await?;
        if caller.user().is_some() {
            let is_in = |list: &[&str], path: &String| list.contains(&path.as_str());
            let may_not =
                |path: &String| is_in(profile::SERVICE_WRITABLE, path) && !is_in(profile::USER_WRITABLE, path);
            let closed = |name: &String| fields.get(name).is_some_and(|field| !field.user_writable);
            if paths.iter().any(may_not) || names.iter().any(closed) {
                return Err(Error::scope_missing(Scope::ProfilesWrite.as_str()));
            }
        }
        let once = match request.validate_only {
            true => None,
            false => self.once(caller, "UpdateProfile", &request.request_id, &request),
        };
        if let Some(kept) = self.kept(once.as_ref()).await? {
            return Ok(kept);
        }

        check_request_id(&request.request_id, &mut faults);
        let user_id = faults.check("user_id", caller.target(request.user_id));
        if paths.is_empty() && (request.profile.is_some() || change::is_empty(&custom)) {
            faults.add("update_mask", Fault::Required, "must name the fields that change");
        }
        let builtin = profile::patch(request.profile.unwrap_or_default(), &paths, &mut faults);
        let changes = change::parse(custom, &fields, &mut faults);
        faults.into_result()?;
        let update = Update {
            user_id: user_id.expect("valid: a bad id is a fault"),
            builtin,
            changes: changes?,
            version: (!request.etag.is_empty()).then(|| parse_etag(&request.etag)),
            validate_only: request.validate_only,
            once,
        };
        let outcome =
            self.0.profiles.update(&update, |profile| updated(profile.clone(), &fields).encode_to_vec()).await?;
        reply(outcome, |profile| updated(profile, &fields))
    }
}

fn updated(profile: Profile, fields: &Fields) -> pb::UpdateProfileResponse {
    pb::UpdateProfileResponse { profile: Some(profile::message(profile, None, &ReadMask::default_fields(), fields)) }
}

/// Whether a filter names a field of the account anywhere, which asks for more rights.
pub fn names_account(filter: &serde_json::Map<String, Value>) -> bool {
    filter::names(filter).into_iter().filter_map(Column::parse).any(Column::is_of_account)
}

/// The custom fields that a filter names, before a dot too.
pub fn custom_names(filter: &serde_json::Map<String, Value>) -> impl Iterator<Item = &str> {
    let names = filter::names(filter).into_iter().filter(|name| Column::parse(name).is_none());
    names.map(|name| name.split('.').next().unwrap_or_default())
}

/// The part of a query to which a page token is bound whatever its order.
pub fn query_hash(filter: &serde_json::Map<String, Value>) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = serde_json::to_string(filter).expect("valid: plain JSON");
    URL_SAFE_NO_PAD.encode(&crate::model::token::hash(&text)[..16])
}

fn lookup(caller: &Caller, given: Option<Key>, faults: &mut Violations) -> Option<UserKey> {
    match given {
        None => match caller.user() {
            Some(own) => Some(UserKey::Id(own)),
            None => {
                faults.add("user_id", Fault::Required, "a service must name a user");
                None
            }
        },
        Some(Key::UserId(user_id)) if caller.user().is_some_and(|own| user_id != 0 && user_id != own) => {
            Some(UserKey::Id(user_id))
        }
        Some(Key::UserId(user_id)) => faults.check("user_id", caller.target(user_id)).map(UserKey::Id),
        Some(Key::Username(given)) => key::unique("username", &given, faults),
        Some(Key::Email(given)) => key::unique("email", &given, faults),
        Some(Key::Phone(given)) => key::unique("phone", &given, faults),
        Some(Key::Openid(given)) => key::unique("openid", &given, faults),
        Some(Key::Unionid(given)) => key::unique("unionid", &given, faults),
        Some(Key::Connection(given)) => {
            let provider = key::value("connection.provider", &given.provider, faults);
            let subject = key::value("connection.subject", &given.subject, faults);
            Some(UserKey::Unique("connection", connection_key(&provider?, &subject?)))
        }
    }
}
