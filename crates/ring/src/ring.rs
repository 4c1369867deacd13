//! A ring is one epoch's table of owners, carried whole: nodes of one epoch never disagree about who owns what.

use xxhash_rust::xxh3::xxh3_64;

use crate::codec;
use crate::member::{Member, NodeId};
use crate::name::MAX_NAME_BYTES;
use crate::position::{PartitionId, Partitions, PartitionsError};
use crate::preference::{self, PreferenceList};
use crate::zones::Zones;

/// The largest replication factor.
pub const MAX_REPLICAS: u8 = 16;

/// The most members of a ring: their indexes have 16 bits, and one value means none.
pub(crate) const MAX_MEMBERS: usize = u16::MAX as usize;

/// Which members own which partition, in one epoch. Immutable; made by [`crate::plan`] or [`Ring::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    epoch: u64,
    replicas: u8,
    partitions: Partitions,
    /// Sorted by name.
    members: Vec<Member>,
    /// Member indexes, [`Ring::copies`] a partition.
    table: Vec<u16>,
    /// Derived: each member's id with its index, sorted by id.
    by_id: Vec<(NodeId, u16)>,
    /// Derived: every partition's preference list, `width` a partition; the owners come first.
    lists: Vec<NodeId>,
    width: usize,
    /// Derived: the hash of the encoding.
    fingerprint: u64,
}

/// Why bytes or parts are not a ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The first byte names a format this version does not know.
    #[error("ring format {got} is not known: this version reads format {}", codec::FORMAT)]
    Format {
        /// The format found.
        got: u8,
    },
    /// The bytes end too early, or go on after the end.
    #[error("a ring must have {expected} bytes here, and {got} are left")]
    Length {
        /// How many bytes the part being read has.
        expected: usize,
        /// How many are left.
        got: usize,
    },
    /// Not a power of two in range.
    #[error(transparent)]
    Partitions(#[from] PartitionsError),
    /// The replication factor is out of range.
    #[error("replicas must be from 1 to {MAX_REPLICAS}, not {got}")]
    Replicas {
        /// The factor found.
        got: u8,
    },
    /// No members, or more than a table can index.
    #[error("a ring has 1 to {MAX_MEMBERS} members, not {got}")]
    Members {
        /// How many there are.
        got: usize,
    },
    /// A member's name, region, zone or capacity is out of range, or not UTF-8.
    #[error("member {index} has no valid {field}")]
    Member {
        /// Its place among the members.
        index: usize,
        /// Which field.
        field: &'static str,
    },
    /// Two members of one name, or of names with one id, or members out of order.
    #[error("member {index} repeats a name or id, or is not in order of names")]
    MemberOrder {
        /// The later one of the two.
        index: usize,
    },
    /// A partition's owners are not distinct members.
    #[error("partition {partition} does not name distinct members as owners")]
    Owners {
        /// The first such partition.
        partition: u32,
    },
}

/// What a ring is made of before it is checked.
pub(crate) struct Parts {
    pub(crate) epoch: u64,
    pub(crate) replicas: u8,
    pub(crate) partitions: Partitions,
    pub(crate) members: Vec<Member>,
    pub(crate) table: Vec<u16>,
}

impl Ring {
    pub(crate) fn build(parts: Parts) -> Result<Ring, RingError> {
        let Parts {
            epoch,
            replicas,
            partitions,
            members,
            table,
        } = parts;
        check_members(replicas, &members)?;
        let mut by_id: Vec<_> = members
            .iter()
            .zip(0..)
            .map(|(member, index)| (member.id(), index))
            .collect();
        by_id.sort_unstable();
        if let Some(pair) = by_id.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(RingError::MemberOrder {
                index: usize::from(pair[1].1),
            });
        }
        let copies = copies(replicas, members.len());
        check_table(partitions, members.len(), copies, &table)?;
        let width = preference::width(members.len(), replicas);
        let ids: Vec<_> = members.iter().map(Member::id).collect();
        let lists = preference::lists(&Zones::of(&members), &table, copies, width);
        let lists = lists.into_iter().map(|index| ids[usize::from(index)]).collect();
        let mut ring = Ring {
            epoch,
            replicas,
            partitions,
            members,
            table,
            by_id,
            lists,
            width,
            fingerprint: 0,
        };
        let mut encoded = Vec::new();
        ring.encode(&mut encoded);
        ring.fingerprint = xxh3_64(&encoded);
        Ok(ring)
    }

    /// Counts up by one with every change, from 1.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The cluster's replication factor N, 1 to [`MAX_REPLICAS`].
    pub fn replicas(&self) -> u8 {
        self.replicas
    }

    /// How many owners a partition has: N, or the number of members where that is less.
    pub fn copies(&self) -> usize {
        copies(self.replicas, self.members.len())
    }

    /// How positions are divided.
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// All members, in order of their names.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of an id.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        let at = self.by_id.binary_search_by_key(&node, |&(id, _)| id).ok()?;
        Some(&self.members[usize::from(self.by_id[at].1)])
    }

    /// A partition's owners, the first one coordinates; none for a partition that the ring does not have.
    pub fn owners(&self, partition: u32) -> &[NodeId] {
        self.list(partition).get(..self.copies()).unwrap_or_default()
    }

    /// Owners and fallbacks of a partition. Its owners are the first `n` of the table's, at least one, at most
    /// [`Ring::copies`]; the table's other owners are the first fallbacks. Empty for a partition that the ring does
    /// not have.
    pub fn preference_list(&self, partition: PartitionId) -> PreferenceList<'_> {
        let list = self.list(partition.index);
        let (owners, fallbacks) = list.split_at(usize::from(partition.n).clamp(1, self.copies()).min(list.len()));
        PreferenceList { owners, fallbacks }
    }

    fn list(&self, partition: u32) -> &[NodeId] {
        let start = partition as usize * self.width;
        self.lists.get(start..start + self.width).unwrap_or_default()
    }

    /// How many partitions a node owns a replica of.
    pub fn load(&self, node: NodeId) -> usize {
        self.by_id.binary_search_by_key(&node, |&(id, _)| id).map_or(0, |at| {
            self.table.iter().filter(|&&owner| owner == self.by_id[at].1).count()
        })
    }

    /// A hash of the encoding: two rings with one fingerprint are the same ring.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Checks everything that is promised of a ring: sizes and names in range, members in order, every partition with
    /// its number of distinct owners. Rings are made checked; this is for tests and for the simulator's oracles.
    pub fn validate(&self) -> Result<(), RingError> {
        check_members(self.replicas, &self.members)?;
        check_table(self.partitions, self.members.len(), self.copies(), &self.table)
    }

    /// Appends the binary form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::encode(self, out);
    }

    /// Reads the binary form of a ring, all of the bytes, and checks it. Nothing is allocated that the bytes at hand
    /// do not account for.
    pub fn decode(bytes: &[u8]) -> Result<Ring, RingError> {
        Ring::build(codec::decode(bytes)?)
    }

    pub(crate) fn table(&self) -> &[u16] {
        &self.table
    }
}

pub(crate) fn copies(replicas: u8, members: usize) -> usize {
    usize::from(replicas).min(members)
}

pub(crate) fn check_members(replicas: u8, members: &[Member]) -> Result<(), RingError> {
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        return Err(RingError::Replicas { got: replicas });
    }
    if members.is_empty() || members.len() > MAX_MEMBERS {
        return Err(RingError::Members { got: members.len() });
    }
    for (index, member) in members.iter().enumerate() {
        for (field, text) in [("region", &member.region), ("zone", &member.zone)] {
            if text.len() > MAX_NAME_BYTES {
                return Err(RingError::Member { index, field });
            }
        }
    }
    match members.windows(2).position(|pair| pair[0].name >= pair[1].name) {
        Some(earlier) => Err(RingError::MemberOrder { index: earlier + 1 }),
        None => Ok(()),
    }
}

fn check_table(partitions: Partitions, members: usize, copies: usize, table: &[u16]) -> Result<(), RingError> {
    let expected = partitions.count() as usize * copies;
    if table.len() != expected {
        return Err(RingError::Length {
            expected,
            got: table.len(),
        });
    }
    let distinct_members = |owners: &[u16]| {
        owners
            .iter()
            .enumerate()
            .all(|(at, &owner)| usize::from(owner) < members && !owners[..at].contains(&owner))
    };
    match table
        .chunks_exact(copies)
        .zip(0..)
        .find(|(owners, _)| !distinct_members(owners))
    {
        Some((_, partition)) => Err(RingError::Owners { partition }),
        None => Ok(()),
    }
}
