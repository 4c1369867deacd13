//! A replica holds a node's objects, their partitions' clocks, its log and its hints, and moves them together, a batch at a time.

mod catch_up;
mod expiry;
mod hinted;
mod trust;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use annulus_causality::{Actor, CausalContext, Dot, Object, Span, put_varint};
use annulus_mutants::{Mutant, planted};
use annulus_ring::{Address, Bucket, Key, PartitionId, Partitions, Position};
use bytes::Bytes;

use self::catch_up::Covered;
pub use self::catch_up::{Streamed, StreamedPart, Supplied, Supply};
pub use self::expiry::Expiring;
use self::trust::Doubts;
pub use self::trust::Scrubbed;
use crate::clocks::Clocks;
use crate::engine::{Engine, EngineError, EngineSize, Space, Syncer};
use crate::fingerprint::{self, Fingerprints, SUB_RANGES};
use crate::hints::Hints;
use crate::index::{self, Liveness, Page, Query};
use crate::log::{self, LogBatch, LogEntry, LogWriter};
use crate::log_index::LogIndex;
use crate::record;
use crate::staged::Staged;

/// No honest actor comes near this counter (at a million writes a second it takes 146,000 years): a dot above it is refused, so that
/// no peer can use up another's counters.
pub const MAX_COUNTER: u64 = 1 << 62;

/// Entries of the log that are kept for owners that are away: each costs about 60 bytes on disk and as many in memory. Beyond it, the
/// oldest are given up, and who lacks them gets whole partitions.
pub const DEFAULT_LOG_LIMIT: usize = 1_000_000;

const CLOCKS: &[u8] = b"clocks";
const LAYOUT: &[u8] = b"layout";
/// Before the names of [`Replica::put_meta`], so that they cannot be taken for the records above.
const NAMED: &[u8] = b"named/";

/// Why a replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine. Damaged clocks or a damaged log are no such error: they are rebuilt, and everything is in doubt.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The data was written with another number of partitions.
    #[error("the data is kept in {stored} partitions, not in {asked}; start with that number")]
    OtherPartitions {
        /// The number in which it is kept.
        stored: u64,
        /// The number that was asked for.
        asked: u32,
    },
}

/// Why a delta was not applied; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A dot that cannot be: above [`MAX_COUNTER`].
    #[error("the dot {dot} is above the greatest counter, {MAX_COUNTER}: its sender is broken")]
    ImplausibleDot {
        /// The dot.
        dot: Dot,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What a delta would bring, without its values.
#[derive(Clone, Copy, Debug)]
pub struct Brings<'a> {
    /// Its dots, those of its versions among them.
    pub dots: &'a CausalContext,
    /// The dots of its versions.
    pub live: &'a CausalContext,
    /// Its context.
    pub context: &'a CausalContext,
}

/// What applying a delta did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether the stored object is another than before.
    pub changed: bool,
    /// Whether a dot was new to the partition's clock.
    pub new_dots: bool,
}

impl Applied {
    /// Whether anything was staged: if not, all of it had been incorporated before.
    pub fn staged(self) -> bool {
        self.changed || self.new_dots
    }
}

/// How much a replica holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSize {
    /// The engine's figures.
    pub engine: EngineSize,
    /// Bytes staged and not committed.
    pub staged_bytes: usize,
    /// Bytes of hints, with what they cost in memory.
    pub hint_bytes: u64,
    /// Partitions that hold anything.
    pub partitions: usize,
}

/// A node's durable state. See the module.
///
/// Everything between two commits is staged: reads see it, [`Replica::commit`] makes one batch of it. After a failed commit the
/// clocks claim what is not stored, so every call answers [`EngineError::Failed`] until [`Replica::reload`] (where
/// [`EngineError::usable`] says that the engine serves on), or until engine and replica are opened again.
///
/// ```
/// use annulus_causality::{Actor, CausalContext, ConflictPolicy, Timestamp, Version};
/// use annulus_ring::{Address, Bucket, Key, Partitions};
/// use annulus_storage::engine::memory::MemoryEngine;
/// use annulus_storage::Replica;
///
/// let partitions = Partitions::default();
/// let mut replica = Replica::open(MemoryEngine::new(), partitions)?;
/// let address = Address::new(Bucket::parse("photos")?, Key::parse("cat.jpg")?, 3, partitions);
///
/// let dot = replica.next_dot(address.partition, Actor { node: 1, incarnation: 1 });
/// let version = Version::new("meow".into(), None, Vec::new(), Timestamp::default(), None);
/// let delta = replica.read(&address)?.write(dot, Some(version), None, ConflictPolicy::Siblings);
/// replica.apply(&address, delta, &CausalContext::from_iter([dot]))?;
/// assert_eq!(replica.commit()?, Some(1));
/// replica.syncer().sync()?;
/// assert_eq!(replica.read(&address)?.versions()[0].1.value, "meow");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replica<E> {
    engine: E,
    partitions: Partitions,
    clocks: Clocks,
    hints: Hints,
    staged: Staged,
    log: LogWriter,
    log_index: LogIndex,
    log_limit: usize,
    fingerprints: Fingerprints,
    /// Partitions that are being streamed to this replica.
    covered: BTreeMap<PartitionId, Covered>,
    doubts: Doubts,
    next_batch: u64,
    layout_known: bool,
    /// The next commit is to have a checkpoint, however few entries have come since the last.
    checkpoint_wanted: bool,
    failed: Option<EngineError>,
    /// Objects of which the index says what cannot be true, or nothing that can be read, until their partition is put in doubt for it.
    lost: RefCell<BTreeSet<Bytes>>,
    /// The keys of hints that were found to be damaged, until they are dropped.
    damaged_hints: RefCell<BTreeSet<Bytes>>,
    /// The object that was read last, as it is stored: a coordinator reads a key and then writes it.
    recent: RefCell<Option<(Bytes, Object)>>,
}

impl<E: Engine> Replica<E> {
    /// Opens what the engine holds: the clocks from their checkpoint and the log since, and which hints there are.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(engine: E, partitions: Partitions) -> Result<Replica<E>, OpenError> {
        let mut replica = Replica {
            engine,
            partitions,
            clocks: Clocks::default(),
            hints: Hints::default(),
            staged: Staged::default(),
            log: LogWriter::default(),
            log_index: LogIndex::default(),
            log_limit: DEFAULT_LOG_LIMIT,
            fingerprints: Fingerprints::default(),
            covered: BTreeMap::new(),
            doubts: Doubts::default(),
            next_batch: 1,
            layout_known: false,
            checkpoint_wanted: false,
            failed: None,
            lost: RefCell::default(),
            damaged_hints: RefCell::default(),
            recent: RefCell::new(None),
        };
        let asked = partitions.count();
        match replica.stored_partitions()? {
            Some(stored) if stored != u64::from(asked) => return Err(OpenError::OtherPartitions { stored, asked }),
            _ => replica.reload()?,
        }
        Ok(replica)
    }

    /// Bounds the hints kept for one owner, in bytes; see [`crate::DEFAULT_HINT_LIMIT_BYTES`]. More that are there already stay.
    pub fn set_hint_limit_bytes(&mut self, limit: u64) {
        self.hints.limit_bytes = limit;
    }

    /// Drops what is staged and reads clocks and hints again: what to do after a failed commit of an engine that serves on.
    /// Dots and batch numbers that were given out stay used.
    pub fn reload(&mut self) -> Result<(), EngineError> {
        self.staged.clear();
        self.recent.take();
        self.log = LogWriter::default();
        self.covered.clear();
        let loaded = self
            .load_layout()
            .and_then(|()| self.load_doubts())
            .and_then(|()| self.load_history())
            .and_then(|()| self.load_hints());
        self.failed = loaded.clone().err();
        loaded
    }

    fn load_layout(&mut self) -> Result<(), EngineError> {
        self.layout_known = self.stored_partitions()?.is_some();
        Ok(())
    }

    /// In how many partitions the data is kept.
    fn stored_partitions(&self) -> Result<Option<u64>, EngineError> {
        let payload = self.staged.read(&self.engine, Space::Meta, LAYOUT)?;
        let read = |payload| record::decode(Space::Meta, LAYOUT, payload, |reader| reader.varint("partitions"));
        payload.map(read).transpose()
    }

    /// Clocks, fingerprints and log; where they are damaged, what the objects prove.
    fn load_history(&mut self) -> Result<(), EngineError> {
        match self.load_clocks() {
            Err(EngineError::Damaged { .. }) => self.rebuild(),
            loaded => loaded,
        }
    }

    fn load_clocks(&mut self) -> Result<(), EngineError> {
        self.log_index.reset();
        self.fingerprints.reset();
        let checkpoint = match self.staged.read(&self.engine, Space::Meta, CLOCKS)? {
            Some(payload) => {
                let (clocks, fingerprints) = (&mut self.clocks, &mut self.fingerprints);
                record::decode(Space::Meta, CLOCKS, payload, |reader| {
                    let number = clocks.restore(reader)?;
                    fingerprints.restore(reader)?;
                    Ok(number)
                })?
            }
            None => {
                self.clocks.reset();
                0
            }
        };
        let (clocks, fingerprints, log_index) = (&mut self.clocks, &mut self.fingerprints, &mut self.log_index);
        let mut last = checkpoint;
        log::read_since(&self.engine, 0, &mut |batch| {
            for entry in &batch.entries {
                log_index.insert(entry.partition, entry.actor, entry.counters.clone(), batch.number);
            }
            log_index.close_batch(batch.number);
            if batch.number > checkpoint {
                clocks.replay(&batch);
                fingerprints.replay(&batch.moved);
                last = batch.number;
            }
            ControlFlow::Continue(())
        })?;
        self.next_batch = self.next_batch.max(last + 1);
        Ok(())
    }

    fn check(&self) -> Result<(), EngineError> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(EngineError::Failed {
                detail: error.to_string(),
            }),
        }
    }

    /// The object, filled with its partition's clock; of an absent one, no version and the clock. What is staged counts.
    pub fn read(&self, address: &Address) -> Result<Object, EngineError> {
        self.check()?;
        let key = object_key(address);
        let object = self.stored(&key)?;
        let filled = match planted(Mutant::NotFilled) {
            true => object.filled(&CausalContext::new()),
            false => object.filled(&self.known(address.partition, &key)),
        };
        self.recent.replace(Some((key, object)));
        Ok(filled)
    }

    /// What has been incorporated as far as this key goes: the partition's clock, and what a stream has covered beyond it.
    fn known(&self, partition: PartitionId, key: &[u8]) -> Cow<'_, CausalContext> {
        let clock = self.clocks.get(partition);
        match self.covered.get(&partition) {
            Some(covered) if covered.reaches(key) => {
                let mut known = clock.clone();
                known.union(&covered.clock);
                Cow::Owned(known)
            }
            _ => Cow::Borrowed(clock),
        }
    }

    /// The object as it is stored: stripped.
    fn stored(&self, key: &[u8]) -> Result<Object, EngineError> {
        if let Some((of, object)) = self.recent.take()
            && of == key
        {
            return Ok(object);
        }
        match self.staged.read(&self.engine, Space::Object, key)? {
            Some(payload) => record::decode(Space::Object, key, payload, Object::decode),
            None => self.absent(key),
        }
    }

    /// There is no record of this object. One that is lost must not read as a delete: the index would know of the key.
    fn absent(&self, key: &[u8]) -> Result<Object, EngineError> {
        let known = self
            .staged
            .read(&self.engine, Space::Index, &key[SCOPE_OFFSET..])
            .and_then(|indexed| match indexed {
                None => Ok(Object::default()),
                Some(_) => Err(record::damaged(
                    Space::Object,
                    key,
                    "it is lost, and the index says that it lives",
                )),
            });
        if matches!(known, Err(EngineError::Damaged { .. })) {
            self.lost.borrow_mut().insert(Bytes::copy_from_slice(key));
        }
        known
    }

    /// Whether a delta that brings this would change nothing: neither the object nor the clock.
    pub fn has(&self, address: &Address, brings: Brings<'_>) -> Result<bool, EngineError> {
        let Brings { dots, live, context } = brings;
        // The object, which may be large, is read only where the clock leaves it open.
        if !dots.is_subset(self.clock(address.partition)) {
            return Ok(false);
        }
        let object = self.read(address)?;
        let mut replaced = object
            .dots()
            .filter(|dot| context.contains(*dot) && !live.contains(*dot));
        Ok(context.is_subset(object.context()) && replaced.next().is_none())
    }

    /// Joins a filled delta into the object, and stages what changes by it.
    ///
    /// The partition's clock gains `dots` and the dots of the delta's versions, and nothing of the delta's context: seen means
    /// incorporated. What was applied before changes nothing and stages nothing.
    pub fn apply(&mut self, address: &Address, delta: Object, dots: &CausalContext) -> Result<Applied, ApplyError> {
        self.check()?;
        let mut dots = dots.clone();
        dots.extend(delta.dots());
        if planted(Mutant::ClockBeforeObjects) {
            dots.union(delta.context());
        }
        check_plausible(&dots)?;
        if self.are_closed(address.partition, &dots) {
            return Ok(Applied::default());
        }
        let key = object_key(address);
        let (before, joined) = self.joined(address.partition, &key, delta)?;
        let new_dots = self.incorporate(address.partition, [(&key, &dots)]);
        let changed = self.settle(address.partition, &key, before, joined);
        Ok(Applied { changed, new_dots })
    }

    /// Whether all of these dots are of closed actors. Such a write is incorporated here, or never was one: then what it would have
    /// replaced must stay.
    fn are_closed(&self, partition: PartitionId, dots: &CausalContext) -> bool {
        let clock = self.clocks.get(partition);
        let mut spans = dots.spans().peekable();
        spans.peek().is_some() && spans.all(|span| clock.is_closed(span.dots().start().actor))
    }

    /// The object as it is stored, and what it becomes by a filled delta.
    fn joined(&self, partition: PartitionId, key: &Bytes, delta: Object) -> Result<(Object, Object), EngineError> {
        let before = self.stored(key)?;
        let known = self.known(partition, key);
        let joined = before.clone().join_stripped(&known, delta, &CausalContext::new());
        Ok((before, joined))
    }

    /// Adds dots that belong to keys to the clock and the log, and says whether one was new.
    fn incorporate<'a>(
        &mut self,
        partition: PartitionId,
        brought: impl IntoIterator<Item = (&'a Bytes, &'a CausalContext)>,
    ) -> bool {
        let mut all = CausalContext::new();
        for (key, dots) in brought {
            let new = dots.difference(self.clocks.get(partition));
            // No closed actor is plausible, so that these are all.
            for (actor, counters) in new.open_ranges() {
                self.log_index
                    .insert(partition, actor, counters.clone(), self.next_batch);
                self.log.push(LogEntry {
                    partition,
                    actor,
                    counters,
                    scope: key.slice(SCOPE_OFFSET..),
                });
            }
            all.union(&new);
        }
        // All at once: what is streamed comes in the order of keys, and leaves a clock of many pieces until all is there.
        if !all.is_empty() {
            self.clocks.add(partition, &all);
        }
        !all.is_empty()
    }

    /// Stages what an object has become, and says whether it is another than before.
    fn settle(&mut self, partition: PartitionId, key: &Bytes, before: Object, joined: Object) -> bool {
        let known = self.known(partition, key);
        let stripped = (joined.strip(&known), before.clone().strip(&known));
        self.settle_stripped(partition, key, before, stripped)
    }

    /// Stages an object as it is to be stored, beside what it would be now had nothing come for it.
    fn settle_stripped(
        &mut self,
        partition: PartitionId,
        key: &Bytes,
        before: Object,
        (after, unchanged): (Object, Object),
    ) -> bool {
        let liveness = (Liveness::of(&before), Liveness::of(&after));
        let first_expiry = before.first_expiry();
        let scope = key.slice(SCOPE_OFFSET..);
        let prints = (fingerprint::of(&scope, &before), fingerprint::of(&scope, &after));
        // The clock may have come to cover more of the old context since it was stored: that alone is no change.
        let was_record = !before.is_absent();
        let changed = !unchanged.dots().eq(after.dots()) || unchanged.context() != after.context();
        if after.is_absent() || (planted(Mutant::DeleteDroppedEarly) && after.versions().is_empty()) {
            if was_record {
                self.staged.delete(Space::Object, key.clone());
            }
        } else if changed {
            let frame = record::seal(Space::Object, key, |out| after.encode(out));
            self.staged.put(Space::Object, key.clone(), frame);
        }
        let range = (partition, fingerprint::sub_range_of(position_of(key), self.partitions));
        self.fingerprints.change(range, prints.0, prints.1);
        index::stage(&mut self.staged, scope, liveness.0, liveness.1);
        expiry::stage(&mut self.staged, key, first_expiry, &after);
        changed
    }

    /// A dot for a new write: never given out before by this actor, whether or not the earlier ones were ever stored.
    pub fn next_dot(&mut self, partition: PartitionId, actor: Actor) -> Dot {
        self.clocks.next_dot(partition, actor)
    }

    /// The dots that a partition has incorporated, with what is staged.
    pub fn clock(&self, partition: PartitionId) -> &CausalContext {
        self.clocks.get(partition)
    }

    /// Visits the committed batches after one, in order, until `visit` breaks off.
    pub fn log_since(&self, batch: u64, visit: &mut dyn FnMut(LogBatch) -> ControlFlow<()>) -> Result<(), EngineError> {
        log::read_since(&self.engine, batch, visit)
    }

    /// A page of a bucket's keys that begin with `prefix` and are not below `start`, in order: those with a live version here or in a
    /// value hint. At most `limit` keys, and bounded work: see [`Page::resume`].
    pub fn list(
        &self,
        bucket: &Bucket,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
        wall_ms: u64,
    ) -> Result<Page, EngineError> {
        self.check()?;
        let query = Query {
            bucket,
            prefix,
            start,
            limit,
            wall_ms,
        };
        index::list(&self.engine, &self.staged, &self.hints, query)
    }

    /// What was kept under a name, staged or stored.
    pub fn get_meta(&self, name: &str) -> Result<Option<Bytes>, EngineError> {
        self.check()?;
        self.staged.read(&self.engine, Space::Meta, &meta_key(name))
    }

    /// Keeps bytes under a name, from the next commit on.
    pub fn put_meta(&mut self, name: &str, bytes: &[u8]) {
        let key = meta_key(name);
        let frame = record::seal(Space::Meta, &key, |out| out.extend_from_slice(bytes));
        self.staged.put(Space::Meta, key.into(), frame);
    }

    /// Applies all that is staged as one batch, and returns its number; none where nothing was staged.
    ///
    /// The batch is durable once a sync that began after this has returned.
    pub fn commit(&mut self) -> Result<Option<u64>, EngineError> {
        self.check()?;
        if self.staged.is_empty() && self.log.len() == 0 && self.fingerprints.is_still() && !self.checkpoint_wanted {
            return Ok(None);
        }
        let number = self.next_batch;
        self.next_batch += 1;
        self.stage_log(number);
        let applied = self.engine.apply(self.staged.take()).and_then(|()| self.bound_log());
        self.failed = applied.as_ref().err().cloned();
        applied.map(|()| Some(number))
    }

    fn stage_log(&mut self, number: u64) {
        let records = self.clocks.len() + SUB_RANGES * self.fingerprints.len();
        let checkpoint_due = self.clocks.count_entries(self.log.len(), records) || self.checkpoint_wanted;
        self.log_index.close_batch(number);
        let key = log::key(number);
        let frame = record::seal(Space::Log, &key, |out| {
            self.log.finish(out);
            self.fingerprints.finish(out);
        });
        self.staged.put(Space::Log, key, frame);
        if checkpoint_due {
            self.checkpoint_wanted = false;
            let frame = record::seal(Space::Meta, CLOCKS, |out| {
                self.clocks.checkpoint(number, out);
                self.fingerprints.checkpoint(out);
            });
            self.staged.put(Space::Meta, Bytes::from_static(CLOCKS), frame);
            for batch in self.log_index.take_free(number) {
                self.staged.delete(Space::Log, log::key(batch));
            }
        }
        if !self.layout_known {
            let count = u64::from(self.partitions.count());
            let frame = record::seal(Space::Meta, LAYOUT, |out| put_varint(out, count));
            self.staged.put(Space::Meta, Bytes::from_static(LAYOUT), frame);
            self.layout_known = true;
        }
    }

    /// Whether the next batch brings dots, and not only what the node wants kept.
    pub fn has_writes(&self) -> bool {
        self.log.len() > 0
    }

    /// The number of the last batch that was committed; 0 before the first.
    pub fn last_batch(&self) -> u64 {
        self.next_batch - 1
    }

    /// Whether another batch would find room on the disk: asked at the door, before work is done.
    pub fn room(&self) -> Result<(), EngineError> {
        self.check()?;
        self.engine.room()
    }

    /// A handle that makes committed batches durable; may be used on another thread.
    pub fn syncer(&self) -> Box<dyn Syncer> {
        self.engine.syncer()
    }

    /// Bytes staged and not committed: what the next batch will be about.
    pub fn staged_bytes(&self) -> usize {
        self.staged.bytes() + self.log.bytes() + usize::from(self.checkpoint_wanted)
    }

    /// How much the replica holds. Asks the file system: not for the data path.
    pub fn size(&self) -> ReplicaSize {
        ReplicaSize {
            engine: self.engine.size(),
            staged_bytes: self.staged_bytes(),
            hint_bytes: self.hints.bytes(),
            partitions: self.clocks.len(),
        }
    }
}

fn check_plausible(dots: &CausalContext) -> Result<(), ApplyError> {
    check_spans(dots.spans())
}

/// A clock may have closed actors, too.
fn check_clock(clock: &CausalContext) -> Result<(), ApplyError> {
    check_spans(clock.spans().filter(|span| !span.is_closed()))
}

fn check_spans(spans: impl Iterator<Item = Span>) -> Result<(), ApplyError> {
    let mut greatest = spans.map(|span| *span.dots().end());
    match greatest.find(|dot| dot.counter > MAX_COUNTER) {
        None => Ok(()),
        Some(dot) => Err(ApplyError::ImplausibleDot { dot }),
    }
}

/// Replicas asked for and position come before `bucket ‖ 0 ‖ key`.
const SCOPE_OFFSET: usize = 9;

/// Objects lie by position, so that any number of partitions divides the same data into ranges.
fn object_key(address: &Address) -> Bytes {
    let (bucket, key) = (address.bucket.as_str().as_bytes(), address.key.as_bytes());
    let mut out = Vec::with_capacity(SCOPE_OFFSET + bucket.len() + 1 + key.len());
    out.push(address.partition.n);
    out.extend_from_slice(&address.position.0.to_be_bytes());
    out.extend_from_slice(bucket);
    out.push(0);
    out.extend_from_slice(key);
    out.into()
}

/// The position that an object's key holds.
fn position_of(object_key: &[u8]) -> Position {
    let bytes = object_key[1..SCOPE_OFFSET].try_into();
    Position(u64::from_be_bytes(bytes.expect("an object's key holds its position")))
}

/// The address that `bucket ‖ 0 ‖ key` stands for; nothing where it is none.
fn parse_scope(n: u8, scope: &Bytes, partitions: Partitions) -> Option<Address> {
    let end = scope.iter().position(|byte| *byte == 0)?;
    let bucket = Bucket::parse(std::str::from_utf8(&scope[..end]).ok()?).ok()?;
    let key = Key::parse(scope.slice(end + 1..)).ok()?;
    Some(Address::new(bucket, key, n, partitions))
}

fn meta_key(name: &str) -> Vec<u8> {
    [NAMED, name.as_bytes()].concat()
}
