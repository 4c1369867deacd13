//! What a node tells about itself, its cluster, the ring and the buckets.

use serde::{Deserialize, Serialize};

use crate::{
    options::{Durability, Quorum},
    problem::Problem,
};

/// Members and their liveness, as one node sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The cluster's id; empty before it has formed.
    #[serde(default)]
    pub cluster: String,
    /// The ring's epoch.
    #[serde(default)]
    pub epoch: u64,
    /// The node that was asked.
    pub node: String,
    /// All members that it knows.
    pub nodes: Vec<Member>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What the failure detector of the node that was asked thinks.
    pub state: Liveness,
    /// Where it serves clients.
    #[serde(default)]
    pub http: String,
    /// Where it talks to its peers.
    #[serde(default)]
    pub peer: String,
    /// Its region.
    #[serde(default)]
    pub region: String,
    /// Its zone.
    #[serde(default)]
    pub zone: String,
    /// Its share of the load, relative to the others.
    #[serde(default)]
    pub capacity: f64,
    /// The version it runs.
    #[serde(default)]
    pub version: String,
}

/// What the failure detector thinks of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It has not answered lately; others are asked about it.
    Suspect,
    /// Taken for dead.
    Down,
    /// A state that this client does not know.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for Liveness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Unknown => "unknown",
        })
    }
}

/// How far a node and its co-owners are apart: all of it is empty or zero where nothing is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replication {
    /// The node that was asked.
    pub node: String,
    /// Entries of its log that some owner may still lack.
    pub log_entries: u64,
    /// Partitions that answer for nothing until they have been refilled.
    pub partitions_in_doubt: u64,
    /// Its co-owners.
    pub peers: Vec<PeerLag>,
    /// The partitions in which there is something to do.
    pub partitions: Vec<PartitionLag>,
}

impl Replication {
    /// Writes that some owner has and this node has not.
    pub fn missing(&self) -> u64 {
        self.partitions.iter().map(|lag| lag.ahead).sum()
    }
}

/// How far one co-owner is apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerLag {
    /// Its name.
    pub name: String,
    /// Writes that it lacks.
    pub behind: u64,
    /// Writes that the node that was asked lacks.
    pub ahead: u64,
    /// Partitions that differ.
    pub partitions: u64,
}

/// What is to be done in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionLag {
    /// It is one of the buckets with so many replicas.
    pub n: u8,
    /// Which.
    pub partition: u32,
    /// Entries of its log that some owner may still lack.
    pub log_entries: u64,
    /// For how long there have been any, in seconds.
    pub log_age_seconds: u64,
    /// Whether it answers for nothing until it has been refilled.
    pub in_doubt: bool,
    /// Writes that some owner lacks.
    pub behind: u64,
    /// Writes that the node that was asked lacks.
    pub ahead: u64,
}

/// Whether a node serves its ranges.
#[derive(Clone, Debug, PartialEq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, for the reason in the problem.
    NotReady(Problem),
}

/// The ring of one epoch: which nodes own which partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// The epoch.
    pub epoch: u64,
    /// How many partitions.
    pub partitions: usize,
    /// How many owners each has.
    pub n: usize,
    /// The owners of each partition, in the order of the preference list.
    pub owners: Vec<Vec<String>>,
}

/// One key's place on the ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The epoch.
    pub epoch: u64,
    /// The partition that the position falls into.
    pub partition: usize,
    /// The key's position: 16 hexadecimal digits.
    pub position: String,
    /// The owners, in the order of the preference list.
    pub owners: Vec<String>,
    /// Who stands in for owners that are down, in order.
    #[serde(default)]
    pub fallbacks: Vec<String>,
}

/// What concurrent writes of a bucket's keys become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflicts {
    /// All are kept until a writer replaces them.
    Siblings,
    /// The last one wins.
    Lww,
    /// The keys are counters: all are added up.
    Counter,
    /// The keys are sets: adding an element wins over removing it.
    Set,
    /// The keys are maps: of each field the last value wins.
    Map,
}

/// A bucket's declaration; what is left out is the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its name; not sent when declaring.
    #[serde(default, alias = "bucket", skip_serializing)]
    pub name: String,
    /// Replicas of each key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// Replicas that must answer a read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<Quorum>,
    /// Replicas that must acknowledge a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<Quorum>,
    /// Whether fallbacks may stand in for owners that are down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sloppy: Option<bool>,
    /// What a replica must have done before its answer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// What concurrent writes become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Conflicts>,
    /// How long a value lives, such as `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// How many concurrent values a key may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_siblings: Option<u32>,
}
