//! A hint is a write kept for an owner that was away: durable, bounded in bytes an owner, and gone only when an owner has it.
//!
//! Only fallbacks keep hints: what one owner has, the others get from its log. A hint carries the write's delta. Key of the record: owner
//! and sequence, both big-endian.
//!
//! Bucket policies are not kept: neither a join nor what replicas store depends on them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use annulus_causality::{CausalContext, DecodeError, Object, Reader, put_bytes, put_u8, put_varint};
use annulus_ring::{Address, Bucket, Key, NodeId, PartitionId, Partitions};
use bytes::Bytes;

use crate::engine::EngineError;
use crate::index::Liveness;

/// How many bytes of hints one owner may have, unless set otherwise: 256 MiB.
pub const DEFAULT_HINT_LIMIT_BYTES: u64 = 256 << 20;

/// What a hint costs in memory beside its record, counted towards the bound.
const HINT_OVERHEAD_BYTES: u64 = 160;

/// At most so many hints are found to be overdue in one call.
const OVERDUE_AT_ONCE: usize = 4096;

/// A write to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Its number among the owner's hints; they grow.
    pub sequence: u64,
    /// The key that was written.
    pub address: Address,
    /// The dots of the write: what the owner adds to its clock.
    pub dots: CausalContext,
    /// What the owner joins, filled.
    pub object: Object,
    /// Milliseconds since the Unix epoch: from then on any other owner may have the hint, as its own stays away.
    pub expires_wall_ms: u64,
}

/// A hint that has waited for its owner past its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverdueHint {
    /// For whom it was kept.
    pub owner: NodeId,
    /// Its number among the owner's hints.
    pub sequence: u64,
    /// Whose owners are to have it.
    pub partition: PartitionId,
}

/// The hints of one owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintCount {
    /// How many.
    pub hints: u64,
    /// Bytes of their records, with what they cost in memory.
    pub bytes: u64,
}

/// Why a hint was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HintError {
    /// The owner has as many as it may: this one does not count. Another owner that has the write brings it.
    #[error("{bytes} bytes of hints are kept for node {owner}, and {limit_bytes} are allowed")]
    Full {
        /// For whom.
        owner: NodeId,
        /// Bytes kept.
        bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A hint as it is stored.
#[derive(Debug)]
pub(crate) struct StoredHint {
    pub(crate) address: Address,
    pub(crate) dots: CausalContext,
    pub(crate) delta: Object,
    pub(crate) expires_wall_ms: u64,
}

impl StoredHint {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, self.address.partition.n);
        put_bytes(out, self.address.bucket.as_str().as_bytes());
        put_bytes(out, self.address.key.as_bytes());
        put_varint(out, self.expires_wall_ms);
        self.dots.encode(out);
        self.delta.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader, partitions: Partitions) -> Result<StoredHint, DecodeError> {
        let n = reader.u8("replicas")?;
        let bucket = Bucket::parse(&reader.string("bucket")?).map_err(|_| reader.malformed("bucket"))?;
        let key = Key::parse(reader.bytes("key")?).map_err(|_| reader.malformed("key"))?;
        let expires_wall_ms = reader.varint("deadline")?;
        let dots = CausalContext::decode(reader)?;
        let delta = Object::decode(reader)?;
        Ok(StoredHint {
            address: Address::new(bucket, key, n, partitions),
            dots,
            delta,
            expires_wall_ms,
        })
    }
}

pub(crate) fn key(owner: NodeId, sequence: u64) -> Bytes {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&owner.0.to_be_bytes());
    key.extend_from_slice(&sequence.to_be_bytes());
    key.into()
}

/// Reads a record's key; nothing where it is none.
pub(crate) fn parse_key(key: &[u8]) -> Option<(NodeId, u64)> {
    let (owner, sequence) = key.split_first_chunk::<8>()?;
    let sequence = u64::from_be_bytes(sequence.try_into().ok()?);
    Some((NodeId(u64::from_be_bytes(*owner)), sequence))
}

/// What is remembered of a stored hint.
#[derive(Debug)]
struct Entry {
    bytes: u64,
    expires_wall_ms: u64,
    partition: PartitionId,
    /// `bucket ‖ 0 ‖ key`.
    scope: Bytes,
}

/// Which hints there are, without their contents.
#[derive(Debug)]
pub(crate) struct Hints {
    owners: BTreeMap<NodeId, (HintCount, BTreeMap<u64, Entry>)>,
    deadlines: BTreeSet<(u64, NodeId, u64)>,
    values: BTreeMap<Bytes, BTreeMap<(NodeId, u64), Liveness>>,
    next_sequence: u64,
    pub(crate) limit_bytes: u64,
}

impl Default for Hints {
    fn default() -> Hints {
        Hints {
            owners: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            values: BTreeMap::new(),
            next_sequence: 1,
            limit_bytes: DEFAULT_HINT_LIMIT_BYTES,
        }
    }
}

impl Hints {
    /// The next sequence; one is never used twice while the replica is open.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// A record has this sequence, though it is no hint.
    pub(crate) fn skip(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
    }

    pub(crate) fn check_room(&self, owner: NodeId, record_bytes: usize) -> Result<(), HintError> {
        let bytes = self.owners.get(&owner).map_or(0, |(count, _)| count.bytes);
        if bytes + record_bytes as u64 + HINT_OVERHEAD_BYTES > self.limit_bytes {
            return Err(HintError::Full {
                owner,
                bytes,
                limit_bytes: self.limit_bytes,
            });
        }
        Ok(())
    }

    pub(crate) fn insert(&mut self, owner: NodeId, sequence: u64, hint: &StoredHint, record_bytes: usize) {
        let scope = Bytes::from(hint.address.scope());
        let of_scope = self.values.entry(scope.clone()).or_default();
        of_scope.insert((owner, sequence), Liveness::of(&hint.delta));
        let bytes = record_bytes as u64 + HINT_OVERHEAD_BYTES;
        let (count, entries) = self.owners.entry(owner).or_default();
        count.hints += 1;
        count.bytes += bytes;
        entries.insert(
            sequence,
            Entry {
                bytes,
                expires_wall_ms: hint.expires_wall_ms,
                partition: hint.address.partition,
                scope,
            },
        );
        self.deadlines.insert((hint.expires_wall_ms, owner, sequence));
        self.next_sequence = self.next_sequence.max(sequence + 1);
    }

    /// Forgets a hint, and says whether there was one.
    pub(crate) fn remove(&mut self, owner: NodeId, sequence: u64) -> bool {
        let Some((count, entries)) = self.owners.get_mut(&owner) else {
            return false;
        };
        let Some(entry) = entries.remove(&sequence) else {
            return false;
        };
        count.hints -= 1;
        count.bytes -= entry.bytes;
        if entries.is_empty() {
            self.owners.remove(&owner);
        }
        self.deadlines.remove(&(entry.expires_wall_ms, owner, sequence));
        if let Some(hints) = self.values.get_mut(&entry.scope) {
            hints.remove(&(owner, sequence));
            if hints.is_empty() {
                self.values.remove(&entry.scope);
            }
        }
        true
    }

    /// The owner's hints after a sequence, ascending.
    pub(crate) fn after(&self, owner: NodeId, sequence: u64) -> impl Iterator<Item = u64> + '_ {
        let entries = self.owners.get(&owner).map(|(_, entries)| entries);
        let range = (Bound::Excluded(sequence), Bound::Unbounded);
        entries
            .into_iter()
            .flat_map(move |entries| entries.range(range))
            .map(|(sequence, _)| *sequence)
    }

    /// Hints whose deadline has passed, the oldest first, a bounded number.
    pub(crate) fn overdue(&self, wall_ms: u64) -> Vec<OverdueHint> {
        let overdue = self.deadlines.iter().take_while(|(deadline, ..)| *deadline <= wall_ms);
        let overdue = overdue.take(OVERDUE_AT_ONCE).filter_map(|&(_, owner, sequence)| {
            let (_, entries) = self.owners.get(&owner)?;
            let partition = entries.get(&sequence)?.partition;
            Some(OverdueHint {
                owner,
                sequence,
                partition,
            })
        });
        overdue.collect()
    }

    /// Gives a hint another deadline, until a restart.
    pub(crate) fn postpone(&mut self, owner: NodeId, sequence: u64, until_wall_ms: u64) {
        let entries = self.owners.get_mut(&owner).map(|(_, entries)| entries);
        if let Some(entry) = entries.and_then(|entries| entries.get_mut(&sequence)) {
            self.deadlines.remove(&(entry.expires_wall_ms, owner, sequence));
            entry.expires_wall_ms = until_wall_ms;
            self.deadlines.insert((until_wall_ms, owner, sequence));
        }
    }

    /// The hints of a key.
    pub(crate) fn of_scope(&self, scope: &[u8]) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.values.get(scope).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// Keys with hints in `from <= bucket ‖ 0 ‖ key < until`, in order, and how long they live.
    pub(crate) fn scopes<'a>(&'a self, from: &[u8], until: &[u8]) -> impl Iterator<Item = (&'a Bytes, Liveness)> {
        let range = (Bound::Included(from), Bound::Excluded(until.max(from)));
        let join = |hints: &BTreeMap<_, Liveness>| hints.values().copied().fold(Liveness::Absent, Liveness::max);
        self.values
            .range::<[u8], _>(range)
            .map(move |(scope, hints)| (scope, join(hints)))
    }

    pub(crate) fn summary(&self) -> BTreeMap<NodeId, HintCount> {
        self.owners.iter().map(|(owner, (count, _))| (*owner, *count)).collect()
    }

    /// Bytes of all owners' hints.
    pub(crate) fn bytes(&self) -> u64 {
        self.owners.values().map(|(count, _)| count.bytes).sum()
    }

    /// Forgets everything but the bound and which sequences were used.
    pub(crate) fn reset(&mut self) {
        *self = Hints {
            limit_bytes: self.limit_bytes,
            next_sequence: self.next_sequence,
            ..Hints::default()
        };
    }
}
