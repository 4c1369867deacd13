//! What membership wants done, as values.

use annulus_ring::{Member, NodeId, Partitions};

use crate::detector::Liveness;
use crate::gossip::Gossip;
use crate::record::{ClusterId, MemberRecord};
use crate::secret::Secret;
use crate::vote::Vote;

/// What membership wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send to a peer whose link is up.
    Send {
        /// The peer.
        to: NodeId,
        /// What.
        gossip: Gossip,
    },
    /// Keep a link to this peer address, reconnecting with back-off; asked again, it is the same link.
    Connect {
        /// `host:port`.
        address: String,
    },
    /// A peer's liveness changed, or whether it is reachable did: ask [`crate::Membership::is_reachable`].
    Changed {
        /// The peer.
        node: NodeId,
        /// What it is now.
        liveness: Liveness,
    },
    /// A member is new, or came back with a greater incarnation: its addresses may be others.
    MemberAdded {
        /// What it says of itself.
        record: MemberRecord,
    },
    /// Store this durably, then say [`crate::Membership::on_vote_stored`]; give it back to [`crate::Membership::new`]
    /// after a restart. Until then the vote is neither announced nor counted.
    Persist {
        /// What this node voted for.
        vote: Vote,
    },
    /// This node founded the cluster with others, who all say exactly this: each can plan the first ring by itself.
    Formed {
        /// The cluster's id.
        cluster: ClusterId,
        /// The cluster's key.
        key: Secret,
        /// The founders, sorted by name.
        members: Vec<Member>,
        /// The replication factor that they agreed on.
        replicas: u8,
        /// The number of partitions that they agreed on.
        partitions: Partitions,
    },
    /// This node joined a cluster that was there before: the ring comes from a peer. It is to be stored before the node
    /// keeps anything for others: a crash before that forgets it, and the node may be let in elsewhere.
    Joined {
        /// The cluster's id.
        cluster: ClusterId,
        /// The cluster's key.
        key: Secret,
    },
    /// A peer has seen a greater incarnation of this node than this node has of itself: its directory is of yesterday.
    /// Take a new one after it, and say so with [`crate::Membership::set_incarnation`].
    Outlived {
        /// The greatest that was seen.
        seen: u64,
    },
    /// Something that a person should know, as a whole sentence; said once as long as it lasts.
    Problem {
        /// The sentence.
        text: String,
    },
}
