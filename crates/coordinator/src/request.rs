//! A client's request and its answer as values: what `http` hands in and gets back, and what a forward carries.

use std::time::Duration;

use annulus_causality::{CausalContext, Change, ConflictPolicy, Timestamp, Version};
use annulus_ring::{Bucket, Key};
use bytes::Bytes;

/// How many owners must answer: `?r=` and `?w=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A number of owners, 1 to the bucket's `n`.
    Count(u8),
    /// One owner.
    One,
    /// A majority of the bucket's `n`.
    Quorum,
    /// Every owner.
    All,
}

impl Level {
    /// The number of answers this takes of `n` owners; `None` where `n` cannot meet it, and for zero.
    pub fn required(self, n: u8) -> Option<u8> {
        let required = match self {
            Level::Count(count) => count,
            Level::One => 1,
            Level::Quorum => n / 2 + 1,
            Level::All => n,
        };
        (1..=n).contains(&required).then_some(required)
    }
}

/// Whether fallbacks may stand in for owners that are down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Fallbacks keep writes as hints, and count.
    Sloppy,
    /// Only owners count.
    Strict,
}

/// What a replica must have done before its answer counts towards `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives power loss.
    Disk,
    /// It was received (semi-synchronous).
    Memory,
}

/// What a request says of its own consistency; what is absent comes from the bucket, then from the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `?r=`.
    pub r: Option<Level>,
    /// `?w=`.
    pub w: Option<Level>,
    /// `?sloppy=`.
    pub mode: Option<Mode>,
    /// `?durability=`.
    pub durability: Option<Durability>,
    /// `?timeout=`.
    pub timeout: Option<Duration>,
}

/// `If-Match` and `If-None-Match: *` of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// One of these entity tags is the key's.
    Match(Vec<u128>),
    /// The key holds something (`If-Match: *`).
    Exists,
    /// The key holds nothing (`If-None-Match: *`).
    Absent,
}

/// The value of a PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewValue {
    /// The body.
    pub value: Bytes,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Annulus-Meta-*`, without that prefix, lower case and sorted.
    pub meta: Vec<(String, String)>,
}

/// What to do with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read its values.
    Get,
    /// Write a value, or `None` to delete.
    Write {
        /// The value; nothing for a delete.
        value: Option<NewValue>,
        /// `Annulus-Context` as it was sent; checked by the node, which has the key that seals it.
        token: Option<String>,
        /// Guard, if any.
        condition: Option<Condition>,
    },
    /// An operation on a counter, a set or a map: POST.
    Change {
        /// What is done.
        change: Change,
        /// As for a write.
        token: Option<String>,
    },
}

impl Operation {
    /// Whether the key may be another one afterwards.
    pub fn writes(&self) -> bool {
        !matches!(self, Operation::Get)
    }

    /// Why a key of this bucket cannot be asked this; `None` where it can.
    pub fn misfit(&self, policy: ConflictPolicy) -> Option<&'static str> {
        let is_put = matches!(self, Operation::Write { value: Some(_), .. });
        match (self, policy) {
            (Operation::Change { change, .. }, _) if change.policy() == policy => None,
            (Operation::Change { .. }, _) => Some(takes(policy)),
            (_, policy) if is_put && policy.is_typed() => Some(takes(policy)),
            _ => None,
        }
    }
}

/// What changes a key of a bucket, in words.
fn takes(policy: ConflictPolicy) -> &'static str {
    match policy {
        ConflictPolicy::Counter => "its keys are counters, and take POST with op=increment, and DELETE",
        ConflictPolicy::Set => "its keys are sets, and take POST with op=add or op=remove, and DELETE",
        ConflictPolicy::Map => "its keys are maps, and take POST with op=set or op=unset, and DELETE",
        ConflictPolicy::Siblings | ConflictPolicy::LastWriteWins => {
            "its keys hold values, and take PUT and DELETE; only a bucket that is declared with conflicts counter, set or \
             map takes POST"
        }
    }
}

/// A request about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// The bucket.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
    /// What to do.
    pub operation: Operation,
    /// How.
    pub options: Options,
    /// Of a request in a session: what that has seen. The node that the client reached says it; clients send a token.
    pub seen: Option<Seen>,
}

/// What a session has seen in the partition of a request's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The bucket's replicas where the session was opened: the dots are of that partition, and of no other.
    pub n: u8,
    /// What was seen; nothing at first.
    pub dots: CausalContext,
}

/// One page of a bucket's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: Bucket,
    /// Only keys that begin with this; may be empty.
    pub prefix: Bytes,
    /// The first key of the page, inclusive; may be empty.
    pub start: Bytes,
    /// At most so many keys, 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// `?r=`, `?timeout=`.
    pub options: Options,
}

/// The largest page of a listing, in keys.
pub const MAX_PAGE: usize = 1000;

/// The conflict policy and consistency defaults that a bucket declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    /// Replicas a key, 1 to the cluster's `--replicas`.
    pub n: u8,
    /// Default of `?r=`.
    pub r: Level,
    /// Default of `?w=`.
    pub w: Level,
    /// Default of `?sloppy=`.
    pub mode: Mode,
    /// Default of `?durability=`.
    pub durability: Durability,
    /// `siblings`, `lww`, `counter`, `set` or `map`.
    pub conflicts: ConflictPolicy,
    /// Versions expire so long after they were written.
    pub ttl: Option<Duration>,
    /// A write that would leave more siblings than this is refused, 1 to 1024.
    pub max_siblings: u16,
}

/// What a declaration says; what is absent takes the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketSpec {
    /// See [`BucketConfig::n`].
    pub n: Option<u8>,
    /// See [`BucketConfig::r`].
    pub r: Option<Level>,
    /// See [`BucketConfig::w`].
    pub w: Option<Level>,
    /// See [`BucketConfig::mode`].
    pub mode: Option<Mode>,
    /// See [`BucketConfig::durability`].
    pub durability: Option<Durability>,
    /// See [`BucketConfig::conflicts`].
    pub conflicts: Option<ConflictPolicy>,
    /// See [`BucketConfig::ttl`].
    pub ttl: Option<Duration>,
    /// See [`BucketConfig::max_siblings`].
    pub max_siblings: Option<u16>,
}

/// Everything a client can ask of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// GET, HEAD, PUT, POST, DELETE of a key.
    Key(KeyRequest),
    /// The same in a session.
    InSession {
        /// `Annulus-Session` as it was sent; nothing to begin one.
        token: Option<String>,
        /// The request.
        request: KeyRequest,
    },
    /// A page of keys.
    List(ListRequest),
    /// `PUT /v1/buckets/{bucket}`.
    DeclareBucket(Bucket, BucketSpec),
    /// `DELETE /v1/buckets/{bucket}`.
    DropBucket(Bucket),
    /// `GET /v1/buckets/{bucket}`.
    GetBucket(Bucket),
    /// `GET /v1/buckets`.
    ListBuckets,
    /// `GET /v1/cluster`.
    Cluster,
    /// `GET /v1/ring`.
    Ring,
    /// `GET /v1/ring/{bucket}/{key}`.
    Locate(Bucket, Key),
    /// `GET /v1/replication`.
    Replication,
    /// `POST /v1/repair`.
    Repair,
    /// `GET /ready`.
    Ready,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The live values, equal ones once, in the stable order; empty where there is none. Of a counter, a set or a map
    /// the one JSON document that shows it.
    pub versions: Vec<Version>,
    /// Equal where the set of values is equal.
    pub etag: u128,
    /// `Annulus-Context`.
    pub token: String,
    /// Owners that answered.
    pub answered: u8,
    /// The owners there are (the bucket's `n`).
    pub n: u8,
    /// In a session: what it has seen by this in the key's partition.
    pub seen: Option<CausalContext>,
}

/// What a write achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `Annulus-Context`.
    pub token: String,
    /// Replicas, fallbacks among them, that had done what was asked when the answer was given.
    pub answered: u8,
    /// The owners there are (the bucket's `n`).
    pub n: u8,
    /// How many of `answered` are fallbacks.
    pub fallbacks: u8,
    /// In a session: what it has seen by this in the key's partition.
    pub seen: Option<CausalContext>,
}

/// One member as `/v1/cluster` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// `alive`, `suspect` or `down`, as this node sees it.
    pub state: &'static str,
    /// Where it serves HTTP.
    pub http: String,
    /// Where it serves its peers.
    pub peer: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Its capacity.
    pub capacity: f64,
    /// The version of its program.
    pub version: String,
}

/// The answer to `/v1/cluster`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// The cluster's id; empty before it has formed.
    pub cluster: String,
    /// The ring's epoch; 0 before it has formed.
    pub epoch: u64,
    /// The node that answers.
    pub node: String,
    /// All members, by name.
    pub nodes: Vec<MemberView>,
}

/// The answer to `/v1/ring`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingView {
    /// The ring's epoch.
    pub epoch: u64,
    /// The number of partitions.
    pub partitions: u32,
    /// The cluster's replication factor.
    pub n: u8,
    /// Each partition's owners, the coordinator first.
    pub owners: Vec<Vec<String>>,
}

/// The answer to `/v1/ring/{bucket}/{key}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocateView {
    /// The ring's epoch.
    pub epoch: u64,
    /// The key's partition.
    pub partition: u32,
    /// The key's position.
    pub position: u64,
    /// Its owners, the coordinator first.
    pub owners: Vec<String>,
    /// Who stands in when an owner is down, in this order.
    pub fallbacks: Vec<String>,
}

/// How far a node and one co-owner of its partitions are apart, as far as they have told each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerLag {
    /// The co-owner.
    pub name: String,
    /// Writes that the node has and the peer has not.
    pub behind: u64,
    /// Writes that the peer has and the node has not.
    pub ahead: u64,
    /// Partitions that differ.
    pub partitions: u64,
}

/// A partition of a node whose log is needed, that is in doubt, or of which something is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionLag {
    /// It is one of the buckets with so many replicas.
    pub n: u8,
    /// Which.
    pub partition: u32,
    /// Entries of its log that some owner may still lack.
    pub log_entries: usize,
    /// For how long there have been any, in seconds.
    pub log_age_seconds: u64,
    /// Whether it answers for nothing until it has been refilled.
    pub in_doubt: bool,
    /// Writes that some owner lacks.
    pub behind: u64,
    /// Writes that this node lacks.
    pub ahead: u64,
}

/// The answer to `/v1/replication`: all of it is empty where nothing is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationView {
    /// The node that answers.
    pub node: String,
    /// Entries of its log that some owner may still lack.
    pub log_entries: usize,
    /// Partitions that answer for nothing until they have been refilled.
    pub partitions_in_doubt: usize,
    /// By name, those whose links are up.
    pub peers: Vec<PeerLag>,
    /// In order.
    pub partitions: Vec<PartitionLag>,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In key order.
    pub keys: Vec<Key>,
    /// Where the next page starts, inclusive; `None` at the end.
    pub next: Option<Bytes>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a GET.
    Found(Found),
    /// To a PUT, POST or DELETE.
    Written(Written),
    /// To either in a session.
    InSession {
        /// `Annulus-Session`.
        token: String,
        /// The answer.
        answer: Box<Answer>,
    },
    /// To a listing.
    Page(Page),
    /// A bucket with its configuration, declared or by default.
    Bucket(Bucket, BucketConfig),
    /// The declared buckets, by name.
    Buckets(Vec<(Bucket, BucketConfig)>),
    /// A declaration was removed.
    Dropped,
    /// To `/v1/cluster`.
    Cluster(ClusterView),
    /// To `/v1/ring`.
    Ring(RingView),
    /// To `/v1/ring/{bucket}/{key}`.
    Located(LocateView),
    /// To `/v1/replication`, and to `/v1/repair`.
    Replication(ReplicationView),
    /// The node serves.
    Ready,
}

/// What a failed request may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was written, and nothing will be.
    None,
    /// It may have taken effect, or still may.
    Unknown,
}

/// Why a request failed; each maps to one status and one problem type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// `400`: a parameter whose value the bucket or the cluster cannot meet.
    #[error("{parameter}: {detail}")]
    Invalid {
        /// Its name as the client wrote it.
        parameter: &'static str,
        /// What is wrong, and what would do.
        detail: String,
    },
    /// `400`: the `Annulus-Context` is malformed, forged, or of another key or cluster.
    #[error("the Annulus-Context is not usable here: {detail}")]
    InvalidContext {
        /// Which of these.
        detail: String,
    },
    /// `400`: the `Annulus-Session` is malformed, forged, or of another cluster.
    #[error("the Annulus-Session is not usable here: {detail}")]
    InvalidSession {
        /// Which of these.
        detail: String,
    },
    /// `503`: enough owners have answered, and until the deadline nobody knew all that the session has seen.
    #[error(
        "what {answered} of {n} owners know lacks {missing} of the writes that this session has seen in partition {partition}"
    )]
    SessionBehind {
        /// The key's partition, as `/v1/ring` numbers them.
        partition: u32,
        /// Writes that the session has seen and nobody who answered knows; of any key of the partition.
        missing: u64,
        /// Owners that answered.
        answered: u8,
        /// The owners there are.
        n: u8,
    },
    /// `404`: the bucket was never declared.
    #[error("bucket {bucket} was never declared")]
    NoSuchBucket {
        /// Its name.
        bucket: String,
    },
    /// `409`: a declaration that cannot change or go while the bucket holds keys.
    #[error("bucket {bucket} holds keys: {detail}")]
    BucketHoldsKeys {
        /// Its name.
        bucket: String,
        /// What was refused.
        detail: String,
    },
    /// `409`: the write would leave more siblings than the bucket allows.
    #[error("the key has {siblings} siblings that this write does not replace, and {limit} is the limit")]
    TooManySiblings {
        /// How many there would be.
        siblings: usize,
        /// `max_siblings`.
        limit: u16,
    },
    /// `400`: the bucket's keys are of a kind that does not take this.
    #[error("bucket {bucket} does not take this: {detail}")]
    WrongOperation {
        /// Its name.
        bucket: String,
        /// What it takes instead.
        detail: String,
    },
    /// `409`: a counter, set or map would grow beyond a bound.
    #[error("the operation was refused: {detail}")]
    LimitReached {
        /// Which bound, and what to do.
        detail: String,
    },
    /// `412`: the condition does not hold.
    #[error("the condition does not hold")]
    ConditionFailed {
        /// The key's entity tag; nothing where it holds no value.
        etag: Option<u128>,
    },
    /// `503`: the quorum cannot be met.
    #[error("{required} replicas are required and only {answered} of {n} can answer")]
    QuorumUnreachable {
        /// Answers the request needs.
        required: u8,
        /// Answers it had.
        answered: u8,
        /// The owners there are.
        n: u8,
        /// What became of a write; `Unknown` says that it may take effect.
        outcome: Outcome,
    },
    /// `504`: the deadline passed.
    #[error("the deadline passed with {answered} of {required} required answers")]
    TimedOut {
        /// Answers the request needs.
        required: u8,
        /// Answers it had.
        answered: u8,
        /// What became of a write.
        outcome: Outcome,
    },
    /// Between nodes: the coordinator knows of a later write than this one, and has not begun it. The node that the client reached stamps it
    /// anew; `503` where it cannot.
    #[error(
        "the write is stamped earlier than what it would replace ({latest}): check the clocks of the nodes, and try again"
    )]
    StampBehind {
        /// The latest stamp of what it would replace.
        latest: Timestamp,
    },
    /// `503`: this node cannot serve yet, or no longer.
    #[error("this node does not serve: {reason}")]
    NotReady {
        /// Why, and what to do.
        reason: String,
    },
    /// `503`: no room on the disk, or the disk fails; nothing was written.
    #[error("the node cannot write: {detail}")]
    StorageUnavailable {
        /// Which, and what to do.
        detail: String,
    },
    /// `429`: the node sheds load; nothing was done.
    #[error("the node is overloaded: {detail}")]
    Overloaded {
        /// Which bound was reached.
        detail: String,
    },
    /// `500`: stored records of this key are damaged on so many replicas that no answer is safe.
    #[error("a stored record is damaged: {detail}")]
    Damaged {
        /// Which.
        detail: String,
    },
}

impl Failure {
    /// What became of the request: a failure that does not say so has done nothing.
    pub fn outcome(&self) -> Outcome {
        match self {
            Failure::QuorumUnreachable { outcome, .. } | Failure::TimedOut { outcome, .. } => *outcome,
            _ => Outcome::None,
        }
    }
}

/// The answer to a request, or why there is none.
pub type Reply = Result<Answer, Failure>;
