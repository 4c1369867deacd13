//! The routes: each turns a request into one for the node, and the node's answer into a response.

pub(crate) mod batch;
pub(crate) mod buckets;
pub(crate) mod change;
pub(crate) mod cluster;
pub(crate) mod kv;
pub(crate) mod list;
pub(crate) mod operations;
pub(crate) mod replication;

use crate::problem::{Problem, UNEXPECTED_ANSWER};

/// The node broke its word; a client is told rather than disconnected.
fn unexpected() -> Problem {
    UNEXPECTED_ANSWER.because("please report this")
}
