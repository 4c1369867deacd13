//! Measures the engines side by side, each step in a process of its own.
//!
//! `cargo run --release -p annulus-storage --example engines -- DIR [KEYS]`, where DIR is empty or does not exist yet.
//! KEYS (1,000,000) is the size of the large sets. Absolute figures differ from machine to machine; compare within one run.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use annulus_storage::engine::fjall::{FjallEngine, FjallOptions};
use annulus_storage::engine::sled::{SledEngine, SledOptions};
use annulus_storage::engine::{Batch, Engine, Space};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

type Failure = Box<dyn Error + Send + Sync>;

const ENGINES: [&str; 2] = ["sled", "fjall"];
const BATCH: u64 = 32;
const VALUE_BYTES: usize = 1024;
const HOT_KEYS: u64 = 100_000;

fn main() -> Result<(), Failure> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    match arguments[..] {
        [directory] => compare(Path::new(directory), 1_000_000),
        [directory, keys] => compare(Path::new(directory), keys.parse()?),
        ["measure", step, engine, directory, keys] => {
            let directory = PathBuf::from(directory).join(engine);
            measure(step, engine, &directory, keys.parse()?)
        }
        _ => Err("see the top of crates/storage/examples/engines.rs for the arguments".into()),
    }
}

/// What is measured, in this order: each in its own process, so that memory and files are those of the engine alone.
const STEPS: [&str; 8] = [
    "write 100k keys",
    "read 100k keys",
    "write all keys",
    "read all keys",
    "fill with small values",
    "open after kill -9",
    "read small values",
    "idle",
];

fn compare(directory: &Path, keys: u64) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)?;
    if std::fs::read_dir(directory)?.next().is_some() {
        return Err("the directory is not empty".into());
    }
    for step in STEPS {
        println!("\n{step}");
        // Interleaved, so that what else the machine does meets both.
        for engine in ENGINES {
            for row in run(step, engine, directory, keys)? {
                println!("  {engine:6} {row}");
            }
        }
    }
    Ok(())
}

fn run(step: &str, engine: &str, directory: &Path, keys: u64) -> Result<Vec<String>, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["measure", step, engine])
        .arg(directory)
        .arg(keys.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let rows = child.stdout.take().map(|out| BufReader::new(out).lines());
    let mut shown = Vec::new();
    for row in rows.into_iter().flatten() {
        let row = row?;
        if row == "kill" {
            child.kill()?;
        } else {
            shown.push(row);
        }
    }
    let status = child.wait()?;
    if status.success() || step.starts_with("fill") {
        Ok(shown)
    } else {
        Err(format!("{step} on {engine}: {status}").into())
    }
}

fn open(engine: &str, directory: &Path) -> Result<Box<dyn Engine>, Failure> {
    std::fs::create_dir_all(directory)?;
    Ok(match engine {
        "sled" => Box::new(SledEngine::open(directory, SledOptions::default())?),
        "fjall" => Box::new(FjallEngine::open(directory, FjallOptions::default())?),
        other => return Err(format!("no engine {other}").into()),
    })
}

fn measure(step: &str, engine: &str, directory: &Path, keys: u64) -> Result<(), Failure> {
    let begun = Instant::now();
    let [hot, large, small] = ["hot", "large", "small"].map(|name| directory.join(name));
    match step {
        "write 100k keys" => write(open(engine, &hot)?, 2 * HOT_KEYS, HOT_KEYS),
        "read 100k keys" => read(open(engine, &hot)?, HOT_KEYS),
        "write all keys" => write(open(engine, &large)?, keys, keys),
        "read all keys" => read(open(engine, &large)?, keys),
        "fill with small values" => fill(open(engine, &small)?, keys),
        "read small values" => read(open(engine, &small)?, keys),
        "idle" => idle(open(engine, &small)?),
        _ => {
            let engine = open(engine, &small)?;
            println!(
                "open after {:.2} s, {} MB on disk",
                begun.elapsed().as_secs_f64(),
                megabytes(engine.size().disk_bytes)
            );
            Ok(())
        }
    }
}

/// As the replica makes it: a tag, a position, the bucket and the key.
fn object_key(number: u64) -> Vec<u8> {
    let mut key = vec![3];
    key.extend_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key.extend_from_slice(format!("bucket\0user/{number:09}").as_bytes());
    key
}

/// Batches of objects with one log record; while another thread syncs one, the next is made and applied.
fn write(mut engine: Box<dyn Engine>, writes: u64, keys: u64) -> Result<(), Failure> {
    let mut syncer = engine.syncer();
    let (applied, to_sync) = mpsc::sync_channel::<()>(0);
    let syncing = std::thread::spawn(move || to_sync.iter().try_for_each(|()| syncer.sync()));
    let mut random = StdRng::seed_from_u64(1);
    let mut value = vec![0; VALUE_BYTES];
    let mut longest = Duration::ZERO;
    let before = Usage::now()?;
    for number in 0..writes / BATCH {
        let mut batch = Batch::new();
        for _ in 0..BATCH {
            random.fill_bytes(&mut value);
            batch.put(Space::Object, object_key(random.random_range(0..keys)), value.clone());
        }
        batch.put(Space::Log, number.to_be_bytes().to_vec(), vec![7; 40 * BATCH as usize]);
        let begun = Instant::now();
        engine.apply(batch)?;
        longest = longest.max(begun.elapsed());
        applied.send(())?;
    }
    drop(applied);
    syncing.join().map_err(|_| "the syncing thread panicked")??;
    let used = Usage::now()?.since(&before);
    println!(
        "{:.0} writes/s, {:.3} CPU s per 10k, {:.2} bytes written per byte, {} syncs, longest batch {:.1} ms, {} MB on disk, {} MB resident",
        writes as f64 / used.at.as_secs_f64(),
        used.cpu.as_secs_f64() * 10_000.0 / writes as f64,
        used.written as f64 / (writes * VALUE_BYTES as u64) as f64,
        writes / BATCH,
        longest.as_secs_f64() * 1000.0,
        megabytes(engine.size().disk_bytes),
        megabytes(resident_bytes()?),
    );
    Ok(())
}

fn read(engine: Box<dyn Engine>, keys: u64) -> Result<(), Failure> {
    // The first pass is cold for the engine's own cache.
    for (what, from, count) in [
        ("first", 0, keys / 2),
        ("again", 0, keys / 2),
        ("absent", 1 << 40, keys / 2),
    ] {
        let mut random = StdRng::seed_from_u64(2);
        let before = Usage::now()?;
        let mut found = 0;
        for _ in 0..count {
            found += u64::from(
                engine
                    .get(Space::Object, &object_key(from + random.random_range(0..keys)))?
                    .is_some(),
            );
        }
        let used = Usage::now()?.since(&before);
        println!(
            "{what}: {:.0} reads/s, {:.3} CPU s per 10k, {found} of {count} found, {} MB resident",
            count as f64 / used.at.as_secs_f64(),
            used.cpu.as_secs_f64() * 10_000.0 / count as f64,
            megabytes(resident_bytes()?),
        );
    }
    Ok(())
}

/// Objects of 100 bytes with what belongs to them in the other spaces; ends in kill -9.
fn fill(mut engine: Box<dyn Engine>, keys: u64) -> Result<(), Failure> {
    let mut syncer = engine.syncer();
    let before = Usage::now()?;
    for first in (0..keys).step_by(100) {
        let mut batch = Batch::new();
        for number in first..(first + 100).min(keys) {
            batch.put(Space::Object, object_key(number), vec![number as u8; 100]);
            batch.put(Space::Index, object_key(number)[9..].to_vec(), vec![0; 9]);
        }
        batch.put(Space::Log, first.to_be_bytes().to_vec(), vec![7; 4000]);
        engine.apply(batch)?;
        syncer.sync()?;
    }
    let used = Usage::now()?.since(&before);
    println!(
        "{:.0} keys/s, {:.3} CPU s per 10k, {} MB on disk, {} MB resident",
        keys as f64 / used.at.as_secs_f64(),
        used.cpu.as_secs_f64() * 10_000.0 / keys as f64,
        megabytes(engine.size().disk_bytes),
        megabytes(resident_bytes()?)
    );
    println!("kill");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

fn idle(engine: Box<dyn Engine>) -> Result<(), Failure> {
    // What recovery left to do in the background comes first.
    std::thread::sleep(Duration::from_secs(5));
    let before = wake_ups()?;
    std::thread::sleep(Duration::from_secs(10));
    println!(
        "{} wake-ups in 10 s, {} MB resident, {} MB on disk",
        wake_ups()? - before,
        megabytes(resident_bytes()?),
        megabytes(engine.size().disk_bytes)
    );
    Ok(())
}

struct Usage {
    at: Duration,
    cpu: Duration,
    written: u64,
}

impl Usage {
    fn now() -> Result<Usage, Failure> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Usage {
            at: std::time::UNIX_EPOCH.elapsed()?,
            cpu: Duration::from_millis(10 * ticks),
            written: field("/proc/self/io", "write_bytes:")?,
        })
    }

    fn since(&self, before: &Usage) -> Usage {
        Usage {
            at: self.at - before.at,
            cpu: self.cpu - before.cpu,
            written: self.written - before.written,
        }
    }
}

fn resident_bytes() -> Result<u64, Failure> {
    Ok(1024 * field("/proc/self/status", "VmRSS:")?)
}

/// Of all threads but this one.
fn wake_ups() -> Result<u64, Failure> {
    let mut sum = 0;
    let own = std::fs::read_link("/proc/thread-self")?;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if path.file_name() != own.file_name() {
            sum += field(&path.join("status").to_string_lossy(), "voluntary_ctxt_switches:")?;
        }
    }
    Ok(sum)
}

fn field(path: &str, name: &str) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    Ok(line.split_whitespace().next().unwrap_or("0").parse()?)
}

fn megabytes(bytes: u64) -> u64 {
    bytes >> 20
}
