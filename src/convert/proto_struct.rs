//! google.protobuf.Struct as it is read, and as it is written: a document goes from the text that
//! the database gives to the wire without a tree of values in between.

use std::fmt;

use bytes::{Buf, BufMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, encode_varint},
};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::{document::Document, field::MAX_SAFE_INTEGER};

/// A Struct.
#[derive(Clone, Default)]
pub struct Struct {
    /// Entries that came as values. They have one order, whichever they came in, by which a
    /// repeated request is known.
    read: prost_types::Struct,
    /// Encoded entries.
    written: Vec<u8>,
}

/// What becomes of a field of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    No,
    Yes,
    /// With whole numbers beyond ±2^53 as decimal text, for a double does not hold them.
    LargeAsText,
}

/// Bytes that may lie idle behind an encoded document; a page holds a thousand of them.
const SPARE: usize = 4096;

impl Struct {
    /// The fields of a document that are shown.
    pub fn of(document: &Document, show: impl Fn(&str) -> Show) -> Self {
        let text = document.as_str();
        let mut written = Vec::with_capacity(2 * text.len());
        let entries = Entries {
            out: &mut written,
            show: &show,
        };
        serde_json::Deserializer::from_str(text)
            .deserialize_map(entries)
            .expect("valid: the text of an object");
        if written.capacity() - written.len() > SPARE {
            written.shrink_to_fit();
        }
        Self {
            written,
            ..Self::default()
        }
    }
}

impl From<prost_types::Struct> for Struct {
    fn from(given: prost_types::Struct) -> Self {
        Self {
            read: given,
            written: Vec::new(),
        }
    }
}

impl From<Struct> for prost_types::Struct {
    fn from(given: Struct) -> Self {
        let mut whole = given.read;
        whole
            .merge(given.written.as_slice())
            .expect("valid: written here");
        whole
    }
}

/// Entries have no order.
impl PartialEq for Struct {
    fn eq(&self, other: &Self) -> bool {
        prost_types::Struct::from(self.clone()) == other.clone().into()
    }
}

impl fmt::Debug for Struct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        prost_types::Struct::from(self.clone()).fmt(f)
    }
}

impl Message for Struct {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.read.encode_raw(buf);
        buf.put_slice(&self.written);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.read.merge_field(tag, wire_type, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.read.encoded_len() + self.written.len()
    }

    fn clear(&mut self) {
        self.read.clear();
        self.written.clear();
    }
}

// Keys of the fields: their number, and how their values are written. struct.proto has the numbers.
const ENTRY: u8 = 0x0a;
const ENTRY_KEY: u8 = 0x0a;
const ENTRY_VALUE: u8 = 0x12;
const NULL: u8 = 0x08;
const NUMBER: u8 = 0x11;
const TEXT: u8 = 0x1a;
const BOOL: u8 = 0x20;
const STRUCT: u8 = 0x2a;
const LIST: u8 = 0x32;
const LIST_ITEM: u8 = 0x0a;

fn put_text(out: &mut Vec<u8>, key: u8, text: &str) {
    out.push(key);
    encode_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Writes a part whose length is known once it is written. Nearly all lengths have one byte.
fn put_part<T, E>(
    out: &mut Vec<u8>,
    key: u8,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
) -> Result<T, E> {
    out.extend([key, 0]);
    let start = out.len();
    let written = write(out)?;
    let length = out.len() - start;
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out[start - 1] = short,
        _ => {
            let mut long = Vec::with_capacity(5);
            encode_varint(length as u64, &mut long);
            out.splice(start - 1..start, long);
        }
    }
    Ok(written)
}

/// The entries of an object, each as `show` says.
struct Entries<'a, F> {
    out: &'a mut Vec<u8>,
    show: &'a F,
}

impl<'de, F: Fn(&str) -> Show> Visitor<'de> for Entries<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        loop {
            // Where the entry is not to stand after all, nothing of it stays.
            let at = self.out.len();
            let goes_on = put_part(self.out, ENTRY, |out| {
                let Some(show) = map.next_key_seed(Key {
                    out,
                    show: self.show,
                })?
                else {
                    return Ok(None);
                };
                if show == Show::No {
                    map.next_value::<IgnoredAny>()?;
                } else {
                    let large_as_text = show == Show::LargeAsText;
                    put_part(out, ENTRY_VALUE, |out| {
                        map.next_value_seed(Value { out, large_as_text })
                    })?;
                }
                Ok(Some(show))
            })?;
            match goes_on {
                None => {
                    self.out.truncate(at);
                    return Ok(());
                }
                Some(Show::No) => self.out.truncate(at),
                Some(Show::Yes | Show::LargeAsText) => {}
            }
        }
    }
}

/// The name of an entry.
struct Key<'a, F> {
    out: &'a mut Vec<u8>,
    show: &'a F,
}

impl<'de, F: Fn(&str) -> Show> DeserializeSeed<'de> for Key<'_, F> {
    type Value = Show;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Show, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: Fn(&str) -> Show> Visitor<'_> for Key<'_, F> {
    type Value = Show;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Show, E> {
        put_text(self.out, ENTRY_KEY, name);
        Ok((self.show)(name))
    }
}

/// A value of any kind.
struct Value<'a> {
    out: &'a mut Vec<u8>,
    large_as_text: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.extend([NULL, 0]);
        Ok(())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.out.extend([BOOL, flag.into()]);
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<(), E> {
        if self.large_as_text && whole.unsigned_abs() > MAX_SAFE_INTEGER as u64 {
            self.visit_str(&whole.to_string())
        } else {
            self.visit_f64(whole as f64)
        }
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<(), E> {
        match i64::try_from(whole) {
            Ok(whole) => self.visit_i64(whole),
            Err(_) => self.visit_f64(whole as f64),
        }
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.out.push(NUMBER);
        self.out.extend_from_slice(&number.to_le_bytes());
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        put_text(self.out, TEXT, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { out, large_as_text } = self;
        put_part(out, LIST, |out| {
            loop {
                let at = out.len();
                let item = put_part(out, LIST_ITEM, |out| {
                    list.next_element_seed(Value { out, large_as_text })
                })?;
                if item.is_none() {
                    out.truncate(at);
                    return Ok(());
                }
            }
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let show = if self.large_as_text {
            Show::LargeAsText
        } else {
            Show::Yes
        };
        put_part(self.out, STRUCT, |out| {
            Entries {
                out,
                show: &|_: &str| show,
            }
            .visit_map(map)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::json;

    fn shown(text: &str, show: impl Fn(&str) -> Show) -> serde_json::Value {
        json::object(Struct::of(&Document::of_text(text.to_owned()), show)).into()
    }

    #[test]
    fn a_document_is_the_same_object_on_the_wire() {
        let long = "长".repeat(100);
        let items: Vec<u32> = (0..200).collect();
        let given = serde_json::json!({
            "null": null, "yes": true, "no": false, "whole": -7, "number": 0.1, "text": "a\"\\\u{1f600}", "long": long,
            "": "", "empty": {}, "none": [], "items": items, "nested": { "a": [{ "b": [[], {}, null] }], "c": long },
        });
        assert_eq!(shown(&given.to_string(), |_| Show::Yes), given);
        assert_eq!(shown(&given.to_string(), |_| Show::LargeAsText), given);
        assert_eq!(shown("{}", |_| Show::Yes), serde_json::json!({}));
    }

    #[test]
    fn fields_that_are_not_shown_leave_nothing() {
        let text = r#"{"a": {"hidden": 1}, "hidden": {"a": [1, 2]}, "z": 2}"#;
        let show = |name: &str| {
            if name == "hidden" {
                Show::No
            } else {
                Show::Yes
            }
        };
        assert_eq!(
            shown(text, show),
            serde_json::json!({ "a": { "hidden": 1 }, "z": 2 })
        );
        assert_eq!(shown(text, |_| Show::No), serde_json::json!({}));
    }

    #[test]
    fn whole_numbers_that_a_double_does_not_hold_are_text_where_they_are_declared() {
        let text = r#"{"n": 9007199254740993, "list": [-9007199254740993, 9007199254740992], "huge": 18446744073709551615}"#;
        assert_eq!(
            shown(text, |_| Show::LargeAsText),
            serde_json::json!({
                "n": "9007199254740993", "list": ["-9007199254740993", 9007199254740992_i64], "huge": 1.8446744073709552e19,
            })
        );
        assert_eq!(
            shown(text, |_| Show::Yes)["n"],
            serde_json::json!(9007199254740992_i64)
        );
    }

    #[test]
    fn what_is_no_struct_is_refused() {
        let good = Struct::of(
            &Document::of_text(r#"{"a": "text", "b": [1]}"#.to_owned()),
            |_| Show::Yes,
        );
        let bytes = good.encode_to_vec();
        assert_eq!(Struct::decode(bytes.as_slice()).unwrap(), good);
        for cut in 1..bytes.len() {
            let read = Struct::decode(&bytes[..cut]);
            assert_eq!(
                read.is_ok(),
                prost_types::Struct::decode(&bytes[..cut]).is_ok(),
                "{cut}"
            );
        }
        let not_utf8 = [0x0a, 0x05, 0x0a, 0x01, 0xff, 0x12, 0x00];
        assert!(Struct::decode(not_utf8.as_slice()).is_err());
    }

    #[test]
    fn what_is_read_has_one_order() {
        let encoded = |text: &str| {
            Struct::of(&Document::of_text(text.to_owned()), |_| Show::Yes).encode_to_vec()
        };
        let one = encoded(r#"{"a": 1, "b": {"c": 2, "d": 3}}"#);
        let other = encoded(r#"{"b": {"d": 3, "c": 2}, "a": 1}"#);
        assert_ne!(one, other);
        let read_again = |bytes: &[u8]| Struct::decode(bytes).unwrap().encode_to_vec();
        assert_eq!(read_again(&one), read_again(&other));
    }
}
