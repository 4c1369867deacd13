//! `annulus-faults`: real nodes meet faults under load, and what their clients saw is held against what was promised.

mod arguments;
mod cluster;
mod dialler;
mod disk;
mod figures;
mod modes;
mod nemesis;
mod netns;
mod network;
mod proxy;
mod record;
mod report;
mod run;
mod say;
mod schedule;
mod settle;
mod shim;
mod space;
mod trouble;
mod workload;
mod world;

use std::process::ExitCode;

use arguments::{Command, Figures, Modes, Program, Run};
use clap::Parser as _;
use clap::error::ErrorKind;
use nemesis::Needs;
use network::Means;
use run::Ended;
use say::say;

/// The exit status of bad usage, and of a run that could not be.
const BAD: u8 = 2;
/// As shells say it of a program that an interrupt has ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let program = match Program::try_parse() {
        Ok(program) => program,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return bad(line.strip_prefix("error: ").unwrap_or(line));
        }
    };
    match program.command {
        Command::List => list(),
        Command::Modes(mut modes) => match modes.complete() {
            Ok(()) => measure(&modes),
            Err(why) => bad(&why),
        },
        Command::Figures(mut figures) => match figures.complete() {
            Ok(()) => count(&figures),
            Err(why) => bad(&why),
        },
        Command::Run(mut run) => match run.complete() {
            Ok(()) => start(&run),
            Err(why) => bad(&why),
        },
    }
}

fn bad(why: &str) -> ExitCode {
    eprintln!("annulus-faults: {why}");
    ExitCode::from(BAD)
}

fn list() -> ExitCode {
    for nemesis in nemesis::ALL {
        say(format_args!("{:<10} {}", nemesis.name, nemesis.about));
        let here = match nemesis.needs.check() {
            Ok(()) => "can run here".to_owned(),
            Err(why) => format!("cannot run here: {why}"),
        };
        say(format_args!("{:<10} needs {}; {here}", "", nemesis.needs.text()));
    }
    ExitCode::SUCCESS
}

fn measure(modes: &Modes) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return bad(&error.to_string()),
    };
    match runtime.block_on(modes::run(modes)) {
        Ok(Some(table)) => {
            say(table.show(modes.form()));
            ExitCode::from(u8::from(table.breaks_a_promise()))
        }
        Ok(None) => stopped(),
        Err(trouble) => bad(&trouble.to_string()),
    }
}

fn count(figures: &Figures) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return bad(&error.to_string()),
    };
    match runtime.block_on(figures::run(figures)) {
        Ok(Some(measured)) => {
            say(measured.show());
            ExitCode::from(u8::from(measured.misses()))
        }
        Ok(None) => stopped(),
        Err(trouble) => bad(&trouble.to_string()),
    }
}

fn stopped() -> ExitCode {
    eprintln!("annulus-faults: stopped; what it had started has ended");
    ExitCode::from(INTERRUPTED)
}

fn start(run: &Run) -> ExitCode {
    let mounts = run.nemesis.iter().any(|nemesis| nemesis.needs == Needs::SmallDisks);
    let wires = run.network == Means::Namespaces;
    if (mounts || wires)
        && let Err(why) = space::become_inside(wires)
    {
        return bad(&why);
    }
    let seed = run.seed.unwrap_or_else(rand::random);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return bad(&error.to_string()),
    };
    match runtime.block_on(run::run(run, seed)) {
        Ok(Ended::Told(report)) => ExitCode::from(u8::from(!report.is_clean())),
        Ok(Ended::Stopped) => stopped(),
        Err(trouble) => bad(&trouble.to_string()),
    }
}
