//! The native routes: every RPC in ProtoJSON, on the routes of the contract.

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use prost::{Message, Name};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use super::{
    Gateway,
    call::{Call, Rpc, bearer, endpoint},
    error::RestError,
    import,
};
use crate::{
    api::Api,
    convert::{
        POOL, SERVICES,
        annotations::{HttpBinding, http_bindings, is_read},
        pb,
        proto_json::{self, JsonValue},
        rpc,
    },
    domain::caller::Caller,
    error::{Error, FieldError, Reason, Result},
    model::text,
};

/// The user that `me` in a path refers to: the authenticated one.
const ME: &str = "0";

/// One route: what it is called by, and which RPC answers.
#[derive(Debug)]
pub(super) struct Route {
    pub method: Method,
    /// The path; a parameter has the name of the field that it sets, without the enclosing
    /// messages.
    pub path: String,
    pub rpc: Rpc,
    pub descriptor: MethodDescriptor,
    /// Whether the request is the body; otherwise its fields are query parameters.
    pub has_body: bool,
    /// The path of the request field that the URL path sets; empty if there is none.
    pub filled: String,
    /// Whether it is the first route of its RPC.
    pub is_main: bool,
}

/// All native routes.
pub(super) static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let services = SERVICES
        .iter()
        .filter_map(|name| POOL.get_service_by_name(name));
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.flat_map(|method| routes_of(&method)).collect()
});

fn routes_of(method: &MethodDescriptor) -> Vec<Route> {
    let mut bindings = http_bindings(method);
    if method.name() == "ImportUsers" {
        // A bidirectional stream has no annotation; here it is the lines of a body.
        bindings.push(HttpBinding {
            method: "POST".to_owned(),
            template: import::PATH.to_owned(),
            has_body: true,
        });
    }
    let routes = bindings.into_iter().enumerate();
    routes
        .map(|(place, binding)| Route::new(method, binding, place == 0))
        .collect()
}

impl Route {
    fn new(descriptor: &MethodDescriptor, binding: HttpBinding, is_main: bool) -> Self {
        let HttpBinding {
            method,
            template,
            has_body,
        } = binding;
        let (service, name) = (descriptor.parent_service(), descriptor.name());
        let (service, name) = rpc(&format!("{}/{name}", service.full_name()))
            .expect("valid: a method of the contract");
        let param = template
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'))
            .map(|(param, _)| param);
        let filled = match param {
            Some(param) => param,
            None if template.split('/').any(|segment| segment == "me") => "user_id",
            None => "",
        };
        Self {
            method: method
                .parse()
                .expect("valid: a test looks at every binding"),
            // OpenAPI and the router would read a path in braces as a different parameter than its
            // last part.
            path: template.replace(
                &format!("{{{filled}}}"),
                &format!("{{{}}}", last_part(filled)),
            ),
            rpc: Rpc(service, name),
            descriptor: descriptor.clone(),
            has_body,
            filled: filled.to_owned(),
            is_main,
        }
    }

    /// Whether the request requires a body, if only `{}`: a POST to a collection creates a
    /// resource. If a client loses its body, the call must not create an empty one.
    pub(super) fn needs_body(&self) -> bool {
        self.method == Method::POST && !self.path.contains(':')
    }

    /// The name of the path's parameter.
    pub(super) fn param(&self) -> Option<&str> {
        self.path.contains('{').then(|| last_part(&self.filled))
    }

    /// The field that the path sets.
    pub(super) fn filled_field(&self) -> Option<FieldDescriptor> {
        let mut message = self.descriptor.input();
        let mut names = self.filled.split('.').peekable();
        while let Some(name) = names.next() {
            let field = message.get_field_by_name(name)?;
            match (names.peek(), field.kind()) {
                (None, _) => return Some(field),
                (Some(_), Kind::Message(inner)) => message = inner,
                (Some(_), _) => break,
            }
        }
        None
    }

    /// Whether the RPC only reads.
    pub(super) fn is_read(&self) -> bool {
        is_read(&self.descriptor)
    }

    /// Whether the response has an etag.
    pub(super) fn has_etag(&self) -> bool {
        tagged_part(self.rpc.1).is_some()
    }
}

/// The last name of a field path.
fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The routes with their handlers. A path also matches with its colon percent-encoded, because some
/// clients send it so.
pub(super) fn routes() -> Router<Gateway> {
    let mut router = Router::new();
    for route in ROUTES.iter() {
        let filter = MethodFilter::try_from(route.method.clone())
            .expect("valid: a test looks at every binding");
        let mut paths = vec![route.path.clone()];
        if route.path.contains(':') {
            paths.extend(["%3A", "%3a"].map(|encoded| route.path.replace(':', encoded)));
        }
        for path in paths {
            let handler = match route.path.as_str() {
                import::PATH => on(filter, import::serve),
                _ => endpoint(filter, route.rpc, bearer, move |call| {
                    Box::pin(async move { serve(route, &call).await })
                }),
            };
            router = router.route(&path, handler);
        }
    }
    router
}

async fn serve(route: &'static Route, call: &Call) -> Result<Response, RestError> {
    if !route.is_read() {
        must_not_be_new(&call.headers)?;
    }
    let (json, has_condition) = request(route, call)?;
    let answer = match dispatch(route.rpc.1, call.api(), &call.caller, &json).await {
        Ok(answer) => answer,
        Err(error) if has_condition => return Err(RestError::from(error).of_condition()),
        Err(error) => return Err(error.into()),
    };
    let is_known = answer.is_whole
        && answer
            .etag
            .as_deref()
            .is_some_and(|etag| is_known(&call.headers, etag));
    Ok(if route.is_read() && is_known {
        unmodified(answer)
    } else {
        reply(answer)
    })
}

/// The request that body, query, path and `If-Match` make together, and whether there is such a
/// condition.
fn request(route: &Route, call: &Call) -> Result<(JsonValue, bool)> {
    let input = &route.descriptor.input();
    let mut json = body(route, &call.body)?;
    for (name, value) in &call.query {
        fill(&mut json, input, name, value, Given::IdempotencyKey)?;
    }
    if !route.filled.is_empty() {
        let value = route.param().map_or(ME, |name| call.param(name));
        fill(&mut json, input, &route.filled, value, Given::Alike)?;
    }
    let condition = if_match(&call.headers)?;
    if let Some(etag) = &condition {
        match input.get_field_by_name("etag") {
            Some(_) => fill(&mut json, input, "etag", etag, Given::Alike)?,
            None if route.is_read() => {}
            None => {
                return Err(Error::invalid(
                    "etag",
                    FieldError::Unknown,
                    "this method doesn't support If-Match",
                ));
            }
        }
    }
    Ok((json, condition.is_some()))
}

/// The part of the request that the body contains. Rejects a creation without a body, and a body
/// that would be ignored.
fn body(route: &Route, body: &[u8]) -> Result<JsonValue> {
    let (nothing, is_empty) = (JsonValue::Object(Vec::new()), body.trim_ascii().is_empty());
    if route.has_body && !is_empty {
        return JsonValue::parse(body);
    }
    if route.needs_body() {
        return Err(Error::invalid(
            "",
            FieldError::Required,
            "must have a body; send {} to create with defaults only",
        ));
    }
    if !is_empty && JsonValue::parse(body)? != nothing {
        return Err(Error::invalid(
            "",
            FieldError::Unknown,
            "this method has no body; its fields are query parameters",
        ));
    }
    Ok(nothing)
}

/// Whether a field may stand in the request already.
#[derive(Clone, Copy, PartialEq)]
enum Given {
    /// It may not.
    IdempotencyKey,
    /// The field is set to the same value, or to its default: `0`, an empty text, or null.
    Alike,
}

/// Fills the field at `path` with a value that came as text.
fn fill(
    json: &mut JsonValue,
    message: &MessageDescriptor,
    path: &str,
    value: &str,
    given: Given,
) -> Result<()> {
    // A body that is not an object is rejected when the request is read.
    let JsonValue::Object(entries) = json else {
        return Ok(());
    };
    let (name, rest) = path
        .split_once('.')
        .map_or((path, None), |(name, rest)| (name, Some(rest)));
    let unknown = || Error::invalid(text::cut(path, 64), FieldError::Unknown, "unknown field");
    let field = proto_json::field(message, name).ok_or_else(unknown)?;
    let found = entries
        .iter_mut()
        .find(|(name, _)| name == field.name() || name == field.json_name());
    if let Some(rest) = rest {
        let Kind::Message(inner) = field.kind() else {
            return Err(unknown());
        };
        if inner.full_name().starts_with("google.protobuf.") || field.is_list() {
            return Err(unknown());
        }
        return match found.filter(|(_, inside)| *inside != JsonValue::Null) {
            Some((_, inside)) => fill(inside, &inner, rest, value, given),
            None => {
                let mut inside = JsonValue::Object(Vec::new());
                fill(&mut inside, &inner, rest, value, given)?;
                entries.retain(|(name, _)| name != field.name() && name != field.json_name());
                entries.push((field.name().to_owned(), inside));
                Ok(())
            }
        };
    }
    let value = from_text(&field.kind(), field.name(), value)?;
    match found {
        None => entries.push((field.name().to_owned(), value)),
        Some((_, there)) if given == Given::Alike && is_alike(there, &value) => {}
        Some((_, there)) if given == Given::Alike && is_unset(there, &field.kind()) => {
            *there = value
        }
        Some(_) if given == Given::Alike => {
            return Err(Error::invalid(
                path,
                FieldError::Format,
                "conflicts with the value in the body",
            ));
        }
        Some(_) => {
            return Err(Error::invalid(
                text::cut(path, 64),
                FieldError::Format,
                "is specified more than once",
            ));
        }
    }
    Ok(())
}

fn is_alike(there: &JsonValue, value: &JsonValue) -> bool {
    match (there, value) {
        (JsonValue::Integer(whole), JsonValue::Text(text)) => whole.to_string() == *text,
        _ => there == value,
    }
}

/// Whether a value equals a missing one: in proto3 a field at its default isn't set.
fn is_unset(there: &JsonValue, kind: &Kind) -> bool {
    match there {
        JsonValue::Null => true,
        JsonValue::Text(text) => matches!(
            (kind, text.as_str()),
            (Kind::Int64 | Kind::Int32, "0") | (Kind::String, "")
        ),
        JsonValue::Integer(whole) => *whole == 0 && matches!(kind, Kind::Int64 | Kind::Int32),
        JsonValue::Bool(_) | JsonValue::Float(_) | JsonValue::List(_) | JsonValue::Object(_) => {
            false
        }
    }
}

fn from_text(kind: &Kind, name: &str, value: &str) -> Result<JsonValue> {
    match kind {
        Kind::Bool => match value {
            "true" => Ok(JsonValue::Bool(true)),
            "false" => Ok(JsonValue::Bool(false)),
            _ => Err(Error::invalid(
                name,
                FieldError::Type,
                "must be true or false",
            )),
        },
        Kind::Message(message) if message.full_name() == "google.protobuf.Struct" => {
            JsonValue::parse(value.as_bytes())
                .map_err(|_| Error::invalid(name, FieldError::Format, "must be a JSON object"))
        }
        Kind::Enum(_) => Ok(value
            .parse()
            .map_or_else(|_| JsonValue::Text(value.to_owned()), JsonValue::Integer)),
        _ => Ok(JsonValue::Text(value.to_owned())),
    }
}

/// The etag that `If-Match` names; `*` asks for nothing that every write does not.
fn if_match(headers: &HeaderMap) -> Result<Option<String>> {
    let error = || {
        Error::invalid(
            "etag",
            FieldError::Format,
            "If-Match must be a single etag or *",
        )
    };
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let given = value.to_str().map_err(|_| error())?.trim();
    if values.next().is_some() {
        return Err(error());
    }
    if given == "*" {
        return Ok(None);
    }
    let etag = opaque(given);
    if etag.is_empty() || etag.contains(['"', ',']) {
        Err(error())
    } else {
        Ok(Some(etag.to_owned()))
    }
}

/// An etag without its quotation marks. A proxy that compresses makes it weak, but it identifies
/// the same resource.
fn opaque(given: &str) -> &str {
    let strong = given.strip_prefix("W/").unwrap_or(given);
    strong
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(strong)
}

/// Whether `If-None-Match` contains this etag, or `*`. Our etags never contain a comma.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut given = values.flat_map(|value| value.split(',')).map(str::trim);
    given.any(|given| given == "*" || opaque(given) == etag)
}

/// Rejects `If-None-Match` on a write: the resource exists, and no write supports a condition on
/// other etags.
///
/// # Errors
/// 412 with ETAG_MISMATCH for `*`, INVALID_REQUEST for anything else.
pub(super) fn must_not_be_new(headers: &HeaderMap) -> Result<(), RestError> {
    match headers
        .get(header::IF_NONE_MATCH)
        .map(HeaderValue::as_bytes)
    {
        None => Ok(()),
        Some(given) if given.trim_ascii() == b"*" => {
            Err(RestError::from(Reason::EtagMismatch).of_condition())
        }
        Some(_) => {
            let told = "If-None-Match isn't supported for a write; use If-Match";
            Err(Error::invalid("If-None-Match", FieldError::Unknown, told).into())
        }
    }
}

/// What an RPC answered.
struct Answer {
    json: Vec<u8>,
    etag: Option<String>,
    /// Whether the etag covers the whole response.
    is_whole: bool,
}

/// A part of a response that has an etag.
trait Tagged {
    fn etag(&self) -> &str;

    /// Whether the part can't change without its etag.
    fn is_whole(&self) -> bool {
        true
    }
}

impl Tagged for pb::Profile {
    fn etag(&self) -> &str {
        &self.etag
    }

    fn is_whole(&self) -> bool {
        self.account.is_none()
    }
}

impl Tagged for pb::Account {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl Tagged for pb::FieldDefinition {
    fn etag(&self) -> &str {
        &self.etag
    }
}

fn answer<M: Message + Name>(message: &M, part: Option<&dyn Tagged>) -> Answer {
    let part = part.filter(|part| !part.etag().is_empty());
    Answer {
        json: proto_json::to_text(message),
        etag: part.map(|part| part.etag().to_owned()),
        is_whole: part.is_some_and(Tagged::is_whole),
    }
}

fn reply(answer: Answer) -> Response {
    with_etag(json_response(answer.json), answer.etag)
}

/// The response to a client that already has the content.
fn unmodified(answer: Answer) -> Response {
    with_etag(StatusCode::NOT_MODIFIED.into_response(), answer.etag)
}

fn with_etag(mut response: Response, etag: Option<String>) -> Response {
    let etag = etag.and_then(|etag| HeaderValue::from_str(&format!("\"{etag}\"")).ok());
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// A response with JSON that is written already.
pub(super) fn json_response(json: Vec<u8>) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, JSON)], json).into_response()
}

macro_rules! dispatch {
    ($($rpc:literal => $method:ident $($part:ident)?;)*) => {
        async fn dispatch(rpc: &str, api: &Api, caller: &Caller, json: &JsonValue) -> Result<Answer> {
            match rpc {
                $($rpc => {
                    let reply = api.$method(caller, proto_json::read(json)?).await?;
                    let part: Option<&dyn Tagged> = None$(.or(reply.$part.as_ref().map(|part| part as &dyn Tagged)))?;
                    Ok(answer(&reply, part))
                })*
                _ => Err(Error::new(Reason::MethodUnknown)),
            }
        }

        #[cfg(test)]
        const DISPATCHED: &[&str] = &[$($rpc),*];

        /// The part of an RPC's response whose etag is used for the response.
        fn tagged_part(rpc: &str) -> Option<&'static str> {
            match rpc {
                $($rpc => None$(.or(Some(stringify!($part))))?,)*
                _ => None,
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
    "CreateField" => create_field field;
    "ListFields" => list_fields;
    "UpdateField" => update_field field;
    "DeleteField" => delete_field;
    "GetDelivery" => get_delivery;
    "IssueToken" => issue_token;
    "ListTokens" => list_tokens;
    "RevokeToken" => revoke_token;
    "RevokeTokens" => revoke_tokens;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(rpc: &str) -> &'static Route {
        ROUTES.iter().find(|route| route.rpc.1 == rpc).unwrap()
    }

    #[test]
    fn every_rpc_has_a_route() {
        for name in SERVICES {
            for method in POOL.get_service_by_name(name).unwrap().methods() {
                assert_eq!(route(method.name()).rpc.0, *name);
                assert!(
                    DISPATCHED.contains(&method.name()) || method.name() == "ImportUsers",
                    "{}",
                    method.name()
                );
            }
        }
    }

    #[test]
    fn routes_are_the_bindings_of_the_contract() {
        for route in ROUTES.iter().filter(|route| route.path != import::PATH) {
            let bindings = http_bindings(&route.descriptor);
            let is_of = |binding: &&HttpBinding| {
                // A parameter has only the last name.
                let template = binding.template.replace("{field.name}", "{name}");
                (binding.method.as_str(), template.as_str())
                    == (route.method.as_str(), route.path.as_str())
            };
            let binding = bindings.iter().find(is_of).unwrap();
            assert_eq!(binding.has_body, route.has_body, "{route:?}");
            assert!(
                route.filled.is_empty() || route.filled_field().is_some(),
                "{route:?}"
            );
            assert!(
                route.path.matches('{').count() <= 1 && !route.path.contains(['*', '=']),
                "{route:?}"
            );
        }
        let bindings = SERVICES.iter().flat_map(|name| {
            POOL.get_service_by_name(name)
                .unwrap()
                .methods()
                .collect::<Vec<_>>()
        });
        assert_eq!(
            ROUTES.len(),
            bindings
                .map(|method| http_bindings(&method).len())
                .sum::<usize>()
                + 1
        );
        assert_eq!(
            (
                route("UpdateField").path.as_str(),
                route("UpdateField").filled.as_str()
            ),
            ("/v1/fields/{name}", "field.name")
        );
    }

    #[test]
    fn me_is_the_user_0() {
        let of_me: Vec<&Route> = ROUTES
            .iter()
            .filter(|route| route.path.contains("/me/"))
            .collect();
        assert_eq!(of_me.len(), 7);
        for route in of_me {
            assert_eq!(
                (route.filled.as_str(), route.param(), route.is_main),
                ("user_id", None, false),
                "{route:?}"
            );
        }
    }

    #[test]
    fn routes_without_a_body_take_every_field_of_the_query() {
        fn leaves(message: &MessageDescriptor, before: &str) -> Vec<(String, FieldDescriptor)> {
            let fields = message.fields().flat_map(|field| match field.kind() {
                Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
                    leaves(&inner, &format!("{before}{}.", field.name()))
                }
                _ => vec![(format!("{before}{}", field.name()), field)],
            });
            fields.collect()
        }
        for route in ROUTES.iter().filter(|route| !route.has_body) {
            let input = route.descriptor.input();
            for (path, field) in leaves(&input, "") {
                let text = match field.kind() {
                    Kind::Bool => "true",
                    Kind::Message(_) => "{}",
                    _ => "1",
                };
                let mut json = JsonValue::Object(Vec::new());
                assert!(
                    fill(&mut json, &input, &path, text, Given::IdempotencyKey).is_ok(),
                    "{path} of {route:?}"
                );
                assert!(
                    !field.is_list(),
                    "a list of {route:?} has no form in a query"
                );
            }
        }
    }

    #[test]
    fn the_etag_is_that_of_the_first_part_that_has_one() {
        for route in ROUTES.iter() {
            let output = route.descriptor.output();
            let mut parts = output.fields().filter(|field| !field.is_list());
            let part = parts.find(
                |field| matches!(field.kind(), Kind::Message(message) if message.get_field_by_name("etag").is_some()),
            );
            assert_eq!(
                tagged_part(route.rpc.1),
                part.as_ref().map(FieldDescriptor::name),
                "{route:?}"
            );
        }
    }

    #[test]
    fn a_body_is_neither_forgotten_nor_passed_over() {
        let read = |rpc, text: &str| body(route(rpc), text.as_bytes()).is_ok();
        for empty in ["", " \r\n"] {
            assert!(
                !read("CreateUser", empty)
                    && read("BatchGetProfiles", empty)
                    && read("DeleteUser", empty)
            );
        }
        assert!(read("CreateUser", "{}") && read("DeleteUser", "{}") && read("GetProfile", " {} "));
        assert!(!read("DeleteUser", r#"{"validateOnly": true}"#) && !read("GetProfile", "x"));
    }

    fn filled(rpc: &str, start: &str, path: &str, value: &str, given: Given) -> Result<JsonValue> {
        let mut json = JsonValue::parse(start.as_bytes()).unwrap();
        fill(
            &mut json,
            &route(rpc).descriptor.input(),
            path,
            value,
            given,
        )?;
        Ok(json)
    }

    #[test]
    fn parameters_fill_fields_in_both_forms() {
        let json = filled("ListProfiles", "{}", "pageSize", "5", Given::IdempotencyKey).unwrap();
        assert_eq!(
            json,
            JsonValue::Object(vec![("page_size".into(), JsonValue::Text("5".into()))])
        );
        let json = filled(
            "GetProfile",
            "{}",
            "connection.provider",
            "github",
            Given::IdempotencyKey,
        )
        .unwrap();
        assert!(format!("{json:?}").contains("github"));
        assert!(filled("ListProfiles", "{}", "no_such", "5", Given::IdempotencyKey).is_err());
        assert!(filled("ListProfiles", "{}", "filter.a", "5", Given::IdempotencyKey).is_err());
        assert!(
            filled(
                "ListProfiles",
                "{}",
                "return_total_size",
                "yes",
                Given::IdempotencyKey
            )
            .is_err()
        );
        assert!(
            filled(
                "ListProfiles",
                r#"{"pageSize": 1}"#,
                "page_size",
                "1",
                Given::IdempotencyKey
            )
            .is_err()
        );
    }

    #[test]
    fn a_body_may_repeat_the_path_but_not_contradict_it() {
        let alike = |body| filled("UpdateField", body, "field.name", "level", Given::Alike);
        assert!(alike(r#"{"field": {"name": "level"}}"#).is_ok());
        assert!(alike(r#"{"field": {"description": "x"}}"#).is_ok());
        assert!(alike(r#"{"field": {"name": "other"}}"#).is_err());
        assert!(
            filled(
                "UpdateProfile",
                r#"{"userId": 5}"#,
                "user_id",
                "5",
                Given::Alike
            )
            .is_ok()
        );
        assert!(
            filled(
                "UpdateProfile",
                r#"{"userId": 5}"#,
                "user_id",
                ME,
                Given::Alike
            )
            .is_err()
        );
    }

    #[test]
    fn a_body_may_leave_open_what_the_path_says() {
        for unset in ["0", "\"0\"", "null"] {
            let body = format!(r#"{{"userId": {unset}}}"#);
            let json = filled("UpdateProfile", &body, "user_id", "5", Given::Alike).unwrap();
            assert_eq!(
                json,
                JsonValue::Object(vec![("userId".into(), JsonValue::Text("5".into()))]),
                "{unset}"
            );
        }
        let named = JsonValue::Object(vec![("name".into(), JsonValue::Text("level".into()))]);
        for unset in [
            "{}",
            r#"{"field": null}"#,
            r#"{"field": {}}"#,
            r#"{"field": {"name": ""}}"#,
        ] {
            let json = filled("UpdateField", unset, "field.name", "level", Given::Alike).unwrap();
            assert_eq!(
                json,
                JsonValue::Object(vec![("field".into(), named.clone())]),
                "{unset}"
            );
        }
        for other in ["1", "\"1\"", "\"\"", "false", "{}"] {
            let body = format!(r#"{{"userId": {other}}}"#);
            assert!(
                filled("UpdateProfile", &body, "user_id", "5", Given::Alike).is_err(),
                "{other}"
            );
        }
    }

    #[test]
    fn a_post_to_a_collection_needs_a_body() {
        let needing: Vec<&str> = ROUTES
            .iter()
            .filter(|route| route.needs_body())
            .map(|route| route.rpc.1)
            .collect();
        assert_eq!(
            needing,
            ["CreateUser", "LinkConnection", "CreateField", "IssueToken"]
        );
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

    fn none_match(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn if_none_match_is_a_list_of_etags() {
        for known in [
            &["\"1f\""][..],
            &["W/\"1f\""],
            &["1f"],
            &["*"],
            &["\"a\", W/\"1f\""],
            &["\"a\"", "\"1f\""],
        ] {
            assert!(is_known(&none_match(known), "1f"), "{known:?}");
        }
        for other in [&[][..], &[""], &["\"1\""], &["\"1F\"", "\"a\""], &["\"1f"]] {
            assert!(!is_known(&none_match(other), "1f"), "{other:?}");
        }
    }

    #[test]
    fn a_write_has_no_if_none_match() {
        let rejected = |values| must_not_be_new(&none_match(values)).unwrap_err();
        assert!(must_not_be_new(&none_match(&[])).is_ok());
        assert_eq!(rejected(&["*"]).status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(rejected(&["\"1f\""]).status, StatusCode::BAD_REQUEST);
    }
}
