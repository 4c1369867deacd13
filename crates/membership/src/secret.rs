//! A secret is never shown: not in logs, not in traces, not in a panic's message.

use std::fmt;

use annulus_causality::{DecodeError, Reader};

/// 32 secret bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Wraps bytes that are random, or derived from such.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes: to be stored, or to key something.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        array(reader, "secret").map(Self)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Bytes of a length that the format fixes.
pub(crate) fn array<const N: usize>(reader: &mut Reader, what: &'static str) -> Result<[u8; N], DecodeError> {
    let bytes = reader.take(N, what)?;
    bytes.as_ref().try_into().map_err(|_| reader.truncated(what))
}
