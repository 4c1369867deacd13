//! A replica holds a node's objects, their partitions' clocks, its log and its hints, and moves them together, a batch at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use annulus_causality::{Actor, CausalContext, DecodeError, Dot, Object, Reader, put_varint};
use annulus_mutants::{Mutant, planted};
use annulus_ring::{Address, Bucket, NodeId, PartitionId, Partitions};
use bytes::Bytes;

use crate::clocks::Clocks;
use crate::engine::{Engine, EngineError, EngineSize, Space, Syncer};
use crate::hints::{self, Hint, HintCount, HintError, Hints, StoredHint};
use crate::index::{self, Liveness, Page, Query};
use crate::log::{self, LogBatch, LogWriter};
use crate::record;
use crate::staged::Staged;

/// No honest actor comes near this counter (at a million writes a second it takes 146,000 years): a dot above it is refused, so that
/// no peer can use up another's counters.
pub const MAX_COUNTER: u64 = 1 << 62;

const CLOCKS: &[u8] = b"clocks";
const LAYOUT: &[u8] = b"layout";
/// Before the names of [`Replica::put_meta`], so that they cannot be taken for the records above.
const NAMED: &[u8] = b"named/";

/// Why a replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine; a damaged clock or log means that the node must not trust what it holds (a new incarnation, and a refill).
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
    next_batch: u64,
    layout_known: bool,
    failed: Option<EngineError>,
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
            next_batch: 1,
            layout_known: false,
            failed: None,
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
        let loaded = self
            .load_layout()
            .and_then(|()| self.load_clocks())
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

    fn load_clocks(&mut self) -> Result<(), EngineError> {
        let mut last = match self.staged.read(&self.engine, Space::Meta, CLOCKS)? {
            Some(payload) => {
                let clocks = &mut self.clocks;
                record::decode(Space::Meta, CLOCKS, payload, |reader| clocks.restore(reader))?
            }
            None => {
                self.clocks.reset();
                0
            }
        };
        let clocks = &mut self.clocks;
        log::read_since(&self.engine, last, &mut |batch| {
            batch.entries.iter().for_each(|entry| clocks.replay(entry));
            last = batch.number;
            ControlFlow::Continue(())
        })?;
        self.next_batch = self.next_batch.max(last + 1);
        Ok(())
    }

    fn load_hints(&mut self) -> Result<(), EngineError> {
        self.hints.reset();
        let (hints, partitions) = (&mut self.hints, self.partitions);
        let mut result = Ok(());
        self.engine.scan(Space::Hint, &[], None, &mut |key, frame| {
            let loaded = hints::parse_key(key).and_then(|(owner, sequence)| {
                let hint = read_hint(key, Bytes::copy_from_slice(frame), partitions)?;
                hints.insert(owner, sequence, &hint, frame.len());
                Ok(())
            });
            match loaded {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    result = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        result
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
            false => object.filled(self.clock(address.partition)),
        };
        self.recent.replace(Some((key, object)));
        Ok(filled)
    }

    /// The object as it is stored: stripped.
    fn stored(&self, key: &[u8]) -> Result<Object, EngineError> {
        if let Some((of, object)) = self.recent.take()
            && of == key
        {
            return Ok(object);
        }
        match self.staged.read(&self.engine, Space::Object, key)? {
            None => Ok(Object::default()),
            Some(payload) => record::decode(Space::Object, key, payload, Object::decode),
        }
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
        let new = dots.difference(self.clock(address.partition));
        let key = object_key(address);
        let before = self.stored(&key)?;
        let clock = self.clock(address.partition);
        let joined = before.filled(clock).join(delta);

        if !new.is_empty() {
            self.clocks.add(address.partition, &new);
        }
        // No closed actor is plausible, so that these are all.
        for (actor, counters) in new.open_ranges() {
            self.log.push(address.partition, actor, counters, scope_of(&key));
        }
        let clock = self.clock(address.partition);
        let after = joined.strip(clock);
        let liveness = (Liveness::of(&before), Liveness::of(&after));
        // The clock may have come to cover more of the old context since it was stored: that alone is no change.
        let was_record = !before.is_absent();
        let before = before.strip(clock);
        let changed = !before.dots().eq(after.dots()) || before.context() != after.context();
        if after.is_absent() || (planted(Mutant::DeleteDroppedEarly) && after.versions().is_empty()) {
            if was_record {
                self.staged.delete(Space::Object, key.clone());
            }
        } else if changed {
            let frame = record::seal(Space::Object, &key, |out| after.encode(out));
            self.staged.put(Space::Object, key.clone(), frame);
        }
        index::stage(&mut self.staged, key.slice(SCOPE_OFFSET..), liveness.0, liveness.1);
        Ok(Applied {
            changed,
            new_dots: !new.is_empty(),
        })
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

    /// Keeps a write for an owner that is away. `delta` is what it will join, filled; without one, the object is here and is
    /// delivered as it is then.
    ///
    /// # Errors
    /// [`HintError::Full`] where the owner's hints have reached their bound.
    pub fn hint(
        &mut self,
        owner: NodeId,
        address: &Address,
        dots: &CausalContext,
        delta: Option<Object>,
        expires_wall_ms: u64,
    ) -> Result<(), HintError> {
        self.check()?;
        let hint = StoredHint {
            address: address.clone(),
            dots: dots.clone(),
            delta,
            expires_wall_ms,
        };
        let sequence = self.hints.next_sequence();
        let key = hints::key(owner, sequence);
        let frame = record::seal(Space::Hint, &key, |out| hint.encode(out));
        self.hints.check_room(owner, frame.len())?;
        self.hints.insert(owner, sequence, &hint, frame.len());
        self.staged.put(Space::Hint, key, frame);
        Ok(())
    }

    /// An owner's hints after a sequence (0 for the first), ascending, at least one if there is any, and then no more than about
    /// `max_bytes` of objects.
    pub fn hints(&self, owner: NodeId, after_sequence: u64, max_bytes: usize) -> Result<Vec<Hint>, EngineError> {
        self.check()?;
        let mut found = Vec::new();
        let mut bytes = 0;
        for sequence in self.hints.after(owner, after_sequence) {
            let (hint, object) = match self.whole_hint(owner, sequence) {
                Err(error @ EngineError::Damaged { .. }) => {
                    // It keeps nobody else's hint back; the write that it was of comes by read repair.
                    tracing::warn!(%owner, sequence, %error, "a hint cannot be delivered");
                    continue;
                }
                whole => whole?,
            };
            bytes += object
                .versions()
                .iter()
                .map(|(_, version)| version.value.len())
                .sum::<usize>()
                + 256;
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            let StoredHint {
                address,
                dots,
                expires_wall_ms,
                ..
            } = hint;
            found.push(Hint {
                sequence,
                address,
                dots,
                object,
                expires_wall_ms,
            });
        }
        Ok(found)
    }

    /// A hint with what it delivers.
    fn whole_hint(&self, owner: NodeId, sequence: u64) -> Result<(StoredHint, Object), EngineError> {
        let mut hint = self.stored_hint(owner, sequence)?;
        let object = match hint.delta.take() {
            Some(delta) => delta,
            None => self.read(&hint.address)?,
        };
        Ok((hint, object))
    }

    fn stored_hint(&self, owner: NodeId, sequence: u64) -> Result<StoredHint, EngineError> {
        let key = hints::key(owner, sequence);
        let payload = self.staged.read(&self.engine, Space::Hint, &key)?;
        let payload = payload.ok_or_else(|| record::damaged(Space::Hint, &key, "the engine has lost it"))?;
        record::decode(Space::Hint, &key, payload, |reader| {
            StoredHint::decode(reader, self.partitions)
        })
    }

    /// Drops a hint: it was delivered. One that is gone already is fine.
    pub fn forget_hint(&mut self, owner: NodeId, sequence: u64) {
        if self.hints.remove(owner, sequence) {
            self.staged.delete(Space::Hint, hints::key(owner, sequence));
        }
    }

    /// Drops hints whose deadline has passed, a bounded number a call (4096), and says how many.
    pub fn expire_hints(&mut self, wall_ms: u64) -> usize {
        let expired = self.hints.expired(wall_ms);
        for (owner, sequence) in &expired {
            self.forget_hint(*owner, *sequence);
        }
        expired.len()
    }

    /// How many hints each owner has.
    pub fn hint_summary(&self) -> BTreeMap<NodeId, HintCount> {
        self.hints.summary()
    }

    /// What value hints say about a key, joined; no version and an empty context where there is none.
    pub fn hinted(&self, address: &Address) -> Result<Object, EngineError> {
        self.check()?;
        let mut joined = Object::default();
        for (owner, sequence) in self.hints.of_scope(&address.scope()) {
            if let Some(delta) = self.stored_hint(owner, sequence)?.delta {
                joined = joined.join(delta);
            }
        }
        Ok(joined)
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
        if self.staged.is_empty() && self.log.len() == 0 {
            return Ok(None);
        }
        let number = self.next_batch;
        self.next_batch += 1;
        self.stage_log(number);
        let applied = self.engine.apply(self.staged.take());
        self.failed = applied.as_ref().err().cloned();
        applied.map(|()| Some(number))
    }

    fn stage_log(&mut self, number: u64) {
        let checkpoint_due = self.clocks.count_entries(self.log.len());
        let key = log::key(number);
        let frame = record::seal(Space::Log, &key, |out| self.log.finish(out));
        self.staged.put(Space::Log, key, frame);
        if checkpoint_due {
            let frame = record::seal(Space::Meta, CLOCKS, |out| self.clocks.checkpoint(number, out));
            self.staged.put(Space::Meta, Bytes::from_static(CLOCKS), frame);
        }
        if !self.layout_known {
            let count = u64::from(self.partitions.count());
            let frame = record::seal(Space::Meta, LAYOUT, |out| put_varint(out, count));
            self.staged.put(Space::Meta, Bytes::from_static(LAYOUT), frame);
            self.layout_known = true;
        }
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
        self.staged.bytes() + self.log.bytes()
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

fn read_hint(key: &[u8], frame: Bytes, partitions: Partitions) -> Result<StoredHint, EngineError> {
    let payload = record::open(Space::Hint, key, frame)?;
    let decode = |reader: &mut Reader| -> Result<StoredHint, DecodeError> { StoredHint::decode(reader, partitions) };
    record::decode(Space::Hint, key, payload, decode)
}

fn check_plausible(dots: &CausalContext) -> Result<(), ApplyError> {
    let mut greatest = dots.spans().map(|span| *span.dots().end());
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

fn scope_of(object_key: &[u8]) -> &[u8] {
    &object_key[SCOPE_OFFSET..]
}

fn meta_key(name: &str) -> Vec<u8> {
    [NAMED, name.as_bytes()].concat()
}
