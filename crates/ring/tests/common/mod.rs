//! Clusters to plan for, and the naive twins that several tests compare with.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeSet;

use annulus_ring::{Capacity, Member, NodeId, NodeName, Partitions, Ring, plan};
use proptest::prelude::*;

pub(crate) fn member(name: &str, zone: &str, capacity: f64) -> Member {
    Member {
        name: NodeName::parse(name).unwrap(),
        region: "r".to_owned(),
        zone: zone.to_owned(),
        capacity: Capacity::parse(capacity).unwrap(),
    }
}

/// `count` nodes of one capacity, dealt out over `zones` zones.
pub(crate) fn members(count: usize, zones: usize) -> Vec<Member> {
    (0..count)
        .map(|i| member(&format!("n{i:04}"), &format!("z{}", i % zones), 1.0))
        .collect()
}

pub(crate) fn partitions(count: u32) -> Partitions {
    Partitions::new(count).unwrap()
}

/// A first ring of nodes of one capacity, with 1024 partitions and N = 3.
pub(crate) fn ring(count: usize, zones: usize) -> Ring {
    plan(None, members(count, zones), partitions(1024), 3).unwrap()
}

/// Clusters of up to 12 nodes in up to 5 zones, with capacities that differ up to a thousandfold.
pub(crate) fn any_members() -> impl Strategy<Value = Vec<Member>> {
    let capacity = prop_oneof![3 => Just(1.0), 1 => 0.5..4.0f64, 1 => 0.01..10.0f64];
    prop::collection::vec((0..5u8, capacity), 1..=12).prop_map(|nodes| {
        let named =
            |(i, (zone, capacity)): (usize, (u8, f64))| member(&format!("n{i:02}"), &format!("z{zone}"), capacity);
        nodes.into_iter().enumerate().map(named).collect()
    })
}

pub(crate) fn zone_of(ring: &Ring, node: NodeId) -> &str {
    &ring.member(node).unwrap().zone
}

pub(crate) fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> usize {
    items.into_iter().collect::<BTreeSet<_>>().len()
}

pub(crate) fn loads(ring: &Ring) -> Vec<usize> {
    ring.members().iter().map(|member| ring.load(member.id())).collect()
}
