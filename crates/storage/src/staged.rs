//! What the node has decided and not yet committed: reads see it, and it becomes one batch.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::engine::{Batch, Engine, EngineError, Space};
use crate::record;

/// Changes by space and key; of several to one record only the last is kept. `None` deletes.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    spaces: [BTreeMap<Bytes, Option<Bytes>>; Space::ALL.len()],
    /// Of all keys and values that were put, also of those that a later change replaced: asked for in every round of the node.
    bytes: usize,
}

impl Staged {
    pub(crate) fn put(&mut self, space: Space, key: Bytes, frame: Bytes) {
        self.bytes += key.len() + frame.len();
        self.space_mut(space).insert(key, Some(frame));
    }

    pub(crate) fn delete(&mut self, space: Space, key: Bytes) {
        self.bytes += key.len();
        self.space_mut(space).insert(key, None);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spaces.iter().all(BTreeMap::is_empty)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything as one batch; nothing stays.
    pub(crate) fn take(&mut self) -> Batch {
        self.bytes = 0;
        let mut batch = Batch::new();
        for space in Space::ALL {
            for (key, value) in std::mem::take(self.space_mut(space)) {
                match value {
                    Some(value) => batch.put(space, key, value),
                    None => batch.delete(space, key),
                }
            }
        }
        batch
    }

    pub(crate) fn clear(&mut self) {
        *self = Staged::default();
    }

    /// The payload of a record as it will be after the commit.
    pub(crate) fn read(&self, engine: &impl Engine, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let frame = match self.space(space).get(key) {
            Some(staged) => staged.clone(),
            None => engine.get(space, key)?,
        };
        frame.map(|frame| record::open(space, key, frame)).transpose()
    }

    /// What is staged in `from <= key < until`, in key order.
    pub(crate) fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        until: &[u8],
    ) -> impl Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> {
        let until = until.max(from);
        self.space(space)
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(until)))
    }

    fn space(&self, space: Space) -> &BTreeMap<Bytes, Option<Bytes>> {
        &self.spaces[usize::from(space.tag()) - 1]
    }

    fn space_mut(&mut self, space: Space) -> &mut BTreeMap<Bytes, Option<Bytes>> {
        &mut self.spaces[usize::from(space.tag()) - 1]
    }
}
