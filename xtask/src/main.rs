//! The habits of the team as commands: `cargo xtask ci` is every gate, each also on its own.

mod fuzz;
mod sim;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// The habits of the team as commands.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Habit,
}

#[derive(Subcommand)]
enum Habit {
    /// Every gate but the tests, which `.ci/run` calls by the README's command.
    Ci,
    /// Formatting.
    Fmt,
    /// Clippy over all targets, warnings denied.
    Clippy,
    /// Rustdoc, warnings denied.
    Doc,
    /// The direction of dependencies, the purity of crates, the first line of every file.
    Tidy,
    /// Licences, advisories and duplicates of dependencies, where cargo-deny can be installed.
    Deny,
    /// Every fuzz target for a moment, or the property tests over the same bytes where cargo-fuzz cannot be installed.
    FuzzSmoke,
    /// A moment of load on a real cluster; counts are checked, not times.
    BenchSmoke,
    /// A moment of each mode of replication: nodes are killed, and nothing may be lost that was acknowledged on disk.
    ModesSmoke,
    /// A moment of catching up on a real cluster: counts and bytes are checked, not times.
    ReplicationSmoke,
    /// A moment of faults on a real cluster: processes killed, frozen, cut off, wiped.
    FaultsSmoke,
    /// Seeds that the simulator runs in CI, and the bugs planted in it.
    SimSmoke,
    /// The simulator; `cargo xtask sim --help` says what it takes.
    #[command(disable_help_flag = true)]
    Sim {
        /// Passed on to it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Habit::Sim { arguments } => return sim::run(&arguments),
        Habit::SimSmoke => sim::smoke(),
        Habit::FaultsSmoke => real_processes("scripts/faults"),
        Habit::ModesSmoke => real_processes("scripts/modes"),
        Habit::ReplicationSmoke => real_processes("scripts/replication"),
        Habit::Ci => ci(),
        Habit::Fmt => cargo(&["fmt", "--all", "--check"]),
        Habit::Clippy => cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Habit::Doc => doc(),
        Habit::Tidy => tidy::check(&root()),
        Habit::Deny => deny(),
        Habit::FuzzSmoke => fuzz::smoke(&root()),
        Habit::BenchSmoke => script("scripts/bench", &["smoke"]),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::check(&root())?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    doc()?;
    deny()?;
    fuzz::smoke(&root())?;
    script("scripts/bench", &["smoke"])?;
    sim::smoke()?;
    real_processes("scripts/modes")?;
    real_processes("scripts/replication")?;
    real_processes("scripts/faults")
}

/// The smoke of a script that runs and kills nodes, with the debug build that the tests made.
fn real_processes(path: &str) -> Result<(), String> {
    cargo(&["build", "--quiet", "-p", "annulus", "-p", "annulus-faults"])?;
    script(path, &["smoke"])
}

fn doc() -> Result<(), String> {
    let mut command = Command::new("cargo");
    run(command
        .args(["doc", "--workspace", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny() -> Result<(), String> {
    if !available(&["deny", "--version"]) {
        println!("deny: cargo-deny is not installed and cannot be here; skipped");
        return Ok(());
    }
    // The advisory database is on the network; where it cannot be reached, licences, bans and sources are still checked.
    cargo(&["deny", "check", "licenses", "bans", "sources"])
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("cargo").args(arguments))
}

fn script(path: &str, arguments: &[&str]) -> Result<(), String> {
    run(Command::new(root().join(path)).args(arguments))
}

fn available(arguments: &[&str]) -> bool {
    Command::new("cargo")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) -> Result<(), String> {
    println!("+ {command:?}");
    let status = command
        .current_dir(root())
        .status()
        .map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed: {status}"))
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}
