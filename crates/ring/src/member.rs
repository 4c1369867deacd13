//! A member is a node that may own data: its name, where it stands, and how much it can carry.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::name::{self, NameFlaw};

/// A node's name: 1 to 64 of `a-z A-Z 0-9 . _ -`, unique in its cluster. Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeName(Arc<str>);

/// Why a text is not a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a node name: {0}")]
pub struct NodeNameError(#[from] pub NameFlaw);

impl NodeName {
    /// Checks a name's length and characters.
    pub fn parse(text: &str) -> Result<NodeName, NodeNameError> {
        name::check(text)?;
        Ok(NodeName(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;
    fn try_from(text: String) -> Result<NodeName, NodeNameError> {
        NodeName::parse(&text)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeName({})", self.0)
    }
}

/// A node in eight bytes: `xxh3_64` of its name. A ring refuses two names of one id. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The id of a name: the same on every machine, for ever.
    pub fn of(name: &NodeName) -> NodeId {
        NodeId(xxh3_64(name.as_str().as_bytes()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A node's weight relative to the others, 0.01 to 1000, 1 by default: twice the capacity, twice the partitions.
///
/// Kept in whole hundredths, so that planning is exact and every machine computes the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Capacity {
    hundredths: u32,
}

/// Why a number is not a capacity.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a capacity must be from 0.01 to 1000, not {got}")]
pub struct CapacityError {
    /// The number that was asked for.
    pub got: f64,
}

impl Capacity {
    const HUNDREDTHS: std::ops::RangeInclusive<u32> = 1..=100_000;

    /// Rounds to the nearest hundredth; refuses what is out of range or not a number.
    pub fn parse(value: f64) -> Result<Capacity, CapacityError> {
        // A cast saturates and takes NaN to zero, which is out of range.
        Capacity::from_hundredths((value * 100.0).round() as u32).ok_or(CapacityError { got: value })
    }

    pub(crate) fn from_hundredths(hundredths: u32) -> Option<Capacity> {
        Self::HUNDREDTHS
            .contains(&hundredths)
            .then_some(Capacity { hundredths })
    }

    /// The capacity in hundredths, 1 to 100,000: what the planner computes with.
    pub fn hundredths(self) -> u32 {
        self.hundredths
    }

    /// The capacity as it is written in configurations.
    pub fn as_f64(self) -> f64 {
        f64::from(self.hundredths) / 100.0
    }
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity { hundredths: 100 }
    }
}

impl TryFrom<f64> for Capacity {
    type Error = CapacityError;
    fn try_from(value: f64) -> Result<Capacity, CapacityError> {
        Capacity::parse(value)
    }
}

impl From<Capacity> for f64 {
    fn from(capacity: Capacity) -> f64 {
        capacity.as_f64()
    }
}

/// A node that may own partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Unique in the cluster; its id is computed from it.
    pub name: NodeName,
    /// The data centre or cloud region, at most 64 bytes; empty where there is only one.
    pub region: String,
    /// What fails together inside a region (rack, availability zone), at most 64 bytes. Owners are spread over zones.
    pub zone: String,
    /// Its weight.
    pub capacity: Capacity,
}

impl Member {
    /// The id of its name.
    pub fn id(&self) -> NodeId {
        NodeId::of(&self.name)
    }
}
