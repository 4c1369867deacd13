//! A node as one state machine: inputs in, effects out, no I/O of its own but its engine's.

mod buckets;
mod client;
mod durable;
mod forwards;
mod handoff;
mod io;
mod latency;
mod lists;
mod memory;
mod metrics;
mod node;
mod peers;
mod reads;
mod settings;
mod tasks;
mod terms;
mod typed;
mod writes;

pub use io::{ClientId, Effect, Input, Level};
pub use memory::OpenError;
pub use metrics::Usage;
pub use node::Node;
pub use settings::{Now, Settings};
