//! A partition's clock is its checkpoint plus the log since: it is never written on the data path, and no dot is given out twice.

use std::cell::RefCell;
use std::collections::BTreeMap;

use annulus_causality::{Actor, CausalContext, DecodeError, Dot, Reader, put_varint};
use annulus_ring::PartitionId;
use xxhash_rust::xxh3::xxh3_64;

use crate::log::LogBatch;
use crate::record::{put_partition, read_partition};

/// Clocks and fingerprints are written after so many log entries, or sixteen for each of them if that is more: it bounds what a start
/// has to replay, and costs a fraction of what the entries themselves do.
const CHECKPOINT_ENTRIES: u64 = 16 * 1024;

static EMPTY: CausalContext = CausalContext::new();

/// The clocks of all partitions that hold anything.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    clocks: BTreeMap<PartitionId, CausalContext>,
    /// The last counter given out in each partition, and to whom. Not durable: every start has a new actor.
    given: BTreeMap<PartitionId, (Actor, u64)>,
    /// Of clocks that have not changed since.
    hashes: RefCell<BTreeMap<PartitionId, u64>>,
    entries_since_checkpoint: u64,
}

impl Clocks {
    pub(crate) fn get(&self, partition: PartitionId) -> &CausalContext {
        self.clocks.get(&partition).unwrap_or(&EMPTY)
    }

    pub(crate) fn len(&self) -> usize {
        self.clocks.len()
    }

    pub(crate) fn add(&mut self, partition: PartitionId, dots: &CausalContext) {
        self.clocks.entry(partition).or_default().union(dots);
        self.hashes.borrow_mut().remove(&partition);
    }

    /// What the partition's clock is from now on; the caller makes it durable with a checkpoint.
    pub(crate) fn set(&mut self, partition: PartitionId, dots: CausalContext) {
        self.clocks.insert(partition, dots);
        self.hashes.borrow_mut().remove(&partition);
    }

    /// The partitions that hold anything.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.clocks.keys().copied()
    }

    /// See [`clock_hash`].
    pub(crate) fn hash(&self, partition: PartitionId) -> u64 {
        let mut hashes = self.hashes.borrow_mut();
        *hashes
            .entry(partition)
            .or_insert_with(|| clock_hash(self.get(partition)))
    }

    /// A dot that was never given out, for a write that may never be stored.
    pub(crate) fn next_dot(&mut self, partition: PartitionId, actor: Actor) -> Dot {
        let stored = self.get(partition).max_counter(actor);
        let given = match self.given.get(&partition) {
            Some((holder, counter)) if *holder == actor => *counter,
            _ => 0,
        };
        let counter = stored
            .max(given)
            .checked_add(1)
            .expect("an actor that is still writing is not closed");
        self.given.insert(partition, (actor, counter));
        Dot::new(actor, counter)
    }

    /// Takes note of a batch's log entries, and says whether a checkpoint is due.
    pub(crate) fn count_entries(&mut self, entries: usize, records: usize) -> bool {
        self.entries_since_checkpoint += entries as u64;
        self.entries_since_checkpoint >= CHECKPOINT_ENTRIES.max(16 * records as u64)
    }

    pub(crate) fn entries_since_checkpoint(&self) -> u64 {
        self.entries_since_checkpoint
    }

    /// Appends all clocks as they are after batch `number`.
    pub(crate) fn checkpoint(&mut self, number: u64, out: &mut Vec<u8>) {
        self.entries_since_checkpoint = 0;
        put_varint(out, number);
        put_varint(out, self.clocks.len() as u64);
        for (partition, clock) in &self.clocks {
            put_partition(out, *partition);
            clock.encode(out);
        }
    }

    /// Forgets all clocks, but not which dots were given out, and reads a checkpoint: returns the number of its batch.
    pub(crate) fn restore(&mut self, reader: &mut Reader) -> Result<u64, DecodeError> {
        self.reset();
        let number = reader.varint("checkpoint")?;
        for _ in 0..reader.count(3, "checkpoint")? {
            let partition = read_partition(reader)?;
            self.clocks.insert(partition, CausalContext::decode(reader)?);
        }
        Ok(number)
    }

    pub(crate) fn reset(&mut self) {
        self.clocks.clear();
        self.hashes.borrow_mut().clear();
        self.entries_since_checkpoint = 0;
    }

    /// Adds what a batch after the checkpoint has brought.
    pub(crate) fn replay(&mut self, batch: &LogBatch) {
        self.entries_since_checkpoint += (batch.entries.len() + batch.joined.len()) as u64;
        for entry in &batch.entries {
            let clock = self.clocks.entry(entry.partition).or_default();
            clock.insert_range(entry.actor, entry.counters.clone());
        }
        for (partition, dots) in &batch.joined {
            self.clocks.entry(*partition).or_default().union(dots);
        }
    }
}

/// `xxh3_64` of the clock's encoding, of which every clock has one; 0 for an empty clock. Equal where the clocks are, but for one chance
/// in 2⁶⁴.
pub fn clock_hash(clock: &CausalContext) -> u64 {
    if clock.is_empty() {
        return 0;
    }
    let mut encoding = Vec::with_capacity(128);
    clock.encode(&mut encoding);
    xxh3_64(&encoding)
}
