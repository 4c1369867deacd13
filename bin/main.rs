//! `annulus`: a node of the store (`serve`), its configuration (`config check`), and the client commands.

mod client;
mod config;
mod runtime;
mod serve;
mod telemetry;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::{Arguments, Config};

/// Most of what a request costs beside system calls is allocation: measured, this one takes a tenth off a PUT.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A sharded, replicated key-value store on consistent hashing
#[derive(Parser)]
#[command(name = "annulus", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node
    #[command(after_help = LAYERS)]
    Serve(Arguments),
    /// Look at a node's configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(flatten)]
    Client(client::Command),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration that `serve` would run with, and print it as TOML
    #[command(after_help = LAYERS)]
    Check(Arguments),
}

const LAYERS: &str = "Each option can also be set in the environment (--max-value-bytes is ANNULUS_MAX_VALUE_BYTES) \
    and in the TOML file (max-value-bytes = \"1MiB\"). A flag is over the environment, the environment over the file.";

/// The exit status of a bad configuration, as of bad usage.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match Program::parse().command {
        Command::Serve(arguments) => configured(arguments, serve::run),
        Command::Config(ConfigCommand::Check(arguments)) => configured(arguments, |config| {
            print!("{}", config.to_toml());
            ExitCode::SUCCESS
        }),
        Command::Client(command) => client::run(command),
    }
}

fn configured(arguments: Arguments, then: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match Config::load(arguments) {
        Ok(config) => then(&config),
        Err(error) => {
            eprintln!("annulus: bad configuration: {error}");
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}
