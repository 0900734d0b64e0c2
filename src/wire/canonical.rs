//! Messages as the canonical JSON of proto3, for everyone who does not speak protobuf.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::wire::POOL;

fn descriptor<M: Name>() -> MessageDescriptor {
    POOL.get_message_by_name(&M::full_name()).expect("valid: every generated message is in the pool")
}

/// A message as JSON; fields at their defaults are left out.
pub fn to_json<M: Message + Name>(message: &M) -> Value {
    let dynamic = DynamicMessage::decode(descriptor::<M>(), message.encode_to_vec().as_slice())
        .expect("valid: encoded from the same message");
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .expect("valid: a message of our own has a JSON form")
}

/// Reads a message from JSON.
///
/// # Errors
/// The first fault, as a sentence that names its place in the text.
pub fn from_json<M: Message + Name + Default>(text: &str) -> Result<M, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let dynamic = DynamicMessage::deserialize(descriptor::<M>(), &mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|error| error.to_string())
}
