//! Messages to JSON.

use std::io;

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, ser::Formatter};

use super::descriptor;
use crate::model::field::MAX_SAFE_INTEGER;

fn dynamic<M: Message + Name>(message: &M) -> DynamicMessage {
    DynamicMessage::decode(descriptor::<M>(), message.encode_to_vec().as_slice())
        .expect("valid: encoded from the same message")
}

/// A message as JSON; fields at their defaults are left out.
pub fn to_json<M: Message + Name>(message: &M) -> Value {
    dynamic(message)
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .expect("valid: a message of our own has a JSON form")
}

/// The same as text, whole numbers without a fraction.
pub fn to_text<M: Message + Name>(message: &M) -> Vec<u8> {
    text(message, &SerializeOptions::new())
}

/// The same with fields that are at their defaults.
pub fn to_text_with_defaults<M: Message + Name>(message: &M) -> Vec<u8> {
    text(message, &SerializeOptions::new().skip_default_fields(false))
}

fn text<M: Message + Name>(message: &M, options: &SerializeOptions) -> Vec<u8> {
    let mut serializer = serde_json::Serializer::with_formatter(Vec::with_capacity(1024), WholeNumbers);
    dynamic(message)
        .serialize_with_options(&mut serializer, options)
        .expect("valid: a message of our own has a JSON form");
    serializer.into_inner()
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
    use super::*;
    use crate::wire::pb;

    #[test]
    fn whole_numbers_have_no_fraction() {
        let profile = pb::Profile {
            user_id: 7,
            custom_fields: Some(crate::wire::json::to_struct(
                serde_json::json!({ "a": 7, "b": 1.5 }).as_object().unwrap().iter(),
            )),
            ..Default::default()
        };
        assert_eq!(to_text(&profile), br#"{"userId":"7","customFields":{"a":7,"b":1.5}}"#);
    }
}
