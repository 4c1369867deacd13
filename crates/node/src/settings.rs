//! What a node is started with, and the bounds it keeps.

use std::time::Duration;

use annulus_causality::{Instant, MAX_SKEW};
use annulus_ring::{Capacity, NodeName, Partitions};

/// The time, as the runtime reads it once a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the process started; never goes back.
    pub monotonic: Instant,
    /// Since 1970, in milliseconds; may be set back and forth by people.
    pub wall_millis: u64,
}

/// A node's settings; all but the first block have sensible defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name, its own in the cluster.
    pub name: NodeName,
    /// Where clients reach it.
    pub http: String,
    /// Where peers reach it.
    pub peer: String,
    /// Peers to ask at the start.
    pub join: Vec<String>,
    /// Form a cluster once so many nodes see each other.
    pub bootstrap_expect: Option<usize>,

    /// Its region.
    pub region: String,
    /// Its zone: owners of a key are spread over zones.
    pub zone: String,
    /// Its share of the data, relative to the others.
    pub capacity: Capacity,
    /// The version of the program.
    pub version: String,
    /// The cluster's replication factor, 1 to 16.
    pub replicas: u8,
    /// The cluster's number of partitions.
    pub partitions: Partitions,
    /// A request's deadline where it names none.
    pub timeout: Duration,
    /// Writes are refused when the file system has less room than this, in bytes.
    pub min_free_bytes: u64,
    /// Hints kept for one owner, in bytes.
    pub hint_bytes_per_peer: u64,
    /// Hints that have waited for their owner for so long go to another owner.
    pub hint_lifetime: Duration,
    /// What has expired longer ago than this is dropped: clocks that are right may differ by so much.
    pub expiry_margin: Duration,
    /// Stored data is checked in the background at this rate; 0 for never.
    pub scrub_bytes_per_second: u64,
    /// Owners that catch up are sent no more than this by one node, as far as it goes beyond a few pages; 0 for as fast as it can.
    pub catch_up_bytes_per_second: u64,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Requests in progress, above which new ones are refused.
    pub max_tasks: usize,
}

impl Settings {
    /// Default settings for a node of this name at these addresses.
    pub fn new(name: NodeName, http: String, peer: String) -> Settings {
        Settings {
            name,
            http,
            peer,
            join: Vec::new(),
            bootstrap_expect: None,
            region: "default".into(),
            zone: "default".into(),
            capacity: Capacity::default(),
            version: env!("CARGO_PKG_VERSION").into(),
            replicas: 3,
            partitions: Partitions::default(),
            timeout: Duration::from_secs(5),
            min_free_bytes: 64 << 20,
            hint_bytes_per_peer: 256 << 20,
            hint_lifetime: Duration::from_secs(3 * 3600),
            expiry_margin: MAX_SKEW,
            scrub_bytes_per_second: 4 << 20,
            catch_up_bytes_per_second: 0,
            heartbeat: Duration::from_millis(500),
            max_tasks: 20_000,
        }
    }
}
