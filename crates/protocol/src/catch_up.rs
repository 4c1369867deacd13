//! How owners find out what each other lacks, and ask for it: hashes of clocks, then the clocks that differ, then the objects.

use annulus_causality::{CausalContext, Object};
use annulus_ring::{Bucket, Key, PartitionId};
use bytes::Bytes;

/// Fingerprints that a partition has, one each of its equal sub-ranges.
pub const SUB_RANGES: usize = 16;

/// The clocks of a range of partitions, and what they hold, as one number: the sum over those that both nodes own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRange {
    /// The partitions are those of buckets with so many replicas.
    pub n: u8,
    /// The first one.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Equal where their clocks and contents are.
    pub hash: u64,
}

/// A partition's clock, as its sayer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionClock {
    /// The partition.
    pub partition: PartitionId,
    /// Its clock.
    pub clock: CausalContext,
    /// What the fingerprints of its sub-ranges add up to.
    pub contents: u64,
}

/// What an owner lacks of a partition: everything but this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The partition.
    pub partition: PartitionId,
    /// What the asker has.
    pub clock: CausalContext,
    /// Asks for the next piece of all of it, as the log no longer reaches.
    pub stream: Option<StreamWant>,
}

/// Where a streamed partition goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamWant {
    /// The first record; the partition's first where there is none.
    pub from: Option<Bytes>,
    /// The asker's fingerprints: sub-ranges that are equal are left out.
    pub fingerprints: [u64; SUB_RANGES],
}

/// One key's object on its way to an owner that lacks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaughtObject {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its key.
    pub key: Key,
    /// The missing dots that belong to it, but for those of its versions.
    pub dots: CausalContext,
    /// The versions, to be filled with the clock that comes along.
    pub object: Object,
}

/// What is answered to one [`Want`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The partition.
    pub partition: PartitionId,
    /// The answer.
    pub part: CaughtPart,
}

/// A piece of what an owner lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaughtPart {
    /// This node cannot say, for now.
    Refused,
    /// The log names no longer all that is missing: ask for the whole partition.
    LogShort,
    /// Objects of missing dots.
    Objects {
        /// What the sender knows of these keys.
        clock: CausalContext,
        /// The objects.
        objects: Vec<CaughtObject>,
        /// Whether there are others: ask again.
        more: bool,
    },
    /// A piece of the whole partition.
    Streamed {
        /// The sender's clock now.
        clock: CausalContext,
        /// Where the piece begins; before it, all was equal.
        from: Bytes,
        /// Where the next one begins; nothing at the partition's end.
        until: Option<Bytes>,
        /// The objects in between.
        objects: Vec<CaughtObject>,
    },
}
