//! The size of a message in memory, computed from its bytes before it is decoded.

use bytes::Buf;
use prost::{
    Name,
    encoding::{self, DecodeContext, WireType},
};
use prost_reflect::{Kind, MessageDescriptor};

use super::proto_json;

/// The maximum number of values in one request: each uses up to some hundred bytes of memory, but
/// as few as two when encoded.
const MAX_VALUES: usize = 100_000;
/// A message of at most this many bytes can't have too many values.
const SMALL: usize = 64 * 1024;
/// The deepest nesting that the decoder accepts.
const MAX_DEPTH: u32 = 100;

/// Whether to decode these bytes of a message: at most 100,000 values. Malformed bytes are left to
/// the decoder.
pub fn is_allowed<M: Name>(bytes: &[u8]) -> bool {
    if bytes.len() <= SMALL {
        return true;
    }
    let mut left = MAX_VALUES;
    count(&proto_json::descriptor::<M>(), bytes, &mut left, MAX_DEPTH).is_some() || left > 0
}

/// Subtracts the values of a message from the remaining ones; `None` if none remain, or if it is
/// malformed.
fn count(
    message: &MessageDescriptor,
    mut bytes: &[u8],
    left: &mut usize,
    depth: u32,
) -> Option<()> {
    while bytes.has_remaining() {
        let (number, wire_type) = encoding::decode_key(&mut bytes).ok()?;
        take(1, left)?;
        if wire_type != WireType::LengthDelimited {
            encoding::skip_field(wire_type, number, &mut bytes, DecodeContext::default()).ok()?;
            continue;
        }
        let length = usize::try_from(encoding::decode_varint(&mut bytes).ok()?).ok()?;
        let (inside, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let Some(field) = message.get_field(number) else {
            continue;
        };
        match field.kind() {
            Kind::Message(message) => count(&message, inside, left, depth.checked_sub(1)?)?,
            Kind::String | Kind::Bytes => {}
            // Packed numbers: each uses at least one byte, and eight bytes of memory.
            _ => take(length / 8, left)?,
        }
    }
    Some(())
}

fn take(values: usize, left: &mut usize) -> Option<()> {
    match left.checked_sub(values) {
        Some(rest) => *left = rest,
        None => {
            *left = 0;
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::convert::pb;

    fn is_request_allowed(values: usize) -> bool {
        let list = prost_types::ListValue {
            values: vec![prost_types::Value { kind: None }; values],
        };
        let value = prost_types::Value {
            kind: Some(prost_types::value::Kind::ListValue(list)),
        };
        let entries = [("a".to_owned(), value)];
        let request = pb::ListProfilesRequest {
            filter: Some(
                prost_types::Struct {
                    fields: entries.into_iter().collect(),
                }
                .into(),
            ),
            ..Default::default()
        };
        is_allowed::<pb::ListProfilesRequest>(&request.encode_to_vec())
    }

    #[test]
    fn a_message_of_many_small_values_is_rejected() {
        assert!(is_request_allowed(MAX_VALUES - 10));
        assert!(!is_request_allowed(MAX_VALUES));
        assert!(!is_request_allowed(1_000_000));
    }

    #[test]
    fn long_texts_are_few_values() {
        let request = pb::UpdateProfileRequest {
            profile: Some(pb::Profile {
                nickname: "x".repeat(3_000_000),
                ..Default::default()
            }),
            ..Default::default()
        };

        assert!(is_allowed::<pb::UpdateProfileRequest>(
            &request.encode_to_vec()
        ));
    }

    #[test]
    fn bytes_that_are_no_message_are_left_to_the_decoder() {
        assert!(is_allowed::<pb::UpdateProfileRequest>(&[0xff; SMALL + 1]));
    }
}
