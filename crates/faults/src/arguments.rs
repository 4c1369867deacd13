//! The command line; what is wrong with it is one line.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::figures::Figure;
use crate::nemesis::{self, Needs, Nemesis};
use crate::network::Means;

/// Faults in real processes: nodes are killed, paused, cut off and filled up under load, and their promises checked
#[derive(Parser)]
#[command(name = "annulus-faults", arg_required_else_help = false)]
pub(crate) struct Program {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run nodes, clients and faults, and check what the clients saw
    #[command(after_help = RUN_HELP, args_override_self = true)]
    Run(Box<Run>),
    /// Measure the modes of replication: what a PUT takes, and what is lost when nodes are killed
    #[command(after_help = MODES_HELP, args_override_self = true)]
    Modes(Modes),
    /// Measure what catching up costs: on the wire, in time and on disk
    #[command(after_help = FIGURES_HELP, args_override_self = true)]
    Figures(Figures),
    /// List the kinds of faults, and whether each can run here
    List,
}

const RUN_HELP: &str = "A seed gives the same faults at the same times again, not the same interleaving: how requests meet them is \
    up to the machine, so a violation may take several runs to show again. The history has all of it: annulus-check reads \
    it.\n\nExit status: 0 where every promise was kept, 1 where one was broken, 2 where the run could not be, 130 where it \
    was stopped.";

const MODES_HELP: &str = "Each mode has three nodes of its own, on free ports and in a directory that goes with them. kill -9 takes \
    what a process holds, not what it gave to the system: what power loss takes is not measured here.\n\nExit status: 0 where \
    nothing is lost that was acknowledged on disk, 1 where something is, 2 where nothing could be measured, 130 where it \
    was stopped.";

const FIGURES_HELP: &str = "All sizes follow from --keys. Nodes are on free ports, and their directories go with them; what needs no \
    processes is measured on the engine alone.\n\nExit status: 0 where every figure is what it is to be, 1 where one is not, 2 where \
    nothing could be measured, 130 where it was stopped.";

#[derive(Args)]
pub(crate) struct Run {
    /// Kinds of faults, with commas between; all that can run here if left out
    #[arg(long, value_delimiter = ',', value_parser = parse_nemesis, value_name = "KIND,…")]
    pub(crate) nemesis: Vec<&'static Nemesis>,
    /// How long clients work and faults come
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// Of the schedule of faults; a random one if left out
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Nodes
    #[arg(long, default_value = "5", value_parser = RangedU64ValueParser::<usize>::new().range(3..=25))]
    pub(crate) nodes: usize,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) clients: u32,
    /// Keys that they share
    #[arg(long, default_value = "20", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub(crate) keys: usize,
    /// Requests a second, of all clients together
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Which nodes clients ask
    #[arg(long, value_enum, default_value_t = Ask::Any)]
    pub(crate) ask: Ask,
    /// What the network is broken by
    #[arg(long, value_enum, default_value_t = Means::Proxy)]
    pub(crate) network: Means,
    /// Where the history goes; into the directory for temporary files if left out
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// An empty directory for data and logs, which stays; one that goes if left out
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Keep data and logs of a clean run too
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) tested: Tested,
}

/// What is put to the test.
#[derive(Args)]
pub(crate) struct Tested {
    /// The binary to run
    #[arg(
        long,
        env = "ANNULUS_BIN",
        default_value = "target/release/annulus",
        value_name = "FILE"
    )]
    pub(crate) annulus: PathBuf,
}

/// What `modes` takes.
#[derive(Args)]
pub(crate) struct Modes {
    /// How long the PUTs of each mode are timed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// How often nodes are killed, in each mode and for each fault
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Connections, each with one request at a time
    #[arg(long, default_value = "8", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub(crate) connections: usize,
    /// Tell it for programs
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Tell it as a table for documents
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    pub(crate) tested: Tested,
}

/// What `figures` takes.
#[derive(Args)]
pub(crate) struct Figures {
    /// Keys of which ten differ; a tenth as many writes are missed, a fifth as many objects refilled, ten times as many deleted
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    pub(crate) keys: u64,
    /// What to measure, with commas between; all if left out
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FIGURE,…")]
    pub(crate) only: Vec<Figure>,
    /// Requests a second in the foreground of a refill
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Judge counts and bytes, and no times
    #[arg(long)]
    pub(crate) counts_only: bool,
    /// Where the directories of the nodes are made
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) dir: PathBuf,
    /// What measures the engine alone: the example `replication` of annulus-storage
    #[arg(
        long,
        env = "ANNULUS_REPLICATION_BIN",
        default_value = "target/release/examples/replication",
        value_name = "FILE"
    )]
    pub(crate) replication: PathBuf,
    #[command(flatten)]
    pub(crate) tested: Tested,
}

/// How what was measured is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Columns.
    People,
    /// A table in Markdown.
    Markdown,
    /// JSON, in one line.
    Json,
}

/// Which nodes clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ask {
    /// Any node
    Any,
    /// The first owner of the key, so that no request is forwarded
    First,
}

fn parse_nemesis(name: &str) -> Result<&'static Nemesis, String> {
    nemesis::find(name).ok_or_else(|| {
        let names: Vec<&str> = nemesis::ALL.iter().map(|nemesis| nemesis.name).collect();
        format!("there is no such kind of fault, only {}", names.join(", "))
    })
}

impl Modes {
    /// What can be seen to be wrong before anything is started.
    pub(crate) fn complete(&mut self) -> Result<(), String> {
        self.tested.annulus = program("annulus", &self.tested.annulus)?;
        Ok(())
    }

    pub(crate) fn form(&self) -> Form {
        match (self.json, self.markdown) {
            (true, _) => Form::Json,
            (_, true) => Form::Markdown,
            _ => Form::People,
        }
    }
}

impl Figures {
    /// What can be seen to be wrong before anything is started.
    pub(crate) fn complete(&mut self) -> Result<(), String> {
        self.tested.annulus = program("annulus", &self.tested.annulus)?;
        self.replication = program("replication", &self.replication)?;
        Ok(())
    }
}

fn program(option: &str, named: &Path) -> Result<PathBuf, String> {
    let file = named.display();
    match named.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) => Err(format!("--{option} {file}: it is no file")),
        Err(error) => Err(format!("--{option} {file}: {error}; cargo build --release builds it")),
    }
}

impl Run {
    /// What can be seen to be wrong before anything is started; kinds that were left out are filled in.
    pub(crate) fn complete(&mut self) -> Result<(), String> {
        self.tested.annulus = program("annulus", &self.tested.annulus)?;
        if self.nemesis.is_empty() {
            self.nemesis = nemesis::ALL
                .into_iter()
                .filter(|nemesis| nemesis.needs.check().is_ok())
                .collect();
        }
        self.nemesis.sort_by_key(|nemesis| nemesis.name);
        self.nemesis.dedup_by_key(|nemesis| nemesis.name);
        for nemesis in &self.nemesis {
            self.check(nemesis)
                .map_err(|why| format!("{} cannot run here: {why}", nemesis.name))?;
        }
        Ok(())
    }

    /// Why a kind cannot be, here and with these means.
    fn check(&self, nemesis: &Nemesis) -> Result<(), String> {
        match (self.network, nemesis.needs) {
            (Means::Namespaces, Needs::Proxy) => Err("it needs --network proxy".to_owned()),
            (Means::Namespaces, Needs::Cuts) => crate::netns::check(),
            (_, needs) => needs.check(),
        }
    }
}
