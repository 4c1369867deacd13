//! What is measured on the storage engine itself: `crates/storage/examples/replication.rs` does it, in a process of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::LARGE;
use super::measured::{Measured, Unit};
use crate::arguments::Figures;
use crate::trouble::Trouble;

/// Writes in one batch of the engine.
const BATCHES: [u64; 3] = [1, 8, 32];

/// Bytes that a directory may be larger than when it was empty: the clocks of all partitions. Its journal is bounded by itself.
const LEFT: f64 = 1024.0 * 1024.0;

/// Names and numbers, as it prints them.
type Numbers = BTreeMap<String, f64>;

fn run(arguments: &Figures, home: &Path, step: &str, sizes: &[u64]) -> Result<Numbers, Trouble> {
    let directory = home.join(format!("engine-{step}"));
    let mut command = Command::new(&arguments.replication);
    command.arg(step).arg(&directory);
    command.args(sizes.iter().map(u64::to_string));
    let output = command.output();
    let output = output.map_err(|error| Trouble::file(&arguments.replication, error))?;
    let removed = std::fs::remove_dir_all(&directory);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Trouble::Command(format!("{step}: {}: {why}", output.status)));
    }
    removed.map_err(|error| Trouble::file(&directory, error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        Some((
            line.split_once(' ')?.0.to_owned(),
            line.split_once(' ')?.1.parse().ok()?,
        ))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn number(numbers: &Numbers, name: &str) -> Result<f64, Trouble> {
    let missing = || Trouble::Command(format!("the measurement of the engine says nothing of {name}"));
    numbers.get(name).copied().ok_or_else(missing)
}

/// Seconds that the engine takes from one thread for what a refill writes, and processor seconds of it.
pub(super) fn refill(arguments: &Figures, home: &Path, objects: u64) -> Result<(f64, f64), Trouble> {
    let numbers = run(arguments, home, "refill", &[objects, LARGE as u64])?;
    Ok((number(&numbers, "seconds")?, number(&numbers, "cpu_seconds")?))
}

pub(super) fn log(arguments: &Figures, home: &Path, measured: &mut Measured) -> Result<(), Trouble> {
    let writes = arguments.keys / 3;
    for batch in BATCHES {
        let numbers = run(arguments, home, "log", &[writes, batch])?;
        let what = |what: &str| format!("{writes} writes, {batch} a batch: {what}");
        let (log, clocks) = (
            number(&numbers, "log_bytes_a_write")?,
            number(&numbers, "clock_bytes_a_write")?,
        );
        measured.plain(what("bytes of the clocks a write"), clocks, Unit::Number);
        let all = what("bytes of log and clocks a write");
        match batch {
            1 => measured.plain(all, log + clocks, Unit::Number),
            _ => measured.count(all, log + clocks, 60.0),
        }
        let left = what("bytes of the log when all owners have them");
        measured.count(left, number(&numbers, "log_bytes_after")?, 0.0);
    }
    Ok(())
}

pub(super) fn deletes(arguments: &Figures, home: &Path, measured: &mut Measured) -> Result<(), Trouble> {
    let keys = arguments.keys * 10;
    let numbers = run(arguments, home, "deletes", &[keys])?;
    let what = |what: &str| format!("{keys} deletes, the engine alone: bytes of the directory {what}");
    measured.plain(what("when it was empty"), number(&numbers, "empty_bytes")?, Unit::Bytes);
    measured.plain(what("with the keys"), number(&numbers, "written_bytes")?, Unit::Bytes);
    measured.plain(
        what("before compaction"),
        number(&numbers, "deleted_bytes")?,
        Unit::Bytes,
    );
    measured.plain(
        what("of the clocks, which stay"),
        number(&numbers, "clocks_bytes")?,
        Unit::Bytes,
    );
    let with_journal = number(&numbers, "compacted_bytes_with_journal")?;
    measured.plain(what("after compaction, with the journal"), with_journal, Unit::Bytes);
    let limit = number(&numbers, "empty_bytes")? + LEFT;
    measured.bytes(what("after compaction"), number(&numbers, "compacted_bytes")?, limit);
    Ok(())
}
