//! What replication costs on disk, measured on the engine that nodes use: the parts of `scripts/replication` that need no processes.
//!
//! `replication refill DIR [OBJECTS [BYTES [BATCH_BYTES]]]`: what an owner that is refilled has to store, written straight to the engine
//! by one thread, a sync a batch: the bound of a refill.
//! `replication log DIR [WRITES [BATCH]]`: bytes of log and clocks a write, before all owners have it and after.
//! `replication deletes DIR [KEYS]`: keys are written and deleted; what the directory is before, and after compaction.
//!
//! DIR is empty or does not exist. Each prints lines of a name and a number.

use std::error::Error;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::{Duration, Instant};

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Timestamp, Version};
use annulus_ring::{Address, Bucket, Key, PartitionId, Partitions};
use annulus_storage::Replica;
use annulus_storage::engine::fjall::{FjallEngine, FjallOptions};
use annulus_storage::engine::{Batch, Engine, Space};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

type Failure = Box<dyn Error>;

const REPLICAS: u8 = 3;
const BUCKET: &str = "figures";
/// Numbers as long as those of nodes are.
const ACTOR: Actor = Actor {
    node: 0x9e37_79b9_7f4a_7c15,
    incarnation: 1_764_000_000_000,
};
const IN_LOG: u64 = 500_000;

fn main() -> Result<(), Failure> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    match arguments[..] {
        ["refill", directory, ..] => refill(
            Path::new(directory),
            number(2, 200_000)?,
            number(3, 1024)?,
            number(4, 1 << 20)?,
        ),
        ["log", directory, ..] => log(Path::new(directory), number(2, 1_000_000)?, number(3, 32)?),
        ["deletes", directory, ..] => deletes(Path::new(directory), number(2, 10_000_000)?),
        _ => Err("see the top of crates/storage/examples/replication.rs for the arguments".into()),
    }
}

fn open(directory: &Path) -> Result<FjallEngine, Failure> {
    Ok(FjallEngine::open(directory, FjallOptions::default())?)
}

fn refill(directory: &Path, objects: u64, bytes: u64, batch_bytes: u64) -> Result<(), Failure> {
    let mut engine = open(directory)?;
    let mut syncer = engine.syncer();
    let mut random = StdRng::seed_from_u64(1);
    // As an object's record with one version is longer than its value, and what the log says of it.
    let (mut value, logged) = (vec![0; bytes as usize + 48], vec![7; 48]);
    random.fill_bytes(&mut value);
    let each = value.len() + logged.len() + 64;
    let in_batch = (batch_bytes / each as u64).max(1);
    let (start, cpu) = (Instant::now(), cpu_time()?);
    for first in (0..objects).step_by(in_batch as usize) {
        let mut batch = Batch::new();
        let count = in_batch.min(objects - first);
        for number in first..first + count {
            // In the order of positions, as a stream of partitions comes.
            let position = u64::MAX / objects * number;
            let scope = format!("{BUCKET}\0user/{number:010}").into_bytes();
            let key = [&[REPLICAS], &position.to_be_bytes()[..], &scope].concat();
            random.fill_bytes(&mut value[..16]);
            batch.put(Space::Object, key, value.clone());
            batch.put(Space::Index, scope, vec![0; 10]);
        }
        batch.put(Space::Log, first.to_be_bytes().to_vec(), logged.repeat(count as usize));
        engine.apply(batch)?;
        syncer.sync()?;
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
    println!("seconds {:.3}", elapsed.as_secs_f64());
    println!("cpu_seconds {:.3}", cpu.as_secs_f64());
    println!("objects_per_second {:.0}", objects as f64 / elapsed.as_secs_f64());
    Ok(())
}

/// Writes or deletes of keys, so many to a batch; a sync for every batch would say nothing of bytes.
fn change(
    replica: &mut Replica<FjallEngine>,
    keys: Range<u64>,
    in_batch: u64,
    value: Option<&[u8]>,
) -> Result<(), Failure> {
    let end = keys.end;
    for number in keys {
        let at = address(number)?;
        let dot = replica.next_dot(at.partition, ACTOR);
        let version = value.map(|value| {
            let value = value.to_vec().into();
            Version::new(value, None, Vec::new(), Timestamp::default(), None)
        });
        let delta = replica.read(&at)?.write(dot, version, None, ConflictPolicy::Siblings);
        replica.apply(&at, delta, &CausalContext::from_iter([dot]))?;
        if (number + 1) % in_batch == 0 || number + 1 == end {
            replica.commit()?;
        }
    }
    Ok(())
}

fn address(number: u64) -> Result<Address, Failure> {
    let key = Key::parse(format!("user/{number:010}"))?;
    Ok(Address::new(
        Bucket::parse(BUCKET)?,
        key,
        REPLICAS,
        Partitions::default(),
    ))
}

/// Every owner has everything: what the log held goes.
fn release(replica: &mut Replica<FjallEngine>) -> Result<(), Failure> {
    for partition in replica.logged_partitions().collect::<Vec<PartitionId>>() {
        let clock = replica.clock(partition).clone();
        replica.release_log(partition, &clock);
    }
    replica.trim_log();
    replica.commit()?;
    // The record of the batch that did this goes with the next such batch.
    Ok(())
}

fn log(directory: &Path, writes: u64, in_batch: u64) -> Result<(), Failure> {
    let mut replica = Replica::open(open(directory)?, Partitions::default())?;
    change(&mut replica, 0..writes, in_batch, Some(&[7; 16]))?;
    drop(replica);
    let engine = open(directory)?;
    let (log, clocks) = records(&engine)?;
    println!("log_bytes_a_write {:.2}", log as f64 / writes as f64);
    println!("clock_bytes_a_write {:.2}", clocks as f64 / writes as f64);
    let mut replica = Replica::open(engine, Partitions::default())?;
    release(&mut replica)?;
    drop(replica);
    let (log, clocks) = records(&open(directory)?)?;
    println!("log_bytes_after {log}");
    println!("clock_bytes_after {clocks}");
    Ok(())
}

/// Bytes of the records of the log, and of the checkpoint of the clocks.
fn records(engine: &FjallEngine) -> Result<(usize, usize), Failure> {
    let sum = |space: Space| {
        let mut bytes = 0;
        engine
            .scan(space, &[], None, &mut |key, frame| {
                bytes += key.len() + frame.len();
                ControlFlow::Continue(())
            })
            .map(|()| bytes)
    };
    Ok((sum(Space::Log)?, sum(Space::Meta)?))
}

fn deletes(directory: &Path, keys: u64) -> Result<(), Failure> {
    let replica = Replica::open(open(directory)?, Partitions::default())?;
    println!("empty_bytes {}", directory_bytes(directory)?);
    drop(replica);
    let mut replica = Replica::open(open(directory)?, Partitions::default())?;
    // As many keys at a time as an owner may have in its log.
    for first in (0..keys).step_by(IN_LOG as usize) {
        let some = first..keys.min(first + IN_LOG);
        change(&mut replica, some.clone(), 1000, Some(&[7; 16]))?;
        release(&mut replica)?;
    }
    println!("written_bytes {}", directory_bytes(directory)?);
    for first in (0..keys).step_by(IN_LOG as usize) {
        change(&mut replica, first..keys.min(first + IN_LOG), 1000, None)?;
        release(&mut replica)?;
    }
    println!("deleted_bytes {}", directory_bytes(directory)?);
    drop(replica);
    compact(directory)?;
    println!("compacted_bytes {}", directory_bytes(&directory.join("keyspaces"))?);
    println!("compacted_bytes_with_journal {}", directory_bytes(directory)?);
    let (log, clocks) = records(&open(directory)?)?;
    println!("clocks_bytes {}", log + clocks);
    Ok(())
}

/// All levels of all spaces are merged, as the engine does piece by piece when it is written to.
fn compact(directory: &Path) -> Result<(), Failure> {
    let database = fjall::Database::builder(directory).open()?;
    let names = database.list_keyspace_names();
    let spaces = names
        .iter()
        .map(|name| database.keyspace(name, fjall::KeyspaceCreateOptions::default));
    let spaces = spaces.collect::<Result<Vec<_>, _>>()?;
    for space in &spaces {
        space.rotate_memtable_and_wait()?;
    }
    for space in &spaces {
        space.major_compact()?;
    }
    Ok(())
}

/// Bytes that the files of a directory take on disk.
fn directory_bytes(directory: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata()? {
            metadata if metadata.is_dir() => directory_bytes(&entry.path())?,
            metadata => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

/// User and system time of this process.
fn cpu_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields = fields.split_whitespace().collect::<Vec<_>>();
    Ok(Duration::from_millis(
        10 * (fields[11].parse::<u64>()? + fields[12].parse::<u64>()?),
    ))
}
