//! Rings and preference lists: what is looked up is what the table says, and hostile bytes are refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use annulus_ring::{NodeId, PartitionId, Ring, RingError, plan};
use common::*;
use proptest::prelude::*;

/// All nodes as they appear walking clockwise from a partition, each once; who owns nothing comes last, by name.
fn naive_walk(ring: &Ring, partition: u32) -> Vec<NodeId> {
    let count = ring.partitions().count();
    let around = (0..count).flat_map(|step| ring.owners((partition + step) % count).to_vec());
    let mut walk = Vec::new();
    for node in around.chain(ring.members().iter().map(|member| member.id())) {
        if !walk.contains(&node) {
            walk.push(node);
        }
    }
    walk
}

fn naive_fallbacks(ring: &Ring, partition: u32, n: usize) -> Vec<NodeId> {
    let walk = naive_walk(ring, partition);
    let (owners, others) = walk.split_at(ring.copies());
    let nearest = others
        .iter()
        .copied()
        .take(2 * usize::from(ring.replicas()) + 2 + usize::from(ring.replicas()) - ring.copies());
    let (same, other): (Vec<_>, Vec<_>) =
        nearest.partition(|&node| owners.iter().any(|&owner| zone_of(ring, owner) == zone_of(ring, node)));
    [&owners[n..], &other, &same].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn prop_a_preference_list_is_the_walk_around_the_ring_owners_first_other_zones_next(
        members in any_members(), bits in 0..=6u32, replicas in 1..=5u8, n in 0..=6u8,
    ) {
        let ring = plan(None, members, partitions(1 << bits), replicas).unwrap();
        for index in 0..ring.partitions().count() {
            let list = ring.preference_list(PartitionId { n, index });
            let n = usize::from(n).clamp(1, ring.copies());
            prop_assert_eq!(list.owners, &ring.owners(index)[..n]);
            prop_assert_eq!(list.fallbacks, naive_fallbacks(&ring, index, n));
            prop_assert_eq!(distinct(list.nodes()), list.nodes().count());
            if ring.members().len() <= 3 * usize::from(replicas) + 2 {
                prop_assert_eq!(list.nodes().count(), ring.members().len());
            }
        }
    }

    #[test]
    fn prop_a_ring_is_decoded_as_it_was_encoded(members in any_members(), bits in 0..=6u32, replicas in 1..=16u8) {
        let ring = plan(None, members, partitions(1 << bits), replicas).unwrap();
        let mut bytes = Vec::new();
        ring.encode(&mut bytes);
        let decoded = Ring::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.fingerprint(), ring.fingerprint());
        prop_assert_eq!(decoded, ring);
    }

    #[test]
    fn prop_hostile_bytes_are_refused_or_are_a_valid_ring(
        members in any_members(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = Vec::new();
        plan(None, members, partitions(8), 3).unwrap().encode(&mut bytes);
        for length in [cut.index(bytes.len()), bytes.len()] {
            let mut bytes = bytes[..length].to_vec();
            flips.iter().filter(|_| length > 0).for_each(|(at, value)| bytes[at.index(length)] = *value);
            if let Ok(ring) = Ring::decode(&bytes) {
                prop_assert_eq!(ring.validate(), Ok(()));
            }
        }
        prop_assert!(Ring::decode(&noise).is_err());
        prop_assert!(Ring::decode(&[&[1], noise.as_slice()].concat()).is_err());
    }
}

#[test]
fn a_ring_that_claims_more_than_it_carries_is_refused_before_anything_is_allocated() {
    let mut bytes = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 0, 0xFF, 0xFF];
    assert_eq!(
        Ring::decode(&bytes),
        Err(RingError::Length {
            expected: 65535 * 7,
            got: 0
        })
    );
    bytes[0] = 9;
    assert_eq!(Ring::decode(&bytes), Err(RingError::Format { got: 9 }));
}

#[test]
fn an_owner_named_twice_is_refused() {
    let mut bytes = Vec::new();
    plan(None, members(3, 1), partitions(1), 3).unwrap().encode(&mut bytes);
    let end = bytes.len();
    bytes[end - 2] = bytes[end - 4];
    assert_eq!(Ring::decode(&bytes), Err(RingError::Owners { partition: 0 }));
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = Vec::new();
    plan(None, members(3, 1), partitions(1), 3).unwrap().encode(&mut bytes);
    bytes.push(0);
    assert_eq!(Ring::decode(&bytes), Err(RingError::Length { expected: 6, got: 7 }));
}

#[test]
fn a_partition_that_the_ring_does_not_have_has_no_owners() {
    let ring = ring(3, 1);
    assert_eq!(ring.owners(1024), []);
    let list = ring.preference_list(PartitionId { n: 3, index: u32::MAX });
    assert_eq!(list.nodes().count(), 0);
}

#[test]
fn a_member_is_found_by_its_id_and_nobody_else_is() {
    let ring = ring(20, 3);
    for member in ring.members() {
        assert_eq!(ring.member(member.id()), Some(member));
    }
    assert_eq!(ring.member(NodeId(1)), None);
    assert_eq!(ring.load(NodeId(1)), 0);
}

#[test]
fn a_large_cluster_keeps_short_lists_and_an_owner_outside_its_bucket_falls_back_first() {
    let ring = ring(200, 4);
    let list = ring.preference_list(PartitionId { n: 1, index: 7 });
    assert_eq!((list.owners.len(), list.fallbacks.len()), (1, 10));
    assert_eq!(list.fallbacks[..2], ring.owners(7)[1..]);
    assert!(list.is_owner(ring.owners(7)[0]) && !list.is_owner(ring.owners(7)[1]));
}
