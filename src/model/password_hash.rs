//! Hashes of passwords: the form that is written, and the older forms that users move in with.

use std::{error::Error as StdError, num::NonZeroU32};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, Version,
    password_hash::{self, phc},
};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA512};
use subtle::ConstantTimeEq;

use crate::{
    error::Fault,
    model::{password::Secret, text::Refusal},
};

/// How every hash of ours begins.
const CURRENT: &str = "$argon2id$v=19$m=19456,t=2,p=1$";
/// The bytes of a salt of ours, and of what comes out.
const CURRENT_LENGTHS: (usize, usize) = (16, 32);

/// The most bytes of memory, and the most iterations, that verifying a hash may take.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
const MAX_ITERATIONS: u64 = 4_000_000;
/// The highest cost of bcrypt: the logarithm of its iterations.
const MAX_BCRYPT_COST: u32 = 16;

const MALFORMED: Refusal =
    (Fault::Format, "must be argon2, scrypt or pbkdf2 (sha1, sha256, sha512) in PHC form, or bcrypt");
const TOO_COSTLY: Refusal = (Fault::Range, "must not cost more than 256 MiB or 4 million iterations");

/// A hash that secrets can be verified against. It has no `Debug`.
pub struct PasswordHash {
    function: Function,
    is_current: bool,
}

enum Function {
    /// Keeps the text, for its crate compares in constant time only from there.
    Bcrypt(String),
    Argon2(Argon2<'static>, Salted),
    Scrypt(scrypt::Params, Salted),
    Pbkdf2(pbkdf2::Algorithm, NonZeroU32, Salted),
}

struct Salted {
    salt: phc::Salt,
    output: phc::Output,
}

/// Hashes a secret: Argon2id, 19 MiB, 2 passes, 1 lane.
///
/// # Errors
/// Fails where there is no memory for it.
pub fn hash(secret: &Secret, salt: [u8; 16]) -> password_hash::Result<String> {
    let params = Params::new(19_456, 2, 1, None)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(secret.expose().as_bytes(), &salt)?;
    Ok(hash.to_string())
}

impl PasswordHash {
    /// Reads a hash: argon2id, argon2i, argon2d, scrypt or pbkdf2 in PHC form, or bcrypt in its own.
    ///
    /// # Errors
    /// FIELD_FORMAT where it is none of them; FIELD_RANGE where it would cost too much to verify.
    pub fn parse(given: &str) -> Result<Self, Refusal> {
        if given.starts_with("$2") {
            return Ok(Self { function: bcrypt(given)?, is_current: false });
        }
        let parsed = phc::PasswordHash::new(given).map_err(|_| MALFORMED)?;
        let salted = Salted { salt: parsed.salt.ok_or(MALFORMED)?, output: parsed.hash.ok_or(MALFORMED)? };
        let is_current = given.starts_with(CURRENT) && (salted.salt.len(), salted.output.len()) == CURRENT_LENGTHS;
        let function = match parsed.algorithm.as_str() {
            "argon2id" => argon2(Algorithm::Argon2id, &parsed, salted)?,
            "argon2i" => argon2(Algorithm::Argon2i, &parsed, salted)?,
            "argon2d" => argon2(Algorithm::Argon2d, &parsed, salted)?,
            "scrypt" => scrypt(&parsed, salted)?,
            "pbkdf2-sha1" => pbkdf2(PBKDF2_HMAC_SHA1, 20, &parsed, salted)?,
            "pbkdf2-sha256" => pbkdf2(PBKDF2_HMAC_SHA256, 32, &parsed, salted)?,
            "pbkdf2-sha512" => pbkdf2(PBKDF2_HMAC_SHA512, 64, &parsed, salted)?,
            _ => return Err(MALFORMED),
        };
        Ok(Self { function, is_current })
    }

    /// Whether it is as [`hash`] makes them; any other is renewed at the next right password.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// Whether it is the secret's.
    ///
    /// # Errors
    /// Fails where there is no memory for it.
    pub fn verify(&self, secret: &Secret) -> Result<bool, Box<dyn StdError + Send + Sync>> {
        let secret = secret.expose().as_bytes();
        match &self.function {
            Function::Bcrypt(text) => Ok(bcrypt::verify(secret, text)?),
            Function::Argon2(argon2, Salted { salt, output }) => {
                let mut computed = vec![0; output.len()];
                argon2.hash_password_into(secret, salt, &mut computed)?;
                Ok(computed.ct_eq(output.as_bytes()).into())
            }
            Function::Scrypt(params, Salted { salt, output }) => {
                let mut computed = vec![0; output.len()];
                scrypt::scrypt(secret, salt, params, &mut computed)?;
                Ok(computed.ct_eq(output.as_bytes()).into())
            }
            Function::Pbkdf2(algorithm, iterations, Salted { salt, output }) => {
                Ok(pbkdf2::verify(*algorithm, *iterations, salt, secret, output.as_bytes()).is_ok())
            }
        }
    }
}

fn bcrypt(given: &str) -> Result<Function, Refusal> {
    let parts: bcrypt::HashParts = given.parse().map_err(|_| MALFORMED)?;
    match parts.get_cost() {
        0..4 => Err(MALFORMED),
        4..=MAX_BCRYPT_COST => Ok(Function::Bcrypt(given.to_owned())),
        _ => Err(TOO_COSTLY),
    }
}

fn argon2(algorithm: Algorithm, parsed: &phc::PasswordHash, salted: Salted) -> Result<Function, Refusal> {
    let version = match parsed.version {
        // Hashes of the first version were written without it.
        None | Some(0x10) => Version::V0x10,
        Some(0x13) => Version::V0x13,
        Some(_) => return Err(MALFORMED),
    };
    let [memory, passes, lanes] = numbers(parsed, ["m", "t", "p"])?;
    // Each pass fills every KiB anew.
    bound(memory.saturating_mul(1024), memory.saturating_mul(passes))?;
    let params = Params::new(narrow(memory)?, narrow(passes)?, narrow(lanes)?, Some(salted.output.len()));
    let params = params.map_err(|_| MALFORMED)?;
    Ok(Function::Argon2(Argon2::new(algorithm, version, params), salted))
}

fn scrypt(parsed: &phc::PasswordHash, salted: Salted) -> Result<Function, Refusal> {
    let [log_n, block, lanes] = numbers(parsed, ["ln", "r", "p"])?;
    if parsed.version.is_some() || log_n == 0 {
        return Err(MALFORMED);
    }
    let n = 1_u64.checked_shl(narrow(log_n)?).ok_or(TOO_COSTLY)?;
    bound(block.saturating_mul(128).saturating_mul(n.max(lanes)), n.saturating_mul(block).saturating_mul(lanes))?;
    let log_n = u8::try_from(log_n).map_err(|_| TOO_COSTLY)?;
    let params = scrypt::Params::new(log_n, narrow(block)?, narrow(lanes)?).map_err(|_| MALFORMED)?;
    Ok(Function::Scrypt(params, salted))
}

fn pbkdf2(
    algorithm: pbkdf2::Algorithm,
    digest_length: usize,
    parsed: &phc::PasswordHash,
    salted: Salted,
) -> Result<Function, Refusal> {
    let length = salted.output.len();
    let iterations = match parsed.params.get("l") {
        None => numbers(parsed, ["i"])?[0],
        Some(_) => match numbers(parsed, ["i", "l"])? {
            [iterations, told] if told == length as u64 => iterations,
            _ => return Err(MALFORMED),
        },
    };
    if parsed.version.is_some() {
        return Err(MALFORMED);
    }
    // Each digest's worth of output is computed apart.
    bound(0, iterations.saturating_mul(length.div_ceil(digest_length) as u64))?;
    let iterations = NonZeroU32::new(narrow(iterations)?).ok_or(MALFORMED)?;
    Ok(Function::Pbkdf2(algorithm, iterations, salted))
}

/// The parameters of these names, where there are just these.
fn numbers<const N: usize>(parsed: &phc::PasswordHash, names: [&str; N]) -> Result<[u64; N], Refusal> {
    if parsed.params.iter().count() != N {
        return Err(MALFORMED);
    }
    let mut found = [0; N];
    for (number, name) in found.iter_mut().zip(names) {
        let text = parsed.params.get_str(name).ok_or(MALFORMED)?;
        let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_decimal || (text.len() > 1 && text.starts_with('0')) {
            return Err(MALFORMED);
        }
        *number = text.parse().map_err(|_| TOO_COSTLY)?;
    }
    Ok(found)
}

fn narrow(number: u64) -> Result<u32, Refusal> {
    number.try_into().map_err(|_| TOO_COSTLY)
}

fn bound(memory: u64, iterations: u64) -> Result<(), Refusal> {
    if memory > MAX_MEMORY || iterations > MAX_ITERATIONS {
        return Err(TOO_COSTLY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::password::parse_attempt;

    const PASSWORD: &str = "correct horse battery staple";
    /// What argon2-cffi, bcrypt, passlib and hashlib of Python make of [`PASSWORD`].
    const KNOWN: [&str; 14] = [
        "$argon2id$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$DFJl3+LYuTnYvEglMJWlNe078oGA5gKVBvWvbqtptz4",
        "$argon2id$v=19$m=1024,t=3,p=4$c2l4dGVlbiBieXRlcyBvaw$v11dp/DYwBAshhPoBsGQRfyJevw2bB0dom65uKcEu+o",
        "$argon2i$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$B0Tl/ya8OSU2XwX+v4yD8mp/iFCvjoxFIErTlN3nEKA",
        "$argon2d$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$O6zG1haY5RJ1KQKLmPKJ0WUvszdnCsJqgoiz2BRmWHc",
        "$argon2i$v=16$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$+f0GQz2qsGIRbAX1cMwtfvJ0d/9tt+Esy9CX7uoQxUg",
        "$argon2i$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$+f0GQz2qsGIRbAX1cMwtfvJ0d/9tt+Esy9CX7uoQxUg",
        "$2b$04$8IIJC3pc2snCrOclajrYp.DG4/0uBburRnnQ.RDQpMOiSFDBNmZMe",
        "$2a$04$QNC1rAosZsuNz3nIThY.9.AJ9IYEVmmLDT2CB9G195GWavXFYCMRW",
        "$2y$04$8IIJC3pc2snCrOclajrYp.DG4/0uBburRnnQ.RDQpMOiSFDBNmZMe",
        "$scrypt$ln=4,r=8,p=1$c2l4dGVlbiBieXRlcyBvaw$fg4iKMgMVcEiB9nWhYnoApGTlBSMI161EbRPPrM2u54",
        "$pbkdf2-sha1$i=1000$c2l4dGVlbiBieXRlcyBvaw$Ptm0/nZnTcjBkQ7+JR6UsJJsi1vpdnbO2zgTdU5LJjA",
        "$pbkdf2-sha256$i=1000$c2l4dGVlbiBieXRlcyBvaw$gpLtVvyi1c1YtH6m24Uxsa9pTVES7Rk/JsZJL4Nv5no",
        "$pbkdf2-sha256$i=1000,l=40$c2l4dGVlbiBieXRlcyBvaw$gpLtVvyi1c1YtH6m24Uxsa9pTVES7Rk/JsZJL4Nv5nptSd5arAtjJA",
        "$pbkdf2-sha512$i=1000$c2l4dGVlbiBieXRlcyBvaw$0bTrwh+lIMbWviWRjPi3pFyRNKBl2jxApJZJmXfcnig",
    ];
    const OURS: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$bAfnes5HACCDehV3nD4BAoSgv8xaEH/F3i1SkZIIJbI";
    const SALT: &str = "$c2l4dGVlbiBieXRlcyBvaw$DFJl3+LYuTnYvEglMJWlNe078oGA5gKVBvWvbqtptz4";

    fn secret(text: &str) -> Secret {
        parse_attempt(text.into()).unwrap()
    }

    fn parsed(text: &str) -> PasswordHash {
        PasswordHash::parse(text).unwrap_or_else(|(fault, _)| panic!("{text} is {fault:?}"))
    }

    fn fault(given: &str) -> Option<Fault> {
        PasswordHash::parse(given).err().map(|(fault, _)| fault)
    }

    #[test]
    fn every_known_form_is_verified_and_is_older_than_ours() {
        for known in KNOWN {
            let hash = parsed(known);
            assert!(hash.verify(&secret(PASSWORD)).unwrap(), "{known}");
            assert!(!hash.verify(&secret("correct horse battery stapler")).unwrap(), "{known}");
            assert!(!hash.is_current(), "{known}");
        }
    }

    #[test]
    fn a_hash_is_what_other_programs_make_with_its_parameters() {
        let made = hash(&secret(PASSWORD), *b"sixteen bytes ok").unwrap();
        assert_eq!(made, OURS);
        let hash = parsed(&made);
        assert!(hash.is_current() && hash.verify(&secret(PASSWORD)).unwrap());
    }

    #[test]
    fn a_hash_that_costs_too_much_is_out_of_range() {
        let costly = [
            "$argon2id$v=19$m=262145,t=1,p=1",
            "$argon2id$v=19$m=262144,t=16,p=1",
            "$argon2id$v=19$m=8,t=4000001,p=1",
            "$argon2id$v=19$m=99999999999999999999999,t=1,p=1",
            "$scrypt$ln=18,r=9,p=1",
            "$scrypt$ln=19,r=8,p=1",
            "$scrypt$ln=1,r=1,p=4000000",
            "$scrypt$ln=64,r=8,p=1",
            "$scrypt$ln=300,r=8,p=1",
            "$scrypt$ln=5000000000,r=8,p=1",
            "$pbkdf2-sha256$i=4000001",
            "$pbkdf2-sha1$i=2000001",
            "$pbkdf2-sha512$i=5000000000",
        ];
        for costly in costly {
            assert_eq!(fault(&format!("{costly}{SALT}")), Some(Fault::Range), "{costly}");
        }
        assert_eq!(fault(&KNOWN[6].replace("$04$", "$17$")), Some(Fault::Range));
    }

    #[test]
    fn a_hash_that_costs_the_most_is_taken() {
        let dear = [
            "$argon2id$v=19$m=262144,t=15,p=4",
            "$scrypt$ln=18,r=8,p=1",
            "$pbkdf2-sha256$i=4000000",
            "$pbkdf2-sha1$i=2000000",
        ];
        for dear in dear {
            assert_eq!(fault(&format!("{dear}{SALT}")), None, "{dear}");
        }
        assert_eq!(fault(&KNOWN[6].replace("$04$", "$16$")), None);
    }

    #[test]
    fn what_is_no_hash_is_malformed() {
        let malformed = [
            "$argon2id$v=18$m=256,t=2,p=1",
            "$argon2id$v=19$m=256,t=2",
            "$argon2id$v=19$m=256,t=2,p=1,p=1",
            "$argon2id$v=19$m=256,m=99999999,t=2,p=1",
            "$argon2id$v=19$m=256,t=2,m=1",
            "$argon2id$v=19$m=7,t=2,p=1",
            "$argon2id$v=19$m=256,t=0,p=1",
            "$argon2id$v=19$m=256,t=2,p=0",
            "$argon2id$v=19$m=0256,t=2,p=1",
            "$argon2id$v=19$m=-1,t=2,p=1",
            "$argon2id$v=19",
            "$argon2x$v=19$m=256,t=2,p=1",
            "$scrypt$ln=0,r=8,p=1",
            "$scrypt$ln=4,r=0,p=1",
            "$scrypt$v=1$ln=4,r=8,p=1",
            "$scrypt$ln=4,r=8",
            "$pbkdf2-sha256$i=0",
            "$pbkdf2-sha256$i=1000,l=31",
            "$pbkdf2-sha256$i=1000,x=1",
            "$pbkdf2-sha256$29000",
            "$pbkdf2-md5$i=1000",
            "$pbkdf2$i=1000",
        ];
        for malformed in malformed {
            assert_eq!(fault(&format!("{malformed}{SALT}")), Some(Fault::Format), "{malformed}");
        }
        for malformed in
            ["", "$", "plain", "5f4dcc3b5aa765d61d8327deb882cf99", "$2b$", "$1$salt$hash", OURS.trim_start_matches('$')]
        {
            assert_eq!(fault(malformed), Some(Fault::Format), "{malformed}");
        }
        assert_eq!(fault(&KNOWN[6].replace("$04$", "$03$")), Some(Fault::Format));
        assert_eq!(fault(&OURS[..OURS.len() - 44]), Some(Fault::Format));
        assert_eq!(fault(&format!("{OURS}=")), Some(Fault::Format));
    }

    #[test]
    fn bcrypt_looks_at_the_first_72_bytes() {
        let hash = parsed("$2b$04$y96vdimg0Qud/.XQaGrgMeayJhSLRa0B.gRItI9P87R8X546jacxu");
        assert!(hash.verify(&secret(&PASSWORD.repeat(4))).unwrap());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}", at in 0..14_usize, cut in 0..60_usize) {
            PasswordHash::parse(&text).err();
            PasswordHash::parse(&format!("{}{text}", &KNOWN[at][..cut])).err();
        }
    }
}
