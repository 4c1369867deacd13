//! Which batch of the log names the key of a dot, for the dots that some owner may still lack; what every owner has is dropped.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use annulus_causality::{Actor, CausalContext, Dot};
use annulus_ring::PartitionId;

/// Where the dots `start..=end` of an actor are named.
#[derive(Clone, Copy, Debug)]
struct Place {
    end: u64,
    batch: u64,
}

type Places = BTreeMap<(Actor, u64), Place>;

/// How far a partition's log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLength {
    /// Entries that some owner may still lack.
    pub entries: usize,
    /// The batch of the oldest of them; 0 where there is none.
    pub oldest_batch: u64,
}

/// The entries of the log that are still needed.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    partitions: BTreeMap<PartitionId, Places>,
    /// How many entries of each batch are needed.
    needed: BTreeMap<u64, usize>,
    /// Batches of which none is: their records can go.
    free: Vec<u64>,
    entries: usize,
}

/// The batches that name missing dots.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Ascending.
    pub(crate) batches: BTreeMap<u64, CausalContext>,
    /// Whether they name all of them.
    pub(crate) is_whole: bool,
}

impl LogIndex {
    pub(crate) fn insert(&mut self, partition: PartitionId, actor: Actor, counters: RangeInclusive<u64>, batch: u64) {
        let place = Place {
            end: *counters.end(),
            batch,
        };
        let places = self.partitions.entry(partition).or_default();
        if let Some(former) = places.insert((actor, *counters.start()), place) {
            self.drop_need(former.batch);
        }
        *self.needed.entry(batch).or_default() += 1;
        self.entries += 1;
    }

    /// The batch was committed: where none of its entries is needed, it can go at once.
    pub(crate) fn close_batch(&mut self, batch: u64) {
        if !self.needed.contains_key(&batch) {
            self.free.push(batch);
        }
    }

    /// All owners have incorporated these dots.
    pub(crate) fn release(&mut self, partition: PartitionId, everywhere: &CausalContext) {
        let Some(mut places) = self.partitions.remove(&partition) else {
            return;
        };
        places.retain(|(actor, start), place| {
            let covered = match *start == place.end {
                true => everywhere.contains(Dot::new(*actor, *start)),
                false => is_covered(*actor, *start..=place.end, everywhere),
            };
            if covered {
                self.drop_need(place.batch);
            }
            !covered
        });
        if !places.is_empty() {
            self.partitions.insert(partition, places);
        }
    }

    /// Forgets all entries of a partition.
    pub(crate) fn forget(&mut self, partition: PartitionId) {
        for place in self.partitions.remove(&partition).unwrap_or_default().into_values() {
            self.drop_need(place.batch);
        }
    }

    /// Forgets one entry, if it is still there.
    pub(crate) fn forget_entry(&mut self, partition: PartitionId, actor: Actor, start: u64, batch: u64) {
        let Some(places) = self.partitions.get_mut(&partition) else {
            return;
        };
        if places.get(&(actor, start)).is_some_and(|place| place.batch == batch) {
            places.remove(&(actor, start));
            if places.is_empty() {
                self.partitions.remove(&partition);
            }
            self.drop_need(batch);
        }
    }

    fn drop_need(&mut self, batch: u64) {
        self.entries -= 1;
        if let Some(needed) = self.needed.get_mut(&batch) {
            *needed -= 1;
            if *needed == 0 {
                self.needed.remove(&batch);
                self.free.push(batch);
            }
        }
    }

    /// Finds the batches of these dots.
    pub(crate) fn find(&self, partition: PartitionId, missing: &CausalContext) -> Named {
        let mut batches = BTreeMap::<u64, CausalContext>::new();
        let mut found = CausalContext::new();
        let places = self.partitions.get(&partition);
        for (actor, counters) in missing.open_ranges() {
            let (start, end) = (*counters.start(), *counters.end());
            let places = places.into_iter().flat_map(|places| {
                let before = places.range(..(actor, start)).next_back();
                let before = before.filter(|((of, _), place)| *of == actor && place.end >= start);
                before.into_iter().chain(places.range((actor, start)..=(actor, end)))
            });
            for ((_, first), place) in places {
                let counters = start.max(*first)..=end.min(place.end);
                found.insert_range(actor, counters.clone());
                batches.entry(place.batch).or_default().insert_range(actor, counters);
            }
        }
        Named {
            batches,
            is_whole: missing.is_subset(&found),
        }
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    pub(crate) fn oldest_batch(&self) -> Option<u64> {
        self.needed.keys().next().copied()
    }

    pub(crate) fn length(&self, partition: PartitionId) -> LogLength {
        let places = self.partitions.get(&partition);
        LogLength {
            entries: places.map_or(0, BTreeMap::len),
            oldest_batch: places
                .into_iter()
                .flat_map(BTreeMap::values)
                .map(|place| place.batch)
                .min()
                .unwrap_or(0),
        }
    }

    /// How many records could go.
    pub(crate) fn free_batches(&self) -> usize {
        self.free.len()
    }

    /// The records that can go, of batches up to `number`.
    pub(crate) fn take_free(&mut self, number: u64) -> Vec<u64> {
        let (free, later) = std::mem::take(&mut self.free)
            .into_iter()
            .partition(|batch| *batch <= number);
        self.free = later;
        free
    }

    pub(crate) fn reset(&mut self) {
        *self = LogIndex::default();
    }
}

fn is_covered(actor: Actor, counters: RangeInclusive<u64>, by: &CausalContext) -> bool {
    let mut dots = CausalContext::new();
    dots.insert_range(actor, counters);
    dots.is_subset(by)
}
