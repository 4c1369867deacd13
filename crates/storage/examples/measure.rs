//! Measures the sled engine, alone and under the replica: what a batch with its sync costs, and how long it takes to open after kill -9.
//!
//! `measure puts DIR [COUNT [WRITES [BYTES [KEYS]]]]`: the replica writes batches on one thread, another syncs: while one batch is synced, the next is decided.
//! `measure reads DIR [COUNT [KEYS]]`: the replica reads random keys of those that `puts` wrote.
//! `measure batches DIR [COUNT [WRITES [BYTES [KEYS]]]]`: batches of so many writes of random keys, each batch with a sync.
//! `measure fill DIR [KEYS]`: objects of 100 bytes with their index entries; ends by killing itself.
//! `measure open DIR`: opens, and reads some of what `fill` wrote.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Timestamp, Version};
use annulus_ring::{Address, Bucket, Key, Partitions};
use annulus_storage::Replica;
use annulus_storage::engine::sled::{SledEngine, SledOptions};
use annulus_storage::engine::{Batch, Engine, Space};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    match arguments[..] {
        ["batches", directory, ..] => {
            let sizes = [
                number(2, 2000)?,
                number(3, 32)?,
                number(4, 1024)?,
                number(5, 1_000_000)?,
            ];
            batches(Path::new(directory), sizes)
        }
        ["puts", directory, ..] => {
            let sizes = [
                number(2, 2000)?,
                number(3, 32)?,
                number(4, 1024)?,
                number(5, 1_000_000)?,
            ];
            puts(Path::new(directory), sizes)
        }
        ["reads", directory, ..] => reads(Path::new(directory), number(2, 200_000)?, number(3, 1_000_000)?),
        ["fill", directory, ..] => fill(Path::new(directory), number(2, 1_000_000)?),
        ["open", directory] => open(Path::new(directory)),
        _ => Err("see the top of crates/storage/examples/measure.rs for the arguments".into()),
    }
}

fn object_key(number: u64) -> Vec<u8> {
    let position = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = vec![3];
    key.extend_from_slice(&position.to_be_bytes());
    key.extend_from_slice(format!("bucket\0user/{number:09}").as_bytes());
    key
}

fn batches(directory: &Path, [count, writes, bytes, keys]: [u64; 4]) -> Result<(), Box<dyn Error>> {
    let mut engine = SledEngine::open(directory, SledOptions::default())?;
    let mut syncer = engine.syncer();
    let mut random = StdRng::seed_from_u64(1);
    let mut value = vec![0; bytes as usize];
    let (start, cpu, written) = (Instant::now(), cpu_time()?, written_bytes()?);
    let (mut applying, mut longest) = (Duration::ZERO, Duration::ZERO);
    for number in 0..count {
        let mut batch = Batch::new();
        for _ in 0..writes {
            random.fill_bytes(&mut value);
            batch.put(Space::Object, object_key(random.random_range(0..keys)), value.clone());
        }
        batch.put(Space::Log, number.to_be_bytes().to_vec(), vec![7; 40 * writes as usize]);
        let begun = Instant::now();
        engine.apply(batch)?;
        applying += begun.elapsed();
        longest = longest.max(begun.elapsed());
        syncer.sync()?;
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
    let total = (count * writes) as f64;
    let amplification = (written_bytes()? - written) as f64 / (total * bytes as f64);
    println!(
        "{count} batches of {writes} x {bytes} B: {:.0} writes/s, {:.3} CPU s per 10k writes, {:.0} us a batch ({:.0} us to apply, longest {:?}), {amplification:.1} bytes written per byte, {} MB on disk",
        total / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 10_000.0 / total,
        elapsed.as_micros() as f64 / count as f64,
        applying.as_micros() as f64 / count as f64,
        longest,
        engine.size().disk_bytes >> 20,
    );
    Ok(())
}

fn address(number: u64) -> Result<Address, Box<dyn Error>> {
    let key = Key::parse(format!("user/{number:09}"))?;
    Ok(Address::new(Bucket::parse("bucket")?, key, 3, Partitions::default()))
}

fn puts(directory: &Path, [count, writes, bytes, keys]: [u64; 4]) -> Result<(), Box<dyn Error>> {
    let engine = SledEngine::open(directory, SledOptions::default())?;
    let mut replica = Replica::open(engine, Partitions::default())?;
    let actor = Actor {
        node: 1,
        incarnation: UNIX_EPOCH.elapsed()?.as_millis() as u64,
    };
    let mut syncer = replica.syncer();
    let (committed, to_sync) = mpsc::channel::<u64>();
    let (synced, done) = mpsc::channel::<u64>();
    std::thread::spawn(move || {
        while let Ok(mut number) = to_sync.recv() {
            number = to_sync.try_iter().last().unwrap_or(number);
            if syncer.sync().is_err() || synced.send(number).is_err() {
                return;
            }
        }
    });
    let mut random = StdRng::seed_from_u64(1);
    let (start, cpu, written) = (Instant::now(), cpu_time()?, written_bytes()?);
    let (mut deciding, mut committing, mut longest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut last_committed, mut last_synced, mut syncs) = (0, 0, 0);
    for _ in 0..count {
        let begun = Instant::now();
        for _ in 0..writes {
            let at = address(random.random_range(0..keys))?;
            let mut value = vec![0; bytes as usize];
            random.fill_bytes(&mut value);
            let dot = replica.next_dot(at.partition, actor);
            let version = Version::new(value.into(), None, Vec::new(), Timestamp::default(), None);
            let delta = replica
                .read(&at)?
                .write(dot, Some(version), None, ConflictPolicy::Siblings);
            replica.apply(&at, delta, &CausalContext::from_iter([dot]))?;
        }
        deciding += begun.elapsed();
        while last_synced < last_committed {
            last_synced = done.recv()?;
            syncs += 1;
        }
        let begun = Instant::now();
        last_committed = replica.commit()?.unwrap_or_default();
        committing += begun.elapsed();
        longest = longest.max(begun.elapsed());
        committed.send(last_committed)?;
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
    let total = (count * writes) as f64;
    println!(
        "{count} batches of {writes} x {bytes} B: {:.0} writes/s, {:.3} CPU s per 10k writes, {:.1} us a write to decide, {:.1} us a write to commit (longest {longest:?}), {syncs} syncs, {:.1} bytes written per byte, {} MB on disk",
        total / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 10_000.0 / total,
        deciding.as_micros() as f64 / total,
        committing.as_micros() as f64 / total,
        (written_bytes()? - written) as f64 / (total * bytes as f64),
        replica.size().engine.disk_bytes >> 20,
    );
    Ok(())
}

fn reads(directory: &Path, count: u64, keys: u64) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let engine = SledEngine::open(directory, SledOptions::default())?;
    let replica = Replica::open(engine, Partitions::default())?;
    println!("open after {:?}", start.elapsed());
    let mut random = StdRng::seed_from_u64(2);
    for pass in ["cold", "warm"] {
        let (start, cpu) = (Instant::now(), cpu_time()?);
        let mut found = 0;
        for _ in 0..count {
            found += replica.read(&address(random.random_range(0..keys))?)?.versions().len();
        }
        println!(
            "{pass}: {found} versions in {count} reads, {:.0} reads/s, {:.3} CPU s per 10k",
            count as f64 / start.elapsed().as_secs_f64(),
            (cpu_time()? - cpu).as_secs_f64() * 10_000.0 / count as f64
        );
    }
    Ok(())
}

fn fill(directory: &Path, keys: u64) -> Result<(), Box<dyn Error>> {
    let mut engine = SledEngine::open(directory, SledOptions::default())?;
    let mut syncer = engine.syncer();
    let start = Instant::now();
    for first in (0..keys).step_by(100) {
        let mut batch = Batch::new();
        for number in first..(first + 100).min(keys) {
            batch.put(Space::Object, object_key(number), vec![number as u8; 140]);
            batch.put(Space::Index, object_key(number)[9..].to_vec(), vec![0; 9]);
        }
        batch.put(Space::Log, first.to_be_bytes().to_vec(), vec![7; 3500]);
        engine.apply(batch)?;
        syncer.sync()?;
    }
    println!(
        "{keys} keys in {:?}, {} MB on disk; killing this process",
        start.elapsed(),
        engine.size().disk_bytes >> 20
    );
    let status = std::process::Command::new("kill")
        .args(["-9", &std::process::id().to_string()])
        .status()?;
    Err(format!("kill said {status}").into())
}

fn open(directory: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let engine = SledEngine::open(directory, SledOptions::default())?;
    println!(
        "open after {:?}, {} MB on disk",
        start.elapsed(),
        engine.size().disk_bytes >> 20
    );
    let start = Instant::now();
    let found = (0..20_000)
        .filter(|number| matches!(engine.get(Space::Object, &object_key(number * 47)), Ok(Some(_))))
        .count();
    println!("{found} of 20000 keys read in {:?}", start.elapsed());
    Ok(())
}

/// User and system time of this process.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>();
    Ok(Duration::from_millis(
        10 * (fields[11].parse::<u64>()? + fields[12].parse::<u64>()?),
    ))
}

/// Bytes that this process has made the disk write.
fn written_bytes() -> Result<u64, Box<dyn Error>> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .unwrap_or("0");
    Ok(line.parse()?)
}
