//! Reads the options of the contract: the routes of a method, the behavior and format of a field,
//! which fields are secrets, and which methods are reads.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, MethodDescriptor, Value};
use prost_types::method_options::IdempotencyLevel;

use self::api::{FieldInfo, HttpRule, field_info::Format, http_rule::Pattern};
use super::POOL;

pub use self::api::FieldBehavior;

/// The messages of `google.api`.
pub mod api {
    tonic::include_proto!("google.api");
}

/// One HTTP route of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBinding {
    /// The HTTP method, in capitals.
    pub method: String,
    /// The path, with the path of a field in braces.
    pub template: String,
    /// Whether the request is the body. Otherwise its fields are query parameters, except what the
    /// path fills.
    pub has_body: bool,
}

/// The routes that `google.api.http` gives a method, the main one first; none without the option.
pub fn http_bindings(method: &MethodDescriptor) -> Vec<HttpBinding> {
    let Some(rule) = extension(&method.options(), "google.api.http") else {
        return Vec::new();
    };
    let rule: HttpRule = decoded(&rule);
    std::iter::once(&rule)
        .chain(&rule.additional_bindings)
        .filter_map(http_binding)
        .collect()
}

fn http_binding(rule: &HttpRule) -> Option<HttpBinding> {
    let (method, template) = match rule.pattern.as_ref()? {
        Pattern::Get(template) => ("GET", template),
        Pattern::Put(template) => ("PUT", template),
        Pattern::Post(template) => ("POST", template),
        Pattern::Delete(template) => ("DELETE", template),
        Pattern::Patch(template) => ("PATCH", template),
        Pattern::Custom(custom) => (custom.kind.as_str(), &custom.path),
    };
    let has_body = !rule.body.is_empty();
    Some(HttpBinding {
        method: method.to_owned(),
        template: template.clone(),
        has_body,
    })
}

/// Whether a method is a read, by its `idempotency_level`.
pub fn is_read(method: &MethodDescriptor) -> bool {
    let options = method.method_descriptor_proto().options.as_ref();
    options.is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects)
}

/// Whether `google.api.field_behavior` of a field names this behavior.
pub fn has_behavior(field: &FieldDescriptor, behavior: FieldBehavior) -> bool {
    let behaviors = extension(&field.options(), "google.api.field_behavior");
    let is_it = |value: &Value| value.as_enum_number() == Some(behavior.into());
    behaviors
        .as_ref()
        .and_then(Value::as_list)
        .is_some_and(|list| list.iter().any(is_it))
}

/// Whether `google.api.field_info` of a field has the format UUID.
pub fn is_uuid(field: &FieldDescriptor) -> bool {
    let info = extension(&field.options(), "google.api.field_info");
    info.is_some_and(|info| decoded::<FieldInfo>(&info).format() == Format::Uuid4)
}

/// Whether a field is a secret, by its option `debug_redact`.
pub fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options
        .get_field_by_name("debug_redact")
        .and_then(|value| value.as_bool())
        .unwrap_or_default()
}

fn extension(options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = POOL
        .get_extension_by_name(name)
        .expect("valid: the contract imports it");
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

fn decoded<M: Message + Default>(value: &Value) -> M {
    let message = value
        .as_message()
        .expect("valid: the extension is a message");
    message
        .transcode_to()
        .expect("valid: decoded by the same declaration")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> MethodDescriptor {
        let services = crate::convert::SERVICES
            .iter()
            .map(|name| POOL.get_service_by_name(name).unwrap());
        let mut methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
        methods.find(|method| method.name() == name).unwrap()
    }

    fn field(path: &str) -> FieldDescriptor {
        let (message, field) = path.split_once('.').unwrap();
        let message = POOL
            .get_message_by_name(&format!("userservice.v1.{message}"))
            .unwrap();
        message.get_field_by_name(field).unwrap()
    }

    #[test]
    fn routes_are_those_of_the_option() {
        let found = http_bindings(&method("ListProfiles"));
        let binding = |method: &str, template: &str, has_body| HttpBinding {
            method: method.to_owned(),
            template: template.to_owned(),
            has_body,
        };
        assert_eq!(
            found,
            [
                binding("GET", "/v1/profiles", false),
                binding("POST", "/v1/profiles:list", true)
            ]
        );
        assert_eq!(
            http_bindings(&method("UpdateField")),
            [binding("PATCH", "/v1/fields/{field.name}", true)]
        );
        assert_eq!(http_bindings(&method("ImportUsers")), []);
    }

    #[test]
    fn options_of_fields_are_read() {
        assert!(has_behavior(
            &field("DeleteUserRequest.user_id"),
            FieldBehavior::Required
        ));
        assert!(!has_behavior(
            &field("DeleteUserRequest.etag"),
            FieldBehavior::Required
        ));
        for behavior in [FieldBehavior::Optional, FieldBehavior::Immutable] {
            assert!(
                has_behavior(&field("Profile.user_id"), behavior),
                "{behavior:?}"
            );
        }
        assert!(
            is_uuid(&field("DeleteUserRequest.request_id"))
                && !is_uuid(&field("DeleteUserRequest.etag"))
        );
        assert!(is_secret(&field("Proof.code")) && !is_secret(&field("Proof.channel")));
    }

    #[test]
    fn reads_are_methods_without_side_effects() {
        let reads = [
            "GetProfile",
            "BatchGetProfiles",
            "ListProfiles",
            "ListFields",
            "GetDelivery",
            "ListTokens",
        ];
        for service in crate::convert::SERVICES {
            for method in POOL.get_service_by_name(service).unwrap().methods() {
                assert_eq!(
                    is_read(&method),
                    reads.contains(&method.name()),
                    "{}",
                    method.name()
                );
            }
        }
    }
}
