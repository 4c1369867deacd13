//! The engine over fjall 3.1, a log-structured merge tree: a keyspace a space, one journal, so that a batch is atomic over all spaces.
//!
//! What fjall 3.1.13 and lsm-tree 3.1.10 do, from their source, and what follows for this file:
//! - A commit hands the whole batch to the operating system (`PersistMode::Buffer`): kill -9 loses nothing, power loss what no
//!   sync has covered. `persist(SyncData)` is an `fdatasync` of the journal, but under the lock that a commit needs: the node's
//!   thread would wait for the disk. So [`Syncer::sync`] calls `fdatasync` on a handle of its own of the newest journal.
//! - A full journal is synced before the next is begun, and the directory after; tables, manifests and their directories are
//!   synced before they replace anything; the journal is synced before a memtable of it becomes a table. Files of large values
//!   are synced, but not their directory: that they are found after power loss rests on file systems that sync a new file with
//!   its name (ext4, xfs, btrfs).
//! - The journal's recovery trusts and drops too much: `fjall/journal.rs` reads the journals first.
//! - Opening deletes a keyspace whose manifest is missing, and makes a new database where the version file is missing: both are
//!   refused here. A database is made beside its place and moved there whole, since half of one cannot be opened.
//! - A commit waits for slow workers in steps of 100 ms, and for ever where a worker has died: [`FjallEngine::apply`] waits
//!   before, in small steps, and looks after the worker. With a second worker one spins while the other compacts, so there is one.
//! - Every commit into a full memtable puts a message into the worker's queue of 1000, and the worker puts some there itself and waits
//!   for room: memtables are sealed before they are seen to be full.
//! - A failed write, flush or compaction poisons the database. Room is therefore checked before a batch; see [`FjallOptions`].
//! - Keys must not be empty: keys of zeros only are stored one zero longer, which keeps the order.
//! - What is set for a keyspace when it is made is kept on disk and counts from then on.

mod journal;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, LsmError, OwnedWriteBatch,
    PersistMode,
};

use super::release::wait_for_release;
use super::whole::make_whole;
use super::{Batch, Engine, EngineError, EngineSize, Operation, Space, Syncer, Visit};
use crate::directory::{free_bytes, sync_directory};

/// fjall's own keyspace, and ours.
const KEYSPACES: usize = 1 + Space::ALL.len();

/// Sealed journals are emptied into tables when together they are larger; recovery reads so much, and the one that is written to.
const JOURNALS_BYTES: u64 = 64 << 20;

/// The size of a table: the unit of a compaction, and of what it needs twice for a while.
const TABLE_BYTES: u64 = 16 << 20;

/// Objects from this size on are written beside their table once, instead of with it at every compaction.
const SEPARATED_BYTES: u32 = 512;

/// How many files are kept open.
const OPEN_FILES: usize = 256;

/// Batches wait while so many memtables of a space are waiting to be written.
const SEALED_MEMTABLES: usize = 3;

/// Batches wait while a space has so many tables that overlap, each of which a read may have to look at.
const OVERLAPPING_TABLES: usize = 16;

/// Free space is asked for again after so many bytes.
const ROOM_CHECK_BYTES: u64 = 1 << 20;

/// How to open the engine.
#[derive(Clone, Copy, Debug)]
pub struct FjallOptions {
    /// The bound of the cache of blocks, in bytes (default 128 MiB).
    pub cache_bytes: u64,
    /// How much is gathered in memory before it becomes a table, in bytes (default 16 MiB; a quarter of it for all but objects).
    /// Counts when the database is made. Up to four times as much is in memory while the disk is slow.
    pub memtable_bytes: u64,
    /// Batches are refused as [`EngineError::Full`] while the disk has less free space than this (default 256 MiB): a compaction
    /// that fails poisons the database, and opening it begins with one.
    pub reserve_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> FjallOptions {
        FjallOptions {
            cache_bytes: 128 << 20,
            memtable_bytes: 16 << 20,
            reserve_bytes: 256 << 20,
        }
    }
}

impl FjallOptions {
    fn memtable_bytes(self, space: Space) -> u64 {
        match space {
            Space::Object => self.memtable_bytes,
            Space::Index | Space::Log | Space::Hint | Space::Meta | Space::Expiry => self.memtable_bytes / 4,
        }
    }

    fn keyspace(self, space: Space) -> KeyspaceCreateOptions {
        let compaction = Leveled::default().with_table_target_size(TABLE_BYTES);
        let separation = KvSeparationOptions::default().separation_threshold(SEPARATED_BYTES);
        KeyspaceCreateOptions::default()
            .max_memtable_size(self.memtable_bytes(space))
            .compaction_strategy(Arc::new(compaction))
            .with_kv_separation((space == Space::Object).then_some(separation))
    }
}

/// Records in a fjall database. See the module.
pub struct FjallEngine {
    database: Database,
    keyspaces: [Keyspace; Space::ALL.len()],
    shared: Arc<Shared>,
    options: FjallOptions,
    room_checked_at: u64,
}

/// What the engine and its syncers know together.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Bytes of the journal, over all batches of this engine.
    applied_bytes: AtomicU64,
    synced_bytes: AtomicU64,
    failed: AtomicBool,
}

impl FjallEngine {
    /// Opens the engine in a directory, which is made if need be.
    ///
    /// # Errors
    /// [`EngineError::Io`] also where another process has it open, [`EngineError::Corrupt`] where its files do not hold together.
    pub fn open(path: &Path, options: FjallOptions) -> Result<FjallEngine, EngineError> {
        let doing = "opening the engine";
        let io = |error: io::Error| EngineError::from_io(doing, &error);
        make_whole(path, |unfinished| {
            drop(open_database(unfinished, options)?);
            sync_directory(&unfinished.join("keyspaces")).map_err(io)
        })?;
        check_files(path)?;
        File::open(path.join("lock"))
            .and_then(|lock| wait_for_release(&lock))
            .map_err(io)?;
        journal::repair(path)?;
        let (database, keyspaces) = open_database(path, options)?;
        let shared = Shared {
            path: path.to_owned(),
            applied_bytes: AtomicU64::new(0),
            synced_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        Ok(FjallEngine {
            database,
            keyspaces,
            shared: Arc::new(shared),
            options,
            room_checked_at: 0,
        })
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        &self.keyspaces[usize::from(space.tag()) - 1]
    }

    fn check_room(&mut self, bytes: u64) -> Result<(), EngineError> {
        let written = self.shared.applied_bytes.load(Ordering::Relaxed) + bytes;
        if written < self.room_checked_at + ROOM_CHECK_BYTES && self.room_checked_at > 0 {
            return Ok(());
        }
        self.room_for(bytes)?;
        self.room_checked_at = written;
        Ok(())
    }

    fn room_for(&self, bytes: u64) -> Result<(), EngineError> {
        let free = free_bytes(&self.shared.path);
        let free = free.map_err(|error| EngineError::from_io("asking for free space", &error))?;
        // A batch is written to the journal and to a table, and the table once more while its level is compacted.
        let needed = self.options.reserve_bytes + 3 * bytes;
        if free >= needed {
            return Ok(());
        }
        let path = self.shared.path.display();
        Err(EngineError::Full {
            doing: "a batch",
            before_writing: true,
            detail: format!("{free} bytes are free in {path}, {needed} are needed"),
        })
    }

    /// Keeps what is not yet synced below what the journal's recovery takes for the tail that power loss may tear.
    fn bound_unsynced(&self) -> Result<(), EngineError> {
        let synced = self.shared.synced_bytes.load(Ordering::Relaxed);
        if self.shared.applied_bytes.load(Ordering::Relaxed) - synced > journal::UNSYNCED_BYTES {
            FjallSyncer::of(&self.shared).sync()
        } else {
            Ok(())
        }
    }

    /// Waits while the worker is behind; without end only as long as it lives.
    fn wait_for_worker(&self) -> Result<(), EngineError> {
        for space in Space::ALL {
            let keyspace = self.keyspace(space);
            // The worker is asked for this, too, by every commit from then on. A thousand that ask while it compacts fill its queue, and
            // then it waits for ever to tell itself of the flush: no commit may find a memtable that is full.
            if keyspace.tree.active_memtable().size() > self.options.memtable_bytes(space) {
                let rotated = keyspace.rotate_memtable();
                rotated.map_err(|error| self.failure("writing a memtable", &error))?;
            }
            while keyspace.sealed_memtable_count() >= SEALED_MEMTABLES
                || keyspace.l0_table_count() >= OVERLAPPING_TABLES
            {
                self.check_alive()?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn check_alive(&self) -> Result<(), EngineError> {
        let alive = self.database.persist(PersistMode::Buffer);
        alive.map_err(|error| self.failure("writing in the background", &error))
    }

    fn check_usable(&self) -> Result<(), EngineError> {
        if self.shared.failed.load(Ordering::Relaxed) {
            return Err(failed());
        }
        Ok(())
    }

    /// Classifies an error after which the engine has to be reopened. A poisoned database does not say what poisoned it.
    fn failure(&self, doing: &'static str, error: &fjall::Error) -> EngineError {
        self.shared.failed.store(true, Ordering::Relaxed);
        match (error, self.room_for(0)) {
            (fjall::Error::Poisoned, Err(EngineError::Full { detail, .. })) => EngineError::Full {
                doing,
                before_writing: false,
                detail,
            },
            _ => classify(doing, error),
        }
    }
}

impl Engine for FjallEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.keyspace(space).get(&*stored_key(key)) {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(fjall::Error::Storage(LsmError::ChecksumMismatch { .. })) => Err(EngineError::Damaged {
                space,
                key: Bytes::copy_from_slice(key),
                detail: "the checksum of its block is wrong".to_owned(),
            }),
            Err(error) => Err(classify("reading a record", &error)),
        }
    }

    fn scan(&self, space: Space, from: &[u8], until: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        if until.is_some_and(|until| until <= from) {
            return Ok(());
        }
        let from = stored_key(from);
        let until = until.map(stored_key);
        let range = (
            Bound::Included(&*from),
            until.as_deref().map_or(Bound::Unbounded, Bound::Excluded),
        );
        for record in self.keyspace(space).range::<&[u8], _>(range) {
            let (key, value) = record.into_inner().map_err(|error| classify("scanning", &error))?;
            if visit(given_key(&key), &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), EngineError> {
        batch.check()?;
        self.check_usable()?;
        let bytes = journal::length(&batch);
        self.check_room(bytes)?;
        self.bound_unsynced()?;
        self.wait_for_worker()?;
        let commit = OwnedWriteBatch::with_capacity(self.database.clone(), batch.len());
        let mut commit = commit.durability(Some(PersistMode::Buffer));
        for Operation { space, key, value } in batch {
            let key = match stored_key(&key) {
                Cow::Borrowed(_) => key,
                Cow::Owned(longer) => longer.into(),
            };
            match value {
                Some(value) => commit.insert(self.keyspace(space), key, value),
                None => commit.remove(self.keyspace(space), key),
            }
        }
        commit
            .commit()
            .map_err(|error| self.failure("writing a batch", &error))?;
        self.shared.applied_bytes.fetch_add(bytes, Ordering::Release);
        Ok(())
    }

    fn room(&self) -> Result<(), EngineError> {
        self.check_usable()?;
        self.room_for(0)
    }

    fn syncer(&self) -> Box<dyn Syncer> {
        Box::new(FjallSyncer::of(&self.shared))
    }

    fn size(&self) -> EngineSize {
        let tables = self.keyspaces.iter().map(|keyspace| keyspace.disk_space()).sum::<u64>();
        EngineSize {
            disk_bytes: tables + journal::disk_bytes(&self.shared.path).unwrap_or(0),
            cache_limit_bytes: self.options.cache_bytes,
        }
    }
}

/// Keeps the newest journal open, so that an error of writing it back is reported here and to nobody else.
#[derive(Debug)]
struct FjallSyncer {
    shared: Arc<Shared>,
    journal: Option<(u64, File)>,
}

impl FjallSyncer {
    fn of(shared: &Arc<Shared>) -> FjallSyncer {
        FjallSyncer {
            shared: shared.clone(),
            journal: None,
        }
    }

    fn newest_journal(&mut self) -> io::Result<&File> {
        loop {
            let Some((number, path)) = journal::newest(&self.shared.path)? else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let file = match self.journal.take() {
                Some((open, file)) if open == number => Ok(file),
                _ => File::open(path),
            };
            match file {
                // It was sealed, written to tables and removed since: there is a newer one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => return Ok(&self.journal.insert((number, file?)).1),
            }
        }
    }
}

impl Syncer for FjallSyncer {
    fn sync(&mut self) -> Result<(), EngineError> {
        if self.shared.failed.load(Ordering::Relaxed) {
            return Err(failed());
        }
        let applied = self.shared.applied_bytes.load(Ordering::Acquire);
        match self.newest_journal().and_then(File::sync_data) {
            Ok(()) => {
                self.shared.synced_bytes.fetch_max(applied, Ordering::Release);
                Ok(())
            }
            // After a failed fdatasync the kernel may have dropped the dirty pages: trying again would succeed and lie.
            Err(error) => {
                self.shared.failed.store(true, Ordering::Relaxed);
                Err(EngineError::from_io("fdatasync", &error))
            }
        }
    }
}

fn failed() -> EngineError {
    EngineError::Failed {
        detail: "see the log for it".to_owned(),
    }
}

fn classify(doing: &'static str, error: &fjall::Error) -> EngineError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error))
            if error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            EngineError::from_io(doing, error)
        }
        fjall::Error::Locked => EngineError::Io {
            doing,
            kind: io::ErrorKind::ResourceBusy,
            detail: "another process has it open".to_owned(),
        },
        fjall::Error::Poisoned => failed(),
        other => EngineError::Corrupt {
            detail: format!("{doing}: {other}"),
        },
    }
}

/// What fjall keeps a key as: never empty, and in the same order. Keys of zeros only come before all others, and stay there.
fn stored_key(key: &[u8]) -> Cow<'_, [u8]> {
    if key.iter().all(|byte| *byte == 0) {
        Cow::Owned(vec![0; key.len() + 1])
    } else {
        Cow::Borrowed(key)
    }
}

fn given_key(stored: &[u8]) -> &[u8] {
    match stored {
        [0, rest @ ..] if rest.iter().all(|byte| *byte == 0) => rest,
        other => other,
    }
}

fn open_database(path: &Path, options: FjallOptions) -> Result<(Database, [Keyspace; Space::ALL.len()]), EngineError> {
    let open = || {
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .worker_threads(1)
            .max_cached_files(Some(OPEN_FILES))
            .max_journaling_size(JOURNALS_BYTES)
            .open()?;
        let keyspace = |space: Space| database.keyspace(space.name(), || options.keyspace(space));
        let [object, index, log, hint, meta, expiry] = Space::ALL.map(keyspace);
        Ok((database, [object?, index?, log?, hint?, meta?, expiry?]))
    };
    catch_unwind(AssertUnwindSafe(open))
        .map_err(|_| EngineError::Corrupt {
            detail: "fjall stopped while it recovered".to_owned(),
        })?
        .map_err(|error| classify("opening the engine", &error))
}

/// Refuses what fjall would replace by something empty.
fn check_files(path: &Path) -> Result<(), EngineError> {
    let keyspaces = (0..KEYSPACES).map(|number| path.join("keyspaces").join(number.to_string()).join("current"));
    for needed in keyspaces.chain([path.join("version"), path.join("lock")]) {
        if !needed.is_file() {
            return Err(EngineError::Corrupt {
                detail: format!("there is no {}", needed.display()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
