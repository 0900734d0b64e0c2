//! Decompresses the bodies of requests, for both transports.
//!
//! A small body can become a very large one, so each caller's own limit counts for what comes out,
//! and decompression stops there.

use std::io::Read;

use crate::error::{Error, FieldError, Reason, Result};

/// The binary logarithm of the largest zstd window: 4 MiB, the size of the largest message.
const MAX_WINDOW_LOG: u32 = 22;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    /// Reads the name of an encoding; `None` for one that isn't supported.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "gzip" => Some(Encoding::Gzip),
            "zstd" => Some(Encoding::Zstd),
            _ => None,
        }
    }
}

/// Decompresses a body that may have at most `max` bytes.
///
/// # Errors
/// MESSAGE_TOO_LARGE; INVALID_REQUEST for bytes that aren't of this encoding, and if they end
/// early.
pub fn decompress(encoding: Encoding, bytes: &[u8], max: usize) -> Result<Vec<u8>> {
    let invalid = |error: std::io::Error| {
        Error::invalid("", FieldError::Format, "is not validly compressed").with_source(error)
    };
    let mut body = Vec::new();
    let limit = max as u64 + 1;
    match encoding {
        Encoding::Gzip => flate2::read::GzDecoder::new(bytes)
            .take(limit)
            .read_to_end(&mut body),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(invalid)?;
            // By default a frame may ask for 128 MiB before it yields a byte.
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(invalid)?;
            decoder.take(limit).read_to_end(&mut body)
        }
    }
    .map_err(invalid)?;
    if body.len() > max {
        Err(Error::new(Reason::MessageTooLarge))
    } else {
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_limit_counts_what_is_decompressed() {
        let message = vec![7; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&message).unwrap();
        let both = [
            (Encoding::Gzip, gzip.finish().unwrap()),
            (
                Encoding::Zstd,
                zstd::encode_all(message.as_slice(), 3).unwrap(),
            ),
        ];
        for (encoding, bytes) in both {
            assert!(bytes.len() < 1000);
            assert_eq!(
                decompress(encoding, &bytes, message.len()).unwrap(),
                message
            );
            let error = decompress(encoding, &bytes, message.len() - 1).unwrap_err();
            assert_eq!(error.reason(), Reason::MessageTooLarge);
            assert_eq!(
                decompress(encoding, &bytes[..9], 1000)
                    .unwrap_err()
                    .reason(),
                Reason::InvalidRequest
            );
        }
    }
}
