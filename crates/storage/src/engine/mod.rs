//! An engine keeps ordered records in a few spaces: a batch is applied whole or not at all, and a sync that begins after it makes it survive power loss.
//!
//! What an engine must do is defined by the `conformance!` suite (`engine/conformance.rs`), which runs on every engine,
//! and by the kill -9 test. Records are opaque here: framing and checksums are `record.rs`'s.

#[cfg(test)]
pub(crate) mod conformance;
mod error;
pub mod fjall;
pub mod memory;
mod release;
pub mod sled;
mod whole;

use std::ops::ControlFlow;

use bytes::Bytes;

pub use error::EngineError;

/// The longest key of a record, in bytes.
///
/// Bounds an inner page of a tree engine; the longest that the replica makes is a position, a bucket and a key of 1 KiB.
pub const MAX_ENGINE_KEY_BYTES: usize = 2048;

/// A keyspace of the engine. The discriminant is on disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// Objects by position.
    Object = 1,
    /// Keys that hold a live version, in key order.
    Index = 2,
    /// One record a committed batch: which dots it brought.
    Log = 3,
    /// Writes kept for owners that were away.
    Hint = 4,
    /// Small named records: clock checkpoints, counters, what the node wants kept.
    Meta = 5,
    /// Objects with a version that expires, in order of time.
    Expiry = 6,
}

impl Space {
    /// Every space, in the order of its tag.
    pub const ALL: [Space; 6] = [
        Space::Object,
        Space::Index,
        Space::Log,
        Space::Hint,
        Space::Meta,
        Space::Expiry,
    ];

    /// The byte that stands for this space on disk.
    pub const fn tag(self) -> u8 {
        self as u8
    }

    /// What an operator reads in an error.
    pub const fn name(self) -> &'static str {
        match self {
            Space::Object => "object",
            Space::Index => "index",
            Space::Log => "log",
            Space::Hint => "hint",
            Space::Meta => "meta",
            Space::Expiry => "expiry",
        }
    }
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The space of the record.
    pub space: Space,
    /// The key, at most [`MAX_ENGINE_KEY_BYTES`].
    pub key: Bytes,
    /// The new value, or none to delete the record.
    pub value: Option<Bytes>,
}

/// Changes that happen together or not at all; of two to one record the later counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Writes a record, whatever was there.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(Operation {
            space,
            key: key.into(),
            value: Some(value.into()),
        });
    }

    /// Removes a record; where there is none, nothing happens.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        self.push(Operation {
            space,
            key: key.into(),
            value: None,
        });
    }

    fn push(&mut self, operation: Operation) {
        self.bytes += operation.key.len() + operation.value.as_ref().map_or(0, Bytes::len);
        self.operations.push(operation);
    }

    /// The changes, in the order in which they were added.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Refuses keys that an engine could not keep.
    fn check(&self) -> Result<(), EngineError> {
        match self
            .operations
            .iter()
            .find(|operation| operation.key.len() > MAX_ENGINE_KEY_BYTES)
        {
            None => Ok(()),
            Some(operation) => Err(EngineError::KeyTooLong {
                space: operation.space,
                bytes: operation.key.len(),
            }),
        }
    }
}

impl IntoIterator for Batch {
    type Item = Operation;
    type IntoIter = std::vec::IntoIter<Operation>;

    fn into_iter(self) -> Self::IntoIter {
        self.operations.into_iter()
    }
}

/// How much an engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineSize {
    /// Bytes of its files; for an engine in memory, of its keys and values.
    pub disk_bytes: u64,
    /// The bound of its cache, in bytes; 0 where there is none.
    pub cache_limit_bytes: u64,
}

/// What a scan calls with each key and value, until it breaks off.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Ordered keys in a few spaces, with atomic batches. Used by one thread; only [`Syncer`] goes to another.
pub trait Engine: Send {
    /// The value of a record, or none.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Visits the records with `from <= key < until` in key order, until `visit` breaks off; without `until`, to the end of the space.
    fn scan(&self, space: Space, from: &[u8], until: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), EngineError>;

    /// Applies a batch whole or not at all: visible to reads at once, durable after a sync that began later.
    ///
    /// [`EngineError::usable`] says whether the engine serves on after an error, or has to be reopened.
    fn apply(&mut self, batch: Batch) -> Result<(), EngineError>;

    /// Whether another batch would find room on the disk. A full disk is best noticed before work is done.
    fn room(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// A handle that makes durable what was applied before; may be used on another thread.
    fn syncer(&self) -> Box<dyn Syncer>;

    /// How much it holds.
    fn size(&self) -> EngineSize;
}

/// Makes applied batches durable.
pub trait Syncer: Send {
    /// Returns when every batch that was applied before the call survives power loss.
    fn sync(&mut self) -> Result<(), EngineError>;
}
