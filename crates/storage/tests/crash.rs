//! kill -9 of a process that writes, on every engine with files: every batch whose sync was acknowledged is there whole, and no batch is there by half.
//!
//! The writer is this test binary, started again with an environment variable.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Timestamp, Version};
use annulus_ring::{Address, Bucket, Key, Partitions};
use annulus_storage::Replica;
use annulus_storage::engine::Engine;
use annulus_storage::engine::fjall::{FjallEngine, FjallOptions};
use annulus_storage::engine::sled::{SledEngine, SledOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DIRECTORY: &str = "ANNULUS_CRASH_TEST_DIRECTORY";
const ROUND: &str = "ANNULUS_CRASH_TEST_ROUND";
const KEYS_PER_BATCH: u64 = 7;
const DIFFERENT_BATCHES: u64 = 40;

trait OnDisk: Engine + Sized {
    /// The test that writes, in the process that is killed.
    const WRITER: &str;

    fn open(directory: &Path) -> Self;
}

impl OnDisk for SledEngine {
    const WRITER: &str = "writer_on_sled_that_is_killed";

    fn open(directory: &Path) -> SledEngine {
        let options = SledOptions {
            cache_bytes: 4 << 20,
            reserve_bytes: 0,
        };
        SledEngine::open(directory, options).unwrap()
    }
}

impl OnDisk for FjallEngine {
    const WRITER: &str = "writer_on_fjall_that_is_killed";

    fn open(directory: &Path) -> FjallEngine {
        let options = FjallOptions {
            cache_bytes: 4 << 20,
            // So little that the writer is killed while tables are written and compacted, too.
            memtable_bytes: 256 << 10,
            reserve_bytes: 0,
        };
        FjallEngine::open(directory, options).unwrap()
    }
}

fn open<E: OnDisk>(directory: &Path) -> Replica<E> {
    Replica::open(E::open(directory), Partitions::default()).unwrap()
}

/// The keys of a batch; the keys of batch 41 are those of batch 1, so that batches overwrite each other as wholes.
fn addresses(batch: u64) -> impl Iterator<Item = Address> {
    let bucket = Bucket::parse("b").unwrap();
    (0..KEYS_PER_BATCH).map(move |number| {
        let key = Key::parse(format!("{}/{number}", batch % DIFFERENT_BATCHES)).unwrap();
        Address::new(bucket.clone(), key, 3, Partitions::default())
    })
}

#[test]
fn writer_on_sled_that_is_killed() {
    write_until_killed::<SledEngine>();
}

#[test]
fn writer_on_fjall_that_is_killed() {
    write_until_killed::<FjallEngine>();
}

/// Writes batches until it is killed, and prints the number of each that is synced. Does nothing where it is not told a directory.
fn write_until_killed<E: OnDisk>() {
    let (Ok(directory), Ok(round)) = (std::env::var(DIRECTORY), std::env::var(ROUND)) else {
        return;
    };
    let round = round.parse::<u64>().unwrap();
    let mut random = StdRng::seed_from_u64(round);
    let mut replica = open::<E>(Path::new(&directory));
    let mut syncer = replica.syncer();
    loop {
        let number = 1 + last_batch(&replica);
        let actor = Actor {
            node: 1,
            incarnation: round,
        };
        // Some values are cut up: their pieces must appear and vanish together, too.
        let size = if random.random_bool(0.1) {
            150_000
        } else {
            random.random_range(0..3000)
        };
        for address in addresses(number) {
            let dot = replica.next_dot(address.partition, actor);
            let mut value = number.to_be_bytes().to_vec();
            value.resize(8 + size, number as u8);
            let version = Version::new(value.into(), None, Vec::new(), Timestamp::default(), None);
            let delta = replica
                .read(&address)
                .unwrap()
                .write(dot, Some(version), None, ConflictPolicy::Siblings);
            replica
                .apply(&address, delta, &CausalContext::from_iter([dot]))
                .unwrap();
        }
        replica.put_meta("last", &number.to_be_bytes());
        assert_eq!(replica.commit().unwrap(), Some(number));
        if random.random_bool(0.7) {
            syncer.sync().unwrap();
            println!("\nsynced {number}");
        }
    }
}

fn last_batch(replica: &Replica<impl Engine>) -> u64 {
    let last = replica.get_meta("last").unwrap();
    last.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()))
}

#[test]
fn what_sled_acknowledged_survives_kill_9_and_no_batch_is_there_by_half() {
    kill_again_and_again::<SledEngine>();
}

#[test]
fn what_fjall_acknowledged_survives_kill_9_and_no_batch_is_there_by_half() {
    kill_again_and_again::<FjallEngine>();
}

fn kill_again_and_again<E: OnDisk>() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("engine");
    let mut random = StdRng::seed_from_u64(9);
    for round in 1..=12_u64 {
        let acknowledged = run_writer_and_kill_it(E::WRITER, &directory, round, random.random_range(1..60));
        let replica = open::<E>(&directory);
        let last = last_batch(&replica);
        assert!(
            last >= acknowledged,
            "batch {acknowledged} was synced, and {last} is the last there is"
        );
        check_batches(&replica, last);
    }
}

/// Returns the last batch that the writer said was synced.
fn run_writer_and_kill_it(test: &str, directory: &Path, round: u64, after: usize) -> u64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let number = |line: String| {
        line.strip_prefix("synced ")
            .map(|number| number.parse::<u64>().unwrap())
    };
    let acknowledged = lines.by_ref().filter_map(number).nth(after).unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    // What it said between the last line read and its death counts too.
    lines.filter_map(number).last().unwrap_or(acknowledged)
}

/// All keys of one batch hold the same batch's value, the last that wrote them; the log has every batch, whole.
fn check_batches(replica: &Replica<impl Engine>, last: u64) {
    for batch in last.saturating_sub(DIFFERENT_BATCHES - 1).max(1)..=last {
        for address in addresses(batch) {
            let object = replica.read(&address).unwrap();
            assert_eq!(object.versions().len(), 1);
            let value = &object.versions()[0].1.value;
            assert_eq!(u64::from_be_bytes(value[..8].try_into().unwrap()), batch);
            assert!(value[8..].iter().all(|byte| *byte == batch as u8));
        }
    }
    let mut next = 1;
    replica
        .log_since(0, &mut |batch| {
            assert_eq!((batch.number, batch.entries.len() as u64), (next, KEYS_PER_BATCH));
            next += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(next, last + 1);
    let listed = replica
        .list(&Bucket::parse("b").unwrap(), b"", b"", 1000, 0)
        .unwrap()
        .keys
        .len() as u64;
    assert_eq!(listed, KEYS_PER_BATCH * last.min(DIFFERENT_BATCHES));
}
