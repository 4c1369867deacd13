//! Membership as its users see it: nodes that exchange bytes in a world of one seed.
#![allow(clippy::unwrap_used)]

mod codec;
mod detector;
mod formation;
mod liveness;
mod problems;
mod world;
