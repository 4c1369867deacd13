//! Each sub-range of a partition has a fingerprint, moved in the batch that moves its objects: a scan proves it, and equal ones need no streaming.
//!
//! A fingerprint is the sum of `xxh3_64(scope)`, seeded with the object's digest, over the objects with live versions. A dot names one write for ever, so sub-ranges
//! of two owners with equal fingerprints hold equal versions, but for one chance in 2⁶⁴.

use std::collections::BTreeMap;

use annulus_causality::{DecodeError, Object, Reader, put_u8, put_varint};
use annulus_ring::{PartitionId, Partitions, Position};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::record::{put_partition, read_partition};

/// Sub-ranges of a partition.
pub const SUB_RANGES: usize = 16;
const SUB_RANGE_BITS: u32 = SUB_RANGES.trailing_zeros();

/// A sub-range: the partition, and which of its equal parts.
pub(crate) type SubRange = (PartitionId, u8);

/// What an object adds to its sub-range's fingerprint; nothing where it has no version.
pub(crate) fn of(scope: &[u8], object: &Object) -> u64 {
    if object.versions().is_empty() {
        return 0;
    }
    xxh3_64_with_seed(scope, object.digest())
}

/// Which sub-range of its partition a position lies in.
pub(crate) fn sub_range_of(position: Position, partitions: Partitions) -> u8 {
    let within = position.0 << partitions.count().trailing_zeros();
    (within >> (64 - SUB_RANGE_BITS)) as u8
}

/// The first position of a sub-range.
pub(crate) fn first_position(partition: u32, index: u8, partitions: Partitions) -> Position {
    let (first, last) = partitions.range(partition);
    let width = (u128::from(last.0) - u128::from(first.0) + 1) / SUB_RANGES as u128;
    Position((u128::from(first.0) + width * u128::from(index)) as u64)
}

/// The fingerprints of all sub-ranges that hold anything.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    sums: BTreeMap<PartitionId, [u64; SUB_RANGES]>,
    /// Moved since the last commit, by how much.
    moved: BTreeMap<SubRange, u64>,
}

impl Fingerprints {
    pub(crate) fn get(&self, partition: PartitionId) -> [u64; SUB_RANGES] {
        self.sums.get(&partition).copied().unwrap_or_default()
    }

    /// An object of the sub-range became another one.
    pub(crate) fn change(&mut self, at: SubRange, before: u64, after: u64) {
        let by = after.wrapping_sub(before);
        if by != 0 {
            self.add(at, by);
            let moved = self.moved.entry(at).or_default();
            *moved = moved.wrapping_add(by);
        }
    }

    fn add(&mut self, (partition, index): SubRange, by: u64) {
        let sum = &mut self.sums.entry(partition).or_default()[usize::from(index)];
        *sum = sum.wrapping_add(by);
    }

    /// What a scan of the partition has found holds from now on; the caller makes it durable with a checkpoint.
    pub(crate) fn set(&mut self, partition: PartitionId, sums: [u64; SUB_RANGES]) {
        self.sums.insert(partition, sums);
        self.moved.retain(|(of, _), _| *of != partition);
    }

    pub(crate) fn len(&self) -> usize {
        self.sums.len()
    }

    /// Appends what moved since the last commit, and begins anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        put_varint(out, self.moved.len() as u64);
        for ((partition, index), by) in std::mem::take(&mut self.moved) {
            put_partition(out, partition);
            put_u8(out, index);
            out.extend_from_slice(&by.to_le_bytes());
        }
    }

    /// Whether a commit has to say anything.
    pub(crate) fn is_still(&self) -> bool {
        self.moved.is_empty()
    }

    /// Adds what a batch after the checkpoint has moved.
    pub(crate) fn replay(&mut self, moved: &[(SubRange, u64)]) {
        for &(at, by) in moved {
            self.add(at, by);
        }
    }

    /// Appends all fingerprints.
    pub(crate) fn checkpoint(&self, out: &mut Vec<u8>) {
        put_varint(out, self.sums.len() as u64);
        for (partition, sums) in &self.sums {
            put_partition(out, *partition);
            for sum in sums {
                out.extend_from_slice(&sum.to_le_bytes());
            }
        }
    }

    /// Reads what [`Fingerprints::checkpoint`] wrote.
    pub(crate) fn restore(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        self.reset();
        for _ in 0..reader.count(2 + 8 * SUB_RANGES, "fingerprints")? {
            let partition = read_partition(reader)?;
            let mut sums = [0; SUB_RANGES];
            for sum in &mut sums {
                *sum = read_sum(reader)?;
            }
            self.sums.insert(partition, sums);
        }
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        *self = Fingerprints::default();
    }
}

/// Reads what [`Fingerprints::finish`] wrote.
pub(crate) fn decode_moved(reader: &mut Reader) -> Result<Vec<(SubRange, u64)>, DecodeError> {
    let count = reader.count(11, "fingerprints")?;
    let moved = (0..count).map(|_| {
        let partition = read_partition(reader)?;
        let index = reader.u8("sub-range")?;
        if usize::from(index) >= SUB_RANGES {
            return Err(reader.malformed("sub-range"));
        }
        Ok(((partition, index), read_sum(reader)?))
    });
    moved.collect()
}

fn read_sum(reader: &mut Reader) -> Result<u64, DecodeError> {
    let mut bytes = [0; 8];
    for byte in &mut bytes {
        *byte = reader.u8("fingerprint")?;
    }
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sub_ranges_divide_a_partition_into_equal_parts() {
        for count in [1, 4, 1024, 65536] {
            let partitions = Partitions::new(count).unwrap();
            for partition in [0, count / 2, count - 1] {
                for index in 0..SUB_RANGES as u8 {
                    let first = first_position(partition, index, partitions);
                    assert_eq!(partitions.of(first), partition);
                    assert_eq!(sub_range_of(first, partitions), index);
                    if let Some(before) = first.0.checked_sub(1) {
                        let expected = if index == 0 { SUB_RANGES as u8 - 1 } else { index - 1 };
                        assert_eq!(sub_range_of(Position(before), partitions), expected);
                    }
                }
            }
        }
    }
}
