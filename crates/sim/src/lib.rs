//! Whole clusters of the real node on a simulated clock, network and disk: the same seed gives the same trace on every machine.

mod clients;
mod disk;
mod faults;
mod link;
mod oracles;
mod plan;
mod process;
mod queue;
mod run;
mod trace;
mod workloads;
mod world;

pub use faults::Weakens;
pub use oracles::Violation;
pub use plan::{Plan, Scope};
pub use run::{Readable, Report, run};
pub use world::Counts;
