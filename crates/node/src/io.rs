//! What goes into a node and what comes out of it, as values.

use annulus_coordinator::{Reply, Request};
use annulus_membership::Hello;
use annulus_protocol::Message;
use annulus_ring::NodeId;

/// A request of a client of this node, numbered by the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// What happens to a node.
#[derive(Debug)]
pub enum Input {
    /// A client asks.
    Client {
        /// Answered once by [`Effect::Reply`].
        id: ClientId,
        /// What.
        request: Request,
    },
    /// A peer says something, on a link whose handshake showed who it is.
    Message {
        /// The peer.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// The link on which this node sends to a peer is up.
    LinkUp {
        /// What the peer said in the handshake.
        hello: Hello,
    },
    /// It is down: what was sent and not answered may or may not have arrived.
    LinkDown {
        /// The peer.
        peer: NodeId,
    },
    /// A peer connected to this node, and said hello.
    Accepted {
        /// What it said.
        hello: Hello,
    },
    /// All batches up to this one survive power loss.
    Synced {
        /// As numbered by [`Effect::Sync`].
        batch: u64,
    },
    /// The disk failed: nothing is acknowledged until the node is opened again.
    StorageFailed {
        /// What to tell people.
        reason: String,
    },
    /// The space left on the data directory's file system was looked at.
    FreeSpace {
        /// In bytes.
        bytes: u64,
    },
}

/// What a node wants done.
#[derive(Debug)]
pub enum Effect {
    /// Answer a client.
    Reply {
        /// Which request.
        id: ClientId,
        /// The answer.
        reply: Reply,
    },
    /// Send to a peer; dropped where no link is up.
    Send {
        /// The peer.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Keep a link to this address (`host:port`), reconnecting with back-off; asked again, it is the same link.
    Connect {
        /// Where the peer listens.
        address: String,
    },
    /// Sync the engine, and say [`Input::Synced`] with this number.
    Sync {
        /// The last batch that was applied.
        batch: u64,
    },
    /// The node formed or joined a cluster: note its id in the data directory.
    Formed {
        /// The cluster's id.
        cluster: String,
    },
    /// Say this to the operator.
    Log {
        /// How bad it is.
        level: Level,
        /// A whole sentence: what, which, why, what to do.
        text: String,
    },
}

/// How bad something is that an operator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something changed.
    Info,
    /// Something is not as it should be, and mends itself or needs a look.
    Warn,
    /// Something needs a person.
    Error,
}
