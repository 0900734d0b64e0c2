//! The clients of minapp: profiles by `where`, custom fields by operators, accounts, and the older
//! paths before them.

mod account;
mod bulk;
mod keys;
mod language;
mod list;
mod names;
mod object;
mod page;
mod single;

use axum::{Router, http::StatusCode, response::Response, routing::MethodFilter};
use serde_json::json;

use super::{
    Gateway,
    call::{Call, Reply, Rpc, USERS, bearer, endpoint},
    error::{self, RestError},
};
use crate::{
    convert::proto_json::JsonValue,
    error::{Error, FieldError, Kind, Reason, Result},
};

/// A path below its version, its method, the RPC that gives it rights and time, and what runs.
type Path = (&'static str, MethodFilter, &'static str, fn(Call) -> Reply);

const GET: MethodFilter = MethodFilter::GET;
const PUT: MethodFilter = MethodFilter::PUT;

/// The paths of each version that published them. Before v2.2, lists and bulk changes count without
/// being asked.
const PATHS: &[(&[&str], &[Path])] = &[
    (
        &["v1"],
        &[
            ("miniapp/user-profile", GET, "GetProfile", |call| {
                Box::pin(list::first_version(call))
            }),
            ("miniapp/user-profile/{id}", GET, "GetProfile", |call| {
                Box::pin(single::get_v1(call))
            }),
            ("user/info", GET, "ListProfiles", |call| {
                Box::pin(list::counted(call))
            }),
            ("user/info/{id}", GET, "GetProfile", |call| {
                Box::pin(single::get(call))
            }),
            ("user/info/{id}", PUT, "UpdateProfile", |call| {
                Box::pin(single::put(call))
            }),
        ],
    ),
    (
        &["v1.9", "v2.0", "v2.1"],
        &[
            ("miniapp/user_profile", GET, "ListProfiles", |call| {
                Box::pin(list::counted(call))
            }),
            ("miniapp/user_profile", PUT, "BulkUpdateFields", |call| {
                Box::pin(bulk::put_counted(call))
            }),
        ],
    ),
    (
        &["v2.2", "v2.3", "v2.4", "v2.5", "v2.6"],
        &[
            ("miniapp/user_profile", GET, "ListProfiles", |call| {
                Box::pin(list::second_version(call))
            }),
            ("miniapp/user_profile", PUT, "BulkUpdateFields", |call| {
                Box::pin(bulk::put(call))
            }),
        ],
    ),
    (
        &[
            "v1.9", "v2.0", "v2.1", "v2.2", "v2.3", "v2.4", "v2.5", "v2.6",
        ],
        &[
            ("miniapp/user_profile/{id}", GET, "GetProfile", |call| {
                Box::pin(single::get(call))
            }),
            ("miniapp/user_profile/{id}", PUT, "UpdateProfile", |call| {
                Box::pin(single::put(call))
            }),
            ("miniapp/user/account/{id}", PUT, "UpdateAccount", |call| {
                Box::pin(account::put(call))
            }),
        ],
    ),
];

/// All paths, each with and without its last slash.
pub(super) fn routes() -> Router<Gateway> {
    let mut router = Router::new();
    for (versions, paths) in PATHS {
        let roots = versions
            .iter()
            .flat_map(|version| ["", "/"].map(|slash| (version, slash)));
        for (version, slash) in roots {
            for (path, method, rpc, run) in *paths {
                let path = format!("/oserve/{version}/{path}{slash}");
                router = router.route(&path, endpoint(*method, Rpc(USERS, rpc), bearer, *run));
            }
        }
    }
    router
}

/// An error in this flavor's form. A value that is taken is 400 here.
pub(super) fn render_error(rest_error: &RestError) -> Response {
    let status = match rest_error.error.kind() {
        Kind::AlreadyExists => StatusCode::BAD_REQUEST,
        _ => rest_error.status,
    };
    error::response(
        rest_error,
        status,
        json!({ "status": "error", "error_msg": names::message(&rest_error.error) }),
    )
}

/// Rejects a call that asks for a test environment: a client that expects to write there must not
/// write here.
fn in_production(call: &Call) -> Result<()> {
    if call.headers.contains_key("x-hydrogen-env-id") {
        Err(Error::invalid(
            "X-Hydrogen-Env-ID",
            FieldError::Format,
            "environments aren't supported",
        ))
    } else {
        Ok(())
    }
}

/// The user of the path; what is not an id belongs to no user.
fn user_id(call: &Call) -> Result<i64> {
    id(call.param("id"))
}

fn id(given: &str) -> Result<i64> {
    let digits = Some(given).filter(|given| given.bytes().all(|byte| byte.is_ascii_digit()));
    let id = digits
        .and_then(|digits| digits.parse().ok())
        .filter(|id| *id > 0);
    id.ok_or_else(|| Error::new(Reason::UserNotFound))
}

/// The JSON of a body. An empty body names nothing.
fn body(call: &Call) -> Result<JsonValue> {
    if call.body.trim_ascii().is_empty() {
        Ok(JsonValue::Object(Vec::new()))
    } else {
        JsonValue::parse(&call.body)
    }
}

/// Digits of the shortest phone number that may carry its country code without `+`.
const WITH_CODE: usize = 11;

/// A phone number as the service keeps it: one without `+` is of the configured country, and may
/// carry its code. A shorter number that begins with the same digits is taken as one without the
/// code.
fn with_country(phone: &str, code: &str) -> String {
    let has_code = phone.starts_with(code) && phone.len() >= WITH_CODE;
    match phone {
        phone if phone.starts_with('+') => phone.to_owned(),
        phone if has_code => format!("+{phone}"),
        phone => format!("+{code}{phone}"),
    }
}

/// The same number as minapp shows it.
fn without_country(phone: &str, code: &str) -> String {
    let rest = phone
        .strip_prefix('+')
        .and_then(|rest| rest.strip_prefix(code));
    rest.unwrap_or(phone).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_country_is_left_out_and_put_back() {
        assert_eq!(with_country("13800138000", "86"), "+8613800138000");
        assert_eq!(without_country("+8613800138000", "86"), "13800138000");
        assert_eq!(with_country("8613800138000", "86"), "+8613800138000");
        assert_eq!(with_country("8612345678", "86"), "+868612345678");
        assert_eq!(with_country("14155550100", "1"), "+14155550100");
        assert_eq!(with_country("4155550100", "1"), "+14155550100");
        assert_eq!(
            with_country("+4930123456", "86"),
            without_country("+4930123456", "86")
        );
    }

    #[test]
    fn what_is_no_id_is_nobodys() {
        assert_eq!(id("55019").unwrap(), 55019);
        for bad in ["", "abc", "-1", "0", "1.5", "99999999999999999999"] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
