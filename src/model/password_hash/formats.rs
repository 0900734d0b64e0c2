//! Reads the text forms of hashes.

use std::num::NonZeroU32;

use argon2::{Algorithm, Params, Version};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::digest;

use super::{Function, Pbkdf2, Prehash, Salted};
use crate::{error::FieldError, model::text::Rejection};

/// The most bytes of memory, and the most iterations, that verifying a hash may take.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
const MAX_ITERATIONS: u64 = 4_000_000;
/// The highest cost of bcrypt: the logarithm of its iterations.
const MAX_BCRYPT_COST: u32 = 16;
/// Longest hash; the longest usual ones have some 250 characters.
const MAX_TEXT: usize = 1024;
/// The shortest output that is compared, in bytes: a shorter one is right for too many passwords.
const MIN_OUTPUT: usize = 10;

const MALFORMED: Rejection = (
    FieldError::Format,
    "must be argon2, scrypt, pbkdf2, bcrypt, phpass, sha-crypt, or salted SHA in one of the supported forms",
);
const TOO_LONG: Rejection = (FieldError::Length, "must be at most 1024 characters long");
const TOO_COSTLY: Rejection = (
    FieldError::Range,
    "must not require more than 256 MiB or 4 million iterations",
);
const SHORT_SALT: Rejection = (FieldError::Format, "must have a salt of at least 8 bytes");

/// The alphabet of phpass, sha-crypt, and other hashes of Unix.
const CRYPT: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Base64 as PHC strings and passlib have it, and with the padding that others write.
const UNPADDED: GeneralPurpose = base64(DecodePaddingMode::RequireNone);
const PADDED: GeneralPurpose = base64(DecodePaddingMode::Indifferent);

const fn base64(padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, config.with_decode_padding_mode(padding))
}

/// Reads a hash in any of the forms.
pub(super) fn parse(given: &str) -> Result<Function, Rejection> {
    if given.len() > MAX_TEXT {
        return Err(TOO_LONG);
    }
    let text = unwrapped(given);
    let read = match text.split_once(['$', ':']) {
        Some(("", _)) => dollar(text),
        Some(("pbkdf2" | "scrypt", _)) if text.as_bytes().get(6) == Some(&b':') => werkzeug(text),
        _ if text.starts_with('{') => ldap(text),
        Some((algorithm, rest)) => django(algorithm, rest),
        None => Err(MALFORMED),
    };
    match read {
        // Only what can't be read has to be named.
        Err(rejection) if rejection == MALFORMED => Err(unsupported(text).unwrap_or(MALFORMED)),
        read => read,
    }
}

/// The hash without the label that LDAP or Spring puts before it.
fn unwrapped(given: &str) -> &str {
    const LABELS: [&str; 4] = ["{CRYPT}", "{crypt}", "{BCRYPT}", "{bcrypt}"];
    LABELS
        .iter()
        .find_map(|label| given.strip_prefix(label))
        .unwrap_or(given)
}

/// The character that phpass writes a small number with.
pub(super) fn crypt_character(number: u32) -> Option<char> {
    CRYPT.get(number as usize).map(|byte| char::from(*byte))
}

/// Forms that begin with `$`.
fn dollar(text: &str) -> Result<Function, Rejection> {
    let id = text[1..].split('$').next().unwrap_or_default();
    match id {
        "2a" | "2b" | "2y" => bcrypt(Prehash::None, text),
        "wp" => bcrypt(Prehash::WordPress, &text["$wp".len()..]),
        "P" | "H" => phpass(&text[3..]),
        "5" | "6" => sha_crypt(id, text),
        _ => phc(text),
    }
}

fn bcrypt(prehash: Prehash, text: &str) -> Result<Function, Rejection> {
    if !["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|id| text.starts_with(id))
    {
        return Err(MALFORMED);
    }
    let parts: bcrypt::HashParts = text.parse().map_err(|_| MALFORMED)?;
    match parts.get_cost() {
        0..4 => Err(MALFORMED),
        4..=MAX_BCRYPT_COST => Ok(Function::Bcrypt(prehash, text.to_owned())),
        _ => Err(TOO_COSTLY),
    }
}

/// The logarithm of the iterations, 8 characters of salt, and the digest.
fn phpass(rest: &str) -> Result<Function, Rejection> {
    let number = |byte: &u8| {
        CRYPT
            .iter()
            .position(|known| known == byte)
            .ok_or(MALFORMED)
    };
    let bytes = rest.as_bytes();
    if bytes.len() != 1 + 8 + 22 {
        return Err(MALFORMED);
    }
    let iterations = match number(&bytes[0])? {
        0..7 | 31.. => return Err(MALFORMED),
        logarithm => 1_u64 << logarithm,
    };
    bound(0, iterations)?;
    // Six bits a character, the lowest first.
    let (mut output, mut bits, mut have) = (Vec::with_capacity(16), 0, 0);
    for byte in &bytes[9..] {
        bits |= number(byte)? << have;
        have += 6;
        if have >= 8 && output.len() < 16 {
            output.push((bits & 0xff) as u8);
            bits >>= 8;
            have -= 8;
        }
    }
    Ok(Function::Phpass(
        narrow(iterations)?,
        Salted {
            salt: bytes[1..9].to_vec(),
            output,
        },
    ))
}

fn sha_crypt(id: &str, text: &str) -> Result<Function, Rejection> {
    let mut parts = text[3..].split('$');
    let mut salt = parts.next().ok_or(MALFORMED)?;
    let mut rounds = u64::from(sha_crypt::Params::RECOMMENDED_ROUNDS);
    if let Some(given) = salt.strip_prefix("rounds=") {
        rounds = number(given)?;
        salt = parts.next().ok_or(MALFORMED)?;
    }
    let output = parts.next().ok_or(MALFORMED)?;
    let length = if id == "5" { 43 } else { 86 };
    let is_crypt = |text: &str| text.bytes().all(|byte| CRYPT.contains(&byte));
    if parts.next().is_some()
        || salt.len() > 16
        || output.len() != length
        || !is_crypt(output)
        || !salt.is_ascii()
    {
        return Err(MALFORMED);
    }
    bound(0, rounds)?;
    if rounds < u64::from(sha_crypt::Params::ROUNDS_MIN) {
        return Err(MALFORMED);
    }
    Ok(Function::ShaCrypt(narrow(rounds)?, text.to_owned()))
}

/// `{SSHA}` and its longer variants: base64 of the digest and the salt behind it.
fn ldap(text: &str) -> Result<Function, Rejection> {
    const LABELS: [(&str, &digest::Algorithm); 3] = [
        ("{SSHA}", &digest::SHA1_FOR_LEGACY_USE_ONLY),
        ("{SSHA256}", &digest::SHA256),
        ("{SSHA512}", &digest::SHA512),
    ];
    let found = LABELS
        .iter()
        .find_map(|(label, algorithm)| Some((text.strip_prefix(label)?, *algorithm)));
    let (encoded, algorithm) = found.ok_or(MALFORMED)?;
    let mut output = PADDED.decode(encoded).map_err(|_| MALFORMED)?;
    let length = algorithm.output_len();
    if output.len() <= length {
        return Err(MALFORMED);
    }
    let salt = output.split_off(length);
    Ok(Function::Digest(algorithm, Salted { salt, output }))
}

/// Forms of Django: `algorithm$parameters$salt$hash`, and other forms behind the algorithm's name.
fn django(algorithm: &str, rest: &str) -> Result<Function, Rejection> {
    let parts: Vec<&str> = rest.split('$').collect();
    let digest = match (algorithm, &parts[..]) {
        ("pbkdf2_sha1", _) => Pbkdf2::Sha1,
        ("pbkdf2_sha256", _) => Pbkdf2::Sha256,
        ("bcrypt", _) => return bcrypt(Prehash::None, rest),
        ("bcrypt_sha256", _) => return bcrypt(Prehash::Django, rest),
        ("argon2", _) => return phc(&format!("${rest}")),
        ("scrypt", [n, salt, r, p, output]) => {
            return scrypt(
                [number(n)?, number(r)?, number(p)?],
                plain(salt, PADDED.decode(output).ok())?,
            );
        }
        _ => return Err(MALFORMED),
    };
    let [iterations, salt, output] = parts[..] else {
        return Err(MALFORMED);
    };
    pbkdf2(
        digest,
        number(iterations)?,
        plain(salt, PADDED.decode(output).ok())?,
    )
}

/// Forms of werkzeug: `method:parameters$salt$hash`, the hash in hexadecimal digits.
fn werkzeug(text: &str) -> Result<Function, Rejection> {
    let parts: Vec<&str> = text.split('$').collect();
    let [method, salt, output] = parts[..] else {
        return Err(MALFORMED);
    };
    let salted = plain(salt, hexadecimal(output))?;
    match method.split(':').collect::<Vec<_>>()[..] {
        ["pbkdf2", "sha1", iterations] => pbkdf2(Pbkdf2::Sha1, number(iterations)?, salted),
        ["pbkdf2", "sha256", iterations] => pbkdf2(Pbkdf2::Sha256, number(iterations)?, salted),
        ["pbkdf2", "sha512", iterations] => pbkdf2(Pbkdf2::Sha512, number(iterations)?, salted),
        ["scrypt", n, r, p] => scrypt([number(n)?, number(r)?, number(p)?], salted),
        _ => Err(MALFORMED),
    }
}

/// A salt that is used as it is written.
fn plain(salt: &str, output: Option<Vec<u8>>) -> Result<Salted, Rejection> {
    let salted = Salted {
        salt: salt.as_bytes().to_vec(),
        output: output.ok_or(MALFORMED)?,
    };
    if salted.salt.is_empty() || salted.output.len() < MIN_OUTPUT {
        return Err(MALFORMED);
    }
    Ok(salted)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() % 2 == 1 {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// A PHC string: `$id$v=version$parameters$salt$output`.
struct Phc<'a> {
    id: &'a str,
    version: Option<u64>,
    params: &'a str,
    salted: Salted,
}

/// Reads PHC strings, and those of passlib, which has plain numbers of iterations for pbkdf2.
fn phc(text: &str) -> Result<Function, Rejection> {
    let mut parts = text
        .strip_prefix('$')
        .ok_or(MALFORMED)?
        .split('$')
        .peekable();
    let id = parts.next().ok_or(MALFORMED)?;
    let version = parts
        .next_if(|part| part.starts_with("v="))
        .map(|part| number(&part[2..]))
        .transpose()?;
    let (Some(params), Some(salt), Some(output), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(MALFORMED);
    };
    let decode = |text: &str| {
        UNPADDED
            .decode(text.replace('.', "+"))
            .map_err(|_| MALFORMED)
    };
    let salted = Salted {
        salt: decode(salt)?,
        output: decode(output)?,
    };
    if salted.salt.is_empty() || salted.output.len() < MIN_OUTPUT {
        return Err(MALFORMED);
    }
    let parsed = Phc {
        id,
        version,
        params,
        salted,
    };
    match id {
        "argon2id" => argon2(Algorithm::Argon2id, parsed),
        "argon2i" => argon2(Algorithm::Argon2i, parsed),
        "argon2d" => argon2(Algorithm::Argon2d, parsed),
        "scrypt" => phc_scrypt(parsed),
        "pbkdf2" | "pbkdf2-sha1" => phc_pbkdf2(Pbkdf2::Sha1, parsed),
        "pbkdf2-sha256" => phc_pbkdf2(Pbkdf2::Sha256, parsed),
        "pbkdf2-sha512" => phc_pbkdf2(Pbkdf2::Sha512, parsed),
        _ => Err(MALFORMED),
    }
}

fn argon2(algorithm: Algorithm, parsed: Phc) -> Result<Function, Rejection> {
    let version = match parsed.version {
        // Hashes of the first version were written without it.
        None | Some(0x10) => Version::V0x10,
        Some(0x13) => Version::V0x13,
        Some(_) => return Err(MALFORMED),
    };
    let [memory, passes, lanes] = numbers(parsed.params, ["m", "t", "p"])?;
    // Each pass fills every KiB again.
    bound(memory.saturating_mul(1024), memory.saturating_mul(passes))?;
    if parsed.salted.salt.len() < argon2::MIN_SALT_LEN {
        return Err(SHORT_SALT);
    }
    let params = Params::new(
        narrow(memory)?,
        narrow(passes)?,
        narrow(lanes)?,
        Some(parsed.salted.output.len()),
    );
    let params = params.map_err(|_| MALFORMED)?;
    Ok(Function::Argon2(algorithm, version, params, parsed.salted))
}

fn phc_scrypt(parsed: Phc) -> Result<Function, Rejection> {
    let [log_n, block, lanes] = numbers(parsed.params, ["ln", "r", "p"])?;
    if parsed.version.is_some() || log_n == 0 {
        return Err(MALFORMED);
    }
    let n = 1_u64.checked_shl(narrow(log_n)?).ok_or(TOO_COSTLY)?;
    scrypt([n, block, lanes], parsed.salted)
}

fn scrypt([n, block, lanes]: [u64; 3], salted: Salted) -> Result<Function, Rejection> {
    bound(
        block.saturating_mul(128).saturating_mul(n.max(lanes)),
        n.saturating_mul(block).saturating_mul(lanes),
    )?;
    if !n.is_power_of_two() || n < 2 {
        return Err(MALFORMED);
    }
    let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| TOO_COSTLY)?;
    let params =
        scrypt::Params::new(log_n, narrow(block)?, narrow(lanes)?).map_err(|_| MALFORMED)?;
    Ok(Function::Scrypt(params, salted))
}

fn phc_pbkdf2(digest: Pbkdf2, parsed: Phc) -> Result<Function, Rejection> {
    let length = parsed.salted.output.len() as u64;
    let is_passlibs = parsed.params.bytes().all(|byte| byte.is_ascii_digit());
    let iterations = if is_passlibs {
        number(parsed.params)?
    } else if parsed.params.contains("l=") {
        match numbers(parsed.params, ["i", "l"])? {
            [iterations, told] if told == length => iterations,
            _ => return Err(MALFORMED),
        }
    } else {
        numbers(parsed.params, ["i"])?[0]
    };
    // `$pbkdf2$` without a digest is passlib's name alone.
    if parsed.version.is_some()
        || (parsed.id == "pbkdf2") != (is_passlibs && digest == Pbkdf2::Sha1)
    {
        return Err(MALFORMED);
    }
    pbkdf2(digest, iterations, parsed.salted)
}

fn pbkdf2(digest: Pbkdf2, iterations: u64, salted: Salted) -> Result<Function, Rejection> {
    bound(
        0,
        iterations.saturating_mul(digest.blocks(salted.output.len())),
    )?;
    let iterations = NonZeroU32::new(narrow(iterations)?).ok_or(MALFORMED)?;
    Ok(Function::Pbkdf2(digest, iterations, salted))
}

/// The parameters of these names, where there are just these.
fn numbers<const N: usize>(params: &str, names: [&str; N]) -> Result<[u64; N], Rejection> {
    let given: Vec<(&str, &str)> = params
        .split(',')
        .filter_map(|param| param.split_once('='))
        .collect();
    if given.len() != N || params.split(',').count() != N {
        return Err(MALFORMED);
    }
    let mut found = [0; N];
    for (place, name) in found.iter_mut().zip(names) {
        let (_, text) = given
            .iter()
            .find(|(given, _)| *given == name)
            .ok_or(MALFORMED)?;
        *place = number(text)?;
    }
    Ok(found)
}

/// A number without sign or leading zeros.
fn number(text: &str) -> Result<u64, Rejection> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_decimal || (text.len() > 1 && text.starts_with('0')) {
        return Err(MALFORMED);
    }
    text.parse().map_err(|_| TOO_COSTLY)
}

fn narrow(number: u64) -> Result<u32, Rejection> {
    number.try_into().map_err(|_| TOO_COSTLY)
}

fn bound(memory: u64, iterations: u64) -> Result<(), Rejection> {
    if memory > MAX_MEMORY || iterations > MAX_ITERATIONS {
        return Err(TOO_COSTLY);
    }
    Ok(())
}

macro_rules! named {
    ($name:literal) => {
        (
            FieldError::Format,
            concat!("the hash format `", $name, "` isn't supported"),
        )
    };
}

/// Forms that are known by how they begin.
const UNSUPPORTED: &[(&str, Rejection)] = &[
    ("$1$", named!("md5_crypt")),
    ("$apr1$", named!("apr_md5_crypt")),
    ("$2$", named!("bcrypt_2")),
    // Its bug makes different passwords of letters beyond ASCII match.
    ("$2x$", named!("bcrypt_2x")),
    ("$3$", named!("nthash")),
    ("$NT$", named!("nthash")),
    ("$7$", named!("scrypt_crypt")),
    ("$y$", named!("yescrypt")),
    ("$gy$", named!("gost_yescrypt")),
    ("$sha1$", named!("sha1_crypt")),
    ("$md5", named!("sun_md5_crypt")),
    ("$S$", named!("drupal_sha512")),
    ("$bcrypt-sha256$", named!("passlib_bcrypt_sha256")),
    ("$pbkdf2-md5$", named!("pbkdf2_md5")),
    ("$pbkdf2-sha224$", named!("pbkdf2_sha224")),
    ("$pbkdf2-sha384$", named!("pbkdf2_sha384")),
    ("$pbkdf2-sha3", named!("pbkdf2_sha3")),
    ("$scram$", named!("scram")),
    ("SCRAM-SHA-", named!("scram")),
    ("$firebase", named!("firebase_scrypt")),
    ("firebase", named!("firebase_scrypt")),
    ("{SHA}", named!("ldap_sha1")),
    ("{SHA256}", named!("ldap_sha256")),
    ("{SHA512}", named!("ldap_sha512")),
    ("{MD5}", named!("ldap_md5")),
    ("{SMD5}", named!("ldap_salted_md5")),
    ("{PBKDF2", named!("ldap_pbkdf2")),
    ("{pbkdf2}", named!("spring_pbkdf2")),
    ("{scrypt}", named!("spring_scrypt")),
    ("{noop}", named!("plaintext")),
    ("{\"", named!("json")),
    ("md5$", named!("django_salted_md5")),
    ("sha1$", named!("django_salted_sha1")),
    ("unsalted_", named!("django_unsalted")),
    ("crypt$", named!("django_des_crypt")),
    ("pbkdf2:md5:", named!("pbkdf2_md5")),
    ("sha256:", named!("werkzeug_sha256")),
    ("0x0", named!("mssql")),
    ("_", named!("bsdi_crypt")),
    ("AQAAAA", named!("aspnet_identity")),
];

/// The error of a known form that can't be verified.
fn unsupported(text: &str) -> Option<Rejection> {
    // A form that is supported, with something wrong in it, is no other form.
    let known = UNSUPPORTED
        .iter()
        .find(|(start, _)| text.starts_with(start))
        .map(|(_, rejection)| *rejection);
    known.or_else(|| by_shape(text))
}

/// Forms that only their length and alphabet tell.
fn by_shape(text: &str) -> Option<Rejection> {
    let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_mysql = text.len() == 41 && text.starts_with('*');
    let is_crypt = text.bytes().all(|byte| CRYPT.contains(&byte));
    match text.len() {
        32 if is_hexadecimal => Some(named!("hex_md5")),
        40 if is_hexadecimal => Some(named!("hex_sha1")),
        64 if is_hexadecimal => Some(named!("hex_sha256")),
        128 if is_hexadecimal => Some(named!("hex_sha512")),
        41 if is_mysql => Some(named!("mysql41")),
        13 if is_crypt => Some(named!("des_crypt")),
        // 64 bytes in base64, as `firebase auth:export` writes them.
        88 if text.ends_with("==") => Some(named!("firebase_scrypt")),
        _ => None,
    }
}
