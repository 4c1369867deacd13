//! What one owner lacks another supplies: by the log where it reaches, else the partition is streamed whole, but for sub-ranges that are equal.
//!
//! Both take the asker's state as it is told, and keep nothing between two questions: an answer that is lost is asked for again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use annulus_causality::{CausalContext, Object};
use annulus_ring::{Address, PartitionId};
use bytes::Bytes;

use super::{ApplyError, Replica, SCOPE_OFFSET, check_clock, check_plausible, object_key, parse_scope, position_of};
use crate::engine::{Engine, EngineError, Space};
use crate::fingerprint::{self, SUB_RANGES, first_position, sub_range_of};
use crate::log::{self, LogEntry};
use crate::log_index::LogLength;
use crate::record;

/// Keys in one answer, at most.
const MAX_KEYS: usize = 1024;
/// About what an object takes beside its values.
const OBJECT_BYTES: usize = 64;

/// One key's object on its way to an owner that lacks some of its dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supplied {
    /// The key.
    pub address: Address,
    /// The missing dots that belong to it; those of its live versions go without saying, and a stream has no others.
    pub dots: CausalContext,
    /// The object as it is now, to be filled with the clock that comes along.
    pub object: Object,
}

/// What is sent to an owner that lacks dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// The keys of missing dots, as many as fit.
    Objects {
        /// What the sender knows of these keys.
        clock: CausalContext,
        /// The objects.
        objects: Vec<Supplied>,
        /// Whether others are left: the asker asks again.
        more: bool,
    },
    /// The log no longer names all of the missing dots: the partition must be streamed.
    LogShort,
}

/// A piece of a partition that is streamed whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The sender's clock now.
    pub clock: CausalContext,
    /// Where the piece begins. What lies between where the asker wanted it to begin and here was equal.
    pub from: Bytes,
    /// Where it ends: the next piece begins there. Nothing at the partition's end.
    pub until: Option<Bytes>,
    /// All objects in between.
    pub objects: Vec<Supplied>,
}

/// How a piece was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamedPart {
    /// The next one begins here.
    Next(Bytes),
    /// The partition is whole.
    Done,
    /// What was equal when it was asked for no longer is, or the sender knows less than it did: to be asked for anew.
    Stale,
}

/// How far the stream of a partition has come: of the keys before `until`, all that `clock` says has been incorporated.
#[derive(Debug)]
pub(super) struct Covered {
    pub(super) clock: CausalContext,
    until: Bytes,
}

impl Covered {
    pub(super) fn reaches(&self, key: &[u8]) -> bool {
        *key < self.until[..]
    }
}

/// An object before and after what came for it, with the dots that came.
struct Joined {
    key: Bytes,
    dots: CausalContext,
    before: Object,
    after: Object,
}

/// Records of objects in key order, and where the scan stopped short.
pub(super) type Frames = (BTreeMap<Bytes, Bytes>, Option<Bytes>);

impl<E: Engine> Replica<E> {
    /// The partitions that hold anything.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.clocks.partitions()
    }

    /// The [`crate::clock_hash`] of a partition's clock.
    pub fn clock_hash(&self, partition: PartitionId) -> u64 {
        self.clocks.hash(partition)
    }

    /// What a partition's fingerprints add up to. Owners with equal clocks have equal ones, but for what a write that was begun twice has
    /// replaced at one of them, and for what is on its way with other writes.
    pub fn contents(&self, partition: PartitionId) -> u64 {
        self.fingerprints(partition).into_iter().fold(0, u64::wrapping_add)
    }

    /// The fingerprints of a partition's sub-ranges.
    pub fn fingerprints(&self, partition: PartitionId) -> [u64; SUB_RANGES] {
        self.fingerprints.get(partition)
    }

    /// Bounds the entries of the log; see [`super::DEFAULT_LOG_LIMIT`].
    pub fn set_log_limit(&mut self, entries: usize) {
        self.log_limit = entries;
    }

    /// How many entries of the log some owner may still lack.
    pub fn log_entries(&self) -> usize {
        self.log_index.len()
    }

    /// The partitions whose log some owner may still need.
    pub fn logged_partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.log_index.partitions()
    }

    /// How far the log of a partition reaches.
    pub fn log_length(&self, partition: PartitionId) -> LogLength {
        self.log_index.length(partition)
    }

    /// Every owner has incorporated these dots: the log need not name them any more.
    pub fn release_log(&mut self, partition: PartitionId, everywhere: &CausalContext) {
        self.log_index.release(partition, everywhere);
    }

    /// In a quiet moment: drops the records of the log that nobody needs, though a checkpoint is not due yet.
    pub fn trim_log(&mut self) {
        self.checkpoint_wanted |= self.log_index.free_batches() > 1 || self.clocks.entries_since_checkpoint() > 0;
    }

    /// Gives up the oldest entries of a log that is longer than it may be.
    pub(super) fn bound_log(&mut self) -> Result<(), EngineError> {
        while self.log_index.len() > self.log_limit {
            let Some(oldest) = self.log_index.oldest_batch().filter(|batch| *batch < self.next_batch) else {
                return Ok(());
            };
            let Some(batch) = log::read_batch(&self.engine, oldest)? else {
                return Ok(());
            };
            for entry in batch.entries {
                let start = *entry.counters.start();
                self.log_index.forget_entry(entry.partition, entry.actor, start, oldest);
            }
        }
        Ok(())
    }

    /// What an owner with this clock lacks of a partition, about `max_bytes` of it, and at least one key if there is any.
    pub fn supply(
        &self,
        partition: PartitionId,
        theirs: &CausalContext,
        max_bytes: usize,
    ) -> Result<Supply, EngineError> {
        self.check()?;
        let clock = self.clocks.get(partition);
        let missing = clock.difference(theirs);
        let named = self.log_index.find(partition, &missing);
        if !named.is_whole {
            return Ok(Supply::LogShort);
        }
        let mut dots_of = BTreeMap::<Bytes, CausalContext>::new();
        let mut more = false;
        for (batch, wanted) in &named.batches {
            if dots_of.len() >= MAX_KEYS {
                more = true;
                break;
            }
            let Some(entries) = self.entries_of(*batch)? else {
                return Ok(Supply::LogShort);
            };
            for entry in entries.iter().filter(|entry| entry.partition == partition) {
                let mut dots = CausalContext::new();
                dots.insert_range(entry.actor, entry.counters.clone());
                if dots.intersects(wanted) {
                    let dots = dots.difference(theirs);
                    dots_of.entry(entry.scope.clone()).or_default().union(&dots);
                }
            }
        }
        let mut objects = Vec::new();
        let mut bytes = 0;
        let mut brought = CausalContext::new();
        for (scope, dots) in dots_of {
            if bytes >= max_bytes {
                more = true;
                break;
            }
            let address = parse_scope(partition.n, &scope, self.partitions)
                .ok_or_else(|| record::damaged(Space::Log, &scope, "it names no key"))?;
            let key = object_key(&address);
            let object = self.with_covered(partition, &key, self.stored(&key)?);
            bytes += OBJECT_BYTES + scope.len() + value_bytes(&object);
            brought.union(&dots);
            brought.extend(object.dots());
            objects.push(Supplied { address, dots, object });
        }
        // Of the dots that are left for the next answer the asker must not think that they are none of these keys'.
        let mut known = clock.difference(&missing);
        known.union(&brought);
        Ok(Supply::Objects {
            clock: known,
            objects,
            more,
        })
    }

    fn entries_of(&self, batch: u64) -> Result<Option<Vec<LogEntry>>, EngineError> {
        if batch == self.next_batch {
            return Ok(Some(self.log.entries().to_vec()));
        }
        Ok(log::read_batch(&self.engine, batch)?.map(|batch| batch.entries))
    }

    /// An object with all that is known beyond the partition's clock: a key that a stream to this replica has covered was stripped of what the stream brings in the end.
    fn with_covered(&self, partition: PartitionId, key: &[u8], object: Object) -> Object {
        match self.covered.get(&partition) {
            Some(covered) if covered.reaches(key) => object.fill(&covered.clock),
            _ => object,
        }
    }

    /// Takes what another owner supplied: all of it, in one batch.
    ///
    /// # Errors
    /// [`ApplyError::ImplausibleDot`] for dots that cannot be; nothing was changed.
    pub fn take_supply(
        &mut self,
        partition: PartitionId,
        clock: &CausalContext,
        objects: Vec<Supplied>,
    ) -> Result<(), ApplyError> {
        self.check()?;
        let joined = objects
            .into_iter()
            .map(|supplied| self.join_supplied(partition, supplied, clock));
        let joined = joined.collect::<Result<Vec<_>, _>>()?;
        self.incorporate_all(partition, &joined);
        for Joined { key, before, after, .. } in joined {
            self.settle(partition, &key, before, after);
        }
        Ok(())
    }

    fn join_supplied(
        &self,
        partition: PartitionId,
        supplied: Supplied,
        clock: &CausalContext,
    ) -> Result<Joined, ApplyError> {
        let dots = brought(supplied.dots, &supplied.object)?;
        let key = object_key(&supplied.address);
        let (before, after) = self.joined(partition, &key, supplied.object.fill(clock))?;
        Ok(Joined {
            key,
            dots,
            before,
            after,
        })
    }

    /// All dots first: what the clock has by the end of the batch need not be kept with any of the objects.
    fn incorporate_all(&mut self, partition: PartitionId, joined: &[Joined]) {
        let brought = joined.iter().map(|joined| (&joined.key, &joined.dots));
        self.incorporate(partition, brought);
    }

    /// A piece of a partition from `from` on (its beginning where there is none), about `max_bytes` of it. Whole sub-ranges in which the
    /// asker's fingerprint is this replica's are left out.
    ///
    /// # Errors
    /// Where a record in it is damaged: this replica cannot supply it.
    pub fn stream(
        &self,
        partition: PartitionId,
        from: Option<&Bytes>,
        theirs: &[u64; SUB_RANGES],
        max_bytes: usize,
    ) -> Result<Streamed, EngineError> {
        self.check()?;
        let ours = self.fingerprints(partition);
        let starts: Vec<Bytes> = (0..SUB_RANGES)
            .map(|index| self.sub_range_start(partition, index))
            .collect();
        let end = self.partition_end(partition);
        let mut from = from.filter(|from| **from > starts[0]).unwrap_or(&starts[0]).clone();
        let is_equal = |index: usize| ours[index] == theirs[index];
        while let Ok(index) = starts.binary_search(&from)
            && is_equal(index)
        {
            from = starts.get(index + 1).unwrap_or(&end).clone();
        }
        // The piece ends where an equal sub-range begins.
        let next = starts
            .iter()
            .enumerate()
            .find(|(index, start)| **start > from && is_equal(*index));
        let limit = next.map_or(&end, |(_, start)| start);
        let (frames, stopped) = self.frames(&from, limit, max_bytes)?;
        let until = stopped.unwrap_or_else(|| limit.clone());
        let mut objects = Vec::new();
        let mut sums = [0_u64; SUB_RANGES];
        for (key, frame) in frames {
            let object = read_object(&key, frame)?;
            let sum = &mut sums[usize::from(sub_range_of(position_of(&key), self.partitions))];
            *sum = sum.wrapping_add(fingerprint::of(&key[SCOPE_OFFSET..], &object));
            let address = parse_scope(partition.n, &key.slice(SCOPE_OFFSET..), self.partitions)
                .ok_or_else(|| record::damaged(Space::Object, &key, "it names no key"))?;
            objects.push(Supplied {
                address,
                dots: CausalContext::new(),
                object: self.with_covered(partition, &key, object),
            });
        }
        // A record that is lost here would count as a delete there. Of a sub-range in many pieces the first one looks at all.
        let first = starts.partition_point(|start| *start < from);
        for index in (first..SUB_RANGES).take_while(|index| starts[*index] < until) {
            let is_whole = *starts.get(index + 1).unwrap_or(&end) <= until;
            if !is_whole || sums[index] != ours[index] {
                self.check_sub_range(partition, index)?;
            }
        }
        Ok(Streamed {
            clock: self.clocks.get(partition).clone(),
            from,
            until: (until < end).then_some(until),
            objects,
        })
    }

    /// Takes the next piece of a partition. `sent` are the fingerprints with which it was asked for.
    ///
    /// The first piece's clock counts for the whole stream: it is joined when the last piece is stored, and until then it holds for the
    /// keys that were streamed already, so that no late message brings back what the stream has superseded.
    ///
    /// # Errors
    /// [`ApplyError::ImplausibleDot`] for dots that cannot be.
    pub fn take_streamed(
        &mut self,
        partition: PartitionId,
        sent: &[u64; SUB_RANGES],
        part: Streamed,
    ) -> Result<StreamedPart, ApplyError> {
        self.check()?;
        let Streamed {
            clock,
            from,
            until,
            objects,
        } = part;
        check_clock(&clock)?;
        let cursor = match self.covered.get(&partition) {
            Some(covered) if !covered.clock.is_subset(&clock) => {
                self.abandon_stream(partition);
                return Ok(StreamedPart::Stale);
            }
            Some(covered) => covered.until.clone(),
            None => self.sub_range_start(partition, 0),
        };
        if from < cursor
            || until.as_ref().is_some_and(|until| *until < from)
            || !self.is_still_equal(partition, sent, &cursor, &from)
        {
            return Ok(StreamedPart::Stale);
        }
        let clock = self
            .covered
            .get(&partition)
            .map_or(clock, |covered| covered.clock.clone());
        let end = until.clone().unwrap_or_else(|| self.partition_end(partition));
        let ours = self.clocks.get(partition);
        let (mut held, _) = self.frames(&from, &end, usize::MAX)?;
        let mut joined = Vec::with_capacity(objects.len());
        for Supplied { address, dots, object } in objects {
            let key = object_key(&address);
            if address.partition == partition && key >= from && key < end {
                let dots = brought(dots, &object)?;
                let before = held
                    .remove(&key)
                    .map_or(Ok(Object::default()), |frame| read_object(&key, frame))?;
                let after = before.clone().join_stripped(ours, object, &clock);
                joined.push(Joined {
                    key,
                    dots,
                    before,
                    after,
                });
            }
        }
        for (key, frame) in held {
            let before = read_object(&key, frame)?;
            let after = before.clone().join_stripped(ours, Object::default(), &clock);
            joined.push(Joined {
                key,
                dots: CausalContext::new(),
                before,
                after,
            });
        }
        self.incorporate_all(partition, &joined);
        self.recent.take();
        // What the stream covers counts as known for these keys.
        let mut known = self.clocks.get(partition).clone();
        known.union(&clock);
        for Joined { key, before, after, .. } in joined {
            let stripped = (after.strip(&known), before.clone().strip(&known));
            self.settle_stripped(partition, &key, before, stripped);
        }
        let covered = Covered {
            clock,
            until: end.clone(),
        };
        self.covered.insert(partition, covered);
        if until.is_some() {
            return Ok(StreamedPart::Next(end));
        }
        if let Some(covered) = self.covered.remove(&partition) {
            self.join_clock(partition, &covered.clock);
        }
        Ok(StreamedPart::Done)
    }

    /// Whether the sub-ranges in `cursor..from`, which the sender found equal, still have the fingerprints that it was told.
    fn is_still_equal(&self, partition: PartitionId, sent: &[u64; SUB_RANGES], cursor: &Bytes, from: &Bytes) -> bool {
        let ours = self.fingerprints(partition);
        (0..SUB_RANGES).all(|index| {
            let start = self.sub_range_start(partition, index);
            start < *cursor || start >= *from || ours[index] == sent[index]
        })
    }

    /// Where the stream of a partition to this replica goes on; nothing where it has not begun.
    pub fn stream_cursor(&self, partition: PartitionId) -> Option<Bytes> {
        self.covered.get(&partition).map(|covered| covered.until.clone())
    }

    /// Forgets how far the stream of a partition has come.
    pub fn abandon_stream(&mut self, partition: PartitionId) {
        self.covered.remove(&partition);
    }

    /// Closes actors: all of their writes that ever were are incorporated, and none will come.
    pub fn close(&mut self, partition: PartitionId, closed: &CausalContext) {
        debug_assert!(closed.spans().all(|span| span.is_closed()), "whole actors are closed");
        self.join_clock(partition, closed);
    }

    /// Adds dots that came with no key: all that they brought is stored.
    pub(super) fn join_clock(&mut self, partition: PartitionId, clock: &CausalContext) {
        let new = clock.difference(self.clocks.get(partition));
        if !new.is_empty() {
            self.clocks.add(partition, &new);
            self.log.join(partition, new);
        }
    }

    /// The records of objects in `from <= key < until`, what is staged included, about `max_bytes` of them and at least one.
    pub(super) fn frames(&self, from: &Bytes, until: &Bytes, max_bytes: usize) -> Result<Frames, EngineError> {
        let mut frames = BTreeMap::new();
        let mut stopped = None;
        let mut bytes = 0;
        self.engine.scan(Space::Object, from, Some(until), &mut |key, frame| {
            let key = Bytes::copy_from_slice(key);
            if bytes >= max_bytes {
                stopped = Some(key);
                return ControlFlow::Break(());
            }
            bytes += frame.len() + OBJECT_BYTES;
            frames.insert(key, Bytes::copy_from_slice(frame));
            ControlFlow::Continue(())
        })?;
        for (key, frame) in self
            .staged
            .range(Space::Object, from, stopped.as_ref().unwrap_or(until))
        {
            match frame {
                Some(frame) => _ = frames.insert(key.clone(), frame.clone()),
                None => _ = frames.remove(key),
            }
        }
        Ok((frames, stopped))
    }

    /// The least key that an object of this sub-range can have; of the one after the last, the partition's end.
    pub(super) fn sub_range_start(&self, partition: PartitionId, index: usize) -> Bytes {
        if index == SUB_RANGES {
            return self.partition_end(partition);
        }
        let position = first_position(partition.index, index as u8, self.partitions);
        let mut key = vec![partition.n];
        key.extend_from_slice(&position.0.to_be_bytes());
        key.into()
    }

    /// The least key that is behind all of a partition.
    fn partition_end(&self, partition: PartitionId) -> Bytes {
        let (_, last) = self.partitions.range(partition.index);
        let mut key = vec![partition.n];
        match last.0.checked_add(1) {
            Some(next) => key.extend_from_slice(&next.to_be_bytes()),
            None => key[0] = partition.n + 1,
        }
        key.into()
    }
}

/// What an object brings: dots of its key, and those of its versions.
fn brought(mut dots: CausalContext, object: &Object) -> Result<CausalContext, ApplyError> {
    dots.extend(object.dots());
    check_plausible(&dots)?;
    Ok(dots)
}

pub(super) fn read_object(key: &[u8], frame: Bytes) -> Result<Object, EngineError> {
    let payload = record::open(Space::Object, key, frame)?;
    record::decode(Space::Object, key, payload, Object::decode)
}

fn value_bytes(object: &Object) -> usize {
    object
        .versions()
        .iter()
        .map(|(_, version)| version.value.len() + OBJECT_BYTES)
        .sum()
}
