//! The replication log says which batch brought which dots, to which keys: one record a batch, so that a write pays only its share.
//!
//! Record: the actors of the batch, then its entries, each with its partition, an index into the actors, a range of counters and
//! `bucket ‖ 0 ‖ key`; then the clocks that were joined whole, and by how much fingerprints moved. The key of the record is the
//! batch's number, so a reader is a scan. A record goes once every owner has what it names ([`crate::log_index`]).

use std::ops::{ControlFlow, RangeInclusive};

use annulus_causality::{Actor, CausalContext, DecodeError, Reader, put_bytes, put_varint};
use annulus_ring::PartitionId;
use bytes::Bytes;

use crate::engine::{Engine, EngineError, Space};
use crate::fingerprint::{SubRange, decode_moved};
use crate::record::{self, put_partition, read_partition};

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
    /// Dots that came with no key: a partition was streamed whole.
    pub joined: Vec<(PartitionId, CausalContext)>,
    /// By how much the fingerprints of sub-ranges moved.
    pub(crate) moved: Vec<(SubRange, u64)>,
}

/// The record of the batch that is being staged.
#[derive(Debug, Default)]
pub(crate) struct LogWriter {
    entries: Vec<LogEntry>,
    joined: Vec<(PartitionId, CausalContext)>,
    bytes: usize,
}

impl LogWriter {
    pub(crate) fn push(&mut self, entry: LogEntry) {
        self.bytes += entry.scope.len() + ENTRY_BYTES;
        self.entries.push(entry);
    }

    pub(crate) fn join(&mut self, partition: PartitionId, dots: CausalContext) {
        self.bytes += ENTRY_BYTES;
        self.joined.push((partition, dots));
    }

    pub(crate) fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    /// How many things it says.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.joined.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the entries' part of the record's payload, and begins the next.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let mut actors = Vec::new();
        let indexes = self.entries.iter().map(|entry| {
            let known = actors.iter().position(|known| *known == entry.actor);
            known.unwrap_or_else(|| {
                actors.push(entry.actor);
                actors.len() - 1
            })
        });
        let indexes: Vec<usize> = indexes.collect();
        put_varint(out, actors.len() as u64);
        actors.iter().for_each(|actor| actor.encode(out));
        put_varint(out, self.entries.len() as u64);
        for (entry, index) in self.entries.drain(..).zip(indexes) {
            put_partition(out, entry.partition);
            put_varint(out, index as u64);
            put_varint(out, *entry.counters.start());
            put_varint(out, entry.counters.end() - entry.counters.start());
            put_bytes(out, &entry.scope);
        }
        put_varint(out, self.joined.len() as u64);
        for (partition, dots) in self.joined.drain(..) {
            put_partition(out, partition);
            dots.encode(out);
        }
        self.bytes = 0;
    }
}

/// About what an entry takes beside its key.
const ENTRY_BYTES: usize = 12;

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

/// Reads one batch, if its record is there.
pub(crate) fn read_batch(engine: &impl Engine, number: u64) -> Result<Option<LogBatch>, EngineError> {
    let key = key(number);
    let frame = engine.get(Space::Log, &key)?;
    frame.map(|frame| read(&key, &frame)).transpose()
}

fn read(key: &[u8], frame: &[u8]) -> Result<LogBatch, EngineError> {
    let payload = record::open(Space::Log, key, Bytes::copy_from_slice(frame))?;
    let number = key
        .try_into()
        .map_err(|_| record::damaged(Space::Log, key, "its key is not a number"))?;
    record::decode(Space::Log, key, payload, |reader| {
        Ok(LogBatch {
            number: u64::from_be_bytes(number),
            entries: decode_entries(reader)?,
            joined: decode_joined(reader)?,
            moved: decode_moved(reader)?,
        })
    })
}

fn decode_joined(reader: &mut Reader) -> Result<Vec<(PartitionId, CausalContext)>, DecodeError> {
    let count = reader.count(3, "joined clocks")?;
    let joined = (0..count).map(|_| Ok((read_partition(reader)?, CausalContext::decode(reader)?)));
    joined.collect()
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
    let partition = read_partition(reader)?;
    let actor = reader.varint("actor")?;
    let actor = usize::try_from(actor).ok().and_then(|actor| actors.get(actor));
    let actor = *actor.ok_or_else(|| reader.malformed("actor"))?;
    let start = reader.varint("counter")?;
    let end = start
        .checked_add(reader.varint("counter")?)
        .ok_or_else(|| reader.malformed("counter"))?;
    Ok(LogEntry {
        partition,
        actor,
        counters: start..=end,
        scope: reader.bytes("key")?,
    })
}
