//! Fuzzing for a moment: libFuzzer where it can be had, else the property tests that throw the same kinds of bytes.

use std::path::Path;
use std::process::Command;

/// Seconds a target.
const SECONDS: &str = "-max_total_time=6";
const TARGETS: [&str; 5] = ["message", "frame", "hello", "token", "ring"];

pub(crate) fn smoke(root: &Path) -> Result<(), String> {
    if !crate::available(&["fuzz", "--version"]) {
        println!(
            "fuzz-smoke: cargo-fuzz is not installed and cannot be here; the property tests over random bytes stand in"
        );
        return crate::cargo(&[
            "test",
            "--quiet",
            "--package",
            "annulus-protocol",
            "--package",
            "annulus-causality",
            "--package",
            "annulus-ring",
            "bytes",
        ]);
    }
    for target in TARGETS {
        println!("fuzz-smoke: {target}");
        // What it finds new goes to a corpus that is not kept; the seeds that are kept are only read.
        let corpus = root.join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus).map_err(|error| format!("{} cannot be made: {error}", corpus.display()))?;
        let mut command = Command::new("cargo");
        command
            .args(["fuzz", "run", "--sanitizer", "none", target])
            .arg(&corpus);
        command.arg(root.join("fuzz/seeds").join(target));
        command.args(["--", SECONDS, "-rss_limit_mb=2048", "-verbosity=0"]);
        command.env("RUSTC_BOOTSTRAP", "1");
        let status = command
            .current_dir(root)
            .status()
            .map_err(|error| format!("cargo fuzz cannot be run: {error}"))?;
        if !status.success() {
            return Err(format!(
                "fuzz target {target} found something: see fuzz/artifacts/{target}, and make it a test before the fix"
            ));
        }
    }
    Ok(())
}
