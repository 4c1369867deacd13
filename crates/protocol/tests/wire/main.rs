//! What the protocol promises: one encoding a value, and no harm from any bytes.
#![allow(clippy::unwrap_used)]

mod frames;
mod golden;
mod handshake;
mod hostile;
mod messages;
mod samples;
mod strategies;
