//! The first thing two nodes say on a link: who they are, whose, and which protocol they speak.

use annulus_causality::{DecodeError, Instant, Reader, put_u8, put_varint};
use annulus_ring::NodeName;

use crate::record::{ClusterId, MemberRecord};
use crate::secret::array;

/// What a node said of its disk: a later incarnation of it whose directory begins with less was given an older one, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witnessed {
    /// The incarnation that said so; above 0.
    pub incarnation: u64,
    /// The last batch that survives power loss there.
    pub batch: u64,
}

/// The first thing a node says on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest protocol version that the sayer speaks.
    pub protocol_min: u16,
    /// The newest one.
    pub protocol_max: u16,
    /// The sayer's cluster; none before it is formed or joined.
    pub cluster: Option<ClusterId>,
    /// The sayer.
    pub record: MemberRecord,
    /// The greatest incarnation that the sayer has seen of the node it speaks to; none where it does not know whom it
    /// speaks to, or has never seen it.
    pub seen: Option<u64>,
    /// How far that node's disk was when it last told the sayer; none where it never did.
    pub witnessed: Option<Witnessed>,
    /// The sayer's clock.
    pub clock: Instant,
}

/// Why a link is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The link leads to this node itself, as a join list shared by all founders makes it: no reason for alarm.
    #[error("the address leads back to this node")]
    Myself,
    /// Another process goes by this node's name.
    #[error("the node at {address} is called {name}, as this node is: give every node a name of its own")]
    MyName {
        /// The name.
        name: NodeName,
        /// The other's peer address.
        address: String,
    },
    /// A process at another address goes by the name of a peer that is alive.
    #[error("two nodes are called {name}: one at {known}, which is alive, and one at {address}, which is refused")]
    NameTaken {
        /// The name.
        name: NodeName,
        /// Where the node of that name is.
        known: String,
        /// Where the second one is.
        address: String,
    },
    /// It belongs to another cluster.
    #[error("{name} at {address} belongs to cluster {theirs}, this node to cluster {ours}: they do not mix")]
    OtherCluster {
        /// The peer.
        name: NodeName,
        /// Its peer address.
        address: String,
        /// Its cluster.
        theirs: ClusterId,
        /// This node's.
        ours: ClusterId,
    },
    /// This node has voted to found another cluster.
    #[error(
        "{name} at {address} belongs to cluster {theirs}, but this node has voted to found {ours}: \
         correct the join lists; to join {theirs} instead, start this node with an empty data directory"
    )]
    VotedOtherwise {
        /// The peer.
        name: NodeName,
        /// Its peer address.
        address: String,
        /// Its cluster.
        theirs: ClusterId,
        /// What this node's vote would found.
        ours: ClusterId,
    },
    /// There is no protocol version that both speak.
    #[error("{name} speaks protocol versions {} to {}, this node {} to {}: upgrade the older one",
        .theirs.0, .theirs.1, .ours.0, .ours.1)]
    Protocol {
        /// The peer.
        name: NodeName,
        /// Its oldest and newest version.
        theirs: (u16, u16),
        /// This node's.
        ours: (u16, u16),
    },
    /// The table is full.
    #[error("{name} is not added: a cluster has at most {} members", crate::MAX_MEMBERS)]
    TooMany {
        /// The peer.
        name: NodeName,
    },
}

impl Hello {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.protocol_min));
        put_varint(out, u64::from(self.protocol_max));
        encode_cluster(self.cluster, out);
        self.record.encode(out);
        // Incarnations begin at 1: 0 is free to say "none".
        put_varint(out, self.seen.unwrap_or(0));
        let Witnessed { incarnation, batch } = self.witnessed.unwrap_or_default();
        put_varint(out, incarnation);
        put_varint(out, batch);
        put_varint(out, self.clock.nanos());
    }

    /// Reads what [`Hello::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let protocol_min = version(reader)?;
        let protocol_max = version(reader)?;
        if protocol_min > protocol_max {
            return Err(reader.malformed("protocol range"));
        }
        Ok(Self {
            protocol_min,
            protocol_max,
            cluster: decode_cluster(reader)?,
            record: MemberRecord::decode(reader)?,
            seen: Some(reader.varint("incarnation")?).filter(|&seen| seen > 0),
            witnessed: Some(Witnessed {
                incarnation: reader.varint("incarnation")?,
                batch: reader.varint("batch")?,
            })
            .filter(|witnessed| witnessed.incarnation > 0),
            clock: Instant::from_nanos(reader.varint("clock")?),
        })
    }
}

fn version(reader: &mut Reader) -> Result<u16, DecodeError> {
    u16::try_from(reader.varint("protocol version")?).map_err(|_| reader.malformed("protocol version"))
}

pub(crate) fn encode_cluster(cluster: Option<ClusterId>, out: &mut Vec<u8>) {
    put_u8(out, u8::from(cluster.is_some()));
    out.extend_from_slice(cluster.as_ref().map_or(&[], |id| &id.0[..]));
}

pub(crate) fn decode_cluster(reader: &mut Reader) -> Result<Option<ClusterId>, DecodeError> {
    match reader.u8("cluster id")? {
        0 => Ok(None),
        1 => array(reader, "cluster id").map(|bytes| Some(ClusterId(bytes))),
        _ => Err(reader.malformed("cluster id")),
    }
}
