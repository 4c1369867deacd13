//! How the finished incarnations of a node are closed: the node asks all members, and what they say decides.

use annulus_ring::PartitionId;

/// A step of a ballot about the incarnations of a node before its present one. The node itself asks, all members answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosingStep {
    /// From now on take no write with a dot of theirs but as an owner, from another owner or from a hint; and say when no such write is on its
    /// way at yours.
    Freeze,
    /// None is, and none will be.
    Free,
    /// All members are free: which dots of theirs does each of your partitions have?
    Count {
        /// Of the ring by which the partitions have their owners; a member with another one does not answer.
        epoch: u64,
    },
    /// These, durably: of all partitions that are owned, can be proved, and are not closed already.
    Counted {
        /// Partition by partition.
        dots: Vec<PartitionDots>,
        /// Whether another such message follows.
        more: bool,
    },
    /// All owners of these partitions have the same: what is not among it never was.
    Close {
        /// The partitions.
        partitions: Vec<PartitionId>,
    },
}

/// What a partition's clock has of a node's finished incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionDots {
    /// The partition.
    pub partition: PartitionId,
    /// `xxh3_64` of the encoding of these dots.
    pub hash: u64,
}
