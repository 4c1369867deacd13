//! What is wanted of one co-owner, in order of time: a node looks at it in every turn, and it may be every partition.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::{CausalContext, Instant};
use annulus_ring::PartitionId;

/// Something that a peer has and this node has not.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The peer's clock when that was noticed.
    pub(super) clock: CausalContext,
    /// When to ask.
    pub(super) due: Instant,
    /// The peer's log no longer reaches, or its contents are apart.
    pub(super) streamed: bool,
}

/// By partition, and by when each is due.
#[derive(Debug, Default)]
pub(super) struct Wants {
    of: BTreeMap<PartitionId, Wanted>,
    due: BTreeSet<(Instant, PartitionId)>,
}

impl Wants {
    pub(super) fn get(&self, partition: PartitionId) -> Option<&Wanted> {
        self.of.get(&partition)
    }

    pub(super) fn insert(&mut self, partition: PartitionId, wanted: Wanted) {
        self.remove(partition);
        self.due.insert((wanted.due, partition));
        self.of.insert(partition, wanted);
    }

    pub(super) fn remove(&mut self, partition: PartitionId) {
        if let Some(wanted) = self.of.remove(&partition) {
            self.due.remove(&(wanted.due, partition));
        }
    }

    /// Another time to ask for it, if it is wanted.
    pub(super) fn put_off(&mut self, partition: PartitionId, due: Instant) {
        if let Some(wanted) = self.of.get_mut(&partition) {
            self.due.remove(&(wanted.due, partition));
            wanted.due = due;
            self.due.insert((due, partition));
        }
    }

    /// From now on all of it is asked for, if it is wanted.
    pub(super) fn stream(&mut self, partition: PartitionId) {
        if let Some(wanted) = self.of.get_mut(&partition) {
            wanted.streamed = true;
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// What is due, longest first.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = PartitionId> + '_ {
        let due = self.due.iter().take_while(move |(due, _)| *due <= now);
        due.map(|(_, partition)| *partition)
    }
}
