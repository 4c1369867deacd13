//! A version is one value that was written, with what its writer said about it.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::codec::{DecodeError, Reader, put_bytes, put_u8, put_varint};
use crate::time::Timestamp;

/// One value and its metadata, never changed once it is written: [`Version::new`] computes the content hash.
///
/// ```
/// use annulus_causality::{Timestamp, Version};
///
/// let meta = vec![("Author".to_owned(), "ada".to_owned())];
/// let version = Version::new("hello".into(), Some("text/plain".to_owned()), meta, Timestamp::default(), Some(5_000));
/// assert_eq!(version.meta[0].0, "author");
/// assert!(!version.is_expired(4_999));
/// assert!(version.is_expired(5_000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The value; shared, never copied.
    pub value: Bytes,
    /// The media type, as it was sent.
    pub content_type: Option<String>,
    /// Names (lower case) and values, in ascending order.
    pub meta: Vec<(String, String)>,
    /// When it was written, by the coordinator's hybrid clock.
    pub modified: Timestamp,
    /// Milliseconds since the Unix epoch: hidden at and after that instant.
    pub expires: Option<u64>,
    content: u128,
}

impl Version {
    /// A version; the names of `meta` are lowered and sorted.
    pub fn new(
        value: Bytes,
        content_type: Option<String>,
        mut meta: Vec<(String, String)>,
        modified: Timestamp,
        expires: Option<u64>,
    ) -> Self {
        for (name, _) in &mut meta {
            name.make_ascii_lowercase();
        }
        meta.sort_unstable();
        let content = hash_content(&value, content_type.as_deref(), &meta);
        Self {
            value,
            content_type,
            meta,
            modified,
            expires,
            content,
        }
    }

    /// `xxh3_128` over value, content type and metadata, not over time: two attempts of one write are equal in it.
    pub const fn content_hash(&self) -> u128 {
        self.content
    }

    /// Whether value, content type and metadata are equal. The hash alone would not do: it is fast, not collision-proof
    /// against someone who tries.
    pub fn same_content(&self, other: &Self) -> bool {
        self.content == other.content
            && self.content_type == other.content_type
            && self.meta == other.meta
            && self.value == other.value
    }

    /// Whether the version is hidden at this wall-clock time (milliseconds since the Unix epoch).
    pub fn is_expired(&self, wall_ms: u64) -> bool {
        self.expires.is_some_and(|expires| wall_ms >= expires)
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.value.len() + 64);
        put_bytes(out, &self.value);
        put_description(out, self.content_type.as_deref(), &self.meta);
        self.modified.encode(out);
        match self.expires {
            None => put_u8(out, 0),
            Some(expires) => {
                put_u8(out, 1);
                put_varint(out, expires);
            }
        }
    }

    /// Reads what [`Version::encode`] wrote; the value is a slice of the reader's bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let value = reader.bytes("value")?;
        let content_type = match reader.u8("content type")? {
            0 => None,
            1 => Some(reader.string("content type")?),
            _ => return Err(reader.malformed("content type")),
        };
        let meta = decode_meta(reader)?;
        let modified = Timestamp::decode(reader)?;
        let expires = match reader.u8("expiry")? {
            0 => None,
            1 => Some(reader.varint("expiry")?),
            _ => return Err(reader.malformed("expiry")),
        };
        let content = hash_content(&value, content_type.as_deref(), &meta);
        Ok(Self {
            value,
            content_type,
            meta,
            modified,
            expires,
            content,
        })
    }
}

fn decode_meta(reader: &mut Reader) -> Result<Vec<(String, String)>, DecodeError> {
    let count = reader.count(2, "metadata")?;
    let mut meta: Vec<(String, String)> = Vec::with_capacity(count);
    for _ in 0..count {
        let pair = (reader.string("metadata name")?, reader.string("metadata value")?);
        if pair.0.bytes().any(|byte| byte.is_ascii_uppercase()) || meta.last().is_some_and(|last| *last > pair) {
            return Err(reader.malformed("metadata"));
        }
        meta.push(pair);
    }
    Ok(meta)
}

fn put_description(out: &mut Vec<u8>, content_type: Option<&str>, meta: &[(String, String)]) {
    match content_type {
        None => put_u8(out, 0),
        Some(content_type) => {
            put_u8(out, 1);
            put_bytes(out, content_type.as_bytes());
        }
    }
    put_varint(out, meta.len() as u64);
    for (name, value) in meta {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// The value goes in as its own hash: sixteen bytes, so nothing behind it can be taken for a part of it, and a large
/// value is read once and never copied.
fn hash_content(value: &[u8], content_type: Option<&str>, meta: &[(String, String)]) -> u128 {
    let mut encoding = xxh3_128(value).to_be_bytes().to_vec();
    put_description(&mut encoding, content_type, meta);
    xxh3_128(&encoding)
}
