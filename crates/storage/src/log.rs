//! The replication log says which batch brought which dots, to which keys: one record a batch, so that a write pays only its share.
//!
//! Record: the actors of the batch, then its entries, each with its partition, an index into the actors, a range of counters and
//! `bucket ‖ 0 ‖ key`. The key of the record is the batch's number, so a reader is a scan.

use std::ops::{ControlFlow, RangeInclusive};

use annulus_causality::{Actor, DecodeError, Reader, put_bytes, put_u8, put_varint};
use annulus_ring::PartitionId;
use bytes::Bytes;

use crate::engine::{Engine, EngineError, Space};
use crate::record;

/// Dots of one actor that came to one key in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The partition of the key, among those of the bucket's `n`.
    pub partition: PartitionId,
    /// Whose writes.
    pub actor: Actor,
    /// Which of them; almost always one.
    pub counters: RangeInclusive<u64>,
    /// `bucket ‖ 0 ‖ key`.
    pub scope: Bytes,
}

/// What one batch brought, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// The batch's number: they grow, and none is used twice.
    pub number: u64,
    /// Its entries; none where it brought hints only.
    pub entries: Vec<LogEntry>,
}

/// The record of the batch that is being staged.
#[derive(Debug, Default)]
pub(crate) struct LogWriter {
    actors: Vec<Actor>,
    entries: Vec<u8>,
    count: usize,
}

impl LogWriter {
    pub(crate) fn push(&mut self, partition: PartitionId, actor: Actor, counters: RangeInclusive<u64>, scope: &[u8]) {
        let known = self.actors.iter().position(|known| *known == actor);
        let index = known.unwrap_or_else(|| {
            self.actors.push(actor);
            self.actors.len() - 1
        });
        let out = &mut self.entries;
        put_u8(out, partition.n);
        put_varint(out, u64::from(partition.index));
        put_varint(out, index as u64);
        put_varint(out, *counters.start());
        put_varint(out, counters.end() - counters.start());
        put_bytes(out, scope);
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.len()
    }

    /// Appends the record's payload, and begins the next.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        put_varint(out, self.actors.len() as u64);
        for actor in self.actors.drain(..) {
            actor.encode(out);
        }
        put_varint(out, self.count as u64);
        out.append(&mut self.entries);
        self.count = 0;
    }
}

/// The key of a batch's record.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Visits the batches after `number`, in order.
pub(crate) fn read_since(
    engine: &impl Engine,
    number: u64,
    visit: &mut dyn FnMut(LogBatch) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    let Some(first) = number.checked_add(1) else {
        return Ok(());
    };
    let mut failed = None;
    engine.scan(
        Space::Log,
        &first.to_be_bytes(),
        None,
        &mut |key, frame| match read(key, frame) {
            Ok(batch) => visit(batch),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(()), Err)
}

fn read(key: &[u8], frame: &[u8]) -> Result<LogBatch, EngineError> {
    let payload = record::open(Space::Log, key, Bytes::copy_from_slice(frame))?;
    let number = key
        .try_into()
        .map_err(|_| record::damaged(Space::Log, key, "its key is not a number"))?;
    let entries = record::decode(Space::Log, key, payload, decode_entries)?;
    Ok(LogBatch {
        number: u64::from_be_bytes(number),
        entries,
    })
}

fn decode_entries(reader: &mut Reader) -> Result<Vec<LogEntry>, DecodeError> {
    let count = reader.count(2, "actors")?;
    let actors = (0..count)
        .map(|_| Actor::decode(reader))
        .collect::<Result<Vec<_>, _>>()?;
    let count = reader.count(6, "log entries")?;
    (0..count).map(|_| decode_entry(reader, &actors)).collect()
}

fn decode_entry(reader: &mut Reader, actors: &[Actor]) -> Result<LogEntry, DecodeError> {
    let n = reader.u8("partition")?;
    let index = reader.varint("partition")?;
    let index = u32::try_from(index).map_err(|_| reader.malformed("partition"))?;
    let actor = reader.varint("actor")?;
    let actor = usize::try_from(actor).ok().and_then(|actor| actors.get(actor));
    let actor = *actor.ok_or_else(|| reader.malformed("actor"))?;
    let start = reader.varint("counter")?;
    let end = start
        .checked_add(reader.varint("counter")?)
        .ok_or_else(|| reader.malformed("counter"))?;
    Ok(LogEntry {
        partition: PartitionId { n, index },
        actor,
        counters: start..=end,
        scope: reader.bytes("key")?,
    })
}
