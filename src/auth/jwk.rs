//! Public keys as JSON Web Keys (RFC 7517), and what they sign.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// Keys of one set that are looked at.
const MAX_KEYS: usize = 64;

/// A way of signing that is taken. There is no other, `none` and the symmetric ones least of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    EdDsa,
    Es256,
    Es384,
    Rs256,
    Ps256,
}

impl Algorithm {
    /// The algorithm of that exact name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            _ => None,
        }
    }
}

/// One public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    public: Public,
    /// The only algorithm that its owner uses it with; `None` permits every algorithm of its key
    /// type.
    algorithm: Option<Algorithm>,
}

#[derive(Clone, Debug)]
enum Public {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a set and passes over keys that are not for our kinds of signatures.
    ///
    /// # Errors
    /// A document that is no set of keys.
    pub(super) fn parse(document: &[u8]) -> Result<Self, serde_json::Error> {
        let document: Document = serde_json::from_slice(document)?;
        Ok(Self(
            document
                .keys
                .into_iter()
                .filter_map(Key::read)
                .take(MAX_KEYS)
                .collect(),
        ))
    }

    /// Whether the set has no key that can verify a signature.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key of that id is here.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Whether a key made the signature, with an algorithm of that key. Without a key id, every key
    /// is checked.
    pub(super) fn verifies(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.0
            .iter()
            .filter(|key| key.fits(algorithm) && (id.is_none() || key.id.as_deref() == id))
            .any(|key| key.verifies(algorithm, message, signature))
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        let of_kind: &[Algorithm] = match self.public {
            Public::Ed25519(_) => &[Algorithm::EdDsa],
            Public::P256(_) => &[Algorithm::Es256],
            Public::P384(_) => &[Algorithm::Es384],
            Public::Rsa { .. } => &[Algorithm::Rs256, Algorithm::Ps256],
        };
        of_kind.contains(&algorithm) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified =
            match &self.public {
                Public::Ed25519(bytes) => {
                    UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature)
                }
                Public::P256(bytes) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes)
                    .verify(message, signature),
                Public::P384(bytes) => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes)
                    .verify(message, signature),
                Public::Rsa { n, e } => {
                    let scheme = match algorithm {
                        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                        _ => &RSA_PKCS1_2048_8192_SHA256,
                    };
                    RsaPublicKeyComponents { n, e }.verify(scheme, message, signature)
                }
            };
        verified.is_ok()
    }

    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let public = jwk.public()?;
        let algorithm = match &jwk.alg {
            Some(alg) => Some(Algorithm::parse(alg)?),
            None => None,
        };
        let key = Self {
            id: jwk.kid,
            public,
            algorithm,
        };
        let signs = jwk.usage.is_none_or(|usage| usage == "sig")
            && jwk
                .key_ops
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"))
            && algorithm.is_none_or(|algorithm| key.fits(algorithm));
        signs.then_some(key)
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    fn public(&self) -> Option<Public> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Some(Public::Ed25519(coordinate(&self.x, 32)?)),
            ("EC", Some("P-256")) => Some(Public::P256(self.point(32)?)),
            ("EC", Some("P-384")) => Some(Public::P384(self.point(48)?)),
            ("RSA", _) => Some(Public::Rsa {
                n: number(&self.n)?,
                e: number(&self.e)?,
            }),
            _ => None,
        }
    }

    /// The uncompressed point of a curve with coordinates of this many bytes.
    fn point(&self, length: usize) -> Option<Vec<u8>> {
        Some(
            [
                vec![4],
                coordinate(&self.x, length)?,
                coordinate(&self.y, length)?,
            ]
            .concat(),
        )
    }
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD
        .decode(text.as_ref()?.trim_end_matches('='))
        .ok()
}

/// A coordinate of a curve, always with this many bytes.
fn coordinate(text: &Option<String>, length: usize) -> Option<Vec<u8>> {
    bytes(text).filter(|bytes| bytes.len() == length)
}

/// A big number without the leading zeros that some issuers write and `ring` rejects.
fn number(text: &Option<String>) -> Option<Vec<u8>> {
    let bytes = bytes(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_of_other_kinds_are_passed_over() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let document = json!({"keys": [
            {"kty": "oct", "kid": "secret", "k": "AAAA"},
            {"kty": "OKP", "crv": "Ed448", "kid": "ed448", "x": x},
            {"kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "AAAA"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "for encryption", "use": "enc", "x": x},
            {"kty": "OKP", "crv": "Ed25519", "kid": "of another algorithm", "alg": "HS256", "x": x},
            {"kty": "OKP", "crv": "Ed25519", "kid": "signs only", "key_ops": ["sign"], "x": x},
            "no key at all",
            {"kty": "OKP", "crv": "Ed25519", "kid": "good", "use": "sig", "alg": "EdDSA", "x": x},
        ]});
        let keys = KeySet::parse(document.to_string().as_bytes()).unwrap();
        assert!(keys.knows("good"));
        assert_eq!(keys.0.len(), 1);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for document in ["", "[]", "{}", r#"{"keys": 1}"#, "<html>"] {
            assert!(KeySet::parse(document.as_bytes()).is_err(), "{document}");
        }
    }
}
