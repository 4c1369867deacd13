//! The engine on its files: torn tails, damage, missing pieces and full disks.

#![allow(clippy::unwrap_used)]
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::engine::conformance::{Place, conformance};

struct Directory(TempDir);

impl Directory {
    fn engine(&self) -> PathBuf {
        self.0.path().join("engine")
    }

    fn try_open(&self) -> Result<FjallEngine, EngineError> {
        let options = FjallOptions {
            cache_bytes: 8 << 20,
            // So little that tables are written and compacted in every history.
            memtable_bytes: 256 << 10,
            reserve_bytes: 0,
        };
        FjallEngine::open(&self.engine(), options)
    }

    /// The journal that is written to, as it is on the disk.
    fn newest_journal(&self) -> PathBuf {
        journal::newest(&self.engine()).unwrap().unwrap().1
    }
}

impl Place for Directory {
    type Opened = FjallEngine;

    fn empty() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> FjallEngine {
        self.try_open().unwrap()
    }
}

conformance!(suite, Directory);

fn apply(engine: &mut FjallEngine, number: u32, bytes: usize) {
    let mut batch = Batch::new();
    batch.put(Space::Log, number.to_be_bytes().to_vec(), vec![number as u8; bytes]);
    batch.put(Space::Meta, &b"last"[..], number.to_be_bytes().to_vec());
    engine.apply(batch).unwrap();
}

fn last(engine: &FjallEngine) -> Option<u32> {
    let last = engine.get(Space::Meta, b"last").unwrap();
    last.map(|bytes| u32::from_be_bytes(bytes[..].try_into().unwrap()))
}

/// Where in a journal the n-th batch ends.
fn batch_ends(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let windows = bytes.windows(4).enumerate();
    windows
        .filter_map(|(at, window)| (window == b"FJL\x03").then_some(at + 4))
        .collect()
}

fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_torn_tail_is_cut_to_whole_batches() {
    // Where the journal loses how many bytes behind the second of three batches: all of the third, its head, its middle, its end.
    for (from, lost) in [(0, 20_000), (0, 1), (5000, 4096), (10_000, 10_000)] {
        let place = Directory::empty();
        let mut engine = place.open();
        (1..=3).for_each(|number| apply(&mut engine, number, 10_000));
        drop(engine);
        let journal = place.newest_journal();
        overwrite(&journal, batch_ends(&journal)[1] + from, &vec![0; lost]);
        let mut engine = place.open();
        assert_eq!(last(&engine), Some(2), "{lost} bytes lost at {from}");
        assert_eq!(engine.get(Space::Log, &3_u32.to_be_bytes()), Ok(None));
        apply(&mut engine, 4, 100);
        drop(engine);
        assert_eq!(last(&place.open()), Some(4));
    }
}

#[test]
fn damage_in_front_of_what_was_synced_is_an_error() {
    let place = Directory::empty();
    let mut engine = FjallEngine::open(&place.engine(), FjallOptions::default()).unwrap();
    (1..=12).for_each(|number| apply(&mut engine, number, 1 << 20));
    drop(engine);
    let journal = place.newest_journal();
    for damage in [b"\0", b"\x02"] {
        overwrite(&journal, batch_ends(&journal)[1], damage);
        let error = place.try_open().err().unwrap();
        assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
    }
    overwrite(&journal, batch_ends(&journal)[1], b"\x01");
    assert_eq!(last(&place.open()), Some(12));
}

#[test]
fn damage_in_a_sealed_journal_is_an_error() {
    let place = Directory::empty();
    let mut engine = place.open();
    apply(&mut engine, 1, 10_000);
    drop(engine);
    let sealed = place.newest_journal();
    let next = sealed.with_file_name("7.jnl");
    fs::copy(&sealed, &next).unwrap();
    overwrite(&sealed, 5000, b"x");
    let error = place.try_open().err().unwrap();
    assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
}

#[test]
fn files_that_are_missing_are_an_error() {
    for missing in ["version", "keyspaces/0/current", "keyspaces/3/current"] {
        let place = Directory::empty();
        let mut engine = place.open();
        apply(&mut engine, 1, 10);
        drop(engine);
        fs::remove_file(place.engine().join(missing)).unwrap();
        let error = place.try_open().err().unwrap();
        assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_damaged_table_is_damage_and_not_absence() {
    let place = Directory::empty();
    let mut engine = place.open();
    for number in 0..200 {
        apply(&mut engine, number, 4000);
    }
    for space in Space::ALL {
        engine.keyspace(space).rotate_memtable_and_wait().unwrap();
    }
    drop(engine);
    let tables = fs::read_dir(place.engine().join("keyspaces/3/tables")).unwrap();
    for table in tables {
        let path = table.unwrap().path();
        let mut byte = [0];
        let mut file = File::open(&path).unwrap();
        file.seek(SeekFrom::Start(1000)).unwrap();
        file.read_exact(&mut byte).unwrap();
        overwrite(&path, 1000, &[byte[0] ^ 1]);
    }
    let engine = place.open();
    let read = (0..200_u32).map(|number| engine.get(Space::Log, &number.to_be_bytes()));
    let read = read.collect::<Vec<_>>();
    assert!(
        read.iter()
            .any(|value| matches!(value, Err(EngineError::Damaged { .. })))
    );
    assert!(!read.contains(&Ok(None)));
}

#[test]
fn a_database_that_was_not_finished_is_made_again() {
    let place = Directory::empty();
    let unfinished = place.engine().with_extension("unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("0.jnl"), b"half").unwrap();
    let mut engine = place.open();
    apply(&mut engine, 1, 10);
    assert!(!unfinished.exists());
}

#[test]
fn a_sync_finds_the_journal_that_is_written_to() {
    let place = Directory::empty();
    let mut engine = FjallEngine::open(&place.engine(), FjallOptions::default()).unwrap();
    let mut syncer = FjallSyncer::of(&engine.shared);
    for number in 0..120 {
        apply(&mut engine, number, 1 << 20);
        let (newest, _) = journal::newest(&place.engine()).unwrap().unwrap();
        syncer.sync().unwrap();
        assert!(syncer.journal.as_ref().unwrap().0 >= newest);
    }
    assert!(syncer.journal.as_ref().unwrap().0 > 0, "the journal never became full");
    drop(engine);
    assert_eq!(last(&place.open()), Some(119));
}

#[test]
fn a_disk_without_room_refuses_batches_and_serves_on() {
    let place = Directory::empty();
    let options = FjallOptions {
        reserve_bytes: u64::MAX / 8,
        ..FjallOptions::default()
    };
    let mut engine = FjallEngine::open(&place.engine(), options).unwrap();
    let mut batch = Batch::new();
    batch.put(Space::Meta, &b"k"[..], &b"v"[..]);
    for error in [engine.room().unwrap_err(), engine.apply(batch).unwrap_err()] {
        assert!(error.usable(), "{error}");
    }
    assert_eq!(engine.get(Space::Meta, b"k"), Ok(None));
    engine.syncer().sync().unwrap();
}

#[test]
fn a_second_opening_is_refused() {
    let place = Directory::empty();
    let _engine = place.open();
    let error = place.try_open().err().unwrap();
    assert!(matches!(error, EngineError::Io { .. }), "{error}");
}

proptest! {
    #[test]
    fn prop_stored_keys_keep_the_order(
        one in prop::collection::vec(0..3_u8, 0..5),
        other in prop::collection::vec(0..3_u8, 0..5),
    ) {
        let stored = stored_key(&one);
        prop_assert_eq!(given_key(&stored), &one[..]);
        prop_assert!(!stored.is_empty());
        prop_assert_eq!(stored.cmp(&stored_key(&other)), one.cmp(&other));
    }
}

#[test]
fn no_commit_finds_a_memtable_that_is_full_so_that_the_queue_of_the_worker_stays_short() {
    let directory = Directory::empty();
    let mut engine = directory.open();
    for number in 0..3000_u32 {
        let mut batch = Batch::new();
        batch.put(Space::Log, number.to_be_bytes().to_vec(), vec![7; 200]);
        engine.apply(batch).unwrap();
        let size = engine.keyspace(Space::Log).tree.active_memtable().size();
        // By one batch at most, and the worker has been asked once.
        assert!(
            size < engine.options.memtable_bytes(Space::Log) + 1024,
            "batch {number}: {size}"
        );
    }
}
