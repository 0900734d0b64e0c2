//! GetProfile, BatchGetProfiles, ListProfiles and UpdateProfile.

use std::sync::Arc;

use prost::Message;
use serde_json::Value;

use super::Api;
use crate::{
    convert::{
        json, key, mask,
        pb::{self, profile_key::Key},
        profile,
        user::check_request_id,
    },
    domain::{
        caller::Caller,
        idempotency,
        profiles::{Listing, Update},
    },
    error::{Error, FieldError, Reason, Result, Violations},
    model::{
        account::UserKey,
        field::Fields,
        filter::{self, Column},
        order, page,
        profile::{AccountMask, Profile, ReadMask, parse_etag},
        scope::Scope,
        update,
    },
    store::listing::{Selection, place},
};

/// Most bytes of the profiles of one response.
const RESPONSE_BYTES: usize = 3 * 1024 * 1024;

/// Bytes of the index of the next key in a response.
const NEXT_KEY_BYTES: usize = 3;

/// What is left of the size of a response. Its first part always fits, so that every response makes progress.
struct InFlightPermit {
    left: usize,
    is_empty: bool,
}

impl InFlightPermit {
    fn new() -> Self {
        Self::beside(0)
    }

    /// The room beside so many bytes of other fields.
    fn beside(others: usize) -> Self {
        Self { left: RESPONSE_BYTES - others, is_empty: true }
    }

    /// Takes the room for so many bytes; false where there is no more.
    fn take(&mut self, bytes: usize) -> bool {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or_default();
        is_first || left.is_some()
    }
}

impl Api {
    /// Reads one profile.
    pub async fn get_profile(&self, caller: &Caller, request: pb::GetProfileRequest) -> Result<pb::GetProfileResponse> {
        let key = request.key.map(Key::from);
        let by_account = key.as_ref().is_some_and(key::is_of_account);
        if caller.user().is_none() && (by_account || mask::names_account(request.read_mask.as_ref())) {
            caller.require(Scope::AccountsRead)?;
        }
        let mut violations = Violations::new();
        let lookup = lookup(caller, key, &mut violations);
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
        let fields = self.0.fields.load_including(mask::custom_names(request.read_mask.as_ref())).await?;
        let mask = mask::read(request.read_mask, &fields, &mut violations);
        violations.into_result()?;
        let lookup = lookup.expect("valid: a key that cannot be read is a fault");
        let with_account = mask.account != AccountMask::None;
        let (found, account) = self.0.profiles.get(&lookup, with_account).await?;
        // Another caller of the same moment has a copy.
        let found = Arc::unwrap_or_clone(found);
        Ok(pb::GetProfileResponse { profile: Some(profile::message(found, account.as_ref(), &mask, &fields)) })
    }

    /// Reads many profiles by any mixture of keys.
    ///
    /// # Errors
    /// Those of BatchGetProfiles.
    pub async fn batch_get_profiles(
        &self,
        caller: &Caller,
        request: pb::BatchGetProfilesRequest,
    ) -> Result<pb::BatchGetProfilesResponse> {
        let mut given = request.keys.iter().filter_map(|key| key.key.as_ref());
        if given.any(key::is_of_account) || mask::names_account(request.read_mask.as_ref()) {
            caller.require(Scope::AccountsRead)?;
        }
        let mut violations = Violations::new();
        let keys = key::batch(request.keys, &mut violations);
        let fields = self.0.fields.load_including(mask::custom_names(request.read_mask.as_ref())).await?;
        let mask = mask::read(request.read_mask, &fields, &mut violations);
        violations.into_result()?;
        let mut room = InFlightPermit::new();
        let show = |found: Profile| {
            let message = profile::message(found, None, &mask, &fields);
            room.take(message.encoded_len()).then_some(message)
        };
        let found = self.0.profiles.get_many(&keys, mask.account != AccountMask::None, show).await?;
        let mut room = InFlightPermit::beside(NEXT_KEY_BYTES);
        let mut results = Vec::with_capacity(found.len());
        for found in found {
            let profile = found.map(|(mut message, account)| {
                message.account = account.and_then(|view| profile::account_message(&view, &mask.account));
                message
            });
            let result = pb::BatchGetProfilesResult { profile };
            if !room.take(framed_len(&result)) {
                break;
            }
            results.push(result);
        }
        let next_key_index = if results.len() < keys.len() { results.len() as i32 } else { 0 };
        Ok(pb::BatchGetProfilesResponse { results, next_key_index })
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
        let mut violations = Violations::new();
        let named = mask::custom_names(request.read_mask.as_ref()).chain(custom_names(&filter));
        let named = named.chain(order::custom_names(&request.order_by));
        let fields = self.0.fields.load_including(named).await?;
        let mask = mask::read(request.read_mask, &fields, &mut violations);
        let limit = page::size(request.page_size, &mut violations);
        let skip = page::skip(request.skip, &mut violations);
        violations.into_result()?;
        let query = query_hash(&filter);
        let filter = filter::parse(filter, &fields)?;
        let named = order::parse_named(&request.order_by, &fields)?;
        let query = format!("{query} {}", order::signature(&named));
        let now = self.0.clock.now();
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(page::read(&self.0.keys, &query, token, now)?),
        };
        let order = match &after {
            None => order::with_ties(named),
            // An index that was declared or removed meanwhile changes how a list begins, not how it goes on.
            Some(place) => order::continued(&named, place.len()).ok_or_else(page::mismatch)?,
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
        let mut room = InFlightPermit::new();
        let show = |row: Profile| {
            let here = place(&order, &row);
            let message = profile::message(row, None, &mask, &fields);
            room.take(message.encoded_len()).then_some((message, here))
        };
        let page = self.0.profiles.list(listing, show).await?;
        let mut room = InFlightPermit::new();
        let (mut profiles, mut has_more, mut last) = (Vec::new(), page.has_more, None);
        for ((mut message, here), account) in page.rows {
            message.account = account.and_then(|view| profile::account_message(&view, &mask.account));
            if !room.take(message.encoded_len()) {
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
        let mut violations = Violations::new();
        let paths = mask::paths("update_mask", request.update_mask.clone(), &mut violations);
        let names_login = paths.iter().any(|path| path == "openid" || path == "unionid");
        if caller.user().is_none() && names_login {
            caller.require(Scope::AccountsWrite)?;
        }
        let custom = request.custom_fields.clone().map(json::object).unwrap_or_default();
        let names: Vec<String> = update::names(&custom);
        let names_group = !request.add_group_ids.is_empty() || !request.remove_group_ids.is_empty();
        let fields = self.0.fields.load_including(names.iter().map(String::as_str)).await?;
        if caller.user().is_some() {
            let is_in = |list: &[&str], path: &String| list.contains(&path.as_str());
            let may_not =
                |path: &String| is_in(profile::SERVICE_WRITABLE, path) && !is_in(profile::USER_WRITABLE, path);
            let closed = |name: &String| fields.get(name).is_some_and(|field| !field.user_writable);
            if paths.iter().any(may_not) || names.iter().any(closed) || names_group {
                return Err(Error::scope_missing(Scope::ProfilesWrite.as_str()));
            }
        }
        let key = match request.validate_only {
            true => None,
            false => self.idempotency_key(caller, "UpdateProfile", &request.request_id, &request),
        };
        let update = async {
            check_request_id(&request.request_id, &mut violations);
            let user_id = violations.check("user_id", caller.target(request.user_id));
            let groups = profile::groups(request.add_group_ids, request.remove_group_ids, &mut violations);
            profile::check_groups(&paths, &groups, &mut violations);
            let changes_nothing_else = update::is_empty(&custom) && !names_group;
            if paths.is_empty() && (request.profile.is_some() || changes_nothing_else) {
                violations.add("update_mask", FieldError::Required, "must list the fields to update");
            }
            let builtin = profile::patch(request.profile.unwrap_or_default(), &paths, &mut violations);
            let changes = update::parse(custom, &fields, &mut violations);
            violations.into_result()?;
            let update = Update {
                user_id: user_id.expect("valid: a bad id is a fault"),
                builtin,
                groups,
                changes: changes?,
                version: (!request.etag.is_empty()).then(|| parse_etag(&request.etag)),
                validate_only: request.validate_only,
            };
            self.0.profiles.update(&update, key.as_ref(), |profile| updated(profile, &fields)).await
        };
        idempotency::respond(key.as_ref(), update).await
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

/// The key of a single read, in which no key and the id 0 mean the authenticated user.
fn lookup(caller: &Caller, given: Option<Key>, violations: &mut Violations) -> Option<UserKey> {
    match (given, caller.user()) {
        (None | Some(Key::UserId(0)), Some(own)) => Some(UserKey::Id(own)),
        // Whatever else it is, it is not the user's own, which its caller reports.
        (Some(Key::UserId(user_id)), Some(_)) => Some(UserKey::Id(user_id)),
        (None, None) => {
            violations.add("user_id", FieldError::Required, "is required with a service token");
            None
        }
        (Some(given), _) => key::read(given, violations),
    }
}

/// The bytes of a message as an element of a list with a field number below 16.
fn framed_len(message: &impl Message) -> usize {
    let size = message.encoded_len();
    1 + prost::length_delimiter_len(size) + size
}
