//! JSON Lines: detects from the first line that a body or file has another format.

/// The byte order mark that some editors and exports write before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How compressed files, and text in UTF-16, begin.
const OTHER_FORMATS: &[(&[u8], &str)] = &[
    (
        b"\x1f\x8b",
        "must be plain JSON Lines, not gzip; decompress it first",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "must be plain JSON Lines, not zstd; decompress it first",
    ),
    (
        b"BZh",
        "must be plain JSON Lines, not bzip2; decompress it first",
    ),
    (
        b"\xfd7zXZ",
        "must be plain JSON Lines, not xz; decompress it first",
    ),
    (
        b"PK\x03\x04",
        "must be plain JSON Lines, not a ZIP archive; decompress it first",
    ),
    (b"\xff\xfe", "must be UTF-8, not UTF-16"),
    (b"\xfe\xff", "must be UTF-8, not UTF-16"),
];

/// Returns the first line that is not blank without a byte order mark.
///
/// # Errors
/// Why the whole cannot be JSON Lines: one error for a file, rather than one for each of its lines.
pub fn first_line(line: &[u8]) -> Result<&[u8], &'static str> {
    let line = line.strip_prefix(BOM).unwrap_or(line);
    if let Some((_, why)) = OTHER_FORMATS
        .iter()
        .find(|(magic, _)| line.starts_with(magic))
    {
        return Err(why);
    }
    match line.trim_ascii() {
        [b'[', ..] => {
            Err("must have one JSON object per line, not a JSON array; `jq -c '.[]'` converts it")
        }
        b"{" => Err("must have each JSON object on one line; `jq -c .` converts it"),
        _ => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_what_is_no_json_lines() {
        assert_eq!(
            first_line(b"\xef\xbb\xbf{\"profile\": {}}"),
            Ok(&b"{\"profile\": {}}"[..])
        );
        assert_eq!(
            first_line(b"no json"),
            Ok(&b"no json"[..]),
            "it fails by itself"
        );
        for (line, told) in [
            (&b"\x1f\x8b\x08\x00"[..], "gzip"),
            (b"\x28\xb5\x2f\xfd\x00", "zstd"),
            (b"\xff\xfe{\x00", "UTF-8"),
            (b"[{\"profile\": {}},", "array"),
            (b"\xef\xbb\xbf [", "array"),
            (b"{\r", "on one line"),
        ] {
            assert!(first_line(line).unwrap_err().contains(told), "{line:?}");
        }
    }
}
