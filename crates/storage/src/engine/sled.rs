//! The engine over sled 0.34: one tree, so that a batch is atomic over all spaces, and the `fdatasync` that sled lacks.
//!
//! What sled 0.34.7 does, from its source, and what follows for this file:
//! - `flush` writes the log and calls `sync_file_range`, which neither writes the metadata that a grown file needs nor empties the
//!   disk's own cache. So [`Syncer::sync`] flushes and then calls `fdatasync` on a handle of its own (`db`).
//! - A page above a quarter of a segment goes to a file under `blobs/`, which sled never syncs. Leaves split above 16 records and
//!   inner pages above 256 keys, so `CHUNK_BYTES` and `SEGMENT_BYTES` are chosen such that no page can become one.
//! - Opening writes a snapshot of the page table as `snap.X.generating` and renames it. A crash in between leaves the unfinished one,
//!   which the next start prefers and rejects as corrupt: it is removed before opening.
//! - Nothing syncs the directories: that is done here once after opening, before anything can be acknowledged.
//! - A crash in the first opening leaves a `conf` that is empty, which no later one takes: the directory is made beside its place.
//! - Segments whose pages were all rewritten are used again. Were the rewritten pages not durable by then, power loss would lose old
//!   records with new ones: [`SledEngine::apply`] syncs by itself when too much was written since the last sync.
//! - A failed write poisons the whole engine (sled's global error). Room is therefore checked before a batch; see [`SledOptions`].
//! - An error in the middle of a batch that did not come from writing the log (a page that cannot be read) would leave half a batch to
//!   be flushed when the engine is dropped: then it is leaked instead, and the process has to be restarted.
//! - `Mode` is not used anywhere in this version.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use sled::IVec;

use super::release::wait_for_release;
use super::whole::make_whole;
use super::{Batch, Engine, EngineError, EngineSize, MAX_ENGINE_KEY_BYTES, Operation, Space, Syncer, Visit};
use crate::directory::{free_bytes, sync_directory};

/// The unit in which sled writes its log and uses its file again.
const SEGMENT_BYTES: usize = 4 << 20;

/// The longest piece of a value in one record of the tree; longer values are cut up.
const CHUNK_BYTES: usize = 32 << 10;

/// A page above this would be written as a blob (sled's `MINIMUM_ITEMS_PER_SEGMENT`).
const BLOB_BYTES: usize = SEGMENT_BYTES / 4 - 64;

// A leaf splits when it is next visited above 16 records; a merge adds fewer than 4. An inner page splits above 256 keys.
const _: () = assert!(24 * (CHUNK_BYTES + MAX_ENGINE_KEY_BYTES + 64) < BLOB_BYTES);
const _: () = assert!(264 * (MAX_ENGINE_KEY_BYTES + 64) < BLOB_BYTES);

/// As much may be written without a sync; a segment is used again two segments later at the earliest.
const UNSYNCED_BYTES: u64 = SEGMENT_BYTES as u64;

/// Free space is asked for again after so many bytes.
const ROOM_CHECK_BYTES: u64 = 1 << 20;

/// Marks the keys of pieces: beside the tags of the spaces.
const PIECE: u8 = 0x80;
const WHOLE_VALUE: u8 = 0;
const CUT_VALUE: u8 = 1;

/// How to open the engine.
#[derive(Clone, Copy, Debug)]
pub struct SledOptions {
    /// The bound of sled's page cache, in bytes (default 128 MiB).
    pub cache_bytes: u64,
    /// Batches are refused as [`EngineError::Full`] while the disk has less free space than this (default 64 MiB). A disk that fills up
    /// under sled poisons the engine, and it needs some room to open again.
    pub reserve_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> SledOptions {
        SledOptions {
            cache_bytes: 128 << 20,
            reserve_bytes: 64 << 20,
        }
    }
}

/// Records in a sled tree. See the module.
#[derive(Debug)]
pub struct SledEngine {
    db: sled::Db,
    shared: Arc<Shared>,
    path: PathBuf,
    options: SledOptions,
    /// Whether any value was ever cut up: only then do overwrites have to look for pieces.
    cut: bool,
    room_checked_at: u64,
}

/// What the engine and its syncers know together.
#[derive(Debug)]
struct Shared {
    file: File,
    applied_bytes: AtomicU64,
    synced_bytes: AtomicU64,
    failed: AtomicBool,
}

impl SledEngine {
    /// Opens the engine in a directory, which is made if need be.
    ///
    /// # Errors
    /// [`EngineError::Io`] also where another process has it open, [`EngineError::Corrupt`] where sled cannot make sense of its files.
    pub fn open(path: &Path, options: SledOptions) -> Result<SledEngine, EngineError> {
        let doing = "opening the engine";
        let io = |error: io::Error| EngineError::from_io(doing, &error);
        make_whole(path, |unfinished| {
            drop(open_database(unfinished, options)?);
            let released = File::open(unfinished.join("db")).and_then(|db| wait_for_release(&db));
            released.and_then(|()| sync_files(unfinished)).map_err(io)
        })?;
        File::open(path.join("db"))
            .and_then(|db| wait_for_release(&db))
            .map_err(io)?;
        remove_unfinished_snapshots(path).map_err(io)?;
        let db = open_database(path, options)?;
        let file = File::options().read(true).write(true).open(path.join("db"));
        let file = file.map_err(io)?;
        sync_files(path).map_err(io)?;
        let cut = db
            .scan_prefix([PIECE])
            .next()
            .transpose()
            .map_err(|error| classify(doing, &error))?
            .is_some();
        let shared = Shared {
            file,
            applied_bytes: AtomicU64::new(0),
            synced_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        let path = path.to_owned();
        Ok(SledEngine {
            db,
            shared: Arc::new(shared),
            path,
            options,
            cut,
            room_checked_at: 0,
        })
    }

    fn check_room(&mut self, bytes: usize) -> Result<(), EngineError> {
        let written = self.shared.applied_bytes.load(Ordering::Relaxed) + bytes as u64;
        if written < self.room_checked_at + ROOM_CHECK_BYTES && self.room_checked_at > 0 {
            return Ok(());
        }
        self.room_for(bytes as u64)?;
        self.room_checked_at = written;
        Ok(())
    }

    fn room_for(&self, bytes: u64) -> Result<(), EngineError> {
        let free = free_bytes(&self.path).map_err(|error| EngineError::from_io("asking for free space", &error))?;
        // A batch is written about three times over: as itself, in consolidated pages, and in the segments that it displaces.
        let needed = self.options.reserve_bytes + 3 * bytes;
        if free >= needed {
            return Ok(());
        }
        let detail = format!("{free} bytes are free in {}, {needed} are needed", self.path.display());
        Err(EngineError::Full {
            doing: "a batch",
            before_writing: true,
            detail,
        })
    }

    /// Keeps what is not yet durable below what sled may need when it uses a segment again.
    fn bound_unsynced(&self) -> Result<(), EngineError> {
        let unsynced =
            self.shared.applied_bytes.load(Ordering::Relaxed) - self.shared.synced_bytes.load(Ordering::Relaxed);
        if unsynced > UNSYNCED_BYTES {
            SledSyncer::of(self).sync()
        } else {
            Ok(())
        }
    }

    fn check_usable(&self) -> Result<(), EngineError> {
        if self.shared.failed.load(Ordering::Relaxed) {
            return Err(EngineError::Failed {
                detail: "see the log for it".to_owned(),
            });
        }
        Ok(())
    }

    /// How many pieces a record has.
    fn pieces_of(&self, tree_key: &[u8]) -> Result<u32, EngineError> {
        if !self.cut {
            return Ok(0);
        }
        let stored = self
            .db
            .get(tree_key)
            .map_err(|error| classify("reading a record", &error))?;
        Ok(stored.map_or(0, |stored| cut_length(&stored).map_or(0, pieces)))
    }

    fn translate(&mut self, batch: Batch) -> Result<sled::Batch, EngineError> {
        let mut out = sled::Batch::default();
        let mut stored = Vec::new();
        for Operation { space, key, value } in last_changes(batch) {
            let tree_key = tree_key(space, &key);
            let before = self.pieces_of(&tree_key)?;
            let after = match value {
                None => {
                    out.remove(tree_key.as_slice());
                    0
                }
                Some(value) if value.len() < CHUNK_BYTES => {
                    stored.clear();
                    stored.push(WHOLE_VALUE);
                    stored.extend_from_slice(&value);
                    out.insert(tree_key.as_slice(), stored.as_slice());
                    0
                }
                Some(value) => {
                    self.cut = true;
                    for (piece, bytes) in (0..).zip(value.chunks(CHUNK_BYTES)) {
                        out.insert(piece_key(&tree_key, piece), bytes);
                    }
                    let mut head = vec![CUT_VALUE];
                    head.extend_from_slice(&(value.len() as u64).to_be_bytes());
                    out.insert(tree_key.as_slice(), head);
                    pieces(value.len())
                }
            };
            for piece in after..before {
                out.remove(piece_key(&tree_key, piece));
            }
        }
        Ok(out)
    }

    /// The value that is stored as `stored` under `tree_key`.
    fn assemble(&self, tree_key: &[u8], stored: IVec) -> Result<Bytes, EngineError> {
        let damaged = |detail: &str| EngineError::Damaged {
            space: space_of(tree_key),
            key: Bytes::copy_from_slice(&tree_key[1..]),
            detail: detail.to_owned(),
        };
        match stored.first() {
            // Sharing sled's own buffer costs an allocation, which is more than copying a little.
            Some(&WHOLE_VALUE) if stored.len() <= 512 => Ok(Bytes::copy_from_slice(&stored[1..])),
            Some(&WHOLE_VALUE) => Ok(Bytes::from_owner(stored).slice(1..)),
            Some(&CUT_VALUE) => {
                let length = cut_length(&stored).ok_or_else(|| damaged("its head is cut short"))?;
                let mut value = BytesMut::new();
                for piece in 0..pieces(length) {
                    let bytes = self.db.get(piece_key(tree_key, piece));
                    let bytes = bytes.map_err(|error| classify("reading a piece", &error))?;
                    value.extend_from_slice(&bytes.ok_or_else(|| damaged("a piece of it is missing"))?);
                }
                if value.len() == length {
                    Ok(value.freeze())
                } else {
                    Err(damaged("its pieces are of another length"))
                }
            }
            _ => Err(damaged("it is of an unknown kind")),
        }
    }
}

impl Engine for SledEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let tree_key = tree_key(space, key);
        match self
            .db
            .get(&tree_key)
            .map_err(|error| classify("reading a record", &error))?
        {
            None => Ok(None),
            Some(stored) => self.assemble(&tree_key, stored).map(Some),
        }
    }

    fn scan(&self, space: Space, from: &[u8], until: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        if until.is_some_and(|until| until <= from) {
            return Ok(());
        }
        let end = until.map_or_else(|| vec![space.tag() + 1], |until| tree_key(space, until));
        for record in self.db.range(tree_key(space, from)..end) {
            let (tree_key, stored) = record.map_err(|error| classify("scanning", &error))?;
            let flow = match stored.first() {
                Some(&WHOLE_VALUE) => visit(&tree_key[1..], &stored[1..]),
                _ => visit(&tree_key[1..], &self.assemble(&tree_key, stored)?),
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), EngineError> {
        batch.check()?;
        self.check_usable()?;
        let bytes = batch.bytes();
        self.check_room(bytes)?;
        self.bound_unsynced()?;
        let batch = self.translate(batch)?;
        if let Err(error) = self.db.apply_batch(batch) {
            self.shared.failed.store(true, Ordering::Relaxed);
            std::mem::forget(self.db.clone());
            return Err(classify("writing a batch", &error));
        }
        self.shared.applied_bytes.fetch_add(bytes as u64, Ordering::Release);
        Ok(())
    }

    fn room(&self) -> Result<(), EngineError> {
        self.check_usable()?;
        self.room_for(0)
    }

    fn syncer(&self) -> Box<dyn Syncer> {
        Box::new(SledSyncer::of(self))
    }

    fn size(&self) -> EngineSize {
        EngineSize {
            disk_bytes: self.db.size_on_disk().unwrap_or(0),
            cache_limit_bytes: self.options.cache_bytes,
        }
    }
}

struct SledSyncer {
    db: sled::Db,
    shared: Arc<Shared>,
}

impl SledSyncer {
    fn of(engine: &SledEngine) -> SledSyncer {
        SledSyncer {
            db: engine.db.clone(),
            shared: engine.shared.clone(),
        }
    }
}

impl Syncer for SledSyncer {
    fn sync(&mut self) -> Result<(), EngineError> {
        let applied = self.shared.applied_bytes.load(Ordering::Acquire);
        let flushed = self.db.flush().map_err(|error| classify("flushing", &error));
        let synced = flushed.and_then(|_| {
            self.shared
                .file
                .sync_data()
                .map_err(|error| EngineError::from_io("fdatasync", &error))
        });
        match synced {
            Ok(()) => {
                self.shared.synced_bytes.fetch_max(applied, Ordering::Release);
            }
            // After a failed fdatasync the kernel may have dropped the dirty pages: trying again would succeed and lie.
            Err(_) => self.shared.failed.store(true, Ordering::Relaxed),
        }
        synced
    }
}

/// sled clones its errors without the number of the system's error, but keeps its class.
fn classify(doing: &'static str, error: &sled::Error) -> EngineError {
    match error {
        sled::Error::Io(error) => EngineError::from_io(doing, error),
        sled::Error::Corruption { at, .. } => EngineError::Corrupt {
            detail: format!("{doing}: at {at:?}"),
        },
        other => EngineError::Failed {
            detail: format!("{doing}: {other}"),
        },
    }
}

fn tree_key(space: Space, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(space.tag());
    out.extend_from_slice(key);
    out
}

/// Two records cannot share a piece's key: what is added has a fixed length.
fn piece_key(tree_key: &[u8], piece: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(tree_key.len() + 5);
    out.push(PIECE);
    out.extend_from_slice(tree_key);
    out.extend_from_slice(&piece.to_be_bytes());
    out
}

fn space_of(tree_key: &[u8]) -> Space {
    let tag = tree_key.first().copied();
    Space::ALL
        .into_iter()
        .find(|space| Some(space.tag()) == tag)
        .unwrap_or(Space::Meta)
}

fn cut_length(stored: &[u8]) -> Option<usize> {
    let (&kind, length) = stored.split_first()?;
    let length = u64::from_be_bytes(length.try_into().ok()?);
    (kind == CUT_VALUE).then_some(usize::try_from(length).ok()?)
}

fn pieces(length: usize) -> u32 {
    u32::try_from(length.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX)
}

/// One change a record, the last: sled drops the earlier ones by itself, but not the pieces that they would leave behind.
fn last_changes(batch: Batch) -> Vec<Operation> {
    let mut operations = batch.operations;
    if operations
        .iter()
        .any(|operation| operation.value.as_ref().is_some_and(|value| value.len() >= CHUNK_BYTES))
    {
        let mut seen = HashSet::with_capacity(operations.len());
        operations.reverse();
        operations.retain(|operation| seen.insert((operation.space, operation.key.clone())));
    }
    operations
}

fn open_database(path: &Path, options: SledOptions) -> Result<sled::Db, EngineError> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(None);
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|_| EngineError::Corrupt {
            detail: "sled stopped while it recovered".to_owned(),
        })?
        .map_err(|error| classify("opening the engine", &error))
}

fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes what opening created durable: the files and their names.
fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        } else {
            sync_directory(&entry.path())?;
        }
    }
    sync_directory(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tempfile::TempDir;

    use super::*;
    use crate::engine::conformance::{Place, conformance};

    struct Directory(TempDir);

    impl Directory {
        fn engine(&self) -> PathBuf {
            self.0.path().join("engine")
        }
    }

    impl Place for Directory {
        type Opened = SledEngine;

        fn empty() -> Directory {
            Directory(tempfile::tempdir().unwrap())
        }

        fn open(&self) -> SledEngine {
            SledEngine::open(
                &self.engine(),
                SledOptions {
                    cache_bytes: 8 << 20,
                    ..SledOptions::default()
                },
            )
            .unwrap()
        }
    }

    conformance!(suite, Directory);

    /// sled never syncs its blob files, so no page may ever be large enough to become one.
    #[test]
    fn the_worst_keys_and_values_leave_no_blob() {
        let place = Directory::empty();
        let mut engine = place.open();
        for number in 0..1500_u32 {
            let mut key = vec![b'k'; MAX_ENGINE_KEY_BYTES];
            key[MAX_ENGINE_KEY_BYTES / 2..][..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
            key[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
            let mut batch = Batch::new();
            let size = if number < 300 { CHUNK_BYTES - 1 } else { 10 };
            batch.put(Space::Object, key, vec![number as u8; size]);
            engine.apply(batch).unwrap();
        }
        engine.syncer().sync().unwrap();
        assert_eq!(fs::read_dir(place.engine().join("blobs")).unwrap().count(), 0);
    }

    #[test]
    fn an_unfinished_snapshot_does_not_keep_the_engine_from_opening() {
        let place = Directory::empty();
        let mut engine = place.open();
        let mut batch = Batch::new();
        batch.put(Space::Meta, &b"k"[..], &b"v"[..]);
        engine.apply(batch).unwrap();
        drop(engine);
        fs::write(
            place.engine().join("snap.FFFFFFFFFFFFFFFF.generating"),
            b"half a snapshot",
        )
        .unwrap();
        assert_eq!(place.open().get(Space::Meta, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn a_disk_without_room_refuses_batches_and_serves_on() {
        let place = Directory::empty();
        drop(place.open());
        let options = SledOptions {
            reserve_bytes: u64::MAX / 8,
            ..SledOptions::default()
        };
        let mut engine = SledEngine::open(&place.engine(), options).unwrap();
        let mut batch = Batch::new();
        batch.put(Space::Meta, &b"k"[..], &b"v"[..]);
        for error in [engine.room().unwrap_err(), engine.apply(batch).unwrap_err()] {
            assert!(
                matches!(
                    error,
                    EngineError::Full {
                        before_writing: true,
                        ..
                    }
                ),
                "{error}"
            );
            assert!(error.usable());
        }
        assert_eq!(engine.get(Space::Meta, b"k"), Ok(None));
        engine.syncer().sync().unwrap();
    }

    #[test]
    fn garbage_in_the_files_is_an_error() {
        let place = Directory::empty();
        let mut engine = place.open();
        let mut batch = Batch::new();
        batch.put(Space::Meta, &b"k"[..], &b"v"[..]);
        engine.apply(batch).unwrap();
        drop(engine);
        drop(place.open());
        let snapshot = fs::read_dir(place.engine()).unwrap().map(|entry| entry.unwrap().path());
        let snapshot = snapshot
            .filter(|path| path.to_string_lossy().contains("snap."))
            .last()
            .unwrap();
        fs::write(snapshot, b"not a snapshot at all").unwrap();
        let error = SledEngine::open(&place.engine(), SledOptions::default()).unwrap_err();
        assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
    }

    #[test]
    fn a_second_opening_is_refused() {
        let place = Directory::empty();
        let _engine = place.open();
        let error = SledEngine::open(&place.engine(), SledOptions::default()).unwrap_err();
        assert!(matches!(error, EngineError::Io { .. }), "{error}");
    }
}
