//! What a node keeps on disk: engines behind one trait, the replica, its log and its hints.
//!
//! What it keeps true:
//! - *Seen means incorporated*: a dot is in a partition's clock only if its object is stored here or was superseded by one that is.
//!   Object, index, log entry and clock move in one batch of the engine ([`Replica::commit`]).
//! - Acknowledged means durable: a batch survives power loss once a [`engine::Syncer::sync`] that began after it has returned.
//! - Damaged is not absent: every record carries a checksum over where it belongs and what it says. Nor is lost deleted: the index knows
//!   of every key that lives.
//! - What cannot be proved is in doubt: the clock keeps what live versions show, and the partition is marked, durably, until its owner has
//!   caught up with all others.
//! - What some owner may lack is in the log, or else the partition is streamed whole.
//! - One process has a data directory, and only the node and the cluster that it belongs to ([`DataDirectory`]).
//!
//! It is synchronous. Reads and batches run on the node's own thread, where an engine's read costs less than waking another
//! thread; only syncs go to a thread of their own, which is the runtime's.

mod clocks;
pub mod directory;
pub mod engine;
mod fingerprint;
mod hints;
mod index;
mod log;
mod log_index;
mod record;
mod replica;
mod staged;

pub use clocks::clock_hash;
pub use directory::DataDirectory;
pub use engine::{Engine, EngineError, Syncer};
pub use fingerprint::SUB_RANGES;
pub use hints::{DEFAULT_HINT_LIMIT_BYTES, Hint, HintCount, HintError, OverdueHint};
pub use index::Page;
pub use log::{LogBatch, LogEntry};
pub use log_index::LogLength;
pub use replica::{
    Applied, ApplyError, Brings, DEFAULT_LOG_LIMIT, Expiring, MAX_COUNTER, OpenError, Replica, ReplicaSize, Scrubbed,
    Streamed, StreamedPart, Supplied, Supply,
};
