//! The canonical bytes of a request, used to compare a repeated `request_id` with the first
//! request.

use prost::{
    Message, Name,
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use prost_reflect::Kind;
use prost_types::FieldMask;

use crate::convert::POOL;

/// The request without its `request_id`, with the paths of its masks sorted. Requests with the same
/// meaning have the same bytes, whatever the spelling of the UUID and the order of mask paths or of
/// JSON keys: prost encodes fields in the order of their numbers, and a Struct sorts its keys.
pub fn canonical<M: Message + Name>(request: &M) -> Vec<u8> {
    let descriptor = POOL
        .get_message_by_name(&M::full_name())
        .expect("valid: a message of the contract");
    let encoded = request.encode_to_vec();
    let mut canonical = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_slice();
    while rest.has_remaining() {
        let start = rest;
        let (number, wire_type) = decode_key(&mut rest).expect("valid: encoded above");
        let mut payload = rest;
        skip_field(wire_type, number, &mut rest, DecodeContext::default())
            .expect("valid: encoded above");
        let whole = &start[..start.len() - rest.len()];
        let field = descriptor.get_field(number);
        if field
            .as_ref()
            .is_some_and(|field| field.name() == "request_id")
        {
            continue;
        }
        let is_mask = field.is_some_and(|field| is_mask(&field.kind()));
        if is_mask && wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut payload).expect("valid: encoded above") as usize;
            let mut mask = FieldMask::decode(&payload[..length]).expect("valid: encoded above");
            mask.paths.sort_unstable();
            mask.paths.dedup();
            prost::encoding::message::encode(number, &mask, &mut canonical);
        } else {
            canonical.extend_from_slice(whole);
        }
    }
    canonical
}

fn is_mask(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask")
}

#[cfg(test)]
mod tests {
    use prost_reflect::MessageDescriptor;
    use serde_json::json;

    use super::*;
    use crate::convert::{SERVICES, json as wire_json, pb};

    fn update(
        request_id: &str,
        paths: &[&str],
        custom: serde_json::Value,
    ) -> pb::UpdateProfileRequest {
        pb::UpdateProfileRequest {
            user_id: 7,
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|&path| path.to_owned()).collect(),
            }),
            custom_fields: Some(wire_json::to_struct(custom.as_object().unwrap().iter())),
            request_id: request_id.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn requests_that_mean_the_same_have_the_same_bytes() {
        let custom = json!({ "a": 1, "b": { "c": [1, 2], "d": null } });
        let one = update(
            "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b",
            &["nickname", "city"],
            custom.clone(),
        );
        let other = update(
            "6D1B3C1E3F8A4B7E9F391C2D3E4F5A6B",
            &["city", "nickname"],
            custom.clone(),
        );
        let bytes = canonical(&one);

        assert_eq!(bytes, canonical(&other));
        assert_ne!(bytes, canonical(&update("", &["nickname"], custom)));
        let reordered = json!({ "a": 1, "b": { "c": [2, 1], "d": null } });
        assert_ne!(
            bytes,
            canonical(&update("", &["nickname", "city"], reordered)),
            "lists have an order"
        );
        let read = pb::UpdateProfileRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(
            read,
            pb::UpdateProfileRequest {
                request_id: String::new(),
                ..other
            }
        );
    }

    #[test]
    fn masks_are_fields_of_the_request_itself() {
        fn has_mask(message: &MessageDescriptor, seen: &mut Vec<String>) -> bool {
            if seen.iter().any(|name| name == message.full_name()) {
                return false;
            }
            seen.push(message.full_name().to_owned());
            message.fields().any(|field| match field.kind() {
                kind if is_mask(&kind) => true,
                Kind::Message(inner) => has_mask(&inner, seen),
                _ => false,
            })
        }
        let services = SERVICES
            .iter()
            .map(|name| POOL.get_service_by_name(name).unwrap());
        for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
            for field in method
                .input()
                .fields()
                .filter(|field| !is_mask(&field.kind()))
            {
                if let Kind::Message(inner) = field.kind() {
                    assert!(
                        !has_mask(&inner, &mut Vec::new()),
                        "{} has a mask inside",
                        field.full_name()
                    );
                }
            }
        }
    }
}
