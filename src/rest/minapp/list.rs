//! Lists of users, in both versions.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{
    id, in_production,
    keys::Keys,
    language::Language,
    object,
    page::{Page, Params},
    single,
};
use crate::{
    convert::{json, pb},
    domain::authorization::authorize_method,
    error::{Error, FieldError, Result},
    rest::{call::Call, error::RestError},
};

/// What the lists of v2 take, besides the conditions of v1, which some clients send with every
/// version.
const PARAMETERS: &[&str] = &["where", "order_by", "return_total_count", "keys", "expand"];

/// `GET …/miniapp/user_profile/` from v2.2 on: counts where it is asked to.
pub(super) async fn second_version(call: Call) -> Result<Response, RestError> {
    list_v2(&call, false).await
}

/// Before v2.2, and `GET v1/user/info/`: the same, and always counts.
pub(super) async fn counted(call: Call) -> Result<Response, RestError> {
    list_v2(&call, true).await
}

async fn list_v2(call: &Call, is_counted: bool) -> Result<Response, RestError> {
    let params = Params::read(call, &[PARAMETERS, CONDITIONS].concat())?;
    in_production(call)?;
    let return_total_size = params.flag("return_total_count")? || is_counted;
    let fields = call.api().definitions().await?;
    let country_code = &call.gateway.config.country_code;
    let language = Language {
        fields: &fields,
        country_code,
    };
    let filter = both(language.filter(params.get("where"))?, conditions(&params)?);
    let request = pb::ListProfilesRequest {
        filter: Some(json::to_struct(filter.iter())),
        order_by: params
            .get("order_by")
            .map(Language::order)
            .transpose()?
            .unwrap_or_default(),
        return_total_size,
        read_mask: object::mask(&call.caller),
        ..Default::default()
    };
    let keys = Keys::read(&params, || object::sample_v2(&fields))?;
    list(call, &params, request, |profile| {
        keys.select(object::v2(profile, &fields, country_code))
    })
    .await
}

/// What matches both filters.
fn both(one: Map<String, Value>, other: Map<String, Value>) -> Map<String, Value> {
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other,
        (_, true) => one,
        _ => Map::from_iter([("$and".to_owned(), json!([one, other]))]),
    }
}

/// `GET v1/miniapp/user-profile/`: one user by `user_id` alone, and a list by anything else.
pub(super) async fn first_version(call: Call) -> Result<Response, RestError> {
    in_production(&call)?;
    if let [(name, value)] = call.query.as_slice()
        && name == "user_id"
    {
        return single::show_v1(&call, id(value)?).await;
    }
    // Users may not list; the rule of the single user let the call through.
    authorize_method(&call.caller, "ListProfiles")?;
    let params = Params::read(
        &call,
        &[CONDITIONS, &["order_by", "keys", "expand"]].concat(),
    )?;
    let request = pb::ListProfilesRequest {
        filter: Some(json::to_struct(conditions(&params)?.iter())),
        order_by: match params.get("order_by").unwrap_or_default() {
            order @ ("" | "created_at" | "-created_at") => order.to_owned(),
            _ => {
                return Err(Error::invalid(
                    "order_by",
                    FieldError::Unknown,
                    "must be created_at or -created_at",
                )
                .into());
            }
        },
        return_total_size: true,
        ..Default::default()
    };
    let keys = Keys::read(&params, || object::v1(pb::Profile::default()))?;
    list(&call, &params, request, |profile| {
        keys.select(object::v1(profile))
    })
    .await
}

/// The conditions of v1, each a parameter.
const CONDITIONS: &[&str] = &[
    "created_at",
    "created_at__gt",
    "created_at__gte",
    "created_at__lt",
    "created_at__lte",
    "gender",
    "group__in",
    "nickname",
    "nickname__contains",
    "openid",
    "unionid",
    "user_id",
];

fn conditions(params: &Params<'_>) -> Result<Map<String, Value>> {
    let mut conditions = Vec::new();
    for (name, operator) in [
        ("created_at", "$eq"),
        ("created_at__gt", "$gt"),
        ("created_at__gte", "$gte"),
        ("created_at__lt", "$lt"),
        ("created_at__lte", "$lte"),
    ] {
        if let Some(seconds) = params.number(name)? {
            conditions.push(json!({ "created_at": { operator: seconds } }));
        }
    }
    for name in ["gender", "user_id"] {
        if let Some(number) = params.number(name)? {
            conditions.push(json!({ name: { "$eq": number } }));
        }
    }
    for name in ["nickname", "openid", "unionid"] {
        if let Some(text) = params.get(name) {
            conditions.push(json!({ name: { "$eq": text } }));
        }
    }
    if let Some(text) = params.get("nickname__contains") {
        conditions.push(json!({ "nickname": { "$contains": text } }));
    }
    if let Some(groups) = params.get("group__in") {
        let error = || {
            Error::invalid(
                "group__in",
                FieldError::Format,
                "must be comma-separated group IDs",
            )
        };
        let groups = groups
            .split(',')
            .map(|group| group.trim().parse::<i64>().map_err(|_| error()));
        let groups: Vec<i64> = groups.collect::<Result<_>>()?;
        conditions.push(json!({ "group_ids": { "$in": groups } }));
    }
    let mut filter = Map::new();
    if !conditions.is_empty() {
        filter.insert("$and".to_owned(), Value::Array(conditions));
    }
    Ok(filter)
}

async fn list(
    call: &Call,
    params: &Params<'_>,
    request: pb::ListProfilesRequest,
    show: impl Fn(pb::Profile) -> Value,
) -> Result<Response, RestError> {
    let page = Page::read(params, true)?;
    let request = pb::ListProfilesRequest {
        page_size: page.limit.max(1),
        page_token: page.token.clone(),
        skip: page.skip(),
        ..request
    };
    let reply = call.api().list_profiles(&call.caller, request).await?;
    let objects: Vec<Value> = reply
        .profiles
        .into_iter()
        .take(page.limit as usize)
        .map(show)
        .collect();
    let mut meta = json!({
        "limit": page.limit,
        "offset": page.offset,
        "next": page.next(call, objects.len(), &reply.next_page_token),
        "previous": page.previous(call),
    });
    if let Some(total) = reply.total_size {
        meta["total_count"] = total.into();
    }
    Ok(Json(json!({ "meta": meta, "objects": objects })).into_response())
}
