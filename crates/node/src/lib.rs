//! A node as one state machine: inputs in, effects out, no I/O of its own but its engine's.

mod admission;
mod buckets;
mod catch_up;
mod client;
mod closing;
mod doubts;
mod durable;
mod expiry;
mod forwards;
mod handoff;
mod io;
mod latency;
mod lists;
mod memory;
mod metrics;
mod node;
mod passed_on;
mod peers;
mod place;
mod reads;
mod sessions;
mod settings;
mod tasks;
mod terms;
mod typed;
mod witness;
mod writes;

pub use io::{ClientId, Effect, Input, Level};
pub use memory::OpenError;
pub use metrics::Usage;
pub use node::Node;
pub use settings::{Now, Settings};
