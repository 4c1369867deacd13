//! The real binary over real sockets, several processes: what a user and an attacker would do to it.
#![allow(clippy::unwrap_used)]

mod support;

mod cli;
mod failures;
mod hostile;
mod import;
mod quorum;
mod restart;
mod sessions;
mod siblings;
mod tour;
mod yesterday;
