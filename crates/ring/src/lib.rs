//! Where a key lives: positions, partitions, the epoch's table of owners, and preference lists.
//!
//! A key has a [`Position`]; positions fall into equal [`Partitions`]; a [`Ring`] says for one epoch which members own
//! which partition; [`plan`] computes the next ring from the last one with the least movement of data. All of it is
//! pure: no time, no randomness, no input or output; planning computes in integers only.
//!
//! ```
//! use annulus_ring::{Bucket, Capacity, Key, Member, NodeName, PartitionId, Partitions, Position, movement, plan};
//!
//! let member = |name: &str, zone: &str| Member {
//!     name: NodeName::parse(name).expect("a short plain name"),
//!     region: "eu".into(),
//!     zone: zone.into(),
//!     capacity: Capacity::default(),
//! };
//! let mut members = vec![member("n1", "a"), member("n2", "b"), member("n3", "c")];
//! let first = plan(None, members.clone(), Partitions::default(), 3)?;
//!
//! let position = Position::of(&Bucket::parse("photos")?, &Key::parse("2024/cat.jpg")?);
//! let partition = PartitionId { n: 3, index: first.partitions().of(position) };
//! assert_eq!(first.preference_list(partition).owners.len(), 3);
//!
//! // A fourth node takes a quarter of the replicas, and nothing else moves.
//! members.push(member("n4", "d"));
//! let second = plan(Some(&first), members, first.partitions(), 3)?;
//! assert_eq!((second.epoch(), movement(&first, &second)), (2, 1024 * 3 / 4));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod codec;
mod key;
mod member;
mod name;
mod planner;
mod position;
mod preference;
mod ring;
mod zones;

pub use address::Address;
pub use key::{Bucket, BucketError, Key, KeyError, MAX_KEY_BYTES};
pub use member::{Capacity, CapacityError, Member, NodeId, NodeName, NodeNameError};
pub use name::{MAX_NAME_BYTES, NameFlaw};
pub use planner::{PlanError, movement, plan};
pub use position::{MAX_PARTITIONS, PartitionId, Partitions, PartitionsError, Position};
pub use preference::PreferenceList;
pub use ring::{MAX_REPLICAS, Ring, RingError};
