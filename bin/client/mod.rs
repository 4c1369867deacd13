//! The client commands ask a cluster over its public API and nothing else, print for people or for programs, and end
//! with 0 (done), 1 (failed; stderr says what, why and what to do) or 2 (bad usage).

mod bench;
mod delete;
mod each;
mod export;
mod failure;
mod get;
mod import;
mod list;
mod output;
mod patience;
mod put;
mod repair;
mod report;
mod ring;
mod status;
mod table;
mod target;
mod tree;

use std::process::ExitCode;

use failure::Failure;

// The commands that talk to a running cluster. (No doc comment: clap would show it in place of the program's own.)
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Read a key, to stdout or a file
    Get(get::Get),
    /// Write a key: from an argument, a file, or stdin
    Put(put::Put),
    /// Delete a key
    Delete(delete::Delete),
    /// List a bucket's keys, in key order
    List(list::List),
    /// Show the members of the cluster, whether they live, and whether they serve
    Status(status::Status),
    /// Have all nodes compare what they hold, at once, and watch until all is equal
    Repair(repair::Repair),
    /// Show the ring, or where one key lives
    Ring(ring::Ring),
    // What these tell of themselves is longer, and stands with them.
    Bench(bench::Bench),
    Import(import::Import),
    Export(export::Export),
}

/// Runs one command to its end, on a runtime of its own.
pub(crate) fn run(command: Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(command)),
        Err(error) => Err(Failure::new(format!("cannot start the runtime: {error}"))),
    };
    result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Get(get) => get.run().await,
        Command::Put(put) => put.run().await,
        Command::Delete(delete) => delete.run().await,
        Command::List(list) => list.run().await,
        Command::Status(status) => status.run().await,
        Command::Repair(repair) => repair.run().await,
        Command::Ring(ring) => ring.run().await,
        Command::Bench(bench) => bench.run().await,
        Command::Import(import) => import.run().await,
        Command::Export(export) => export.run().await,
    }
}

/// Long commands end in order when they are interrupted, and can be run again.
async fn until_interrupted(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::new("interrupted; the same command again goes on from here"))
        }
    }
}
