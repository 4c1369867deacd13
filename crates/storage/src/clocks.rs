//! A partition's clock is its checkpoint plus the log since: it is never written on the data path, and no dot is given out twice.

use std::collections::BTreeMap;

use annulus_causality::{Actor, CausalContext, DecodeError, Dot, Reader, put_u8, put_varint};
use annulus_ring::PartitionId;

use crate::log::LogEntry;

/// Clocks are written after so many log entries, or sixteen for each clock if that is more: it bounds what a start has to replay,
/// and costs less than a hundredth of what the entries themselves do.
const CHECKPOINT_ENTRIES: u64 = 16 * 1024;

static EMPTY: CausalContext = CausalContext::new();

/// The clocks of all partitions that hold anything.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    clocks: BTreeMap<PartitionId, CausalContext>,
    /// The last counter given out in each partition, and to whom. Not durable: every start has a new actor.
    given: BTreeMap<PartitionId, (Actor, u64)>,
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
    pub(crate) fn count_entries(&mut self, entries: usize) -> bool {
        self.entries_since_checkpoint += entries as u64;
        self.entries_since_checkpoint >= CHECKPOINT_ENTRIES.max(16 * self.clocks.len() as u64)
    }

    /// Appends all clocks as they are after batch `number`.
    pub(crate) fn checkpoint(&mut self, number: u64, out: &mut Vec<u8>) {
        self.entries_since_checkpoint = 0;
        put_varint(out, number);
        put_varint(out, self.clocks.len() as u64);
        for (partition, clock) in &self.clocks {
            put_u8(out, partition.n);
            put_varint(out, u64::from(partition.index));
            clock.encode(out);
        }
    }

    /// Forgets all clocks, but not which dots were given out, and reads a checkpoint: returns the number of its batch.
    pub(crate) fn restore(&mut self, reader: &mut Reader) -> Result<u64, DecodeError> {
        self.reset();
        let number = reader.varint("checkpoint")?;
        for _ in 0..reader.count(3, "checkpoint")? {
            let n = reader.u8("partition")?;
            let index = reader.varint("partition")?;
            let index = u32::try_from(index).map_err(|_| reader.malformed("partition"))?;
            self.clocks
                .insert(PartitionId { n, index }, CausalContext::decode(reader)?);
        }
        Ok(number)
    }

    pub(crate) fn reset(&mut self) {
        self.clocks.clear();
        self.entries_since_checkpoint = 0;
    }

    /// Adds a log entry that came after the checkpoint.
    pub(crate) fn replay(&mut self, entry: &LogEntry) {
        self.entries_since_checkpoint += 1;
        self.clocks
            .entry(entry.partition)
            .or_default()
            .insert_range(entry.actor, entry.counters.clone());
    }
}
