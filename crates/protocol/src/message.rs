//! What nodes say to each other once a link is up; every request carries a number that its answer repeats.

use annulus_causality::{CausalContext, Dot, Instant, Object, Timestamp};
use annulus_coordinator::{BucketConfig, Durability, KeyRequest, Reply};
use annulus_membership::{Gossip, Witnessed};
use annulus_ring::{Bucket, Key, NodeId};
use bytes::Bytes;

use crate::catch_up::{Caught, ClockRange, PartitionClock, Want};
use crate::closing::ClosingStep;

/// A client's request as its first node numbered it: the same forward, sent twice, is one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The node the client reached.
    pub origin: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Counted there.
    pub number: u64,
}

/// What makes a forwarded write one write, however often it is begun, and by whom: all of it is given where the client came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteIdentity {
    /// The bucket's replicas there: the dot is one of that partition, and of no other.
    pub n: u8,
    /// Of the node that the client reached.
    pub dot: Dot,
    /// When it came there, on that node's clock.
    pub modified: Timestamp,
    /// When it expires, in milliseconds since the Unix epoch; never where there is none.
    pub expires: Option<u64>,
    /// Dots of that node in this partition that it gave to writes which never were, so that clocks have no gaps.
    pub voided: CausalContext,
}

/// A key on the wire: its position and partition follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireKey {
    /// The bucket's replicas.
    pub n: u8,
    /// The bucket.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
}

/// A write, a repair or a delivered hint: the delta that the receiver joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Whose versions these are.
    pub at: WireKey,
    /// The dots that this delta brings; the versions' own are always among what is brought.
    pub dots: CausalContext,
    /// The versions with their whole context.
    pub object: Object,
}

/// A hint without its values: enough to say whether joining it would change anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintOffer {
    /// That of [`Message::Hint`].
    pub sequence: u64,
    /// Whose versions it has.
    pub at: WireKey,
    /// The dots that it brings, those of its versions among them.
    pub dots: CausalContext,
    /// The dots of its versions.
    pub live: CausalContext,
    /// Its whole context.
    pub context: CausalContext,
}

/// Why a replica did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its disk is full or fails.
    Storage,
    /// The record is damaged.
    Damaged,
    /// Its bound of hints for that owner, or of work in progress, is reached.
    Overloaded,
    /// Not an owner of that key in its epoch, or it does not serve yet.
    NotOwner,
    /// The request's time had passed when it was read; nothing was done.
    Expired,
    /// It cannot prove what it holds of that partition until it has caught up with the other owners.
    InDoubt,
}

/// What a replica knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The same live dots as the digest that was sent along.
    Same,
    /// Its object, filled.
    Object(Object),
}

/// A bucket's declaration; the greatest (`version`, `by`) is the one that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRecord {
    /// The bucket.
    pub bucket: Bucket,
    /// Hybrid logical time of the declaration, as `millis << 16 | logical`.
    pub version: u64,
    /// The node that took it, which decides between equal versions.
    pub by: NodeId,
    /// What was declared; nothing where it was removed.
    pub config: Option<BucketConfig>,
}

/// A message between two nodes. Deadlines are read on the receiver's clock.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Heartbeat and membership.
    Gossip(Gossip),
    /// The ring of an epoch, as [`annulus_ring::Ring::encode`] writes it; answers a gossip that showed an older one.
    Ring(Bytes),
    /// All bucket declarations; answers a gossip that showed others.
    Buckets(Vec<BucketRecord>),
    /// A new declaration, to be stored before it is answered.
    Declare {
        /// Answered by [`Message::Declared`].
        request: u64,
        /// The declaration.
        record: BucketRecord,
    },
    /// The declaration is stored.
    Declared {
        /// Of [`Message::Declare`].
        request: u64,
    },
    /// Join this delta.
    Write {
        /// Answered by [`Message::WriteDone`].
        request: u64,
        /// Not begun after this.
        deadline: Instant,
        /// What must be done before the answer.
        durability: Durability,
        /// Kept as a hint for this owner instead of joined.
        hint_for: Option<NodeId>,
        /// The delta.
        delta: Delta,
    },
    /// A write was done, or refused.
    WriteDone {
        /// Of [`Message::Write`].
        request: u64,
        /// Done, or why not.
        result: Result<(), Refusal>,
    },
    /// Say what you know of this key.
    Read {
        /// Answered by [`Message::ReadDone`].
        request: u64,
        /// Not begun after this.
        deadline: Instant,
        /// The key.
        at: WireKey,
        /// The digest of what the asker has: an equal one is answered by [`Known::Same`].
        digest: Option<u64>,
        /// Asks a fallback for the hints that it holds for the key, not for an owner's object.
        hints: bool,
    },
    /// What is known.
    ReadDone {
        /// Of [`Message::Read`].
        request: u64,
        /// What is known, or why nothing is said.
        result: Result<Known, Refusal>,
    },
    /// Coordinate this client's request.
    Forward {
        /// The same in every attempt.
        id: RequestId,
        /// Which attempt this is, of those of one request.
        attempt: u32,
        /// Not begun after this: the sender asks another owner from then on.
        start_by: Instant,
        /// The client's deadline.
        deadline: Instant,
        /// What it is in every attempt; nothing for a read.
        identity: Option<Box<WriteIdentity>>,
        /// The request.
        request: KeyRequest,
    },
    /// The answer to a forwarded request.
    Forwarded {
        /// [`RequestId::number`].
        number: u64,
        /// The attempt that is answered.
        attempt: u32,
        /// For the client; nothing where the forward came after its `start_by`, and was not begun.
        reply: Option<Reply>,
    },
    /// A page of the keys that you hold.
    List {
        /// Answered by [`Message::Listed`].
        request: u64,
        /// Not begun after this.
        deadline: Instant,
        /// The bucket.
        bucket: Bucket,
        /// Only keys that begin so.
        prefix: Bytes,
        /// The first key, inclusive.
        start: Bytes,
        /// At most so many.
        limit: u32,
    },
    /// A page.
    Listed {
        /// Of [`Message::List`].
        request: u64,
        /// The keys, and from where to go on (`None`: that was all).
        result: Result<(Vec<Key>, Option<Bytes>), Refusal>,
    },
    /// These hints wait here for you.
    HintsWait {
        /// What they would bring.
        offers: Vec<HintOffer>,
    },
    /// Send these of the hints that were offered. That the others are stored here already is said by [`Message::HintTaken`], once it is
    /// durable.
    HintsWanted {
        /// Of [`HintOffer`].
        sequences: Vec<u64>,
    },
    /// A hint for you.
    Hint {
        /// Repeated by [`Message::HintTaken`].
        sequence: u64,
        /// What it says.
        delta: Delta,
    },
    /// A hint is stored durably and can be forgotten.
    HintTaken {
        /// Of [`Message::Hint`].
        sequence: u64,
    },
    /// What the clocks of the partitions that both own add up to; ranges that differ are answered with their parts, and single
    /// partitions with their clocks.
    ClockHashes {
        /// How far the sender's disk is: a later life of it that begins with less has lost something.
        durable: Witnessed,
        /// What the sender's wall clock shows, in milliseconds since the Unix epoch: nothing is dropped as expired by one clock alone.
        wall_millis: u64,
        /// The ranges.
        ranges: Vec<ClockRange>,
    },
    /// Clocks of partitions that both own.
    Clocks {
        /// Asks for the receiver's, where they have what these lack.
        answer: bool,
        /// The clocks.
        clocks: Vec<PartitionClock>,
    },
    /// Send what I lack of these partitions, or a piece of it.
    CatchUp {
        /// Answered by [`Message::CaughtUp`].
        request: u64,
        /// The partitions.
        wants: Vec<Want>,
    },
    /// What was lacking.
    CaughtUp {
        /// Of [`Message::CatchUp`].
        request: u64,
        /// Partition by partition; those that did not fit are left out, and asked for again.
        caught: Vec<Caught>,
    },
    /// About the finished incarnations of a node.
    Closing {
        /// Those before this one.
        below: u64,
        /// The ballot's number in this life of the node: an answer to another one is none.
        ballot: u64,
        /// Asked, answered, or decided.
        step: ClosingStep,
    },
}
