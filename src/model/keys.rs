//! The deployment's secret keys: the first signs, all verify.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// One key of 32 bytes and its name.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub bytes: [u8; 32],
}

/// All keys of a deployment.
#[derive(Clone)]
pub struct Keys(Vec<Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| &key.id))
            .finish()
    }
}

const TAG: usize = 32;

impl Keys {
    /// The keys in the order of configuration.
    ///
    /// # Panics
    /// If there is none; configuration validation rejects that.
    pub fn new(keys: Vec<Key>) -> Self {
        assert!(
            !keys.is_empty(),
            "valid: configuration asks for one key at least"
        );
        Self(keys)
    }

    /// The id of the key that signs.
    pub fn current(&self) -> &str {
        &self.0[0].id
    }

    /// A tag over `body` with the key that signs.
    pub fn sign(&self, purpose: &'static str, body: &[u8]) -> Vec<u8> {
        mac(&self.0[0], purpose, body)
            .finalize()
            .into_bytes()
            .to_vec()
    }

    /// The tags over `body` with each key, that which signs first.
    pub fn sign_all(&self, purpose: &'static str, body: &[u8]) -> Vec<Vec<u8>> {
        self.0
            .iter()
            .map(|key| mac(key, purpose, body).finalize().into_bytes().to_vec())
            .collect()
    }

    /// A tag with the key of that id, where it is still there.
    pub fn sign_with(&self, id: &str, purpose: &'static str, body: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.iter().find(|key| key.id == id)?;
        Some(mac(key, purpose, body).finalize().into_bytes().to_vec())
    }

    /// The body of tag and body, where one of the keys made the tag. Compares in constant time.
    pub fn verify<'a>(&self, purpose: &'static str, signed: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, body) = signed.split_at_checked(TAG)?;
        self.0
            .iter()
            .any(|key| mac(key, purpose, body).verify_slice(tag).is_ok())
            .then_some(body)
    }
}

/// HMAC-SHA256 under a key that HKDF derives for the purpose alone.
fn mac(key: &Key, purpose: &'static str, body: &[u8]) -> Hmac<Sha256> {
    let mut derived = [0; 32];
    hkdf::Hkdf::<Sha256>::new(None, &key.bytes)
        .expand(purpose.as_bytes(), &mut derived)
        .expect("valid: 32 bytes are within HKDF's reach");
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&derived).expect("valid: HMAC takes keys of any length");
    mac.update(body);
    mac
}
