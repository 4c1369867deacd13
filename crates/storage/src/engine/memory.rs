//! The engine in memory: what was not synced is lost in a [`MemoryEngine::crash`], as on a real disk; nothing survives the process.
//!
//! Clones share their records, so a test "reopens" the engine by dropping a replica and opening another over a clone.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Batch, Engine, EngineError, EngineSize, Operation, Space, Syncer, Visit};

/// Records in maps, a map a space; what an engine in memory and a simulated disk are made of.
#[derive(Clone, Debug, Default)]
pub struct Records {
    spaces: [BTreeMap<Bytes, Bytes>; Space::ALL.len()],
    bytes: u64,
}

impl Records {
    /// The records of a space, by key.
    pub fn of(&self, space: Space) -> &BTreeMap<Bytes, Bytes> {
        &self.spaces[usize::from(space.tag()) - 1]
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes one record and returns what undoes it.
    pub fn write(&mut self, operation: Operation) -> Operation {
        let Operation { space, key, value } = operation;
        let records = &mut self.spaces[usize::from(space.tag()) - 1];
        let size = |value: &Bytes| (key.len() + value.len()) as u64;
        let added = value.as_ref().map_or(0, size);
        let before = match value {
            Some(value) => records.insert(key.clone(), value),
            None => records.remove(&key),
        };
        self.bytes = self.bytes + added - before.as_ref().map_or(0, size);
        Operation {
            space,
            key,
            value: before,
        }
    }

    /// See [`Engine::scan`].
    pub fn scan(&self, space: Space, from: &[u8], until: Option<&[u8]>, visit: &mut Visit<'_>) {
        if until.is_some_and(|until| until <= from) {
            return;
        }
        let upper = until.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.of(space).range::<[u8], _>((Bound::Included(from), upper)) {
            if visit(key, value).is_break() {
                break;
            }
        }
    }

    /// # Errors
    /// [`EngineError::Full`] where so many bytes more are above the capacity; none for no bound.
    pub fn room_for(&self, bytes: usize, capacity: Option<u64>) -> Result<(), EngineError> {
        match capacity {
            Some(capacity) if self.bytes + bytes as u64 > capacity => Err(EngineError::Full {
                doing: "a batch",
                before_writing: true,
                detail: format!("{} of {capacity} bytes are used", self.bytes),
            }),
            _ => Ok(()),
        }
    }
}

/// Records in maps. See the module.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    records: Records,
    /// What was overwritten since the last sync, oldest first: played back by a crash.
    undo: Vec<Operation>,
    capacity_bytes: Option<u64>,
    next_failure: Option<EngineError>,
    syncs: u64,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }

    /// Bounds keys and values together, like a disk of that size; none for no bound.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.state().capacity_bytes = capacity;
    }

    /// The next `apply` or `sync` fails with this error, and does nothing.
    pub fn fail_next(&self, error: EngineError) {
        self.state().next_failure = Some(error);
    }

    /// Power loss: all that no sync has covered is gone.
    pub fn crash(&self) {
        let mut state = self.state();
        for operation in std::mem::take(&mut state.undo).into_iter().rev() {
            state.records.write(operation);
        }
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a visitor panicked: the maps themselves are only changed by code that does not panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn room_for(&self, bytes: usize) -> Result<(), EngineError> {
        self.records.room_for(bytes, self.capacity_bytes)
    }

    fn injected_failure(&mut self) -> Result<(), EngineError> {
        self.next_failure.take().map_or(Ok(()), Err)
    }
}

impl Engine for MemoryEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.state().records.of(space).get(key).cloned())
    }

    fn scan(&self, space: Space, from: &[u8], until: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        self.state().records.scan(space, from, until, visit);
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), EngineError> {
        batch.check()?;
        let mut state = self.state();
        state.injected_failure()?;
        state.room_for(batch.bytes())?;
        for operation in batch {
            let undo = state.records.write(operation);
            state.undo.push(undo);
        }
        Ok(())
    }

    fn room(&self) -> Result<(), EngineError> {
        self.state().room_for(1)
    }

    fn syncer(&self) -> Box<dyn Syncer> {
        Box::new(MemorySyncer(self.clone()))
    }

    fn size(&self) -> EngineSize {
        EngineSize {
            disk_bytes: self.state().records.bytes(),
            cache_limit_bytes: 0,
        }
    }
}

struct MemorySyncer(MemoryEngine);

impl Syncer for MemorySyncer {
    fn sync(&mut self) -> Result<(), EngineError> {
        let mut state = self.0.state();
        state.injected_failure()?;
        state.undo.clear();
        state.syncs += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::conformance::{Place, conformance};

    impl Place for MemoryEngine {
        type Opened = MemoryEngine;

        fn empty() -> MemoryEngine {
            MemoryEngine::new()
        }

        fn open(&self) -> MemoryEngine {
            self.crash();
            self.clone()
        }
    }

    conformance!(suite, MemoryEngine);

    fn one(key: &'static [u8], value: &'static [u8]) -> Batch {
        let mut batch = Batch::new();
        batch.put(Space::Object, key, value);
        batch
    }

    #[test]
    fn a_crash_takes_back_what_no_sync_has_covered() {
        let mut engine = MemoryEngine::new();
        engine.apply(one(b"a", b"1")).unwrap();
        engine.syncer().sync().unwrap();
        engine.apply(one(b"a", b"2")).unwrap();
        engine.apply(one(b"b", b"3")).unwrap();
        engine.crash();
        assert_eq!(engine.get(Space::Object, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(engine.get(Space::Object, b"b"), Ok(None));
        assert_eq!(engine.size().disk_bytes, 2);
        assert_eq!(engine.syncs(), 1);
    }

    #[test]
    fn a_full_engine_refuses_the_whole_batch() {
        let mut engine = MemoryEngine::new();
        engine.set_capacity_bytes(Some(3));
        engine.apply(one(b"a", b"1")).unwrap();
        let error = engine.apply(one(b"b", b"22")).unwrap_err();
        assert!(matches!(
            error,
            EngineError::Full {
                before_writing: true,
                ..
            }
        ));
        assert_eq!(engine.get(Space::Object, b"b"), Ok(None));
        engine.room().unwrap();
        engine.set_capacity_bytes(Some(2));
        engine.room().unwrap_err();
        engine.set_capacity_bytes(None);
        engine.apply(one(b"b", b"22")).unwrap();
    }
}
