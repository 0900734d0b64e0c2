//! Redaction of secrets: a field with the option `debug_redact` is never shown.

use std::fmt;

use prost_reflect::{DynamicMessage, Kind, Value};

use super::annotations::is_secret;

/// The text that replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// `Debug` of a secret: shows whether it is set, but not its value.
pub struct Redacted<'a, T>(pub &'a T);

impl<T: fmt::Debug + Default + PartialEq> fmt::Debug for Redacted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self.0 == T::default() {
            self.0.fmt(f)
        } else {
            f.write_str(REDACTED)
        }
    }
}

/// Replaces every secret of a message, and of the messages inside it.
pub fn redact(message: &mut DynamicMessage) {
    let mut others = Vec::new();
    for (field, value) in message.fields_mut() {
        match field.kind() {
            Kind::String if is_secret(&field) && !field.is_list() => {
                *value = Value::String(REDACTED.to_owned())
            }
            _ if is_secret(&field) => others.push(field),
            _ => redact_inside(value),
        }
    }
    for field in others {
        message.clear_field(&field);
    }
}

fn redact_inside(value: &mut Value) {
    match value {
        Value::Message(message) => redact(message),
        Value::List(items) => items.iter_mut().for_each(redact_inside),
        Value::Map(entries) => entries.values_mut().for_each(redact_inside),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Debug};

    use prost::{Message, Name};
    use prost_reflect::{FieldDescriptor, MessageDescriptor};

    use super::*;
    use crate::convert::{POOL, pb, proto_json};

    const MARKER: &str = "the-marker-of-a-secret";

    /// Everything that a message of this type shows.
    fn shown<M: Message + Name + Default + Debug>(bytes: &[u8]) -> String {
        let message = M::decode(bytes).unwrap();
        let json = String::from_utf8(proto_json::to_redacted_text(&message)).unwrap();
        format!("{message:?}\n{message:#?}\n{json}")
    }

    type Show = fn(&[u8]) -> String;

    /// The generated types by their names, written by build.rs.
    const TYPES: &[(&str, Show)] =
        &include!(concat!(env!("OUT_DIR"), "/userservice.v1.messages.rs"));

    fn messages() -> Vec<MessageDescriptor> {
        POOL.all_messages()
            .filter(|message| message.package_name() == "userservice.v1")
            .collect()
    }

    /// One message per secret that a message of this type can contain, and the path of the secret.
    fn with_secrets(message: &MessageDescriptor) -> Vec<(String, DynamicMessage)> {
        message
            .fields()
            .flat_map(|field| with_secrets_in(message, &field))
            .collect()
    }

    fn with_secrets_in(
        message: &MessageDescriptor,
        field: &FieldDescriptor,
    ) -> Vec<(String, DynamicMessage)> {
        let inside = match field.kind() {
            _ if is_secret(field) => vec![(String::new(), marker(field))],
            Kind::Message(inner) if inner.package_name() == "userservice.v1" => {
                let inside = with_secrets(&inner).into_iter();
                inside
                    .map(|(path, inside)| (format!(".{path}"), Value::Message(inside)))
                    .collect()
            }
            _ => Vec::new(),
        };
        let whole = inside.into_iter().map(|(path, value)| {
            let value = if field.is_list() {
                Value::List(vec![value])
            } else {
                value
            };
            let mut message = DynamicMessage::new(message.clone());
            message.set_field(field, value);
            (format!("{}{path}", field.name()), message)
        });
        whole.collect()
    }

    fn marker(field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::String => Value::String(MARKER.to_owned()),
            Kind::Bytes => Value::Bytes(MARKER.into()),
            kind => panic!(
                "{} is a secret, and the test has no marker of kind {kind:?}",
                field.full_name()
            ),
        }
    }

    #[test]
    fn no_message_shows_a_secret() {
        let mut seen = BTreeSet::new();
        for descriptor in messages() {
            let (_, show) = TYPES
                .iter()
                .find(|(name, _)| *name == descriptor.full_name())
                .unwrap();
            for (path, message) in with_secrets(&descriptor) {
                let shown = show(&message.encode_to_vec());
                let name = format!("{}.{path}", descriptor.name());
                assert!(
                    !shown.contains(MARKER) && shown.matches(REDACTED).count() == 3,
                    "{name} in {shown}"
                );
                seen.insert(name);
            }
        }
        for known in [
            "Proof.code",
            "UpdateAccountRequest.proof.code",
            "IssueTokenResponse.secret",
        ] {
            assert!(seen.contains(known), "{known} is no secret any more");
        }
    }

    #[test]
    fn every_message_of_the_contract_is_tried() {
        let generated: BTreeSet<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        let messages = messages();
        assert_eq!(
            generated,
            messages.iter().map(MessageDescriptor::full_name).collect()
        );
        let secrets = messages
            .iter()
            .flat_map(MessageDescriptor::fields)
            .filter(is_secret)
            .count();
        // Also counted in the source files, so that an option that isn't decoded is noticed.
        let proto = std::fs::read_dir("proto/userservice/v1")
            .unwrap()
            .map(|file| file.unwrap().path());
        let texts = proto.map(|path| {
            std::fs::read_to_string(path)
                .unwrap()
                .matches("debug_redact = true")
                .count()
        });
        assert_eq!(secrets, texts.sum::<usize>());
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        let proof = pb::Proof {
            channel: pb::CodeChannel::Phone.into(),
            code: "123456".to_owned(),
            current_password: "violet".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            format!("{proof:?}"),
            "Proof { channel: Phone, code: [redacted], new_code: \"\", current_password: [redacted], \
             current_wallet_password: \"\" }"
        );
        let request = pb::VerifyPasswordRequest {
            key: Some(pb::verify_password_request::Key::UserId(7)),
            password: "violet".to_owned(),
            ..Default::default()
        };
        let shown = format!("{request:?}");
        assert!(
            shown.contains("UserId(7)") && shown.contains("password: [redacted]"),
            "{shown}"
        );
        let issued = pb::IssueTokenResponse {
            token: Some(pb::Token::default()),
            secret: "usr_x".to_owned(),
        };
        let text = String::from_utf8(proto_json::to_redacted_text(&issued)).unwrap();
        assert_eq!(text, r#"{"token":{},"secret":"[redacted]"}"#);
    }
}
