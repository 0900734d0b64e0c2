//! NUL, which Postgres stores in no text: in each text of each request it is the caller's error,
//! never ours.

use std::collections::BTreeSet;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::json;
use user_service::convert::{POOL, SERVICES};

use super::speak;
use crate::support::{TestApp, given};

/// A text with NUL alone, and one with NUL in what would be good otherwise.
const TEXTS: [&str; 2] = ["\0", "le\0vel"];

/// A request of each RPC that would be good, so that its texts are looked at; `1` stands for the id
/// of a user.
const REQUESTS: &[(&str, &str)] = &[
    (
        "CreateUser",
        r#"{"profile": {"nickname": "Ann"}, "account": {"username": "ann.lee"}, "validateOnly": true}"#,
    ),
    (
        "ImportUsers",
        r#"{"user": {"profile": {"nickname": "Ann"}}}"#,
    ),
    ("DeleteUser", r#"{"userId": "1", "validateOnly": true}"#),
    (
        "LinkConnection",
        r#"{"userId": "1", "provider": "github", "subject": "7"}"#,
    ),
    (
        "VerifyPassword",
        r#"{"username": "nobody.here", "password": "violet-lantern-93"}"#,
    ),
    (
        "CreateField",
        r#"{"field": {"name": "other", "type": "FIELD_TYPE_STRING"}}"#,
    ),
    ("ListFields", "{}"),
    (
        "UpdateField",
        r#"{"field": {"name": "level", "description": "x", "defaultValue": "y"}, "updateMask": "description,defaultValue"}"#,
    ),
    ("DeleteField", r#"{"name": "nothing"}"#),
    ("GetDelivery", r#"{"deliveryId": "1"}"#),
    (
        "IssueToken",
        r#"{"service": "other", "scopes": ["profiles.read"]}"#,
    ),
    ("ListTokens", r#"{"service": "other"}"#),
    ("RevokeToken", r#"{"tokenId": "77777"}"#),
    ("RevokeTokens", r#"{"service": "other"}"#),
    ("GetProfile", r#"{"userId": "1"}"#),
    ("BatchGetProfiles", r#"{"keys": [{"userId": "1"}]}"#),
    ("ListProfiles", r#"{"pageSize": 1}"#),
    (
        "UpdateProfile",
        r#"{"userId": "1", "profile": {"nickname": "Ann", "avatarUrl": "https://example.org/a", "country": "a",
            "province": "a", "city": "a", "language": "a", "openid": "a", "unionid": "a"},
            "updateMask": "nickname,avatarUrl,country,province,city,language,openid,unionid", "validateOnly": true}"#,
    ),
    (
        "BulkUpdateFields",
        r#"{"filter": {"level": "x"}, "customFields": {"level": "y"}, "validateOnly": true}"#,
    ),
    (
        "UpdateAccount",
        r#"{"userId": "1", "account": {"username": "ann.lee", "email": "new@example.org"}, "updateMask": "username,email",
            "validateOnly": true}"#,
    ),
    (
        "SendEmailCode",
        r#"{"userId": "1", "email": "new@example.org"}"#,
    ),
    (
        "SendPhoneCode",
        r#"{"userId": "1", "phone": "+8613800138000"}"#,
    ),
    (
        "ConfirmEmailChange",
        r#"{"userId": "1", "email": "new@example.org", "code": "123456"}"#,
    ),
    (
        "ConfirmPhoneChange",
        r#"{"userId": "1", "phone": "+8613800138000", "code": "123456"}"#,
    ),
];

/// The paths to all texts of a message.
fn texts(message: &MessageDescriptor) -> Vec<Vec<FieldDescriptor>> {
    let mut found = Vec::new();
    for field in message.fields() {
        match field.kind() {
            Kind::String => found.push(vec![field]),
            // JSON, which holds itself.
            Kind::Message(inner) if is_json(&inner) => found.push(vec![field]),
            Kind::Message(inner) => {
                found.extend(
                    texts(&inner)
                        .into_iter()
                        .map(|rest| [vec![field.clone()], rest].concat()),
                );
            }
            _ => {}
        }
    }
    found
}

fn is_json(message: &MessageDescriptor) -> bool {
    ["google.protobuf.Struct", "google.protobuf.Value"].contains(&message.full_name())
}

/// What a field may hold with this text in it.
fn values(kind: &Kind, text: &str) -> Vec<Value> {
    let Kind::Message(message) = kind else {
        return vec![Value::String(text.to_owned())];
    };
    let of = |value: &serde_json::Value| Value::Message(speak::message(message, value));
    if message.name() == "Value" {
        return vec![of(&json!(text))];
    }
    let documents = [
        json!({ "level": text }),
        json!({ (text): 1 }),
        json!({ "level": { "$eq": text } }),
        json!({ "level": { "$in": ["a", text] } }),
        json!({ "level": { "$contains": text } }),
        json!({ "level": { (text): 1 } }),
        json!({ "nickname": text }),
        json!({ "username": text }),
        json!({ "$and": [{ "email": text }] }),
        json!({ "info": { "inner": text } }),
        json!({ "info": { (text): 1 } }),
        json!({ "info": { "$set": { "inner": text } } }),
        json!({ "info.inner": text }),
        json!({ (format!("info.{text}")): 1 }),
    ];
    documents.iter().map(of).collect()
}

fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value) {
    let (field, rest) = path.split_first().unwrap();
    if rest.is_empty() {
        let value = if field.is_list() {
            Value::List(vec![value])
        } else {
            value
        };
        message.set_field(field, value);
        return;
    }
    let holder = message.get_field_mut(field);
    if let Some(items) = holder.as_list_mut() {
        if items.is_empty() {
            let Kind::Message(inner) = field.kind() else {
                panic!("{field:?} holds no messages")
            };
            items.push(Value::Message(DynamicMessage::new(inner)));
        }
        return set(items[0].as_message_mut().unwrap(), rest, value);
    }
    set(holder.as_message_mut().unwrap(), rest, value);
}

#[tokio::test]
async fn no_text_of_a_request_with_nul_is_an_internal_error() {
    let app = TestApp::new().await;
    let (user_id, _) = app.join(given("ann@example.org", ""), "").await;
    let token = app
        .issue_service(user_service::model::scope::Scope::ALL)
        .await;
    for (name, kind) in [
        ("level", "FIELD_TYPE_STRING"),
        ("info", "FIELD_TYPE_OBJECT"),
    ] {
        let field = json!({ "field": { "name": name, "type": kind } });
        speak::grpc(&app, Some(&token), "CreateField", &field)
            .await
            .unwrap();
    }
    let mut called = BTreeSet::new();
    for (rpc, request) in REQUESTS {
        let method = speak::method(rpc);
        let request = request.replace(r#""userId": "1""#, &format!(r#""userId": "{user_id}""#));
        let good = speak::message(&method.input(), &serde_json::from_str(&request).unwrap());
        for path in texts(&method.input()) {
            let kind = path.last().unwrap().kind();
            for value in TEXTS.iter().flat_map(|text| values(&kind, text)) {
                let mut message = good.clone();
                set(&mut message, &path, value);
                let answer = speak::grpc_messages(
                    &app,
                    Some(&token),
                    &method,
                    vec![message.encode_to_vec()],
                )
                .await;
                let reason = answer
                    .as_ref()
                    .err()
                    .map(|error| error["reason"].as_str().unwrap().to_owned());
                assert_ne!(
                    reason.as_deref(),
                    Some("INTERNAL"),
                    "{rpc} {message:?}: {answer:?}"
                );
                if let Ok(answer) = answer {
                    // An import tells of each user by itself.
                    assert!(
                        !answer.to_string().contains("\"INTERNAL\""),
                        "{rpc} {message:?}: {answer}"
                    );
                }
            }
        }
        called.insert(*rpc);
    }
    let services = SERVICES
        .iter()
        .filter_map(|name| POOL.get_service_by_name(name));
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        assert!(
            called.contains(method.name()),
            "no request of {}",
            method.name()
        );
    }
}

#[tokio::test]
async fn nul_in_the_name_of_a_field_is_a_violation() {
    let app = TestApp::new().await;
    let token = app
        .issue_service(user_service::model::scope::Scope::ALL)
        .await;
    for (rpc, path, request) in [
        ("DeleteField", "name", json!({ "name": "a\0b" })),
        (
            "UpdateField",
            "field.name",
            json!({ "field": { "name": "\0" }, "updateMask": "description" }),
        ),
    ] {
        let refused = speak::grpc(&app, Some(&token), rpc, &request)
            .await
            .unwrap_err();
        assert_eq!(
            (&refused["reason"], &refused["fields"][0][0]),
            (&json!("INVALID_REQUEST"), &json!(path)),
            "{rpc}"
        );
    }
}
