//! Who is there and who is alive: failure detection, dissemination and the first formation of a cluster.
//!
//! This crate is pure: time is an argument, and what is to be done comes out as [`Action`]s. What it keeps true:
//!
//! - One set of founders never forms two clusters, whatever order, restarts, delays or partial views there are: a vote
//!   names its founders by their secrets, is durable before it is announced, and is cast once.
//! - Members' tables are joins: nodes that hear each other, however indirectly, come to the same table.
//! - A peer is judged by what this node hears of it, never by what others say of it; and a node that was itself paused
//!   judges nobody by the time that it missed.
//! - Nothing decoded from outside panics, or allocates more than a small multiple of what was received.

mod action;
mod detector;
mod formation;
mod gossip;
mod hello;
mod membership;
mod peer;
mod record;
mod secret;
mod vote;

pub use action::Action;
pub use detector::{Detector, Liveness, Timing};
pub use gossip::{Advertised, Candidate, Formation, Gossip, ShownVote};
pub use hello::{Hello, HelloError, Witnessed};
pub use membership::{Known, MemberState, Membership, Settings};
pub use record::{
    ClusterId, ClusterIdError, MAX_ADDRESS_BYTES, MAX_MEMBERS, MAX_VERSION_BYTES, MemberRecord, next_incarnation,
};
pub use secret::Secret;
pub use vote::{Digest, Founder, MAX_FOUNDERS, Vote};
