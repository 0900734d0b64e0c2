//! GetProfile, BatchGetProfiles, ListProfiles and UpdateProfile.

use std::sync::Arc;

use super::Api;
use crate::{
    convert::{
        budget::ResponseBudget,
        json, key, mask,
        pb::{self, profile_key::Key},
        profile,
        user::check_request_id,
    },
    domain::{
        authorization::{Action, USER_WRITABLE, authorize},
        caller::Caller,
        idempotency,
        profiles::{Listing, Update},
    },
    error::{Error, FieldError, Reason, Result, Violations},
    model::{
        account::UserKey,
        field::Fields,
        filter, order, page,
        profile::{AccountMask, Profile, ReadMask, parse_etag},
        update,
    },
};

impl Api {
    /// Reads one profile.
    pub async fn get_profile(
        &self,
        caller: &Caller,
        request: pb::GetProfileRequest,
    ) -> Result<pb::GetProfileResponse> {
        let key = request.key.map(Key::from);
        let by_account = key.as_ref().is_some_and(key::is_of_account);
        let reads_account = by_account || mask::names_account(request.read_mask.as_ref());
        authorize(
            caller,
            "GetProfile",
            None,
            reads_account.then_some(Action::ReadAccount).as_slice(),
        )?;
        let mut violations = Violations::new();
        let lookup = lookup(caller, key, &mut violations);
        let lookup = match (caller.user(), lookup) {
            (Some(own), Some(UserKey::Id(user_id))) => {
                authorize(caller, "GetProfile", Some(user_id), &[])?;
                Some(UserKey::Id(own))
            }
            // A user can't tell the key of another user from one that no user has.
            (Some(own), Some(UserKey::Unique(kind, value))) => {
                match self.0.profiles.find_user(kind, &value).await? {
                    Some(found) if found == own => Some(UserKey::Id(own)),
                    _ => return Err(Error::new(Reason::NotOwner)),
                }
            }
            (_, lookup) => lookup,
        };
        let fields = self
            .0
            .fields
            .load_including(mask::custom_names(request.read_mask.as_ref()))
            .await?;
        let mask = mask::read(request.read_mask, &fields, &mut violations);
        violations.into_result()?;
        let lookup = lookup.expect("valid: a key that cannot be read is a violation");
        let with_account = mask.account != AccountMask::None;
        let (found, account) = self.0.profiles.get(&lookup, with_account).await?;
        // Another caller of the same moment has a copy.
        let found = Arc::unwrap_or_clone(found);
        Ok(pb::GetProfileResponse {
            profile: Some(profile::message(found, account.as_ref(), &mask, &fields)),
        })
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
        let reads_account =
            given.any(key::is_of_account) || mask::names_account(request.read_mask.as_ref());
        authorize(
            caller,
            "BatchGetProfiles",
            None,
            reads_account.then_some(Action::ReadAccount).as_slice(),
        )?;
        let mut violations = Violations::new();
        let keys = key::batch(request.keys, &mut violations);
        let fields = self
            .0
            .fields
            .load_including(mask::custom_names(request.read_mask.as_ref()))
            .await?;
        let mask = mask::read(request.read_mask, &fields, &mut violations);
        violations.into_result()?;
        let mut budget = ResponseBudget::for_list();
        let show = |found: Profile| {
            let message = profile::message(found, None, &mask, &fields);
            budget.add(&message).then_some(message)
        };
        let found = self
            .0
            .profiles
            .get_many(&keys, mask.account != AccountMask::None, show)
            .await?;
        let mut budget = ResponseBudget::for_batch();
        let mut results = Vec::with_capacity(found.len());
        for found in found {
            let profile = found.map(|(mut message, account)| {
                message.account =
                    account.and_then(|view| profile::account_message(&view, &mask.account));
                message
            });
            let result = pb::BatchGetProfilesResult { profile };
            if !budget.add_framed(&result) {
                break;
            }
            results.push(result);
        }
        let next_key_index = if results.len() < keys.len() {
            results.len() as i32
        } else {
            0
        };
        Ok(pb::BatchGetProfilesResponse {
            results,
            next_key_index,
        })
    }

    /// Lists profiles.
    pub async fn list_profiles(
        &self,
        caller: &Caller,
        request: pb::ListProfilesRequest,
    ) -> Result<pb::ListProfilesResponse> {
        let filter = request.filter.map(json::object).unwrap_or_default();
        let reads_account =
            mask::names_account(request.read_mask.as_ref()) || filter::names_account(&filter);
        authorize(
            caller,
            "ListProfiles",
            None,
            reads_account.then_some(Action::ReadAccount).as_slice(),
        )?;
        let mut violations = Violations::new();
        let named =
            mask::custom_names(request.read_mask.as_ref()).chain(filter::custom_names(&filter));
        let named = named.chain(order::custom_names(&request.order_by));
        let fields = self.0.fields.load_including(named).await?;
        let mask = mask::read(request.read_mask, &fields, &mut violations);
        let limit = self.0.pages.size(request.page_size, &mut violations);
        let skip = page::skip(request.skip, &mut violations);
        violations.into_result()?;
        let query_hash = filter::query_hash(&filter);
        let listing = Listing {
            filter: filter::parse(filter, &fields)?,
            query_hash,
            order: order::parse_named(&request.order_by, &fields)?,
            page_token: request.page_token,
            skip,
            limit,
            with_custom_fields: mask.custom.is_any(),
            with_total: request.return_total_size,
            with_accounts: mask.account != AccountMask::None,
        };
        let mut budget = ResponseBudget::for_list();
        let show = |row: Profile| {
            let message = profile::message(row, None, &mask, &fields);
            budget.add(&message).then_some(message)
        };
        let page = self.0.profiles.list(listing, show).await?;
        let mut budget = ResponseBudget::for_list();
        let mut profiles = Vec::with_capacity(page.rows.len());
        for (mut message, account) in page.rows {
            message.account =
                account.and_then(|view| profile::account_message(&view, &mask.account));
            if !budget.add(&message) {
                break;
            }
            profiles.push(message);
        }
        let next_page_token = page.next.token_after(profiles.len());
        Ok(pb::ListProfilesResponse {
            profiles,
            next_page_token,
            total_size: page.total,
        })
    }

    /// Changes named fields of one profile.
    pub async fn update_profile(
        &self,
        caller: &Caller,
        request: pb::UpdateProfileRequest,
    ) -> Result<pb::UpdateProfileResponse> {
        let mut violations = Violations::new();
        let paths = mask::paths("update_mask", request.update_mask.clone(), &mut violations);
        let names_platform_id = paths
            .iter()
            .any(|path| path == "openid" || path == "unionid");
        let actions = names_platform_id.then_some(Action::ChangePlatformId);
        authorize(
            caller,
            "UpdateProfile",
            Some(request.user_id),
            actions.as_slice(),
        )?;
        let custom = request
            .custom_fields
            .clone()
            .map(json::object)
            .unwrap_or_default();
        let names: Vec<String> = update::names(&custom);
        let names_group = !request.add_group_ids.is_empty() || !request.remove_group_ids.is_empty();
        let fields = self
            .0
            .fields
            .load_including(names.iter().map(String::as_str))
            .await?;
        let is_writable = |path: &String| USER_WRITABLE.contains(&path.as_str());
        let is_known = |path: &String| profile::SERVICE_WRITABLE.contains(&path.as_str());
        let is_closed = |name: &String| fields.get(name).is_some_and(|field| !field.user_writable);
        let names_service_field = paths
            .iter()
            .any(|path| is_known(path) && !is_writable(path))
            || names.iter().any(is_closed)
            || names_group;
        // After the definitions are read, which say what a user may write.
        authorize(
            caller,
            "UpdateProfile",
            None,
            names_service_field
                .then_some(Action::ChangeServiceField)
                .as_slice(),
        )?;
        let key = if request.validate_only {
            None
        } else {
            self.idempotency_key(caller, "UpdateProfile", &request.request_id, &request)
        };
        let update = async {
            check_request_id(&request.request_id, &mut violations);
            let user_id = violations.check("user_id", caller.target(request.user_id));
            let groups = profile::groups(
                request.add_group_ids,
                request.remove_group_ids,
                &mut violations,
            );
            profile::check_groups(&paths, &groups, &mut violations);
            let changes_nothing_else = update::is_empty(&custom) && !names_group;
            if paths.is_empty() && (request.profile.is_some() || changes_nothing_else) {
                violations.add(
                    "update_mask",
                    FieldError::Required,
                    "must list the fields to update",
                );
            }
            let builtin =
                profile::patch(request.profile.unwrap_or_default(), &paths, &mut violations);
            let changes = update::parse(custom, &fields, &mut violations);
            violations.into_result()?;
            let update = Update {
                user_id: user_id.expect("valid: a bad id is a violation"),
                builtin,
                groups,
                changes: changes?,
                version: (!request.etag.is_empty()).then(|| parse_etag(&request.etag)),
                validate_only: request.validate_only,
            };
            self.0
                .profiles
                .update(&update, key.as_ref(), |profile| updated(profile, &fields))
                .await
        };
        idempotency::respond(key.as_ref(), update).await
    }
}

fn updated(profile: Profile, fields: &Fields) -> pb::UpdateProfileResponse {
    pb::UpdateProfileResponse {
        profile: Some(profile::message(
            profile,
            None,
            &ReadMask::default_fields(),
            fields,
        )),
    }
}

/// The key of a single read, in which no key and the id 0 mean the authenticated user.
fn lookup(caller: &Caller, given: Option<Key>, violations: &mut Violations) -> Option<UserKey> {
    match (given, caller.user()) {
        (None | Some(Key::UserId(0)), Some(own)) => Some(UserKey::Id(own)),
        // Whatever else it is, it is not the user's own, which its caller reports.
        (Some(Key::UserId(user_id)), Some(_)) => Some(UserKey::Id(user_id)),
        (None, None) => {
            violations.add(
                "user_id",
                FieldError::Required,
                "is required with a service token",
            );
            None
        }
        (Some(given), _) => key::read(given, violations),
    }
}
