//! Hashes of passwords: the form that is written, and the forms of other systems that migrated
//! users bring.

mod formats;

use std::{error::Error as StdError, num::NonZeroU32};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, Version,
    password_hash::{self, PasswordVerifier},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use ring::{digest, hmac, pbkdf2};
use sha_crypt::ShaCrypt;
use subtle::ConstantTimeEq;

use crate::model::{password::Secret, text::Rejection};

/// The bytes of a salt of ours, and of what comes out.
const CURRENT_LENGTHS: (usize, usize) = (16, 32);
/// How much of a password bcrypt reads.
const BCRYPT_BYTES: usize = 72;
/// Longest password that is checked against a function whose time grows with each byte of it.
const MAX_ITERATED: usize = 512;

/// A hash that secrets can be verified against. It has no `Debug`.
pub struct PasswordHash {
    function: Function,
}

/// The Argon2id parameters of new hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashParameters {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for HashParameters {
    /// 19 MiB, 2 passes, 1 lane, as OWASP recommends.
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            iterations: 2,
            lanes: 1,
        }
    }
}

/// The function and parameters of a hash, without its salt and output: to verify hashes of one kind
/// takes the same time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HashKind(String);

/// A function with everything that it needs besides the password.
enum Function {
    /// Keeps the text, because its crate compares in constant time only from there.
    Bcrypt(Prehash, String),
    Argon2(Algorithm, Version, Params, Salted),
    Scrypt(scrypt::Params, Salted),
    Pbkdf2(Pbkdf2, NonZeroU32, Salted),
    /// Iterated MD5 of phpass.
    Phpass(u32, Salted),
    /// Keeps the text, as for bcrypt, beside its rounds.
    ShaCrypt(u32, String),
    /// One digest of password and salt, as in LDAP.
    Digest(&'static digest::Algorithm, Salted),
}

/// What is done to a password before bcrypt, which reads only 72 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prehash {
    None,
    /// Django's `bcrypt_sha256`: SHA-256 in hexadecimal digits.
    Django,
    /// WordPress's `$wp$`: HMAC-SHA384 in base64, of the password without blanks around it.
    WordPress,
}

/// The digest of PBKDF2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pbkdf2 {
    Sha1,
    Sha256,
    Sha512,
}

struct Salted {
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// Hashes a secret with Argon2id.
///
/// # Errors
/// Fails if there is no memory for it.
pub fn hash(
    secret: &Secret,
    salt: [u8; 16],
    parameters: HashParameters,
) -> password_hash::Result<String> {
    let params = Params::new(
        parameters.memory_kib,
        parameters.iterations,
        parameters.lanes,
        None,
    )?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(secret.expose().as_bytes(), &salt)?;
    Ok(hash.to_string())
}

impl PasswordHash {
    /// Reads a hash: argon2, scrypt, and pbkdf2 in PHC form and in those of Django, passlib, and
    /// werkzeug; bcrypt, also in the forms of Django and WordPress; phpass; sha-crypt; and salted
    /// SHA of LDAP.
    ///
    /// # Errors
    /// FIELD_FORMAT for any other, by its name if it has one; FIELD_RANGE if it costs too much to
    /// verify.
    pub fn parse(given: &str) -> Result<Self, Rejection> {
        Ok(Self {
            function: formats::parse(given)?,
        })
    }

    /// Whether [`hash`] makes it with these parameters; any other is upgraded at the next correct
    /// password.
    pub fn is_current(&self, parameters: HashParameters) -> bool {
        match &self.function {
            Function::Argon2(.., salted) => {
                self.kind() == Some(HashKind::of(parameters))
                    && (salted.salt.len(), salted.output.len()) == CURRENT_LENGTHS
            }
            _ => false,
        }
    }

    /// Whether a right password proves enough to replace the hash. bcrypt reads only the first 72
    /// bytes: an upgrade from a longer password could store a slip behind them, and lock the owner
    /// out.
    pub fn is_upgraded_by(&self, password: &str) -> bool {
        !matches!(self.function, Function::Bcrypt(Prehash::None, _))
            || password.len() <= BCRYPT_BYTES
    }

    /// Whether it takes longer the longer the password is.
    pub fn grows_with_password(&self) -> bool {
        matches!(self.function, Function::Phpass(..) | Function::ShaCrypt(..))
    }

    /// Its function and parameters; `None` for those that take no time to speak of.
    pub fn kind(&self) -> Option<HashKind> {
        let kind = match &self.function {
            Function::Bcrypt(_, text) => format!("$2b${}$", text.get(4..6)?),
            Function::Argon2(algorithm, version, params, _) => {
                let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
                format!(
                    "${}$v={}$m={m},t={t},p={p}$",
                    algorithm.as_str(),
                    u32::from(*version)
                )
            }
            Function::Scrypt(params, _) => {
                format!(
                    "$scrypt$ln={},r={},p={}$",
                    params.log_n(),
                    params.r(),
                    params.p()
                )
            }
            Function::Pbkdf2(algorithm, iterations, salted) => {
                // As many iterations as the 32 bytes of a sample need for the same work.
                let (blocks, of_sample) = (
                    algorithm.blocks(salted.output.len()),
                    algorithm.blocks(SAMPLE_BYTES),
                );
                let iterations = u64::from(iterations.get()) * blocks / of_sample;
                format!("$pbkdf2-{}$i={}$", algorithm.as_str(), iterations.max(1))
            }
            Function::Phpass(iterations, _) => {
                format!(
                    "$P${}",
                    formats::crypt_character(iterations.trailing_zeros())?
                )
            }
            Function::ShaCrypt(rounds, text) => format!("{}rounds={rounds}$", text.get(..3)?),
            Function::Digest(..) => return None,
        };
        Some(HashKind(kind))
    }

    /// Whether it is the password's.
    ///
    /// # Errors
    /// Fails where there is no memory for it.
    pub fn verify(&self, password: &str) -> Result<bool, Box<dyn StdError + Send + Sync>> {
        if self.grows_with_password() && password.len() > MAX_ITERATED {
            return Ok(false);
        }
        let bytes = password.as_bytes();
        match &self.function {
            Function::Bcrypt(prehash, text) => Ok(bcrypt::verify(prehash.apply(password), text)?),
            Function::Argon2(algorithm, version, params, salted) => {
                let argon2 = Argon2::new(*algorithm, *version, params.clone());
                let mut computed = vec![0; salted.output.len()];
                argon2.hash_password_into(bytes, &salted.salt, &mut computed)?;
                Ok(salted.is(&computed))
            }
            Function::Scrypt(params, salted) => {
                let mut computed = vec![0; salted.output.len()];
                scrypt::scrypt(bytes, &salted.salt, params, &mut computed)?;
                Ok(salted.is(&computed))
            }
            Function::Pbkdf2(algorithm, iterations, Salted { salt, output }) => {
                Ok(pbkdf2::verify(algorithm.ring(), *iterations, salt, bytes, output).is_ok())
            }
            Function::Phpass(iterations, salted) => {
                Ok(salted.is(&phpass(bytes, &salted.salt, *iterations)))
            }
            Function::ShaCrypt(_, text) => Ok(ShaCrypt::default()
                .verify_password(bytes, text.as_str())
                .is_ok()),
            Function::Digest(algorithm, salted) => {
                let mut computed = digest::Context::new(algorithm);
                computed.update(bytes);
                computed.update(&salted.salt);
                Ok(salted.is(computed.finish().as_ref()))
            }
        }
    }
}

/// The bytes that a sample of a PHC form puts out.
const SAMPLE_BYTES: usize = 32;
/// What makes a hash out of a kind.
const PHC_SAMPLE: &str = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

impl HashKind {
    /// The kind of the hashes that are written with these parameters.
    pub fn of(parameters: HashParameters) -> Self {
        let HashParameters {
            memory_kib,
            iterations,
            lanes,
        } = parameters;
        Self(format!(
            "$argon2id$v=19$m={memory_kib},t={iterations},p={lanes}$"
        ))
    }

    /// A kind as it was stored.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// As it is stored: what its hashes begin with.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hash of this kind that is no password's, to take the time of one.
    ///
    /// # Errors
    /// A kind that this binary doesn't know.
    pub fn sample(&self) -> Result<PasswordHash, Rejection> {
        let dots = |count| ".".repeat(count);
        let end = match self.0.get(..3) {
            Some("$2b") => dots(53),
            Some("$P$") => dots(30),
            Some("$5$") => format!("saltsaltsaltsalt${}", dots(43)),
            Some("$6$") => format!("saltsaltsaltsalt${}", dots(86)),
            _ => PHC_SAMPLE.to_owned(),
        };
        PasswordHash::parse(&format!("{}{end}", self.0))
    }
}

impl Salted {
    fn is(&self, computed: &[u8]) -> bool {
        computed.ct_eq(&self.output).into()
    }
}

impl Prehash {
    fn apply(self, password: &str) -> Vec<u8> {
        match self {
            Prehash::None => password.as_bytes().to_vec(),
            Prehash::Django => {
                let digest = digest::digest(&digest::SHA256, password.as_bytes());
                digest
                    .as_ref()
                    .iter()
                    .flat_map(|byte| format!("{byte:02x}").into_bytes())
                    .collect()
            }
            Prehash::WordPress => {
                let key = hmac::Key::new(hmac::HMAC_SHA384, b"wp-sha384");
                let trimmed = password.trim_matches([' ', '\t', '\n', '\r', '\x0b']);
                STANDARD
                    .encode(hmac::sign(&key, trimmed.as_bytes()))
                    .into_bytes()
            }
        }
    }
}

impl Pbkdf2 {
    fn as_str(self) -> &'static str {
        match self {
            Pbkdf2::Sha1 => "sha1",
            Pbkdf2::Sha256 => "sha256",
            Pbkdf2::Sha512 => "sha512",
        }
    }

    fn ring(self) -> pbkdf2::Algorithm {
        match self {
            Pbkdf2::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Pbkdf2::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Pbkdf2::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    /// How often all iterations run: once for each digest's worth of output.
    fn blocks(self, length: usize) -> u64 {
        let digest = match self {
            Pbkdf2::Sha1 => 20,
            Pbkdf2::Sha256 => 32,
            Pbkdf2::Sha512 => 64,
        };
        length.div_ceil(digest) as u64
    }
}

fn phpass(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 16] {
    let md5 = |parts: [&[u8]; 2]| {
        let mut digest = Md5::new();
        parts.iter().for_each(|part| digest.update(part));
        <[u8; 16]>::from(digest.finalize())
    };
    (0..iterations).fold(md5([salt, password]), |digest, _| md5([&digest, password]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{error::FieldError, model::password::parse_attempt};

    const PASSWORD: &str = "correct horse battery staple";
    /// What argon2-cffi, bcrypt, passlib, Django, werkzeug, and hashlib of Python make of
    /// [`PASSWORD`].
    const KNOWN: &[&str] = &[
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
        // Keycloak puts out 64 bytes, also with SHA-256.
        "$pbkdf2-sha256$i=1000$c2l4dGVlbiBieXRlcyBvaw$gpLtVvyi1c1YtH6m24Uxsa9pTVES7Rk/JsZJL4Nv5nptSd5arAtjJPfOQVmOR1qGTpFhNdQxT27LZ5L6Q8UDsQ",
        "$pbkdf2-sha512$i=1000$c2l4dGVlbiBieXRlcyBvaw$0bTrwh+lIMbWviWRjPi3pFyRNKBl2jxApJZJmXfcnij13CJSxUmi1MfL5gV7P3MD6MScadQlE/g01TViCCsNaA",
        // passlib has another character of base64, and plain iterations.
        "$pbkdf2$1000$c2l4dGVlbiBieXRlcyBvaw$Ptm0/nZnTcjBkQ7.JR6UsJJsi1s",
        "$pbkdf2-sha256$1000$c2l4dGVlbiBieXRlcyBvaw$gpLtVvyi1c1YtH6m24Uxsa9pTVES7Rk/JsZJL4Nv5no",
        "$pbkdf2-sha512$1000$c2l4dGVlbiBieXRlcyBvaw$0bTrwh.lIMbWviWRjPi3pFyRNKBl2jxApJZJmXfcnij13CJSxUmi1MfL5gV7P3MD6MScadQlE/g01TViCCsNaA",
        // Salts of 64 bytes.
        "$pbkdf2-sha256$i=1000$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw$Hy2X2gmAcX0oieKYE6KOYj/oK74MkC9jdHO1iwEMaz0",
        "$argon2id$v=19$m=256,t=2,p=1$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw$eiHTqHU6AoFa7QeyfaGbaWwEG3lrP3i6ieZ9ai1p7IU",
        "pbkdf2_sha256$1000$saltsaltSALT$JOyTLuD+tx6NUUbPSX2+rjWy7bKsKn1zRKbzRb0JhyI=",
        "pbkdf2_sha1$1000$saltsaltSALT$LZCgrSCzNIIbDrfXHHI7ro/tasg=",
        "argon2$argon2id$v=19$m=256,t=2,p=1$c2FsdHNhbHRTQUxU$rOcdKKtzfbr/vDy19uHpsBODu+L1bvcoZDXvUbQwm08",
        "bcrypt$$2b$04$8IIJC3pc2snCrOclajrYp.DG4/0uBburRnnQ.RDQpMOiSFDBNmZMe",
        "bcrypt_sha256$$2b$04$8IIJC3pc2snCrOclajrYp.J7z7aOaqHfN9OLo49ooDYQL9A/U1/jW",
        "scrypt$16$saltsaltSALT$8$1$fvNw9Wl4NthdwvUmPWLgpAzcryqKdZ9mNyVE4gx6YsF0JXtpBClmHdIU7lmuZpSIJbobp3HSDGTlyGOSzlUlBA==",
        "pbkdf2:sha256:1000$OdlZPsGuK98gkfjF$5affbf39f1a5c3dc170fbac09e6d63bf7e43747cd2b76b629da26c252989006f",
        "pbkdf2:sha1:1000$kDsrQrVcyIPGBKVb$130b47d47510c6605e6ac4ac02dfebe8594bd5c6",
        "pbkdf2:sha512:1000$em0rR5tw6gUsUlXe$58c539d6c41cad835cb10cb7501a1288b62d61dc135e23f0dbf734568947989060ef34ff0250b455672b2a909572e5aae342e54424c36d8c57081b92fde28c43",
        "scrypt:32768:8:1$LGMAEIdF3VbLrIkp$2dacb986a99a37510ba0bed979052596ee9645d022c6b91f0d8efd9ad1e2384ad12245cbb91adc2d291aed507896d24ecec61d73e4b42a7f8a9193291e2b2a1a",
        "$P$5saltSALTg6fciLIMYNG5yjWIdDeVw0",
        "$H$5saltSALTg6fciLIMYNG5yjWIdDeVw0",
        "$wp$2y$04$8IIJC3pc2snCrOclajrYp.4RlfcpvHhxFackqKAKObnrzp9dptG4K",
        "$5$rounds=1000$saltstring$MGHTVAK1OdWrxoC7LJKeycAtdF/rZJH8EE46Glj/aT6",
        "$5$saltstring$hixOXgchwauyzVtlSM/e7UnQx0qiTk74JE/YU53IbE0",
        "$6$rounds=1000$saltstring$B.n1vD77SdB2TuXAE0nGKP536R1bUc6NvRMEtukg5fkv3SlfIs6RsCY18TxG6AWfmoa/S410tUwH1MRlKRQST0",
        "$6$saltstringsalts$1LXk1XqVjUjYSvGkZVeKke22XihxIycIbpZm4cLdlTOCU26bYbbBcbuWcQB0/.XgGbDw0c/GsIuakDxsrHE/4.",
        "{CRYPT}$5$saltstring$hixOXgchwauyzVtlSM/e7UnQx0qiTk74JE/YU53IbE0",
        "{bcrypt}$2a$04$QNC1rAosZsuNz3nIThY.9.AJ9IYEVmmLDT2CB9G195GWavXFYCMRW",
        "{SSHA}9YZoFf5/3yMWwowP/xg3HP31LLJzYWx0U0FMVA==",
        "{SSHA256}V3+E7n+oA5nAumCVsflVlaH0dFzcMybx1iXnDPZCKd1zYWx0U0FMVA==",
        "{SSHA512}D5RPuRGUFT878dm3WuNllOKkhi2KKxT360qcpv6N5VoCEiqMNQffSEsW4kCFoHSL5qEXTXcYWJb3csz9QhV/vXNhbHRTQUxU",
    ];
    const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$bAfnes5HACCDehV3nD4BAoSgv8xaEH/F3i1SkZIIJbI";
    const SALT: &str = "$c2l4dGVlbiBieXRlcyBvaw$DFJl3+LYuTnYvEglMJWlNe078oGA5gKVBvWvbqtptz4";

    fn secret(text: &str) -> Secret {
        parse_attempt(text.into()).unwrap()
    }

    fn parsed(text: &str) -> PasswordHash {
        PasswordHash::parse(text).unwrap_or_else(|(error, _)| panic!("{text} is {error:?}"))
    }

    fn error(given: &str) -> Option<FieldError> {
        PasswordHash::parse(given).err().map(|(error, _)| error)
    }

    #[test]
    fn every_known_form_is_verified_and_is_older_than_ours() {
        for known in KNOWN {
            let hash = parsed(known);
            assert!(hash.verify(PASSWORD).unwrap(), "{known}");
            assert!(
                !hash.verify("correct horse battery stapler").unwrap(),
                "{known}"
            );
            assert!(!hash.is_current(HashParameters::default()), "{known}");
        }
    }

    #[test]
    fn a_hash_is_what_other_programs_make_with_its_parameters() {
        let made = hash(
            &secret(PASSWORD),
            *b"sixteen bytes ok",
            HashParameters::default(),
        )
        .unwrap();
        assert_eq!(made, OURS);
        let hash = parsed(&made);
        assert!(hash.is_current(HashParameters::default()) && hash.verify(PASSWORD).unwrap());
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
            assert_eq!(
                error(&format!("{costly}{SALT}")),
                Some(FieldError::Range),
                "{costly}"
            );
        }
        assert_eq!(
            error(&KNOWN[6].replace("$04$", "$17$")),
            Some(FieldError::Range)
        );
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
            assert_eq!(error(&format!("{dear}{SALT}")), None, "{dear}");
        }
        assert_eq!(error(&KNOWN[6].replace("$04$", "$16$")), None);
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
            "$pbkdf2-sha256$029000",
            "$pbkdf2-sha256$i=1000,29000",
            "$pbkdf2-md5$i=1000",
            "$pbkdf2$i=1000",
        ];
        for malformed in malformed {
            assert_eq!(
                error(&format!("{malformed}{SALT}")),
                Some(FieldError::Format),
                "{malformed}"
            );
        }
        for malformed in [
            "",
            "$",
            "plain",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "$2b$",
            "$1$salt$hash",
            OURS.trim_start_matches('$'),
        ] {
            assert_eq!(error(malformed), Some(FieldError::Format), "{malformed}");
        }
        assert_eq!(
            error(&KNOWN[6].replace("$04$", "$03$")),
            Some(FieldError::Format)
        );
        assert_eq!(error(&OURS[..OURS.len() - 44]), Some(FieldError::Format));
        assert_eq!(error(&format!("{OURS}=")), Some(FieldError::Format));
    }

    #[test]
    fn bcrypt_looks_at_the_first_72_bytes() {
        let hash = parsed("$2b$04$y96vdimg0Qud/.XQaGrgMeayJhSLRa0B.gRItI9P87R8X546jacxu");
        assert!(hash.verify(&PASSWORD.repeat(4)).unwrap());
        assert!(hash.is_upgraded_by(&"x".repeat(72)) && !hash.is_upgraded_by(&"x".repeat(73)));
        for known in [
            "$wp$2y$04$8IIJC3pc2snCrOclajrYp.4RlfcpvHhxFackqKAKObnrzp9dptG4K",
            OURS,
        ] {
            assert!(parsed(known).is_upgraded_by(&"x".repeat(73)), "{known}");
        }
    }

    #[test]
    fn a_hash_in_a_form_of_another_system_may_cost_as_much_as_others() {
        let costly = [
            "pbkdf2_sha256$4000001$saltsaltSALT$JOyTLuD+tx6NUUbPSX2+rjWy7bKsKn1zRKbzRb0JhyI=",
            "pbkdf2:sha256:4000001$OdlZPsGuK98gkfjF$5affbf39f1a5c3dc170fbac09e6d63bf7e43747cd2b76b629da26c252989006f",
            "scrypt:1048576:8:1$LGMAEIdF3VbLrIkp$2dacb986a99a37510ba0bed979052596ee9645d022c6b91f0d8efd9ad1e2384a",
            "scrypt$1048576$saltsaltSALT$8$1$fvNw9Wl4NthdwvUmPWLgpAzcryqKdZ9mNyVE4gx6YsF0JXtpBClmHdIU7lmuZpSI",
            "$P$KsaltSALTg6fciLIMYNG5yjWIdDeVw0",
            "$5$rounds=4000001$saltstring$MGHTVAK1OdWrxoC7LJKeycAtdF/rZJH8EE46Glj/aT6",
            "bcrypt_sha256$$2b$17$8IIJC3pc2snCrOclajrYp.J7z7aOaqHfN9OLo49ooDYQL9A/U1/jW",
            "$wp$2y$17$8IIJC3pc2snCrOclajrYp.4RlfcpvHhxFackqKAKObnrzp9dptG4K",
        ];
        for costly in costly {
            assert_eq!(error(costly), Some(FieldError::Range), "{costly}");
        }
        assert_eq!(error("$P$JsaltSALTg6fciLIMYNG5yjWIdDeVw0"), None);
        assert_eq!(error(&"x".repeat(1025)), Some(FieldError::Length));
    }

    #[test]
    fn a_form_that_is_not_supported_is_named() {
        let named = [
            ("$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "md5_crypt"),
            ("$apr1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "apr_md5_crypt"),
            (
                "$2x$04$8IIJC3pc2snCrOclajrYp.DG4/0uBburRnnQ.RDQpMOiSFDBNmZMe",
                "bcrypt_2x",
            ),
            (
                "$wp$2x$04$8IIJC3pc2snCrOclajrYp.4RlfcpvHhxFackqKAKObnrzp9dptG4K",
                "",
            ),
            (
                "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
                "yescrypt",
            ),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "ldap_sha1"),
            ("{SSHA}short", ""),
            (
                "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
                "django_salted_md5",
            ),
            ("5f4dcc3b5aa765d61d8327deb882cf99", "hex_md5"),
            ("5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8", "hex_sha1"),
            ("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "mysql41"),
            ("rlZzWmZ0TnBzQ", "des_crypt"),
            ("{\"value\":\"abc\"}", "json"),
            (
                "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==",
                "firebase_scrypt",
            ),
        ];
        for (given, name) in named {
            let (error, why) = PasswordHash::parse(given).err().unwrap();
            assert_eq!(error, FieldError::Format, "{given}");
            let is_named = why == format!("the hash format `{name}` isn't supported");
            assert_eq!(is_named, !name.is_empty(), "{given}: {why}");
        }
    }

    #[test]
    fn hashes_of_one_kind_have_a_sample_of_the_same_kind() {
        for known in KNOWN.iter().chain([&OURS]) {
            let Some(kind) = parsed(known).kind() else {
                assert!(known.starts_with("{SSHA"), "{known}");
                continue;
            };
            let sample = HashKind::stored(kind.as_str().to_owned()).sample();
            let sample = sample.unwrap_or_else(|(_, why)| panic!("{known}: {kind:?} {why}"));
            assert_eq!(sample.kind(), Some(kind), "{known}");
            assert!(!sample.verify(PASSWORD).unwrap());
        }
        assert_eq!(
            parsed(OURS).kind(),
            Some(HashKind::of(HashParameters::default()))
        );
        assert_eq!(parsed(KNOWN[6]).kind(), parsed(KNOWN[8]).kind());
        // Two digests' worth of output take twice the iterations.
        assert_eq!(
            parsed(KNOWN[14]).kind().unwrap().as_str(),
            "$pbkdf2-sha256$i=2000$"
        );
        assert!(
            HashKind::stored("$argon3$x=1$".to_owned())
                .sample()
                .is_err()
        );
    }

    #[test]
    fn a_password_that_would_take_very_long_is_wrong() {
        let long = "x".repeat(MAX_ITERATED + 1);
        let known = parsed("$5$rounds=1000$saltstring$MGHTVAK1OdWrxoC7LJKeycAtdF/rZJH8EE46Glj/aT6");
        assert!(known.grows_with_password() && !known.verify(&long).unwrap());
        assert!(!parsed(OURS).grows_with_password());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}", at in 0..KNOWN.len(), cut in 0..40_usize) {
            PasswordHash::parse(&text).err();
            let known = KNOWN[at];
            PasswordHash::parse(&format!("{}{text}", &known[..cut.min(known.len())])).err();
        }
    }
}
