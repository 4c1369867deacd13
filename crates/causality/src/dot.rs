//! A dot names exactly one write, ever: an actor that is never reused, and a counter that only grows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, put_varint};

/// A node in one incarnation: whoever may assign dots.
///
/// Every start of a node takes a new incarnation, and takes it from the cluster: a disk restored from yesterday must not
/// hand out yesterday's dots again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// The node's identity in the cluster.
    pub node: u64,
    /// Which start of the node this is.
    pub incarnation: u64,
}

impl Actor {
    /// Appends the encoding: two varints.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.node);
        put_varint(out, self.incarnation);
    }

    /// Reads what [`Actor::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let node = reader.varint("actor")?;
        let incarnation = reader.varint("actor")?;
        Ok(Self { node, incarnation })
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.node, self.incarnation)
    }
}

/// One write: the `counter`-th of its actor in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who coordinated the write.
    pub actor: Actor,
    /// Counts the actor's writes in one partition from 1; 0 is not a dot.
    pub counter: u64,
}

impl Dot {
    /// The dot of `actor`'s `counter`-th write. A counter of 0 names nothing: no context ever contains it.
    pub const fn new(actor: Actor, counter: u64) -> Self {
        Self { actor, counter }
    }

    /// Appends the encoding: the actor and one varint.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.actor.encode(out);
        put_varint(out, self.counter);
    }

    /// Reads what [`Dot::encode`] wrote; a counter of 0 is refused.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let actor = Actor::decode(reader)?;
        match reader.varint("dot")? {
            0 => Err(reader.malformed("dot")),
            counter => Ok(Self { actor, counter }),
        }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}
