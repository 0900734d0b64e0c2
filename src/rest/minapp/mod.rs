//! The clients of minapp: profiles by `where`, custom fields by operators, accounts, and the older paths before them.

mod account;
mod bulk;
mod language;
mod list;
mod object;
mod page;
mod single;

use axum::{Router, http::StatusCode, response::Response, routing::MethodFilter};
use serde_json::json;

use super::{
    Gateway,
    call::{Call, Reply, Rpc, USERS, bearer, endpoint},
    error::{self, Refusal},
};
use crate::error::{Error, Fault, Kind, Result};

/// A path, its method, the RPC that gives it rights and time, and what runs.
type Path = (&'static str, MethodFilter, &'static str, fn(Call) -> Reply);

/// All paths, each with and without its last slash.
pub fn routes() -> Router<Gateway> {
    const GET: MethodFilter = MethodFilter::GET;
    const PUT: MethodFilter = MethodFilter::PUT;
    let paths: &[Path] = &[
        ("/oserve/v1/miniapp/user-profile", GET, "GetProfile", |call| Box::pin(list::first_version(call))),
        ("/oserve/v1/miniapp/user-profile/{id}", GET, "GetProfile", |call| Box::pin(single::get_v1(call))),
        ("/oserve/v1/user/info", GET, "ListProfiles", |call| Box::pin(list::counted(call))),
        ("/oserve/v1/user/info/{id}", GET, "GetProfile", |call| Box::pin(single::get(call))),
        ("/oserve/v1/user/info/{id}", PUT, "UpdateProfile", |call| Box::pin(single::put(call))),
        ("/oserve/v2.2/miniapp/user_profile", GET, "ListProfiles", |call| Box::pin(list::second_version(call))),
        ("/oserve/v2.2/miniapp/user_profile/{id}", GET, "GetProfile", |call| Box::pin(single::get(call))),
        ("/oserve/v2.6/miniapp/user_profile/{id}", PUT, "UpdateProfile", |call| Box::pin(single::put(call))),
        ("/oserve/v2.6/miniapp/user_profile", PUT, "BulkUpdateFields", |call| Box::pin(bulk::put(call))),
        ("/oserve/v2.1/miniapp/user/account/{id}", PUT, "UpdateAccount", |call| Box::pin(account::put(call))),
    ];
    let mut router = Router::new();
    for (path, method, rpc, run) in paths {
        for path in [(*path).to_owned(), format!("{path}/")] {
            router = router.route(&path, endpoint(*method, Rpc(USERS, rpc), bearer, *run));
        }
    }
    router
}

/// An error in this surface's form. A value that is taken is 400 here.
pub fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal.error.kind() {
        Kind::AlreadyExists => StatusCode::BAD_REQUEST,
        _ => refusal.status,
    };
    let told = refusal.error.to_string();
    error::response(refusal, status, json!({ "status": "error", "error_msg": told }))
}

/// Refuses a call that asks for a test environment: who believes to write there must not write here.
fn in_production(call: &Call) -> Result<()> {
    match call.headers.contains_key("x-hydrogen-env-id") {
        true => Err(Error::invalid("X-Hydrogen-Env-ID", Fault::Format, "there is one environment alone")),
        false => Ok(()),
    }
}

/// The user of the path; what is no id is nobody's.
fn user_id(call: &Call) -> Result<i64> {
    id(call.param("id"))
}

fn id(given: &str) -> Result<i64> {
    let digits = Some(given).filter(|given| given.bytes().all(|byte| byte.is_ascii_digit()));
    let id = digits.and_then(|digits| digits.parse().ok()).filter(|id| *id > 0);
    id.ok_or_else(|| Error::new(crate::error::Reason::UserNotFound))
}

/// The JSON object of a body, with its own paths.
fn body(call: &Call) -> Result<serde_json::Map<String, serde_json::Value>> {
    crate::wire::canonical::Json::parse(&call.body)?.into_object("")
}

/// A phone number as the service keeps it: one without `+` is of the configured country.
fn with_country(phone: &str, code: &str) -> String {
    match phone.starts_with('+') {
        true => phone.to_owned(),
        false => format!("+{code}{phone}"),
    }
}

/// The same number as minapp shows it.
fn without_country(phone: &str, code: &str) -> String {
    let rest = phone.strip_prefix('+').and_then(|rest| rest.strip_prefix(code));
    rest.unwrap_or(phone).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_country_is_left_out_and_put_back() {
        assert_eq!(with_country("13800138000", "86"), "+8613800138000");
        assert_eq!(without_country("+8613800138000", "86"), "13800138000");
        assert_eq!(with_country("+4930123456", "86"), without_country("+4930123456", "86"));
    }

    #[test]
    fn what_is_no_id_is_nobodys() {
        assert_eq!(id("55019").unwrap(), 55019);
        for bad in ["", "abc", "-1", "0", "1.5", "99999999999999999999"] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
