//! Hints of a replica: writes that it keeps, as a fallback, for owners that were away.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use annulus_causality::{CausalContext, DecodeError, Object, Reader};
use annulus_ring::{Address, NodeId, Partitions};
use bytes::Bytes;

use super::Replica;
use crate::engine::{Engine, EngineError, Space};
use crate::hints::{self, Hint, HintCount, HintError, OverdueHint, StoredHint};
use crate::record;

impl<E: Engine> Replica<E> {
    /// What is damaged is noted, and keeps nothing else from being read.
    pub(super) fn load_hints(&mut self) -> Result<(), EngineError> {
        self.hints.reset();
        let (hints, damaged, partitions) = (&mut self.hints, self.damaged_hints.get_mut(), self.partitions);
        damaged.clear();
        self.engine.scan(Space::Hint, &[], None, &mut |key, frame| {
            let place = hints::parse_key(key);
            let hint = read_hint(key, Bytes::copy_from_slice(frame), partitions);
            match (place, hint) {
                (Some((owner, sequence)), Ok(hint)) => hints.insert(owner, sequence, &hint, frame.len()),
                (place, _) => {
                    place.into_iter().for_each(|(_, sequence)| hints.skip(sequence));
                    damaged.insert(Bytes::copy_from_slice(key));
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// Keeps a write for an owner that is away: `delta` is what it will join, filled.
    ///
    /// # Errors
    /// [`HintError::Full`] where the owner's hints have reached their bound.
    pub fn hint(
        &mut self,
        owner: NodeId,
        address: &Address,
        dots: &CausalContext,
        delta: Object,
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
            let hint = match self.stored_hint(owner, sequence) {
                // It keeps nobody else's hint back.
                Err(EngineError::Damaged { .. }) => continue,
                hint => hint?,
            };
            let StoredHint {
                address,
                dots,
                delta: object,
                expires_wall_ms,
            } = hint;
            bytes += object
                .versions()
                .iter()
                .map(|(_, version)| version.value.len())
                .sum::<usize>()
                + 256;
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
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

    fn stored_hint(&self, owner: NodeId, sequence: u64) -> Result<StoredHint, EngineError> {
        let key = hints::key(owner, sequence);
        let payload = self.staged.read(&self.engine, Space::Hint, &key);
        let hint = payload.and_then(|payload| {
            let payload = payload.ok_or_else(|| record::damaged(Space::Hint, &key, "the engine has lost it"))?;
            record::decode(Space::Hint, &key, payload, |reader| {
                StoredHint::decode(reader, self.partitions)
            })
        });
        if matches!(hint, Err(EngineError::Damaged { .. })) {
            self.damaged_hints.borrow_mut().insert(key);
        }
        hint
    }

    /// Drops the hints that were found to be damaged, and says for whom they were, as far as that can be said.
    pub fn drop_damaged_hints(&mut self) -> Vec<Option<NodeId>> {
        let damaged = self.damaged_hints.take().into_iter();
        let dropped = damaged.map(|key| {
            let place = hints::parse_key(&key);
            if let Some((owner, sequence)) = place {
                self.hints.remove(owner, sequence);
            }
            self.staged.delete(Space::Hint, key);
            place.map(|(owner, _)| owner)
        });
        dropped.collect()
    }

    /// Drops a hint: it was delivered. One that is gone already is fine.
    pub fn forget_hint(&mut self, owner: NodeId, sequence: u64) {
        if self.hints.remove(owner, sequence) {
            self.staged.delete(Space::Hint, hints::key(owner, sequence));
        }
    }

    /// Hints that have waited past their deadline, the oldest first, at most 4096.
    pub fn overdue_hints(&self, wall_ms: u64) -> Vec<OverdueHint> {
        self.hints.overdue(wall_ms)
    }

    /// Gives a hint until this time before it is overdue again; a restart forgets that.
    pub fn postpone_hint(&mut self, hint: OverdueHint, until_wall_ms: u64) {
        self.hints.postpone(hint.owner, hint.sequence, until_wall_ms);
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
            joined = joined.join(self.stored_hint(owner, sequence)?.delta);
        }
        Ok(joined)
    }
}

fn read_hint(key: &[u8], frame: Bytes, partitions: Partitions) -> Result<StoredHint, EngineError> {
    let payload = record::open(Space::Hint, key, frame)?;
    let decode = |reader: &mut Reader| -> Result<StoredHint, DecodeError> { StoredHint::decode(reader, partitions) };
    record::decode(Space::Hint, key, payload, decode)
}
