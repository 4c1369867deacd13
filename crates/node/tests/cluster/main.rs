//! Whole clusters of nodes in one thread: what clients are promised holds through crashes, pauses and cut links.
#![allow(clippy::unwrap_used)]

mod closing;
mod declarations;
mod expiry;
mod failures;
mod handoff;
mod identity;
mod requests;
mod review;
mod typed;
mod world;
