//! `annulus-check FILE`: reads a history, from a file or with `-` from standard input, and prints the promises it breaks.
//!
//! The status is 0 where none is broken, 1 where one is, 2 where the history cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::process::ExitCode;

use annulus_checker::{History, HistoryError, Violation, check};

const USAGE: &str = "usage: annulus-check FILE
FILE is a history, one JSON object a line; - is standard input.
Each broken promise is printed on a line, then a summary. Status 0: none, 1: some, 2: FILE cannot be read.";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        return refuse(USAGE);
    };
    if path == "--help" || path == "-h" {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let history = match read(&path) {
        Ok(history) => history,
        Err(error) => return refuse(&format!("annulus-check: {}: {error}", path.display())),
    };
    if let Some(number) = twice(&history) {
        return refuse(&format!(
            "annulus-check: {}: two operations have the number {number}: a value would not name its write",
            path.display()
        ));
    }
    let violations = check(&history);
    match print(&history, &violations) {
        // Whoever reads the list may stop early; the verdict is in the status.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => refuse(&format!("annulus-check: {error}")),
        _ => ExitCode::from(u8::from(!violations.is_empty())),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}

fn read(path: &OsStr) -> Result<History, HistoryError> {
    match path == "-" {
        true => History::read(io::stdin().lock()),
        false => History::read(BufReader::new(File::open(path)?)),
    }
}

/// A number that two operations have.
fn twice(history: &History) -> Option<u64> {
    let mut seen = BTreeSet::new();
    let mut numbers = history.operations.iter().map(|operation| operation.number);
    numbers.find(|&number| !seen.insert(number))
}

fn print(history: &History, violations: &[Violation]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut counts = BTreeMap::new();
    for violation in violations {
        writeln!(out, "{}: {}: {}", violation.promise, violation.key, violation.detail)?;
        *counts.entry(violation.promise).or_insert(0) += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(promise, count)| format!("{promise} {count}"))
        .collect();
    let counts = match counts.is_empty() {
        true => String::new(),
        false => format!(" ({})", counts.join(", ")),
    };
    writeln!(
        out,
        "{} operations, {} final reads, {} faults, {} violations{counts}",
        history.operations.len(),
        history.finals.len(),
        history.faults.len(),
        violations.len()
    )?;
    out.flush()
}
