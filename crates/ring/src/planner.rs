//! The same members and the same previous ring give the same next ring on every machine, and no more data moves than must.
//!
//! Placement is a flow: each partition takes N units from distinct nodes, as many zones as there can be pass a unit,
//! each node gives as many units as its share of the capacity ([`targets`]). A plan starts from the previous table
//! ([`draft`]), hands free and surplus slots to whoever is below target ([`queue`]), and repairs what that greedy
//! pass left over along shortest augmenting paths ([`paths`]; Ford and Fulkerson 1956), which exist whenever the
//! targets can be met, and [`targets`] only sets such. Last, the owners of each partition are put in order ([`order`]).

mod draft;
mod order;
mod paths;
mod queue;
mod targets;

use crate::member::{Member, NodeId};
use crate::position::Partitions;
use crate::ring::{Parts, Ring, RingError, check_members, copies};
use crate::zones::Zones;
use draft::{Draft, Slots};

/// Why no ring could be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The members or the replication factor are not those of a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The previous epoch was the last number there is.
    #[error("there is no epoch after {}", u64::MAX)]
    EpochsExhausted,
}

/// Plans the epoch after `previous`, or epoch 1.
///
/// Every partition gets min(N, members) distinct owners in as many zones as there can be; zones come before balance.
/// Within that, every member owns its share of the capacity, rounded up or down. From an earlier table only those
/// replicas move that a member has above its new share, or that a member that left has held. Members may come in any
/// order. Another number of partitions or another N than the previous ring's are changes like any other.
///
/// # Errors
/// When the members or `replicas` are not those of a ring: none, too many, a name twice, a value out of range.
pub fn plan(
    previous: Option<&Ring>,
    mut members: Vec<Member>,
    partitions: Partitions,
    replicas: u8,
) -> Result<Ring, PlanError> {
    let epoch = match previous {
        Some(ring) => ring.epoch().checked_add(1).ok_or(PlanError::EpochsExhausted)?,
        None => 1,
    };
    members.sort_by(|a, b| a.name.cmp(&b.name));
    check_members(replicas, &members)?;
    let table = place(previous, &members, partitions, copies(replicas, members.len()), epoch);
    Ok(Ring::build(Parts {
        epoch,
        replicas,
        partitions,
        members,
        table,
    })?)
}

fn place(previous: Option<&Ring>, members: &[Member], partitions: Partitions, copies: usize, epoch: u64) -> Vec<u16> {
    let before = previous.map_or_else(
        || Slots::new(partitions, 0),
        |ring| surviving_owners(ring, members, partitions),
    );
    let zones = Zones::of(members);
    let held = before.loads(members.len());
    let capacities: Vec<u32> = members.iter().map(|member| member.capacity.hundredths()).collect();
    let targets = targets::targets(&capacities, &zones, partitions.count(), copies, &held);
    let mut draft = Draft::adopt(before, zones, targets, copies);
    queue::hand_out(&mut draft, epoch);
    paths::settle(&mut draft);
    order::ordered_table(&draft)
}

/// The previous owners of each of the new partitions, as indexes of the new members, in their previous order.
fn surviving_owners(previous: &Ring, members: &[Member], partitions: Partitions) -> Slots {
    let index_now: Vec<Option<u16>> = previous
        .members()
        .iter()
        .map(|member| {
            members
                .binary_search_by(|now| now.name.cmp(&member.name))
                .ok()
                .map(|index| index as u16)
        })
        .collect();
    let mut slots = Slots::new(partitions, previous.copies());
    for partition in 0..partitions.count() {
        let then = rescale(partition, partitions, previous.partitions()) as usize * previous.copies();
        let owners = &previous.table()[then..then + previous.copies()];
        for owner in owners.iter().filter_map(|&owner| index_now[usize::from(owner)]) {
            slots.push(partition, owner);
        }
    }
    slots
}

/// The partition of another division that holds the first position of this one.
fn rescale(partition: u32, from: Partitions, to: Partitions) -> u32 {
    (u64::from(partition) * u64::from(to.count()) / u64::from(from.count())) as u32
}

/// How many replicas must be copied to go from one ring to another, in partitions of the ring that has more of them:
/// an owner of a partition in `after` that was none in `before` counts one. A new order of owners moves nothing.
pub fn movement(before: &Ring, after: &Ring) -> usize {
    let finer = before.partitions().max(after.partitions());
    let owners =
        |ring: &Ring, partition| -> Vec<NodeId> { ring.owners(rescale(partition, finer, ring.partitions())).to_vec() };
    (0..finer.count())
        .map(|partition| {
            let then = owners(before, partition);
            owners(after, partition)
                .iter()
                .filter(|owner| !then.contains(owner))
                .count()
        })
        .sum()
}
