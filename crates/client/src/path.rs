//! Buckets and keys become request paths that decode to exactly the same bytes.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Everything but RFC 3986 "unreserved" is escaped in a query or a path segment…
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// …and the slashes of a key stay slashes, as people type them.
const KEY: &AsciiSet = &SEGMENT.remove(b'/');

/// The longest bucket name, in bytes.
const MAX_BUCKET_BYTES: usize = 64;

/// Checked here and not left to the node: a slash or nothing at all in a bucket's name would name another resource.
pub(crate) fn bucket(name: &str) -> Result<&str, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_BUCKET_BYTES || !name.bytes().all(allowed) {
        return Err(format!(
            "{name:?} is no bucket name: 1 to {MAX_BUCKET_BYTES} of a-z A-Z 0-9 . _ -"
        ));
    }
    Ok(name)
}

/// The path of a key below `root`, such as `/v1/kv`. An empty key is refused: it would be the bucket's list.
pub(crate) fn key(root: &str, bucket_name: &str, key: &[u8]) -> Result<String, String> {
    if key.is_empty() {
        return Err("a key has at least one byte".to_owned());
    }
    Ok(format!("{root}/{}/{}", bucket(bucket_name)?, percent_encode(key, KEY)))
}

/// Adds `name=value` to the query of a path.
pub(crate) fn parameter(path: &mut String, name: &str, value: impl AsRef<[u8]>) {
    let separator = if path.contains('?') { '&' } else { '?' };
    // Writing to a String cannot fail.
    let _ = write!(path, "{separator}{name}={}", percent_encode(value.as_ref(), SEGMENT));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_key_survives_the_path() {
        let all: Vec<u8> = (0..=255).collect();
        let path = key("/v1/kv", "b", &all).expect("a valid key");
        let encoded = path.strip_prefix("/v1/kv/b/").expect("the prefix");
        assert!(encoded.is_ascii() && !encoded.contains(['?', '#', ' ']));
        assert_eq!(percent_encoding::percent_decode_str(encoded).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_key_keeps_its_slashes_and_a_parameter_does_not() {
        let mut path = key("/v1/kv", "photos", b"2024/a b.jpg").expect("a valid key");
        assert_eq!(path, "/v1/kv/photos/2024/a%20b.jpg");
        parameter(&mut path, "r", "2");
        parameter(&mut path, "prefix", "a/b&c");
        assert_eq!(path, "/v1/kv/photos/2024/a%20b.jpg?r=2&prefix=a%2Fb%26c");
    }

    #[test]
    fn a_bucket_that_would_name_something_else_is_refused() {
        for bad in ["", "a/b", "a?b", "é", &"x".repeat(65)] {
            assert!(bucket(bad).is_err(), "{bad:?}");
        }
        assert!(bucket(&"x".repeat(64)).is_ok());
        assert!(key("/v1/kv", "b", b"").is_err());
    }
}
