//! Messages to JSON.
//!
//! The text is written straight from a message's bytes, field by field: what prost leaves out, a
//! field at its default, canonical JSON leaves out too.

use std::io;

use bytes::Buf;
use prost::{
    Message, Name,
    encoding::{self, WireType},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use prost_types::{Duration, Timestamp, Value as PbValue};
use serde::Serialize;
use serde_json::{Value, ser::Formatter};

use super::descriptor;
use crate::{
    convert::{json, proto_struct::Struct, redact::redact},
    model::field::MAX_SAFE_INTEGER,
};

const VALID: &str = "valid: encoded from a message of our own";

fn dynamic<M: Message + Name>(message: &M) -> DynamicMessage {
    DynamicMessage::decode(descriptor::<M>(), message.encode_to_vec().as_slice()).expect(VALID)
}

/// A message as JSON text; fields at their defaults are left out, whole numbers have no fraction.
pub fn to_text<M: Message + Name>(message: &M) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    object(&descriptor::<M>(), &message.encode_to_vec(), &mut out);
    out
}

/// The same without its secrets.
pub fn to_redacted_text<M: Message + Name>(message: &M) -> Vec<u8> {
    let mut message = dynamic(message);
    redact(&mut message);
    let mut out = Vec::with_capacity(1024);
    object(&descriptor::<M>(), &message.encode_to_vec(), &mut out);
    out
}

/// The same with fields that are at their defaults.
pub fn to_text_with_defaults<M: Message + Name>(message: &M) -> Vec<u8> {
    let mut serializer =
        serde_json::Serializer::with_formatter(Vec::with_capacity(1024), WholeNumbers);
    dynamic(message)
        .serialize_with_options(
            &mut serializer,
            &SerializeOptions::new().skip_default_fields(false),
        )
        .expect("valid: a message of our own has a JSON form");
    serializer.into_inner()
}

fn object(message: &MessageDescriptor, mut bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    // The list that is being written, and whether it has an item already.
    let (mut open, mut is_first) = (None, true);
    while bytes.has_remaining() {
        let (number, wire_type) = encoding::decode_key(&mut bytes).expect(VALID);
        let field = message.get_field(number).expect(VALID);
        if open != Some(number) {
            if open.take().is_some() {
                out.push(b']');
            }
            if !is_first {
                out.push(b',');
            }
            put(out, field.json_name());
            out.push(b':');
            if field.is_list() {
                out.push(b'[');
                open = Some(number);
            }
        } else {
            out.push(b',');
        }
        is_first = false;
        if field.is_list() && wire_type == WireType::LengthDelimited && field.is_packed() {
            let mut items = delimited(&mut bytes);
            while items.has_remaining() {
                single(&field, &mut items, out);
                if items.has_remaining() {
                    out.push(b',');
                }
            }
        } else {
            single(&field, &mut bytes, out);
        }
    }
    if open.is_some() {
        out.push(b']');
    }
    out.push(b'}');
}

fn single(field: &FieldDescriptor, bytes: &mut &[u8], out: &mut Vec<u8>) {
    match field.kind() {
        Kind::String => put(out, std::str::from_utf8(delimited(bytes)).expect(VALID)),
        Kind::Bool => put(out, &(varint(bytes) != 0)),
        Kind::Int32 => put(out, &(varint(bytes) as i32)),
        // Doubles, which many readers keep numbers in, do not hold all of them.
        Kind::Int64 => put(out, &(varint(bytes) as i64).to_string()),
        Kind::Enum(kind) => {
            let number = varint(bytes) as i32;
            match kind.get_value(number) {
                Some(value) => put(out, value.name()),
                None => put(out, &number),
            }
        }
        Kind::Message(message) => {
            let bytes = delimited(bytes);
            match message.full_name() {
                "google.protobuf.Timestamp" => {
                    put(out, &Timestamp::decode(bytes).expect(VALID).to_string())
                }
                "google.protobuf.Duration" => {
                    put(out, &Duration::decode(bytes).expect(VALID).to_string())
                }
                "google.protobuf.Struct" => {
                    put(out, &json::object(Struct::decode(bytes).expect(VALID)))
                }
                "google.protobuf.Value" => {
                    put(out, &json::value(PbValue::decode(bytes).expect(VALID)))
                }
                _ => object(&message, bytes, out),
            }
        }
        _ => unreachable!("valid: the contract has no fields of other kinds"),
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    encoding::decode_varint(bytes).expect(VALID)
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = varint(bytes) as usize;
    let (inside, rest) = bytes.split_at(length);
    *bytes = rest;
    inside
}

fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("valid: plain JSON");
}

/// Writes 7 for the double 7.0, as clients sent it.
struct WholeNumbers;

impl Formatter for WholeNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() <= MAX_SAFE_INTEGER as f64 {
            write!(writer, "{}", value as i64)
        } else {
            write!(writer, "{}", Value::from(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert::pb;

    /// A message as JSON, using only its descriptor.
    fn to_json<M: Message + Name>(message: &M) -> Value {
        let options = SerializeOptions::new();
        dynamic(message)
            .serialize_with_options(serde_json::value::Serializer, &options)
            .unwrap()
    }

    fn profile() -> pb::Profile {
        pb::Profile {
            user_id: 7,
            nickname: "\"你\"\n".to_owned(),
            gender: 2,
            openid: Some(String::new()),
            group_ids: vec![258, 360],
            is_authorized: true,
            custom_fields: Some(crate::convert::json::to_struct(
                json!({ "a": 7, "b": 1.5, "c": [null, true, {}] })
                    .as_object()
                    .unwrap()
                    .iter(),
            )),
            created_at: Some(Timestamp {
                seconds: 1_542_364_387,
                nanos: 5_000_000,
            }),
            account: Some(pb::Account {
                connections: vec![
                    pb::Connection::default(),
                    pb::Connection {
                        connection_id: 1,
                        ..Default::default()
                    },
                ],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        let profile = pb::Profile {
            account: None,
            ..profile()
        };
        let text = String::from_utf8(to_text(&profile)).unwrap();
        assert!(
            text.contains(r#""customFields":{"a":7,"b":1.5,"c":[null,true,{}]}"#),
            "{text}"
        );
    }

    #[test]
    fn text_says_what_the_descriptors_say() {
        let page = pb::ListProfilesResponse {
            profiles: vec![profile(), pb::Profile::default(), profile()],
            next_page_token: "x".to_owned(),
            total_size: Some(0),
        };
        let issue = pb::IssueTokenRequest {
            subject: Some(pb::issue_token_request::Subject::UserId(0)),
            scopes: vec!["a".to_owned(), "b".to_owned()],
            ttl: Some(Duration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            request_id: String::new(),
        };
        let read = |text: Vec<u8>| serde_json::from_slice::<Value>(&text).unwrap();
        assert_eq!(read(to_text(&issue)), to_json(&issue));
        let fields = pb::ListFieldsResponse {
            fields: vec![pb::FieldDefinition {
                default_value: Some(json::to_value(&json!("x"))),
                ..Default::default()
            }],
            next_page_token: String::new(),
        };
        assert_eq!(read(to_text(&fields)), to_json(&fields));
        // A double that is whole has a fraction there.
        let expected = to_json(&page).to_string().replace("\"a\":7.0", "\"a\":7");
        assert_eq!(read(to_text(&page)).to_string(), expected);
    }
}
