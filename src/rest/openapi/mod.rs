//! The OpenAPI description of the native routes, generated from the contract's descriptors and
//! their options, and a page that shows it without network access.

mod comments;
mod schema;

use std::sync::LazyLock;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    Gateway, import,
    native::{ROUTES, Route},
};
use crate::convert::{
    POOL, SERVICES,
    annotations::{FieldBehavior, has_behavior},
};
use comments::{comment, first_sentence};

/// The page, with all that it needs in it.
const PAGE: &str = include_str!("page.html");

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// The document and its page.
pub(super) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/openapi.json", get(async || serve_document()))
        .route("/docs", get(async || serve_page()))
}

fn serve_document() -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, JSON)], DOCUMENT.clone()).into_response()
}

fn serve_page() -> Response {
    const OWN: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    ([(header::CONTENT_SECURITY_POLICY, OWN)], Html(PAGE)).into_response()
}

/// The OpenAPI document.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES.iter() {
        let methods = paths.entry(&route.path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_lowercase()] = operation(route);
    }
    let components = schema::components(&paths);
    let services = SERVICES
        .iter()
        .filter_map(|name| POOL.get_service_by_name(name));
    let tags: Vec<Value> = services
        .map(|service| {
            let told = comment(service.parent_file_descriptor_proto(), service.path());
            json!({ "name": service.name(), "description": told })
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "user-service",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The profiles and login accounts of an application's users. The same calls are served over gRPC.",
            "license": { "name": "Apache 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": {
                "type": "http", "scheme": "bearer", "description": "A service token or a user token.",
            } },
            "schemas": components,
        },
    })
}

fn operation(route: &Route) -> Value {
    let method = &route.descriptor;
    let file = method
        .parent_service()
        .parent_file()
        .file_descriptor_proto()
        .clone();
    let told = comment(&file, method.path());
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [method.parent_service().name()],
        "summary": first_sentence(&told),
        "description": told,
        "parameters": parameters(route, &method.input()),
        "responses": {
            "200": {
                "description": "Done.",
                "headers": headers(route),
                "content": { "application/json": { "schema": schema::reference(&method.output()) } },
            },
            "default": {
                "description": "An error, in the form of AIP-193.",
                "content": { "application/json": { "schema": {
                    "$ref": format!("#/components/schemas/{}", schema::ERROR),
                } } },
            },
        },
    });
    if route.is_read() && route.has_etag() {
        operation["responses"]["304"] = json!({ "description": "The caller has the current version already.", "headers": headers(route) });
    }
    if route.path == import::PATH {
        let lines = json!({ "schema": { "type": "string" } });
        operation["requestBody"] = json!({
            "description": "Lines, each of them a body of CreateUser.",
            "content": { "application/x-ndjson": lines, "text/plain": lines },
        });
    } else if route.has_body {
        let schema = schema::message(&method.input(), &route.filled);
        operation["requestBody"] = json!({
            "required": route.needs_body() || schema.get("required").is_some(),
            "content": { "application/json": { "schema": schema } },
        });
    }
    operation
}

/// The name of the RPC; an additional route appends `me` or the verb of its path.
fn operation_id(route: &Route) -> String {
    let rpc = route.rpc.1;
    let is_me = route.path.split('/').any(|segment| segment == "me");
    match route.path.rsplit_once(':') {
        _ if route.is_main => rpc.to_owned(),
        _ if is_me => format!("{rpc}_me"),
        Some((_, verb)) => format!("{rpc}_{verb}"),
        None => format!("{rpc}_{}", route.method.as_str().to_lowercase()),
    }
}

fn headers(route: &Route) -> Value {
    if !route.has_etag() {
        return json!({});
    }
    json!({ "ETag": { "description": "The etag of the returned resource.", "schema": { "type": "string" } } })
}

fn parameters(route: &Route, input: &MessageDescriptor) -> Vec<Value> {
    let mut parameters = Vec::new();
    if let (Some(name), Some(field)) = (route.param(), route.filled_field()) {
        parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "description": schema::told(&field), "schema": schema::text(&field),
        }));
    }
    let mut condition = |name: &str, description: &str, pattern: &str| {
        parameters.push(json!({
            "name": name, "in": "header", "required": false, "description": description,
            "schema": { "type": "string", "pattern": pattern },
        }));
    };
    if route.is_read() && route.has_etag() {
        let told = "The etags that the caller has, quoted; if the current one is among them, the status is 304.";
        condition(
            "If-None-Match",
            told,
            "^(\\*|(W/)?\"[0-9a-f]+\"(, *(W/)?\"[0-9a-f]+\")*)$",
        );
    }
    if !route.is_read() && input.get_field_by_name("etag").is_some() {
        let told = "The etag that the resource must still have, quoted; otherwise 412.";
        condition("If-Match", told, "^(\\*|\"[0-9a-f-]+\")$");
    }
    if !route.has_body {
        query(input, "", &route.filled, &mut parameters);
    }
    parameters
}

fn query(input: &MessageDescriptor, prefix: &str, filled: &str, parameters: &mut Vec<Value>) {
    // What the path fills excludes the others of its choice.
    let chosen = input
        .get_field_by_name(filled)
        .and_then(|field| field.containing_oneof());
    let is_open = |field: &FieldDescriptor| chosen.is_none() || field.containing_oneof() != chosen;
    for field in input
        .fields()
        .filter(|field| field.name() != filled && is_open(field))
    {
        let name = format!("{prefix}{}", field.name());
        let mut parameter = json!({
            "name": name, "in": "query", "required": has_behavior(&field, FieldBehavior::Required),
            "description": schema::told(&field),
        });
        match field.kind() {
            Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
                query(&inner, &format!("{name}."), "", parameters);
                continue;
            }
            Kind::Message(inner) if inner.full_name() == "google.protobuf.Struct" => {
                // Generated clients drop `content`, and flatten an object into several parameters.
                let told = format!(
                    "{} In the query string, the object is JSON text.",
                    schema::told(&field)
                );
                parameter["description"] = told.into();
                parameter["schema"] = json!({ "type": "string" });
                parameter["example"] = json!({ "nickname": { "$contains": "Ann" } })
                    .to_string()
                    .into();
            }
            _ => parameter["schema"] = schema::field(&field),
        }
        parameters.push(parameter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_names_are_unique() {
        let document = document();
        let mut ids = std::collections::HashSet::new();
        for route in ROUTES.iter() {
            let operation = &document["paths"][&route.path][route.method.as_str().to_lowercase()];
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{}",
                route.path
            );
            assert!(
                !operation["summary"].as_str().unwrap().is_empty(),
                "{}",
                route.path
            );
        }
    }

    #[test]
    fn further_routes_have_names_of_their_own() {
        let document = document();
        let id = |method: &str, path: &str| document["paths"][path][method]["operationId"].clone();
        assert_eq!(id("get", "/v1/users/{user_id}/profile"), "GetProfile");
        assert_eq!(id("get", "/v1/users/me/profile"), "GetProfile_me");
        assert_eq!(id("get", "/v1/profiles:lookup"), "GetProfile_lookup");
        assert_eq!(
            id("post", "/v1/users/{user_id}/account:sendEmailCode"),
            "SendEmailCode"
        );
        assert_eq!(
            id("post", "/v1/users/me/account:sendEmailCode"),
            "SendEmailCode_me"
        );
        assert_eq!(id("post", "/v1/profiles:list"), "ListProfiles_list");
    }

    #[test]
    fn parameters_are_those_of_the_fields() {
        let document = document();
        let named = |method: &str, path: &str, name: &str| {
            let parameters = document["paths"][path][method]["parameters"]
                .as_array()
                .unwrap();
            parameters
                .iter()
                .find(|parameter| parameter["name"] == name)
                .cloned()
                .unwrap_or_default()
        };
        let user_id = named("delete", "/v1/users/{user_id}", "user_id");
        assert_eq!(
            (&user_id["in"], &user_id["required"]),
            (&json!("path"), &json!(true))
        );
        assert_eq!(
            (&user_id["schema"]["format"], &user_id["schema"]["type"]),
            (&json!("int64"), &json!("string"))
        );
        assert_eq!(user_id["description"], "Required. The ID of the user.");
        assert!(
            named("patch", "/v1/fields/{name}", "name")["description"]
                .as_str()
                .unwrap()
                .contains("Immutable.")
        );
        assert_eq!(
            named("delete", "/v1/users/{user_id}", "request_id")["schema"]["format"],
            "uuid"
        );
        for name in ["If-Match", "etag", "validate_only", "allow_missing"] {
            assert_eq!(
                named("delete", "/v1/users/{user_id}", name)["required"],
                false,
                "{name}"
            );
        }
        let filter = named("get", "/v1/profiles", "filter");
        assert_eq!(
            (&filter["schema"], filter.get("content")),
            (&json!({ "type": "string" }), None)
        );
        let example: Value = serde_json::from_str(filter["example"].as_str().unwrap()).unwrap();
        assert!(
            example.is_object()
                && filter["description"]
                    .as_str()
                    .unwrap()
                    .ends_with("is JSON text.")
        );
        for path in [
            "/v1/users/{user_id}/profile",
            "/v1/users/me/profile",
            "/v1/profiles:lookup",
        ] {
            assert_eq!(
                named("get", path, "If-None-Match")["in"],
                "header",
                "{path}"
            );
            assert!(
                document["paths"][path]["get"]["responses"]["304"].is_object(),
                "{path}"
            );
        }
        assert_eq!(named("get", "/v1/users/me/profile", "user_id"), Value::Null);
        let body = &document["paths"]["/v1/users/me/account"]["patch"]["requestBody"];
        assert_eq!(
            body["content"]["application/json"]["schema"]["properties"].get("userId"),
            None
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{name}"
            );
        }
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.contains_key("Profile") && schemas.contains_key("ErrorReason"));
        assert!(
            !schemas.contains_key("DeleteUserRequest"),
            "nothing refers to it"
        );
    }

    #[test]
    fn the_page_needs_no_network() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"));
    }
}
