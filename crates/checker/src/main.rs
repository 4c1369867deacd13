//! `annulus-check FILE`: a history is read, and whatever promise it breaks is printed; status 1 where one is broken, 2 where it cannot be read.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use annulus_checker::{History, check};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("annulus-check: give one file: a history, one JSON object a line");
        return ExitCode::from(2);
    };
    let history = match File::open(&path)
        .map_err(Into::into)
        .and_then(|file| History::read(BufReader::new(file)))
    {
        Ok(history) => history,
        Err(error) => {
            eprintln!("annulus-check: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let violations = check(&history);
    for violation in &violations {
        println!("{}: {}: {}", violation.promise, violation.key, violation.detail);
    }
    println!(
        "{} operations, {} faults, {} violations",
        history.operations.len(),
        history.faults.len(),
        violations.len()
    );
    ExitCode::from(u8::from(!violations.is_empty()))
}
