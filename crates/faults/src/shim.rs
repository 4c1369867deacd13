//! The library that sets clocks off is compiled where it is used, from the source beside this file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::trouble::Trouble;

const SOURCE: &str = include_str!("../shim/clock.c");

/// Why it cannot be had here.
pub(crate) fn check() -> Result<(), String> {
    let status = Command::new("cc")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err("there is no C compiler (cc)".to_owned()),
    }
}

/// Compiles it into the directory.
pub(crate) fn build(directory: &Path) -> Result<PathBuf, Trouble> {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    fs::write(&source, SOURCE).map_err(|error| Trouble::file(&source, error))?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(&source)
        .output()
        .map_err(|error| Trouble::Command(format!("cc: {error}")))?;
    match output.status.success() {
        true => Ok(library),
        false => Err(Trouble::Command(format!(
            "cc: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preloaded_clock_is_off_by_what_the_file_says_and_no_more() {
        if check().is_err() {
            return;
        }
        let directory = tempfile::tempdir().expect("a directory for the test");
        let library = build(directory.path()).expect("it compiles");
        let offset = directory.path().join("offset");
        for seconds in [0_i64, 1_000_000, -1_000_000] {
            let nanoseconds = seconds * 1_000_000_000 - 1;
            fs::write(&offset, nanoseconds.to_ne_bytes()).expect("the file is ours");
            let output = Command::new("date")
                .arg("+%s")
                .env("LD_PRELOAD", &library)
                .env("ANNULUS_FAULTS_CLOCK", &offset)
                .output()
                .expect("date runs");
            let shown: i64 = String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse()
                .expect("date shows seconds");
            let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
            // Whatever the machine takes to run `date`, it is not a day.
            assert!(
                (shown - now.cast_signed() - seconds).abs() < 86_400,
                "{shown} for {seconds}"
            );
        }
    }
}
