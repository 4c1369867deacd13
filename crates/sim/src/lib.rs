//! Whole clusters of the real node on a simulated clock, network and disk: the same seed gives the same trace on every machine.

mod campaign;
mod clients;
mod disk;
mod faults;
pub mod hunt;
mod link;
mod network;
mod oracles;
mod plan;
mod process;
mod queue;
mod run;
mod shrink;
mod trace;
mod workloads;
mod world;

pub use campaign::{Campaign, Failure, Summary, campaign, explain, run_safely};
pub use faults::Weakens;
pub use oracles::Violation;
pub use plan::{Plan, Scope};
pub use run::{Readable, Report, run};
pub use world::Counts;

/// The faults that can be drawn: the name, what it does, and what is to be said of it beside that.
pub fn faults() -> Vec<(&'static str, &'static str, &'static str)> {
    let standing = |weakens| match weakens {
        Weakens::Nothing => "",
        Weakens::OneRecord | Weakens::OneDisk => " (what one owner alone had is not judged)",
        Weakens::Everything => " (not withstood yet: on demand only)",
    };
    let shown = |fault: &&dyn faults::Fault| (fault.name(), fault.about(), standing(fault.weakens()));
    faults::ALL.iter().map(shown).collect()
}

/// The names of the workloads.
pub fn workloads() -> Vec<&'static str> {
    workloads::ALL.iter().map(|workload| workload.name()).collect()
}
