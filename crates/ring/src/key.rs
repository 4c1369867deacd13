//! Buckets and keys are checked once, here; whoever holds one may trust it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::name::{self, NameFlaw};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// A bucket's name: 1 to 64 of `a-z A-Z 0-9 . _ -`. Cloning copies a pointer.
///
/// ```
/// use annulus_ring::Bucket;
/// assert_eq!(Bucket::parse("photos")?.as_str(), "photos");
/// assert!(Bucket::parse("no spaces").is_err());
/// # Ok::<(), annulus_ring::BucketError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Bucket(Arc<str>);

/// Why a text is not a bucket's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a bucket name: {0}")]
pub struct BucketError(#[from] pub NameFlaw);

impl Bucket {
    /// Checks a name's length and characters.
    pub fn parse(text: &str) -> Result<Bucket, BucketError> {
        name::check(text)?;
        Ok(Bucket(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Bucket {
    type Error = BucketError;
    fn try_from(text: String) -> Result<Bucket, BucketError> {
        Bucket::parse(&text)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.0)
    }
}

/// A key: 1 to [`MAX_KEY_BYTES`] bytes of any value. Cloning copies a pointer; the order is the order of the bytes.
///
/// ```
/// use annulus_ring::Key;
/// assert_eq!(Key::parse("2024/cat.jpg")?.as_bytes(), b"2024/cat.jpg");
/// assert!(Key::parse("").is_err());
/// # Ok::<(), annulus_ring::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: it must have 1 to {MAX_KEY_BYTES} bytes, and has {got}")]
pub struct KeyError {
    /// The length in bytes.
    pub got: usize,
}

impl Key {
    /// Checks a key's length. Bytes that are shared already are not copied.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Key, KeyError> {
        let bytes = bytes.into();
        match bytes.len() {
            1..=MAX_KEY_BYTES => Ok(Key(bytes)),
            got => Err(KeyError { got }),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The shared buffer, to keep or send without a copy.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}
