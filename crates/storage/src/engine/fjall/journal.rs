//! Reads fjall's journals before fjall does: a tail that power loss tore is cut to whole batches, any other damage is an error.
//!
//! fjall 3.1 itself cuts a journal at the first entry that it cannot decode, wherever that is, also in a sealed journal and in
//! front of batches that were synced; and it refuses to open where a batch decodes but its checksum is wrong, as in a torn tail.
//! The format: `Start(count, number)`, so many `Item`s, `End(xxh3 of the items)`, and zeros from the last batch to where the
//! file was preallocated.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::super::{Batch, EngineError};

/// As much may be in the journal behind the last sync when a batch begins, in bytes; what is farther from a whole batch was synced.
pub(super) const UNSYNCED_BYTES: u64 = 8 << 20;

const BUFFER_BYTES: usize = 256 << 10;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const NOT_COMPRESSED: u8 = 0;
const MAGIC: [u8; 4] = *b"FJL\x03";

/// Tag, count of items, number.
const START_BYTES: usize = 1 + 4 + 8;
/// Tag, kind of value, compression, keyspace, length of the key, of the value, of the compressed value.
const ITEM_BYTES: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
/// Tag, checksum, magic.
const END_BYTES: usize = 1 + 8 + 4;

/// How many bytes of the journal a batch takes.
pub(super) fn length(batch: &Batch) -> u64 {
    (START_BYTES + batch.len() * ITEM_BYTES + batch.bytes() + END_BYTES) as u64
}

/// The journal that is written to: the one with the highest number.
///
/// A batch that was applied before this call is in it, or in one that fjall synced when it began the next.
pub(super) fn newest(directory: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    Ok(all(directory)?.pop())
}

/// What the journals take on the disk; they are longer than that, preallocated.
pub(super) fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let sizes = all(directory)?
        .into_iter()
        .filter_map(|(_, path)| fs::metadata(path).ok());
    Ok(sizes.map(|metadata| metadata.blocks() * 512).sum())
}

fn all(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jnl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, directory.join(&name)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Checks every journal, and cuts the newest behind its last whole batch. Nobody may have it open.
pub(super) fn repair(directory: &Path) -> Result<(), EngineError> {
    let doing = "reading the journals";
    let mut journals = all(directory).map_err(|error| EngineError::from_io(doing, &error))?;
    let newest = journals.pop();
    for (_, path) in journals {
        match whole_until(&path).map_err(|error| EngineError::from_io(doing, &error))? {
            Until::End => {}
            Until::Damage { at, .. } => return Err(damaged(&path, at)),
        }
    }
    let Some((_, path)) = newest else { return Ok(()) };
    match whole_until(&path).map_err(|error| EngineError::from_io(doing, &error))? {
        Until::End => Ok(()),
        Until::Damage { at, synced: true } => Err(damaged(&path, at)),
        Until::Damage { at, synced: false } => {
            tracing::warn!(journal = %path.display(), at, "what was not synced when the machine stopped is cut off");
            cut(&path, at).map_err(|error| EngineError::from_io("cutting the journal", &error))
        }
    }
}

fn damaged(path: &Path, at: u64) -> EngineError {
    EngineError::Corrupt {
        detail: format!("the journal {} is damaged at byte {at}", path.display()),
    }
}

fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

enum Until {
    /// Nothing but zeros is behind the last whole batch.
    End,
    /// Something else is there; `synced` where a later batch proves that it had been synced.
    Damage { at: u64, synced: bool },
}

fn whole_until(path: &Path) -> io::Result<Until> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut at = 0;
    while let Some(length) = read_batch(&mut input)? {
        at += length;
    }
    input.seek(SeekFrom::Start(at))?;
    let mut rest = Vec::new();
    input.read_to_end(&mut rest)?;
    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return Ok(Until::End);
    }
    let synced = has_batch(&rest[..used], UNSYNCED_BYTES as usize + 1);
    Ok(Until::Damage { at, synced })
}

/// Whether a whole batch begins in `bytes` at `from` or later: right behind the magic that ends every batch.
fn has_batch(bytes: &[u8], from: usize) -> bool {
    let later = bytes.get(from.saturating_sub(MAGIC.len())..).unwrap_or_default();
    later
        .windows(MAGIC.len())
        .enumerate()
        .filter(|(_, window)| *window == MAGIC)
        .any(|(at, _)| matches!(read_batch(&mut &later[at + MAGIC.len()..]), Ok(Some(_))))
}

/// Reads one batch and returns its length, or none where no whole batch follows.
fn read_batch(input: &mut impl Read) -> io::Result<Option<u64>> {
    match try_batch(input) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read,
    }
}

fn try_batch(input: &mut impl Read) -> io::Result<Option<u64>> {
    let start = read::<START_BYTES>(input)?;
    if start[0] != START {
        return Ok(None);
    }
    let mut length = (START_BYTES + END_BYTES) as u64;
    let mut hash = Xxh3::new();
    for _ in 0..u32::from_le_bytes([start[1], start[2], start[3], start[4]]) {
        let head = read::<ITEM_BYTES>(input)?;
        if head[0] != ITEM || head[2] != NOT_COMPRESSED {
            return Ok(None);
        }
        hash.update(&head);
        let key = u16::from_le_bytes([head[11], head[12]]);
        let value = u32::from_le_bytes([head[17], head[18], head[19], head[20]]);
        let body = u64::from(key) + u64::from(value);
        hash_bytes(input, body, &mut hash)?;
        length += ITEM_BYTES as u64 + body;
    }
    let end = read::<END_BYTES>(input)?;
    let whole = end[0] == END && end[1..9] == hash.digest().to_le_bytes() && end[9..] == MAGIC;
    Ok(whole.then_some(length))
}

fn read<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn hash_bytes(input: &mut impl Read, mut count: u64, hash: &mut Xxh3) -> io::Result<()> {
    let mut piece = [0; 4096];
    while count > 0 {
        let piece = &mut piece[..count.min(4096) as usize];
        input.read_exact(piece)?;
        hash.update(piece);
        count -= piece.len() as u64;
    }
    Ok(())
}
