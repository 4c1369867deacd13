//! An address is a key together with where it lives: computed once where a request enters, then carried.

use crate::{Bucket, Key, PartitionId, Partitions, Position};

/// A key with its position and partition.
///
/// `partition.n` is the bucket's number of replicas: a bucket with another `n` lives in partitions of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The bucket.
    pub bucket: Bucket,
    /// The key within the bucket.
    pub key: Key,
    /// `xxh3_64(bucket ‖ 0 ‖ key)`.
    pub position: Position,
    /// The partition that the position falls into, among those of `n` replicas.
    pub partition: PartitionId,
}

impl Address {
    /// Where `key` of a bucket with `n` replicas lives in a ring of so many partitions.
    pub fn new(bucket: Bucket, key: Key, n: u8, partitions: Partitions) -> Address {
        let position = Position::of(&bucket, &key);
        let partition = PartitionId {
            n,
            index: partitions.of(position),
        };
        Address {
            bucket,
            key,
            position,
            partition,
        }
    }

    /// `bucket ‖ 0 ‖ key`: what a client's token is bound to. Unambiguous, as a bucket's name holds no zero byte.
    pub fn scope(&self) -> Vec<u8> {
        let mut scope = Vec::with_capacity(self.bucket.as_str().len() + 1 + self.key.as_bytes().len());
        scope.extend_from_slice(self.bucket.as_str().as_bytes());
        scope.push(0);
        scope.extend_from_slice(self.key.as_bytes());
        scope
    }
}
