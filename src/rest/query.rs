//! Query strings.

use crate::error::{Error, FieldError, Result};

/// The parameters of a query string, in order.
///
/// # Errors
/// INVALID_REQUEST for a `%` that is followed by no two digits, and for bytes that are no UTF-8.
pub(super) fn parse(query: &str) -> Result<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(given: &str) -> Result<String> {
    let error = || {
        Error::invalid(
            "",
            FieldError::Format,
            "has invalid percent-encoding in the query",
        )
    };
    let mut bytes = Vec::with_capacity(given.len());
    let mut rest = given.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit().ok_or_else(error)?, digit().ok_or_else(error)?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let read = parse("a=1&b=%E4%BD%A0+x&c&&d=x=y").unwrap();
        let expected = [("a", "1"), ("b", "你 x"), ("c", ""), ("d", "x=y")];
        assert_eq!(
            read,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn broken_encoding_is_refused() {
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "%c3=1", "a=%+1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
