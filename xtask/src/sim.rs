//! The simulator is built fast and with all assertions; only where a bug is to be planted, in a build that can.

use std::process::{Command, ExitCode};

/// The simulator with these arguments; its status is this one's.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match command(arguments.iter().map(String::as_str)).status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: cargo cannot be run: {error}");
            ExitCode::from(2)
        }
    }
}

/// What CI runs: some seeds, a few of them twice, and each planted bug.
pub(crate) fn smoke() -> Result<(), String> {
    for arguments in [&["--seeds", "300"][..], &["--seeds", "10", "--twice"], &["--mutants"]] {
        crate::run(&mut command(arguments.iter().copied()))?;
    }
    Ok(())
}

fn command<'a>(arguments: impl Iterator<Item = &'a str> + Clone) -> Command {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--profile", "sim", "-p", "annulus-sim"]);
    if arguments.clone().any(|argument| argument.starts_with("--mutant")) {
        command.args(["--features", "mutants"]);
    }
    command.arg("--").args(arguments).current_dir(crate::root());
    command
}
