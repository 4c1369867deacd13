//! Names of nodes, buckets and keys are checked when they are read: nothing behind the codec sees an unchecked one.

use annulus_causality::{ConflictPolicy, DecodeError, Reader, put_bytes};
use annulus_coordinator::{BucketConfig, Durability, Level, Mode};
use annulus_membership::Gossip;
use annulus_ring::{Bucket, Key, NodeId};

use super::value::{Wire, fixed, wire_by_itself, wire_enum, wire_struct};
use crate::message::BucketRecord;

wire_by_itself!(Gossip);

/// A hash: all eight bytes, as a varint would only lengthen it.
impl Wire for NodeId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        fixed(reader, what).map(u64::from_le_bytes).map(Self)
    }
}

impl Wire for Bucket {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_str().as_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        let name = reader.bytes(what)?;
        std::str::from_utf8(&name)
            .ok()
            .and_then(|name| Self::parse(name).ok())
            .ok_or_else(|| reader.malformed(what))
    }
}

impl Wire for Key {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        Self::parse(reader.bytes(what)?).map_err(|_| reader.malformed(what))
    }
}

wire_enum!(Level {
    0 => Count(count),
    1 => One,
    2 => Quorum,
    3 => All,
});

wire_enum!(Mode {
    0 => Sloppy,
    1 => Strict,
});

wire_enum!(Durability {
    0 => Disk,
    1 => Memory,
});

wire_enum!(ConflictPolicy {
    0 => Siblings,
    1 => LastWriteWins,
    2 => Counter,
    3 => Set,
    4 => Map,
});

wire_struct!(BucketConfig {
    n,
    r,
    w,
    mode,
    durability,
    conflicts,
    ttl,
    max_siblings
});

wire_struct!(BucketRecord {
    bucket,
    version,
    by,
    config
});

impl BucketRecord {
    /// Appends the encoding, the same on disk as on the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    /// Reads what [`BucketRecord::encode`] wrote.
    ///
    /// # Errors
    /// Where the bytes are no declaration.
    pub fn decode(reader: &mut Reader) -> Result<BucketRecord, DecodeError> {
        BucketRecord::read(reader, "bucket declaration")
    }
}
