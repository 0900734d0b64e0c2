//! Messages and enumerations as JSON Schema.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::comment;
use crate::{model::field::MAX_SAFE_INTEGER, wire::POOL};

/// All messages and enumerations of the contract, and the error.
pub fn components() -> Value {
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let messages = POOL.all_messages().filter(|message| message.package_name() == "userservice.v1");
    for descriptor in messages {
        schemas.insert(descriptor.name().to_owned(), message(&descriptor, ""));
    }
    for kind in POOL.all_enums().filter(|kind| kind.package_name() == "userservice.v1") {
        schemas.insert(kind.name().to_owned(), enumeration(&kind));
    }
    schemas.insert("Error".to_owned(), error());
    json!(schemas)
}

/// A reference to a message's schema.
pub fn reference(message: &MessageDescriptor) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", message.name()) })
}

/// A message's schema, without the field that the path fills.
pub fn message(message: &MessageDescriptor, filled: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for descriptor in message.fields().filter(|field| field.name() != filled) {
        let told = told(&descriptor);
        let is_choice = descriptor.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
        let is_required = told.starts_with("Required.") && !is_choice;
        if is_required {
            required.push(descriptor.json_name().to_owned());
        }
        let mut schema = match (filled.split_once('.'), descriptor.kind()) {
            // The rest of what the path fills is a patch, in which nothing is required.
            (Some((name, rest)), Kind::Message(inner)) if name == descriptor.name() => patch(&inner, rest),
            _ => field(&descriptor),
        };
        if !is_required {
            schema = nullable(schema);
        }
        if told.starts_with("Output only.") {
            schema["readOnly"] = true.into();
        }
        schema["description"] = told.into();
        properties.insert(descriptor.json_name().to_owned(), schema);
    }
    let mut schema = json!({
        "type": "object",
        "description": comment(message.parent_file_descriptor_proto(), message.path()),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn patch(inner: &MessageDescriptor, filled: &str) -> Value {
    let mut schema = message(inner, filled);
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("required");
    }
    schema
}

/// The same, or null, which in JSON stands for a field that is not set.
fn nullable(schema: Value) -> Value {
    match schema.get("type").cloned() {
        Some(Value::String(name)) => {
            let mut schema = schema;
            schema["type"] = json!([name, "null"]);
            schema
        }
        _ if schema == json!({}) => schema,
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// What the contract says of a field.
pub fn told(field: &FieldDescriptor) -> String {
    comment(field.parent_file().file_descriptor_proto(), field.path())
}

/// A field's schema.
pub fn field(field: &FieldDescriptor) -> Value {
    let one = match field.kind() {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int32 => json!({ "oneOf": [
            { "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX },
            { "type": "string", "pattern": "^-?[0-9]{1,10}$" },
        ] }),
        Kind::Int64 => json!({ "oneOf": [
            { "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" },
            { "type": "integer", "minimum": -MAX_SAFE_INTEGER, "maximum": MAX_SAFE_INTEGER },
        ] }),
        Kind::Enum(kind) => json!({ "$ref": format!("#/components/schemas/{}", kind.name()) }),
        Kind::Message(message) => known(&message).unwrap_or_else(|| reference(&message)),
        _ => json!({ "type": "string" }),
    };
    match field.is_list() {
        true => json!({ "type": "array", "items": one }),
        false => one,
    }
}

/// The messages that have a JSON form of their own.
fn known(message: &MessageDescriptor) -> Option<Value> {
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "google.protobuf.Duration" => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" }),
        "google.protobuf.FieldMask" => json!({ "type": "string" }),
        "google.protobuf.Struct" => json!({ "type": "object", "additionalProperties": true }),
        "google.protobuf.Value" => json!({}),
        _ => return None,
    })
}

fn enumeration(kind: &EnumDescriptor) -> Value {
    let names: Vec<String> = kind.values().map(|value| value.name().to_owned()).collect();
    json!({
        "description": comment(kind.parent_file_descriptor_proto(), kind.path()),
        "oneOf": [
            { "type": "string", "enum": names },
            { "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX },
        ],
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "description": "An error, in the form of AIP-193.",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "status", "message", "details"],
            "properties": {
                "code": { "type": "integer", "description": "The HTTP status." },
                "status": { "type": "string", "description": "The name of the google.rpc.Code." },
                "message": { "type": "string" },
                "details": {
                    "type": "array",
                    "description": "ErrorInfo with the reason, RequestInfo, and where they fit BadRequest, ResourceInfo, \
                                    PreconditionFailure, QuotaFailure and RetryInfo.",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": { "@type": { "type": "string" } },
                        "additionalProperties": true,
                    },
                },
            },
        } },
    })
}
