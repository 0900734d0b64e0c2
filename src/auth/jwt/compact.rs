//! The compact form: header, claims and signature in base64, between dots.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;

use crate::auth::jwk::Algorithm;

/// A token that has been taken apart and not been checked.
pub(super) struct Compact<'a> {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
    pub claims: Object,
    /// What is signed.
    pub message: &'a str,
    pub signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart. A header that asks for more than we know (`crit`) is rejected; what it
    /// says of keys (`jku`, `jwk`, `x5c` and their like) is never looked at.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header = Object::decode(header)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return None,
        };
        if header.get("crit").is_some() || !is_access_token(header.get("typ")) {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::parse(header.text("alg")?)?,
            key_id,
            claims: Object::decode(claims)?,
            message,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

/// Whether `typ` is that of an access token (RFC 9068), or of a JWT in general. Other types have
/// other purposes, for example a proof of possession or a logout, and must be rejected (RFC 8725,
/// section 3.11).
fn is_access_token(typ: Option<&Value>) -> bool {
    match typ {
        None => true,
        Some(Value::String(typ)) => {
            let typ = typ.to_ascii_lowercase();
            matches!(
                typ.strip_prefix("application/").unwrap_or(&typ),
                "jwt" | "at+jwt"
            )
        }
        Some(_) => false,
    }
}

/// A JSON object without a name twice, so that no two readers understand it differently.
pub(super) struct Object(BTreeMap<String, Value>);

impl Object {
    fn decode(part: &str) -> Option<Self> {
        // A second dot or any other strange letter is no base64.
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    }

    /// The value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value of that name, where it is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Object(members))
    }
}
