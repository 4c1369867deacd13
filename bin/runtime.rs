//! Interprets one node's effects on one thread; only the disk's syncs have another.
//!
//! It decides nothing: what arrives becomes an input, and what the node wants done is done.

mod acceptor;
mod backoff;
mod clock;
mod driver;
mod inbox;
mod life;
mod links;
mod outbox;
mod service;
mod syncer;
#[cfg(test)]
mod tests;
mod throttle;

use annulus_membership::{Hello, HelloError};
use annulus_ring::NodeId;

pub(crate) use clock::Clock;
pub(crate) use inbox::Inbox;
pub(crate) use life::{Ended, Life, OpenFailure};
pub(crate) use links::Links;
pub(crate) use service::{Clients, Service};
pub(crate) use syncer::SyncCounters;

/// A node as its connections and its operator see it, whatever its engine.
pub(crate) trait NodeView {
    /// What to say to a peer in the handshake.
    fn hello(&self, to: Option<NodeId>) -> Hello;
    /// Whether a link with whoever said this may come to be.
    fn check(&self, hello: &Hello) -> Result<(), HelloError>;
    /// Its counters and gauges, as Prometheus text.
    fn metrics(&self) -> String;
}
