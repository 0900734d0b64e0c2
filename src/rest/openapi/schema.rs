//! Messages and enumerations as JSON Schema.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::comment;
use crate::convert::{
    POOL,
    annotations::{FieldBehavior, has_behavior, is_secret, is_uuid},
};

/// The field behaviors that have a keyword. JSON Schema has none for an immutable field.
const BEHAVIORS: &[(FieldBehavior, &str)] = &[
    (FieldBehavior::OutputOnly, "readOnly"),
    (FieldBehavior::InputOnly, "writeOnly"),
    (FieldBehavior::Immutable, "x-immutable"),
];

/// The name of the error's schema; `Error` would hide a built-in type of some languages.
pub(super) const ERROR: &str = "ErrorResponse";

/// The schemas that these paths refer to, directly or through others, and all enumerations.
/// Generated clients have a type for each schema; one that nothing uses would take the name of
/// another.
pub(super) fn components(paths: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut others = all();
    let mut used = BTreeMap::new();
    for kind in enumerations() {
        used.extend(others.remove_entry(kind.name()));
    }
    let mut left = vec![json!(paths).to_string()];
    while let Some(text) = left.pop() {
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            if let Some((name, schema)) =
                others.remove_entry(reference.split('"').next().unwrap_or_default())
            {
                left.push(schema.to_string());
                used.insert(name, schema);
            }
        }
    }
    used
}

fn enumerations() -> impl Iterator<Item = EnumDescriptor> {
    POOL.all_enums()
        .filter(|kind| kind.package_name() == "userservice.v1")
}

/// All messages and enumerations of the contract, and the error.
fn all() -> BTreeMap<String, Value> {
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let messages = POOL
        .all_messages()
        .filter(|message| message.package_name() == "userservice.v1");
    for descriptor in messages {
        schemas.insert(descriptor.name().to_owned(), message(&descriptor, ""));
    }
    for kind in enumerations() {
        schemas.insert(kind.name().to_owned(), enumeration(&kind));
    }
    schemas.insert(ERROR.to_owned(), error());
    schemas
}

/// A reference to a message's schema.
pub(super) fn reference(message: &MessageDescriptor) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", message.name()) })
}

/// A message's schema, without the field that the path fills.
pub(super) fn message(message: &MessageDescriptor, filled: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for descriptor in message.fields().filter(|field| field.name() != filled) {
        let is_required = has_behavior(&descriptor, FieldBehavior::Required);
        if is_required {
            required.push(descriptor.json_name().to_owned());
        }
        let mut schema = match (filled.split_once('.'), descriptor.kind()) {
            // The rest of what the path fills is a patch, in which nothing is required.
            (Some((name, rest)), Kind::Message(inner)) if name == descriptor.name() => {
                patch(&inner, rest)
            }
            _ => field(&descriptor),
        };
        if !is_required {
            schema = nullable(schema);
        }
        for (behavior, keyword) in BEHAVIORS {
            if has_behavior(&descriptor, *behavior) {
                schema[keyword] = true.into();
            }
        }
        schema["description"] = told(&descriptor).into();
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
pub(super) fn told(field: &FieldDescriptor) -> String {
    comment(field.parent_file().file_descriptor_proto(), field.path())
}

/// A field's schema: the one form that every response has. Requests may also have the other forms
/// of ProtoJSON, such as an enum's number, but generated clients reject a schema of several types,
/// or values that it describes.
pub(super) fn field(field: &FieldDescriptor) -> Value {
    let one = match field.kind() {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int32 => {
            json!({ "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX })
        }
        Kind::Enum(kind) => json!({ "$ref": format!("#/components/schemas/{}", kind.name()) }),
        Kind::Message(message) => known(&message).unwrap_or_else(|| reference(&message)),
        _ => text(field),
    };
    if field.is_list() {
        json!({ "type": "array", "items": one })
    } else {
        one
    }
}

/// The schema of a field as text in a path.
pub(super) fn text(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Int64 => json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" }),
        _ if is_uuid(field) => json!({ "type": "string", "format": "uuid" }),
        _ if is_secret(field) => json!({ "type": "string", "format": "password" }),
        _ => json!({ "type": "string" }),
    }
}

/// The messages that have a JSON form of their own.
fn known(message: &MessageDescriptor) -> Option<Value> {
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "google.protobuf.Duration" => {
            json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" })
        }
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
        "type": "string",
        "enum": names,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// All fields of the contract with their schemas.
    fn fields() -> Vec<(FieldDescriptor, Value, bool)> {
        let components = all();
        let messages = POOL
            .all_messages()
            .filter(|message| message.package_name() == "userservice.v1");
        let fields = messages.flat_map(|message| {
            let schema = components[message.name()].clone();
            let fields: Vec<_> = message.fields().collect();
            fields.into_iter().map(move |field| {
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let is_required = required.contains(&json!(field.json_name()));
                let property = schema["properties"][field.json_name()].clone();
                (field, property, is_required)
            })
        });
        fields.collect()
    }

    #[test]
    fn keywords_are_the_annotations() {
        for (field, schema, is_required) in fields() {
            let name = field.full_name();
            assert_eq!(
                is_required,
                has_behavior(&field, FieldBehavior::Required),
                "{name}"
            );
            assert_eq!(
                schema["readOnly"] == true,
                has_behavior(&field, FieldBehavior::OutputOnly),
                "{name}"
            );
            assert_eq!(
                schema["x-immutable"] == true,
                has_behavior(&field, FieldBehavior::Immutable),
                "{name}"
            );
            assert_eq!(schema["format"] == "uuid", is_uuid(&field), "{name}");
            assert_eq!(schema["format"] == "password", is_secret(&field), "{name}");
        }
    }

    #[test]
    fn numbers_and_enums_have_one_type() {
        assert!(!json!(all()).to_string().contains("oneOf"));
        for (field, mut schema, _) in fields() {
            let name = field.full_name().to_owned();
            if field.is_list() {
                schema = schema["items"].clone();
            }
            let types = schema["type"]
                .as_array()
                .cloned()
                .unwrap_or_else(|| vec![schema["type"].clone()]);
            match field.kind() {
                Kind::Int32 => {
                    assert_eq!(
                        (&types[0], &schema["format"]),
                        (&json!("integer"), &json!("int32")),
                        "{name}"
                    )
                }
                Kind::Int64 => {
                    assert_eq!(
                        (&types[0], &schema["format"]),
                        (&json!("string"), &json!("int64")),
                        "{name}"
                    )
                }
                _ => {}
            }
        }
        let schemas = all();
        for kind in enumerations() {
            assert_eq!(schemas[kind.name()]["type"], "string", "{}", kind.name());
        }
    }

    #[test]
    fn the_words_of_a_comment_decide_nothing() {
        let fields = fields();
        let found = |name: &str| {
            let mut fields = fields.iter();
            fields
                .find(|(field, ..)| field.full_name() == format!("userservice.v1.{name}"))
                .unwrap()
        };
        // Their comments say "output only otherwise": CreateUser sets them.
        for name in ["Profile.user_id", "Profile.created_at"] {
            let (_, schema, is_required) = found(name);
            assert_eq!(
                (schema.get("readOnly"), &schema["x-immutable"], *is_required),
                (None, &json!(true), false)
            );
        }
        assert_eq!(found("Account.email_verified").1.get("readOnly"), None);
        assert_eq!(found("Profile.etag").1["readOnly"], true);
        assert!(found("DeleteUserRequest.user_id").2 && found("CreateFieldRequest.field").2);
    }
}
