//! Messages as the canonical JSON of proto3, for everyone who does not speak protobuf.
//!
//! Text becomes a [`JsonValue`] tree first, which keeps what serde_json's own values lose: keys
//! that stand twice, and the digits of whole numbers. The tree is then read against a message's
//! descriptor.

mod path;
mod read;
mod tree;
mod write;

pub use read::{field, read};
pub use tree::JsonValue;
pub use write::{to_redacted_text, to_text, to_text_with_defaults};

use prost::{Message, Name};
use prost_reflect::MessageDescriptor;

use crate::{convert::POOL, error::Result};

/// The descriptor of a generated message.
pub fn descriptor<M: Name>() -> MessageDescriptor {
    POOL.get_message_by_name(&M::full_name())
        .expect("valid: every generated message is in the pool")
}

/// Reads a message from JSON.
///
/// # Errors
/// INVALID_REQUEST with the first violation and its path.
pub fn from_json<M: Message + Name + Default>(text: &str) -> Result<M> {
    read(&JsonValue::parse(text.as_bytes())?)
}
