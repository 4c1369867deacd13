//! One compact binary form for disk, wire and tokens: every value has exactly one encoding, and none is trusted.
//!
//! Integers are LEB128 varints in their shortest form, byte strings carry their length. A length is checked against what
//! remains before anything is allocated for it.

use bytes::Bytes;

/// The longest varint: ten groups of seven bits hold 64.
const MAX_VARINT_BYTES: usize = 10;

/// What could not be read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {what} at byte {offset}")]
pub struct DecodeError {
    /// What was being read: a noun, as in "causal context".
    pub what: &'static str,
    /// How far the reader had come, in bytes.
    pub offset: usize,
    /// Whether bytes were missing or wrong.
    pub kind: DecodeErrorKind,
}

/// Why a [`DecodeError`] arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The bytes end before the value does, or before the length it announces.
    Truncated,
    /// The bytes are no value's encoding, or not the canonical one.
    Malformed,
}

impl std::fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
        })
    }
}

/// Appends one byte.
pub fn put_u8(out: &mut Vec<u8>, byte: u8) {
    out.push(byte);
}

/// Appends an unsigned integer as a LEB128 varint: 1 to 10 bytes, the shortest form.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a byte string behind its length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote. Byte strings are slices of the input: nothing is copied.
///
/// ```
/// use annulus_causality::{Reader, put_bytes, put_varint};
///
/// let mut out = Vec::new();
/// put_varint(&mut out, 300);
/// put_bytes(&mut out, b"value");
/// let mut reader = Reader::new(out.into());
/// assert_eq!(reader.varint("count"), Ok(300));
/// assert_eq!(reader.bytes("value").as_deref(), Ok(&b"value"[..]));
/// assert_eq!(reader.finish("example"), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    data: Bytes,
    at: usize,
}

impl Reader {
    /// Starts at the first byte.
    pub fn new(data: Bytes) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Refuses trailing bytes: a value's encoding is all of its input.
    pub fn finish(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.malformed(what))
        }
    }

    /// The error for bytes that are there but wrong.
    pub fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError {
            what,
            offset: self.at,
            kind: DecodeErrorKind::Malformed,
        }
    }

    /// The error for bytes that are missing.
    pub fn truncated(&self, what: &'static str) -> DecodeError {
        DecodeError {
            what,
            offset: self.at,
            kind: DecodeErrorKind::Truncated,
        }
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let byte = *self.data.get(self.at).ok_or_else(|| self.truncated(what))?;
        self.at += 1;
        Ok(byte)
    }

    /// A varint in its shortest form.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, &byte) in self.data[self.at..].iter().take(MAX_VARINT_BYTES).enumerate() {
            let group = u64::from(byte & 0x7f);
            let shift = 7 * index as u32;
            // The tenth group has room for one bit; a last group of zero would be a longer form of a shorter varint.
            if (shift == 63 && group > 1) || (byte == 0 && index > 0) {
                return Err(self.malformed(what));
            }
            value |= group << shift;
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        if self.remaining() < MAX_VARINT_BYTES {
            Err(self.truncated(what))
        } else {
            Err(self.malformed(what))
        }
    }

    /// A number of items that follow, each at least `least_bytes` long: more than could fit is refused, so that the
    /// count may be used as a capacity.
    pub fn count(&mut self, least_bytes: usize, what: &'static str) -> Result<usize, DecodeError> {
        let count = self.varint(what)?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() / least_bytes.max(1) => Ok(count),
            _ => Err(self.truncated(what)),
        }
    }

    /// The next `length` bytes, shared with the input.
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if length > self.remaining() {
            return Err(self.truncated(what));
        }
        let bytes = self.data.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    /// A byte string behind its length, shared with the input.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.count(1, what)?;
        self.take(length, what)
    }

    /// A byte string behind its length that is UTF-8.
    pub fn string(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let length = self.count(1, what)?;
        let text = std::str::from_utf8(&self.data[self.at..self.at + length]).map_err(|_| self.malformed(what))?;
        let text = text.to_owned();
        self.at += length;
        Ok(text)
    }
}
