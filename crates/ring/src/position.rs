//! A key's position depends on its bucket and its bytes alone, and a partition is an equal range of positions.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::key::{Bucket, Key, MAX_KEY_BYTES};
use crate::name::MAX_NAME_BYTES;

/// The most partitions a ring can have.
pub const MAX_PARTITIONS: u32 = 1 << 16;

/// Where a key lies on the ring: `xxh3_64(bucket ‖ 0 ‖ key)`. Objects are stored in this order, so any number of
/// partitions divides the same data. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The position of a key. Names hold no zero byte, so no two pairs of bucket and key are hashed as the same bytes.
    pub fn of(bucket: &Bucket, key: &Key) -> Position {
        let (bucket, key) = (bucket.as_str().as_bytes(), key.as_bytes());
        // Clearing the buffer for the longest key would cost more than hashing a usual one.
        match bucket.len() + 1 + key.len() {
            ..=USUAL_BYTES => hash::<USUAL_BYTES>(bucket, key),
            _ => hash::<{ MAX_NAME_BYTES + 1 + MAX_KEY_BYTES }>(bucket, key),
        }
    }
}

/// Most buckets and keys together are no longer than this.
const USUAL_BYTES: usize = 128;

/// One call on contiguous bytes is several times faster than a streaming hasher, and both lengths are bounded.
fn hash<const ROOM: usize>(bucket: &[u8], key: &[u8]) -> Position {
    let mut buffer = [0u8; ROOM];
    let end = bucket.len() + 1 + key.len();
    buffer[..bucket.len()].copy_from_slice(bucket);
    buffer[bucket.len() + 1..end].copy_from_slice(key);
    Position(xxh3_64(&buffer[..end]))
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How many partitions the positions are divided into: a power of two, 1 to [`MAX_PARTITIONS`].
///
/// ```
/// use annulus_ring::{Partitions, Position};
/// let partitions = Partitions::new(4)?;
/// assert_eq!(partitions.of(Position(0xC000_0000_0000_0000)), 3);
/// assert!(Partitions::new(1000).is_err());
/// # Ok::<(), annulus_ring::PartitionsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Partitions {
    /// The binary logarithm of the count, 0 to 16.
    bits: u8,
}

/// Why a number is not a number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partitions must be a power of two from 1 to {MAX_PARTITIONS}, not {got}")]
pub struct PartitionsError {
    /// The number that was asked for.
    pub got: u32,
}

impl Partitions {
    /// Checks that the count is a power of two in range.
    pub fn new(count: u32) -> Result<Partitions, PartitionsError> {
        if !count.is_power_of_two() || count > MAX_PARTITIONS {
            return Err(PartitionsError { got: count });
        }
        Ok(Partitions {
            bits: count.trailing_zeros() as u8,
        })
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        1 << self.bits
    }

    /// The partition a position lies in: its top bits.
    pub fn of(self, position: Position) -> u32 {
        ((u128::from(position.0) << self.bits) >> 64) as u32
    }

    /// The first and the last position of a partition, both inclusive. `index` must be below [`Partitions::count`].
    pub fn range(self, index: u32) -> (Position, Position) {
        let width = 1u128 << (64 - self.bits);
        let first = u128::from(index) * width;
        (Position(first as u64), Position((first + (width - 1)) as u64))
    }
}

impl Default for Partitions {
    /// 1024: enough for 200 nodes to balance within one per cent, few enough to carry the whole table in one message.
    fn default() -> Partitions {
        Partitions { bits: 10 }
    }
}

impl TryFrom<u32> for Partitions {
    type Error = PartitionsError;
    fn try_from(count: u32) -> Result<Partitions, PartitionsError> {
        Partitions::new(count)
    }
}

impl From<Partitions> for u32 {
    fn from(partitions: Partitions) -> u32 {
        partitions.count()
    }
}

/// A partition of the buckets that are kept `n` times. Buckets with another `n` live in partitions of their own, with
/// their own clock and log: so every owner of a partition holds every key of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId {
    /// How many replicas its buckets ask for.
    pub n: u8,
    /// Which of the equal ranges, from 0.
    pub index: u32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/n{}", self.index, self.n)
    }
}
