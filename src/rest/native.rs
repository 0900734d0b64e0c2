//! The native routes: every RPC in canonical proto3 JSON, by one table.

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use prost::{Message, Name};
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};

use super::{
    Gateway,
    call::{Call, Rpc, bearer, endpoint},
    error::Refusal,
    import,
};
use crate::{
    api::Api,
    domain::caller::Caller,
    error::{Error, Fault, Reason, Result},
    model::text,
    wire::{
        POOL, SERVICES,
        canonical::{self, Json},
    },
};

/// One route: what it is called by, and which RPC answers.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub rpc: &'static str,
    /// The request's field that the path's parameter fills, by its path; empty where there is none.
    pub filled: &'static str,
}

const fn route(method: Method, path: &'static str, rpc: &'static str, filled: &'static str) -> Route {
    Route { method, path, rpc, filled }
}

/// All native routes.
pub const ROUTES: &[Route] = &[
    route(Method::GET, "/v1/users/{id}/profile", "GetProfile", "user_id"),
    route(Method::GET, "/v1/profiles:lookup", "GetProfile", ""),
    route(Method::POST, "/v1/profiles:batchGet", "BatchGetProfiles", ""),
    route(Method::GET, "/v1/profiles", "ListProfiles", ""),
    route(Method::POST, "/v1/profiles:list", "ListProfiles", ""),
    route(Method::PATCH, "/v1/users/{id}/profile", "UpdateProfile", "user_id"),
    route(Method::POST, "/v1/profiles:bulkUpdateFields", "BulkUpdateFields", ""),
    route(Method::PATCH, "/v1/users/{id}/account", "UpdateAccount", "user_id"),
    route(Method::POST, "/v1/users/{id}/account:sendEmailCode", "SendEmailCode", "user_id"),
    route(Method::POST, "/v1/users/{id}/account:sendPhoneCode", "SendPhoneCode", "user_id"),
    route(Method::POST, "/v1/users/{id}/account:confirmEmailChange", "ConfirmEmailChange", "user_id"),
    route(Method::POST, "/v1/users/{id}/account:confirmPhoneChange", "ConfirmPhoneChange", "user_id"),
    route(Method::POST, "/v1/users", "CreateUser", ""),
    route(Method::POST, import::PATH, "ImportUsers", ""),
    route(Method::DELETE, "/v1/users/{id}", "DeleteUser", "user_id"),
    route(Method::POST, "/v1/users/{id}/connections", "LinkConnection", "user_id"),
    route(Method::POST, "/v1/users:verifyPassword", "VerifyPassword", ""),
    route(Method::GET, "/v1/fields", "ListFields", ""),
    route(Method::POST, "/v1/fields", "CreateField", ""),
    route(Method::PATCH, "/v1/fields/{name}", "UpdateField", "field.name"),
    route(Method::DELETE, "/v1/fields/{name}", "DeleteField", "name"),
    route(Method::GET, "/v1/tokens", "ListTokens", ""),
    route(Method::POST, "/v1/tokens", "IssueToken", ""),
    route(Method::DELETE, "/v1/tokens/{token_id}", "RevokeToken", "token_id"),
    route(Method::GET, "/v1/deliveries/{delivery_id}", "GetDelivery", "delivery_id"),
];

impl Route {
    /// The RPC's descriptor.
    pub fn descriptor(&self) -> MethodDescriptor {
        SERVICES
            .iter()
            .filter_map(|name| POOL.get_service_by_name(name))
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .find(|method| method.name() == self.rpc)
            .expect("valid: a test looks every route up")
    }

    /// Whether the request stands in a body.
    pub fn has_body(&self) -> bool {
        matches!(self.method, Method::POST | Method::PATCH)
    }

    /// The name of the path's parameter.
    pub fn param(&self) -> Option<&'static str> {
        let (_, rest) = self.path.split_once('{')?;
        rest.split_once('}').map(|(name, _)| name)
    }

    fn rpc(&self) -> Rpc {
        let service = self.descriptor().parent_service().full_name().to_owned();
        let known = SERVICES.iter().find(|name| **name == service);
        Rpc(known.expect("valid: found in these services"), self.rpc)
    }
}

/// The routes with their handlers.
pub fn routes() -> Router<Gateway> {
    let mut router = Router::new();
    for route in ROUTES {
        let filter = MethodFilter::try_from(route.method.clone()).expect("valid: a common method");
        let (rpc, input) = (route.rpc(), route.descriptor().input());
        let handler = if route.rpc == "ImportUsers" {
            on(filter, import::serve)
        } else {
            endpoint(filter, rpc, bearer, move |call| {
                let input = input.clone();
                Box::pin(async move { serve(route, &input, &call).await })
            })
        };
        router = router.route(route.path, handler);
    }
    router
}

async fn serve(route: &'static Route, input: &MessageDescriptor, call: &Call) -> Result<Response, Refusal> {
    let (json, has_condition) = request(route, input, call)?;
    let answered = dispatch(route.rpc, call.api(), &call.caller, &json).await;
    answered.map(reply).map_err(|error| match has_condition {
        true => Refusal::from(error).of_condition(),
        false => error.into(),
    })
}

/// The request that body, query, path and `If-Match` make together, and whether there is such a condition.
fn request(route: &Route, input: &MessageDescriptor, call: &Call) -> Result<(Json, bool)> {
    let mut json = match &call.body {
        body if route.has_body() && !body.is_empty() => Json::parse(body)?,
        _ => Json::Object(Vec::new()),
    };
    for (name, value) in &call.query {
        fill(&mut json, input, name, value, Given::Once)?;
    }
    let param = route.param().map(|name| call.param(name));
    if let Some(value) = param.filter(|value| *value != "me" || route.filled != "user_id") {
        fill(&mut json, input, route.filled, value, Given::Alike)?;
    }
    let condition = if_match(&call.headers)?;
    if let Some(etag) = &condition {
        match input.get_field_by_name("etag") {
            Some(_) => fill(&mut json, input, "etag", etag, Given::Alike)?,
            None if call.method == Method::GET => {}
            None => {
                return Err(Error::invalid("etag", Fault::Unknown, "If-Match is no condition of this call"));
            }
        }
    }
    Ok((json, condition.is_some()))
}

/// Whether a field may stand in the request already.
#[derive(Clone, Copy, PartialEq)]
enum Given {
    /// It may not.
    Once,
    /// With the same value.
    Alike,
}

/// Fills the field at `path` with a value that came as text.
fn fill(json: &mut Json, message: &MessageDescriptor, path: &str, value: &str, given: Given) -> Result<()> {
    // What is no object is told when the request is read.
    let Json::Object(entries) = json else { return Ok(()) };
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let unknown = || Error::invalid(text::cut(path, 64), Fault::Unknown, "is no field here");
    let field = canonical::field(message, name).ok_or_else(unknown)?;
    let found = entries.iter_mut().find(|(name, _)| name == field.name() || name == field.json_name());
    if let Some(rest) = rest {
        let Kind::Message(inner) = field.kind() else {
            return Err(unknown());
        };
        if inner.full_name().starts_with("google.protobuf.") || field.is_list() {
            return Err(unknown());
        }
        return match found {
            Some((_, inside)) => fill(inside, &inner, rest, value, given),
            None => {
                let mut inside = Json::Object(Vec::new());
                fill(&mut inside, &inner, rest, value, given)?;
                entries.push((field.name().to_owned(), inside));
                Ok(())
            }
        };
    }
    let value = from_text(&field.kind(), field.name(), value)?;
    match found {
        None => entries.push((field.name().to_owned(), value)),
        Some((_, there)) if given == Given::Alike && is_alike(there, &value) => {}
        Some(_) if given == Given::Alike => {
            return Err(Error::invalid(path, Fault::Format, "stands in the body with another value"));
        }
        Some(_) => return Err(Error::invalid(text::cut(path, 64), Fault::Format, "stands twice")),
    }
    Ok(())
}

fn is_alike(there: &Json, value: &Json) -> bool {
    match (there, value) {
        (Json::Null, _) => false,
        (Json::Integer(whole), Json::Text(text)) => whole.to_string() == *text,
        _ => there == value,
    }
}

fn from_text(kind: &Kind, name: &str, value: &str) -> Result<Json> {
    match kind {
        Kind::Bool => match value {
            "true" => Ok(Json::Bool(true)),
            "false" => Ok(Json::Bool(false)),
            _ => Err(Error::invalid(name, Fault::Type, "must be true or false")),
        },
        Kind::Message(message) if message.full_name() == "google.protobuf.Struct" => {
            Json::parse(value.as_bytes()).map_err(|_| Error::invalid(name, Fault::Format, "must be a JSON object"))
        }
        Kind::Enum(_) => Ok(value.parse().map_or_else(|_| Json::Text(value.to_owned()), Json::Integer)),
        _ => Ok(Json::Text(value.to_owned())),
    }
}

/// The etag that `If-Match` names; `*` asks for nothing that every write does not.
fn if_match(headers: &HeaderMap) -> Result<Option<String>> {
    let fault = || Error::invalid("etag", Fault::Format, "If-Match must be one etag, or *");
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let given = value.to_str().map_err(|_| fault())?.trim();
    if values.next().is_some() {
        return Err(fault());
    }
    if given == "*" {
        return Ok(None);
    }
    // A proxy that compresses makes an etag weak; the profile that it names is the same.
    let strong = given.strip_prefix("W/").unwrap_or(given);
    let etag = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(strong);
    match etag.is_empty() || etag.contains(['"', ',']) {
        true => Err(fault()),
        false => Ok(Some(etag.to_owned())),
    }
}

/// What an RPC answered.
struct Answer {
    json: Vec<u8>,
    etag: Option<String>,
}

fn answer<M: Message + Name>(message: &M, etag: Option<String>) -> Answer {
    Answer { json: canonical::to_text(message), etag }
}

fn reply(answer: Answer) -> Response {
    let mut response = json_response(answer.json);
    let etag = answer.etag.and_then(|etag| HeaderValue::from_str(&format!("\"{etag}\"")).ok());
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// A response with JSON that is written already.
pub fn json_response(json: Vec<u8>) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, JSON)], json).into_response()
}

macro_rules! dispatch {
    ($($rpc:literal => $method:ident $($part:ident)?;)*) => {
        async fn dispatch(rpc: &str, api: &Api, caller: &Caller, json: &Json) -> Result<Answer> {
            match rpc {
                $($rpc => {
                    let reply = api.$method(caller, canonical::read(json)?).await?;
                    let etag = None$(.or(reply.$part.as_ref().map(|part| part.etag.clone())))?;
                    Ok(answer(&reply, etag))
                })*
                _ => Err(Error::new(Reason::MethodUnknown)),
            }
        }
    };
}

// The word after a method is the part of its reply whose etag is the reply's.
dispatch! {
    "GetProfile" => get_profile profile;
    "BatchGetProfiles" => batch_get_profiles;
    "ListProfiles" => list_profiles;
    "UpdateProfile" => update_profile profile;
    "BulkUpdateFields" => bulk_update_fields;
    "UpdateAccount" => update_account account;
    "SendEmailCode" => send_email_code;
    "SendPhoneCode" => send_phone_code;
    "ConfirmEmailChange" => confirm_email_change account;
    "ConfirmPhoneChange" => confirm_phone_change account;
    "CreateUser" => create_user profile;
    "DeleteUser" => delete_user;
    "LinkConnection" => link_connection;
    "VerifyPassword" => verify_password;
    "CreateField" => create_field;
    "ListFields" => list_fields;
    "UpdateField" => update_field;
    "DeleteField" => delete_field;
    "GetDelivery" => get_delivery;
    "IssueToken" => issue_token;
    "ListTokens" => list_tokens;
    "RevokeToken" => revoke_token;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_has_a_route() {
        for name in SERVICES {
            for method in POOL.get_service_by_name(name).unwrap().methods() {
                let route = ROUTES.iter().find(|route| route.rpc == method.name());
                assert_eq!(route.unwrap().rpc().0, *name);
            }
        }
    }

    fn filled(route: &str, start: &str, path: &str, value: &str, given: Given) -> Result<Json> {
        let route = ROUTES.iter().find(|known| known.rpc == route).unwrap();
        let mut json = Json::parse(start.as_bytes()).unwrap();
        fill(&mut json, &route.descriptor().input(), path, value, given)?;
        Ok(json)
    }

    #[test]
    fn parameters_fill_fields_in_both_forms() {
        let json = filled("ListProfiles", "{}", "pageSize", "5", Given::Once).unwrap();
        assert_eq!(json, Json::Object(vec![("page_size".into(), Json::Text("5".into()))]));
        let json = filled("GetProfile", "{}", "connection.provider", "github", Given::Once).unwrap();
        assert!(format!("{json:?}").contains("github"));
        assert!(filled("ListProfiles", "{}", "no_such", "5", Given::Once).is_err());
        assert!(filled("ListProfiles", "{}", "filter.a", "5", Given::Once).is_err());
        assert!(filled("ListProfiles", "{}", "return_total_size", "yes", Given::Once).is_err());
        assert!(filled("ListProfiles", r#"{"pageSize": 1}"#, "page_size", "1", Given::Once).is_err());
    }

    #[test]
    fn a_body_may_repeat_the_path_but_not_contradict_it() {
        let alike = |body| filled("UpdateField", body, "field.name", "level", Given::Alike);
        assert!(alike(r#"{"field": {"name": "level"}}"#).is_ok());
        assert!(alike(r#"{"field": {"description": "x"}}"#).is_ok());
        assert!(alike(r#"{"field": {"name": "other"}}"#).is_err());
        assert!(filled("UpdateProfile", r#"{"userId": 5}"#, "user_id", "5", Given::Alike).is_ok());
    }

    #[test]
    fn if_match_is_one_etag() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
            if_match(&headers)
        };
        for good in ["\"1f\"", "W/\"1f\"", "1f"] {
            assert_eq!(read(good).unwrap().as_deref(), Some("1f"), "{good}");
        }
        assert_eq!(read("*").unwrap(), None);
        for bad in ["", "\"\"", "\"a\", \"b\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
