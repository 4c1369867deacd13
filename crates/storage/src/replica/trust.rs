//! A replica that cannot prove what it holds does not guess: it keeps in its clock only what it can show, and says which partitions are in doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use annulus_causality::{CausalContext, DecodeError, Reader, put_u8, put_varint};
use annulus_ring::{Address, PartitionId};
use bytes::Bytes;

use super::catch_up::read_object;
use super::{CLOCKS, Replica, SCOPE_OFFSET, expiry, object_key, position_of};
use crate::engine::{Engine, EngineError, Space};
use crate::fingerprint::{self, SUB_RANGES, sub_range_of};
use crate::index::{self, Liveness};
use crate::record::{self, put_partition, read_partition};

const DOUBTS: &[u8] = b"doubts";

/// Partitions whose contents cannot be proved: they answer for nothing until they have caught up with every other owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    /// Whether all partitions are in doubt, but for the exceptions; otherwise only those are.
    all: bool,
    exceptions: BTreeSet<PartitionId>,
}

impl Doubts {
    fn holds(&self, partition: PartitionId) -> bool {
        self.all != self.exceptions.contains(&partition)
    }

    /// Says whether that is new.
    fn set(&mut self, partition: PartitionId, in_doubt: bool) -> bool {
        match self.all == in_doubt {
            true => self.exceptions.remove(&partition),
            false => self.exceptions.insert(partition),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, u8::from(self.all));
        put_varint(out, self.exceptions.len() as u64);
        self.exceptions
            .iter()
            .for_each(|partition| put_partition(out, *partition));
    }

    fn decode(reader: &mut Reader) -> Result<Doubts, DecodeError> {
        let all = reader.u8("doubts")? != 0;
        let count = reader.count(2, "doubts")?;
        let exceptions = (0..count).map(|_| read_partition(reader)).collect::<Result<_, _>>()?;
        Ok(Doubts { all, exceptions })
    }
}

/// How far a scrub has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes of records that were read.
    pub bytes: usize,
    /// Where to go on; nothing where all has been looked at.
    pub next: Option<(PartitionId, u8)>,
    /// Partitions that do not hold what they should.
    pub damaged: BTreeSet<PartitionId>,
}

/// What a scan of a partition has found to be there.
#[derive(Debug, Default)]
struct Proof {
    dots: CausalContext,
    sums: [u64; SUB_RANGES],
    damaged: Vec<Bytes>,
}

impl<E: Engine> Replica<E> {
    pub(super) fn load_doubts(&mut self) -> Result<(), EngineError> {
        let payload = self.staged.read(&self.engine, Space::Meta, DOUBTS)?;
        let doubts = payload.map(|payload| record::decode(Space::Meta, DOUBTS, payload, Doubts::decode));
        // What cannot be read about doubts is a doubt.
        self.doubts = match doubts.transpose() {
            Ok(doubts) => doubts.unwrap_or_default(),
            Err(EngineError::Damaged { .. }) => Doubts {
                all: true,
                exceptions: BTreeSet::new(),
            },
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Whether a partition's contents cannot be proved.
    pub fn is_in_doubt(&self, partition: PartitionId) -> bool {
        self.doubts.holds(partition)
    }

    /// Whether any partition may be in doubt.
    pub fn has_doubts(&self) -> bool {
        self.doubts.all || !self.doubts.exceptions.is_empty()
    }

    /// The directory is not what it was when this node last acknowledged something: all partitions are in doubt. What they hold is
    /// consistent, and stays.
    pub fn doubt_all(&mut self) {
        self.doubts = Doubts {
            all: true,
            exceptions: BTreeSet::new(),
        };
        self.stage_doubts();
    }

    /// A partition has caught up with all its other owners.
    pub fn trust(&mut self, partition: PartitionId) {
        if self.doubts.set(partition, false) {
            self.stage_doubts();
        }
    }

    /// Every partition that this node owns has.
    pub fn trust_all(&mut self) {
        self.doubts = Doubts::default();
        self.stage_doubts();
    }

    fn stage_doubts(&mut self) {
        let frame = record::seal(Space::Meta, DOUBTS, |out| self.doubts.encode(out));
        self.staged.put(Space::Meta, Bytes::from_static(DOUBTS), frame);
    }

    /// What the index says of this key cannot be read: [`Replica::doubt`] of its partition mends that.
    pub fn distrust_index(&mut self, address: &Address) {
        self.lost.get_mut().insert(object_key(address));
    }

    /// Something that a partition should hold is not there, or damaged: its clock is from now on what its live versions prove, and it is
    /// in doubt. Damaged records are dropped, as they answer for nothing, and what the indexes say of its keys is written anew.
    pub fn doubt(&mut self, partition: PartitionId) -> Result<(), EngineError> {
        self.check()?;
        let mut proof = Proof::default();
        for index in 0..SUB_RANGES {
            self.prove_sub_range(partition, index, &mut proof)?;
        }
        let is_here = |key: &Bytes| key[0] == partition.n && self.partitions.of(position_of(key)) == partition.index;
        let lost = self.lost.get_mut().extract_if(.., |key| is_here(key));
        lost.for_each(|key| self.staged.delete(Space::Index, key.slice(SCOPE_OFFSET..)));
        self.believe(partition, proof);
        self.index_anew(partition)?;
        self.doubts.set(partition, true);
        self.stage_doubts();
        Ok(())
    }

    /// Writes what the indexes should say of a partition's objects.
    fn index_anew(&mut self, partition: PartitionId) -> Result<(), EngineError> {
        for index in 0..SUB_RANGES {
            let (from, until) = (
                self.sub_range_start(partition, index),
                self.sub_range_start(partition, index + 1),
            );
            let (frames, _) = self.frames(&from, &until, usize::MAX)?;
            for (key, frame) in frames {
                let object = read_object(&key, frame)?;
                let scope = key.slice(SCOPE_OFFSET..);
                index::stage(&mut self.staged, scope, Liveness::Absent, Liveness::of(&object));
                expiry::stage(&mut self.staged, &key, None, &object);
            }
        }
        Ok(())
    }

    /// Adds what a sub-range holds to a proof, and says how many bytes that were.
    fn prove_sub_range(&self, partition: PartitionId, index: usize, proof: &mut Proof) -> Result<usize, EngineError> {
        let (from, until) = (
            self.sub_range_start(partition, index),
            self.sub_range_start(partition, index + 1),
        );
        let (frames, _) = self.frames(&from, &until, usize::MAX)?;
        let bytes = frames.iter().map(|(key, frame)| key.len() + frame.len()).sum();
        frames
            .into_iter()
            .for_each(|(key, frame)| self.prove(key, frame, proof));
        Ok(bytes)
    }

    /// Whether a sub-range holds what its fingerprint says, and how many bytes that are.
    fn is_proved(&self, partition: PartitionId, index: usize) -> Result<(bool, usize), EngineError> {
        let mut proof = Proof::default();
        let bytes = self.prove_sub_range(partition, index, &mut proof)?;
        let is_proved = proof.damaged.is_empty() && proof.sums[index] == self.fingerprints(partition)[index];
        Ok((is_proved, bytes))
    }

    /// # Errors
    /// Where a sub-range does not hold what its fingerprint says.
    pub(super) fn check_sub_range(&self, partition: PartitionId, index: usize) -> Result<(), EngineError> {
        match self.is_proved(partition, index)? {
            (true, _) => Ok(()),
            (false, _) => Err(record::damaged(
                Space::Object,
                &self.sub_range_start(partition, index),
                "the records from here on are not what their fingerprint says",
            )),
        }
    }

    fn prove(&self, key: Bytes, frame: Bytes, proof: &mut Proof) {
        match read_object(&key, frame) {
            Ok(object) => {
                let sum = &mut proof.sums[usize::from(sub_range_of(position_of(&key), self.partitions))];
                *sum = sum.wrapping_add(fingerprint::of(&key[SCOPE_OFFSET..], &object));
                proof.dots.extend(object.dots());
            }
            Err(_) => proof.damaged.push(key),
        }
    }

    /// A partition's clock is what was proved, and nothing of its log.
    fn believe(&mut self, partition: PartitionId, proof: Proof) {
        for key in proof.damaged {
            self.staged.delete(Space::Index, key.slice(SCOPE_OFFSET..));
            self.staged.delete(Space::Object, key);
        }
        self.recent.take();
        self.covered.remove(&partition);
        self.log_index.forget(partition);
        self.clocks.set(partition, proof.dots);
        self.fingerprints.set(partition, proof.sums);
        // A clock that became smaller is nothing that the log could say.
        self.checkpoint_wanted = true;
    }

    /// The clocks or the log cannot be read: every clock becomes what its partition's live versions prove, and all are in doubt.
    pub(super) fn rebuild(&mut self) -> Result<(), EngineError> {
        self.clocks.reset();
        self.log_index.reset();
        self.fingerprints.reset();
        let mut last = 0;
        let mut logged = Vec::new();
        self.engine.scan(Space::Log, &[], None, &mut |key, _| {
            last = key.try_into().map_or(last, u64::from_be_bytes);
            logged.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        })?;
        self.next_batch = self.next_batch.max(last + 1);
        logged.into_iter().for_each(|key| self.staged.delete(Space::Log, key));
        let mut proofs = BTreeMap::<PartitionId, Proof>::new();
        self.engine.scan(Space::Object, &[], None, &mut |key, frame| {
            if key.len() > SCOPE_OFFSET {
                let index = self.partitions.of(position_of(key));
                let proof = proofs.entry(PartitionId { n: key[0], index }).or_default();
                self.prove(Bytes::copy_from_slice(key), Bytes::copy_from_slice(frame), proof);
            }
            ControlFlow::Continue(())
        })?;
        self.staged.delete(Space::Meta, Bytes::from_static(CLOCKS));
        for (partition, proof) in proofs {
            self.believe(partition, proof);
        }
        self.checkpoint_wanted = true;
        self.doubt_all();
        tracing::warn!("the clocks or the log of this node are damaged: all of its data is checked and refilled");
        Ok(())
    }

    /// Looks whether sub-ranges hold what their fingerprints say, from `from` on, about `max_bytes` of records.
    pub fn scrub(&self, from: Option<(PartitionId, u8)>, max_bytes: usize) -> Result<Scrubbed, EngineError> {
        self.check()?;
        let mut scrubbed = Scrubbed::default();
        let first = from.map_or(PartitionId { n: 0, index: 0 }, |(partition, _)| partition);
        for partition in self.clocks.partitions().filter(|partition| *partition >= first) {
            let start = from.filter(|(of, _)| *of == partition).map_or(0, |(_, index)| index);
            for index in start..SUB_RANGES as u8 {
                if scrubbed.bytes >= max_bytes {
                    scrubbed.next = Some((partition, index));
                    return Ok(scrubbed);
                }
                let (is_proved, bytes) = self.is_proved(partition, usize::from(index))?;
                scrubbed.bytes += bytes;
                if !is_proved {
                    scrubbed.damaged.insert(partition);
                }
            }
        }
        Ok(scrubbed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_in_doubt_until_it_is_trusted_again() {
        let (one, other) = (PartitionId { n: 3, index: 1 }, PartitionId { n: 3, index: 2 });
        let mut doubts = Doubts::default();
        assert!(doubts.set(one, true));
        assert!(!doubts.set(one, true));
        assert!(doubts.holds(one) && !doubts.holds(other));
        doubts.all = true;
        doubts.exceptions.clear();
        assert!(doubts.set(one, false) && !doubts.set(one, false));
        assert!(!doubts.holds(one) && doubts.holds(other));
    }
}
