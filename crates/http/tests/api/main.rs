//! The contract over a real socket, row by row, against a node of a few lines.

mod bad_input;
mod batch;
mod buckets;
mod change;
mod connections;
mod data;
mod fake;
mod listing;
mod operations;
mod support;
