//! A page's `next` is a token that `?start=` tells apart from a plain key, because it carries a checksum.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Tokens of another form would be keys.
const SEED: u64 = u64::from_be_bytes(*b"nextkey1");

/// The token for a page that starts at this key.
pub(crate) fn token(start: &[u8]) -> String {
    let mut bytes = xxh3_64_with_seed(start, SEED).to_be_bytes().to_vec();
    bytes.extend_from_slice(start);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Where a page starts: what a token says, or else the key itself.
pub(crate) fn start(text: &[u8]) -> Bytes {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok();
    let key = decoded
        .as_ref()
        .and_then(|bytes| bytes.split_first_chunk::<8>())
        .filter(|(checksum, key)| u64::from_be_bytes(**checksum) == xxh3_64_with_seed(key, SEED));
    key.map_or_else(|| Bytes::copy_from_slice(text), |(_, key)| Bytes::copy_from_slice(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prop_a_token_is_its_key_and_a_key_is_itself(key in proptest::collection::vec(any::<u8>(), 0..64)) {
            let token = token(&key);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(start(token.as_bytes()), key.clone());
            prop_assert_eq!(start(&key), key);
        }

        #[test]
        fn prop_a_damaged_token_is_a_plain_key(key in proptest::collection::vec(any::<u8>(), 0..32), at in 0usize..8) {
            let mut damaged = token(&key).into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(start(&damaged), damaged);
        }
    }
}
