//! Keys by which a request names a user.

use crate::{
    error::{Fault, Violations},
    model::{
        account::{UserKey, fold_email, fold_username},
        text,
    },
};

/// Characters of a key beyond which nobody holds it, and to fold it all would be work for nothing.
const MAX_KEY: usize = 1024;

/// The user who holds a value of this kind, which is also the value's path.
pub fn unique(kind: &'static str, given: &str, faults: &mut Violations) -> Option<UserKey> {
    let text = value(kind, given, faults)?;
    let folded = match kind {
        "username" => fold_username(&text),
        "email" => fold_email(&text),
        _ => text,
    };
    Some(UserKey::Unique(kind, folded))
}

/// A part of a key, as it is compared.
pub fn value(path: &str, given: &str, faults: &mut Violations) -> Option<String> {
    if given.is_empty() {
        faults.add(path, Fault::Required, "must not be empty");
        return None;
    }
    faults.check(path, text::nfc(text::cut(given, MAX_KEY)))
}
