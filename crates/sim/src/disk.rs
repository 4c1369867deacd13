//! A disk keeps what was synced; of what was not, power loss keeps a prefix of the batches, as a log with checksums does.
//!
//! An engine writes batches to its log one after the other. A batch that was torn, and all that follow it, are dropped when the
//! log is read again: so what survives is what was synced, and then any number of whole batches in order.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use annulus_ring::NodeId;
use annulus_storage::engine::memory::Records;
use annulus_storage::engine::{Batch, EngineSize, Operation, Space, Visit};
use annulus_storage::{Engine, EngineError, Syncer};
use bytes::Bytes;

/// A disk, which outlives the process that writes to it. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// As the data directory says it.
    owner: NodeId,
    shared: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    records: Records,
    /// What undoes each batch that no sync has covered, oldest first.
    unsynced: Vec<Vec<Operation>>,
    /// Batches that were applied, ever.
    applied: u64,
    capacity_bytes: Option<u64>,
    write_error: bool,
    sync_error: bool,
    read_error: bool,
}

/// A moment of a disk: what a sync that begins now will have made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

impl Disk {
    /// An empty one, of this node.
    pub(crate) fn of(owner: NodeId) -> Disk {
        Disk {
            owner,
            shared: Arc::default(),
        }
    }

    /// # Errors
    /// Where it is another node's.
    pub(crate) fn open(&self, asked: NodeId) -> Result<Disk, String> {
        match self.owner == asked {
            true => Ok(self.clone()),
            false => Err(format!("the directory belongs to {}, not to {asked}", self.owner)),
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.state().applied)
    }

    /// A sync that began at `mark` ends.
    pub(crate) fn sync_to(&self, mark: Mark) -> Result<(), String> {
        let mut state = self.state();
        if std::mem::take(&mut state.write_error) || state.sync_error {
            return Err("EIO in fdatasync".to_owned());
        }
        let since = (state.applied - mark.0) as usize;
        let covered = state.unsynced.len().saturating_sub(since);
        state.unsynced.drain(..covered);
        Ok(())
    }

    /// How many batches no sync has covered.
    pub(crate) fn unsynced(&self) -> usize {
        self.state().unsynced.len()
    }

    /// Power loss: of what was not synced, so many batches were written out, whole and in order.
    pub(crate) fn lose_power(&self, kept: usize) {
        let mut state = self.state();
        let kept = kept.min(state.unsynced.len());
        for batch in state.unsynced.split_off(kept).into_iter().rev() {
            for operation in batch.into_iter().rev() {
                state.records.write(operation);
            }
        }
        state.unsynced.clear();
        state.write_error = false;
        state.read_error = false;
    }

    /// The next batch or sync fails.
    pub(crate) fn fail_next_write(&self) {
        self.state().write_error = true;
    }

    /// Syncs fail, or succeed again.
    pub(crate) fn set_sync_error(&self, fails: bool) {
        self.state().sync_error = fails;
    }

    /// Reads fail, or succeed again.
    pub(crate) fn set_read_error(&self, fails: bool) {
        self.state().read_error = fails;
    }

    /// Errors are over.
    pub(crate) fn mend(&self) {
        let mut state = self.state();
        state.write_error = false;
        state.sync_error = false;
        state.read_error = false;
    }

    /// A disk of this many bytes of keys and values; none for no bound.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.state().records.bytes()
    }

    /// All that is on it now, as another disk.
    pub(crate) fn copy(&self) -> Disk {
        let mut state = self.state().clone();
        state.unsynced.clear();
        state.capacity_bytes = None;
        Disk {
            owner: self.owner,
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// What would be on it if the power went now.
    pub(crate) fn after_power_loss(&self) -> Disk {
        let state = self.state().clone();
        let disk = Disk {
            owner: self.owner,
            shared: Arc::new(Mutex::new(state)),
        };
        disk.lose_power(0);
        disk
    }

    /// Becomes what `other` is.
    pub(crate) fn become_copy_of(&self, other: &Disk) {
        let copied = other.copy().state().clone();
        let mut state = self.state();
        let capacity_bytes = state.capacity_bytes;
        *state = State {
            capacity_bytes,
            ..copied
        };
    }

    /// Nothing is left.
    pub(crate) fn wipe(&self) {
        *self.state() = State::default();
    }

    /// Flips a bit of the record at this place among a space's records.
    pub(crate) fn rot(&self, space: Space, place: u64) {
        self.change(space, place, |_, value| {
            let mut bytes = value.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            Some(bytes.into())
        });
    }

    /// The record at this place vanishes.
    pub(crate) fn lose(&self, space: Space, place: u64) {
        self.change(space, place, |_, _| None);
    }

    /// The record at one place holds what another one should.
    pub(crate) fn misdirect(&self, space: Space, place: u64, other: u64) {
        self.change(space, place, |records, value| {
            let other = (other % records.len() as u64) as usize;
            records.values().nth(other).or(Some(value)).cloned()
        });
    }

    /// Changes what lies there, by no batch.
    fn change(&self, space: Space, place: u64, change: impl FnOnce(&BTreeMap<Bytes, Bytes>, &Bytes) -> Option<Bytes>) {
        let mut state = self.state();
        let records = state.records.of(space);
        let place = (place % (records.len() as u64).max(1)) as usize;
        let Some((key, value)) = records.iter().nth(place) else {
            return;
        };
        let value = change(records, value);
        let key = key.clone();
        state.records.write(Operation { space, key, value });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn room_for(&self, bytes: usize) -> Result<(), EngineError> {
        self.records.room_for(bytes, self.capacity_bytes)
    }

    fn check_read(&self) -> Result<(), EngineError> {
        match self.read_error {
            false => Ok(()),
            true => Err(input_output_error("a read")),
        }
    }
}

fn input_output_error(doing: &'static str) -> EngineError {
    EngineError::Io {
        doing,
        kind: io::ErrorKind::Other,
        detail: "EIO".to_owned(),
    }
}

impl Engine for Disk {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let state = self.state();
        state.check_read()?;
        Ok(state.records.of(space).get(key).cloned())
    }

    fn scan(&self, space: Space, from: &[u8], until: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let state = self.state();
        state.check_read()?;
        state.records.scan(space, from, until, visit);
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), EngineError> {
        let mut state = self.state();
        if std::mem::take(&mut state.write_error) {
            return Err(input_output_error("a batch"));
        }
        state.room_for(batch.bytes())?;
        let mut undo = Vec::with_capacity(batch.len());
        for operation in batch {
            undo.push(state.records.write(operation));
        }
        state.unsynced.push(undo);
        state.applied += 1;
        Ok(())
    }

    fn room(&self) -> Result<(), EngineError> {
        self.state().room_for(1)
    }

    /// Syncs take time, which the world lets pass: it calls [`Disk::sync_to`] itself.
    fn syncer(&self) -> Box<dyn Syncer> {
        Box::new(NoSyncer)
    }

    fn size(&self) -> EngineSize {
        EngineSize {
            disk_bytes: self.state().records.bytes(),
            cache_limit_bytes: 0,
        }
    }
}

struct NoSyncer;

impl Syncer for NoSyncer {
    fn sync(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(disk: &mut Disk, key: &'static [u8], value: &'static [u8]) {
        let mut batch = Batch::new();
        batch.put(Space::Object, key, value);
        disk.apply(batch).expect("a healthy disk");
    }

    fn get(disk: &Disk, key: &[u8]) -> Option<Bytes> {
        disk.get(Space::Object, key).expect("a healthy disk")
    }

    #[test]
    fn power_loss_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        for kept in 0..=3 {
            let mut disk = Disk::of(NodeId(1));
            put(&mut disk, b"a", b"0");
            let mark = disk.mark();
            put(&mut disk, b"a", b"1");
            disk.sync_to(mark).expect("a healthy disk");
            put(&mut disk, b"b", b"2");
            put(&mut disk, b"a", b"3");
            disk.lose_power(kept);
            let expected = [("0", None), ("1", None), ("1", Some("2")), ("3", Some("2"))][kept];
            assert_eq!(get(&disk, b"a").as_deref(), Some(expected.0.as_bytes()));
            assert_eq!(get(&disk, b"b").as_deref(), expected.1.map(str::as_bytes));
        }
    }

    #[test]
    fn a_full_disk_refuses_the_whole_batch() {
        let mut disk = Disk::of(NodeId(1));
        disk.set_capacity(Some(1));
        let mut batch = Batch::new();
        batch.put(Space::Object, &b"a"[..], &b"1"[..]);
        assert!(disk.apply(batch).is_err_and(|error| error.usable()));
        assert_eq!(disk.used_bytes(), 0);
    }
}
