//! The size of a message in memory, told from its bytes before it is decoded.

use bytes::Buf;
use prost::{
    Name,
    encoding::{self, DecodeContext, WireType},
};
use prost_reflect::{Kind, MessageDescriptor};

use super::canonical;

/// The most values in one request: each takes up to some hundred bytes of memory, but as few as two on the wire.
const MAX_VALUES: usize = 100_000;
/// The bytes up to which a message cannot have too many values to matter.
const SMALL: usize = 64 * 1024;
/// The deepest nesting that the decoder accepts.
const MAX_DEPTH: u32 = 100;

/// Whether these bytes of a message may be decoded: they hold at most 100,000 values. Bytes that are no message at all
/// are left to the decoder.
pub fn is_allowed<M: Name>(bytes: &[u8]) -> bool {
    if bytes.len() <= SMALL {
        return true;
    }
    let mut left = MAX_VALUES;
    count(&canonical::descriptor::<M>(), bytes, &mut left, MAX_DEPTH).is_some() || left > 0
}

/// Takes the values of a message from those that are left; `None` where they are used up, or where it is malformed.
fn count(message: &MessageDescriptor, mut bytes: &[u8], left: &mut usize, depth: u32) -> Option<()> {
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
        let Some(field) = message.get_field(number) else { continue };
        match field.kind() {
            Kind::Message(message) => count(&message, inside, left, depth.checked_sub(1)?)?,
            Kind::String | Kind::Bytes => {}
            // Packed numbers: one takes a byte at least, and eight of memory.
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
    use crate::wire::pb;

    fn is_request_allowed(values: usize) -> bool {
        let list = prost_types::ListValue { values: vec![prost_types::Value { kind: None }; values] };
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::ListValue(list)) };
        let entries = [("a".to_owned(), value)];
        let request = pb::ListProfilesRequest {
            filter: Some(prost_types::Struct { fields: entries.into_iter().collect() }.into()),
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
            profile: Some(pb::Profile { nickname: "x".repeat(3_000_000), ..Default::default() }),
            ..Default::default()
        };

        assert!(is_allowed::<pb::UpdateProfileRequest>(&request.encode_to_vec()));
    }

    #[test]
    fn bytes_that_are_no_message_are_left_to_the_decoder() {
        assert!(is_allowed::<pb::UpdateProfileRequest>(&[0xff; SMALL + 1]));
    }
}
