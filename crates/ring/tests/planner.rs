//! What the planner promises, each compared with a naive computation of the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/least_movement.rs"]
mod least_movement;

use std::collections::BTreeMap;

use annulus_ring::{Capacity, Member, NodeId, PlanError, Ring, RingError, movement, plan};
use common::*;
use least_movement::least_movement;
use proptest::prelude::*;

fn assert_owners_are_distinct_and_spread(ring: &Ring) {
    let zones = distinct(ring.members().iter().map(|member| &member.zone));
    for partition in 0..ring.partitions().count() {
        let owners = ring.owners(partition);
        let copies = usize::from(ring.replicas()).min(ring.members().len());
        assert_eq!(
            (owners.len(), distinct(owners)),
            (copies, copies),
            "partition {partition}"
        );
        let spread = distinct(owners.iter().map(|&owner| zone_of(ring, owner)));
        assert_eq!(spread, zones.min(copies), "partition {partition}");
    }
}

fn assert_first_owners_are_balanced(ring: &Ring) {
    let mut first = BTreeMap::<NodeId, usize>::new();
    (0..ring.partitions().count()).for_each(|partition| *first.entry(ring.owners(partition)[0]).or_default() += 1);
    for (node, count) in first {
        assert!(
            count <= ring.load(node).div_ceil(ring.copies()),
            "{node} is first in {count}"
        );
    }
}

/// Replicas by capacity, none above one a partition: what exceeds that is shared among the others, until it fits.
fn naive_shares(members: &[Member], partitions: f64, copies: f64) -> Vec<f64> {
    let mut shares = vec![f64::NAN; members.len()];
    loop {
        let capped = shares.iter().filter(|&&share| share == partitions).count() as f64;
        let open: Vec<usize> = (0..members.len()).filter(|&i| shares[i] != partitions).collect();
        let capacity: f64 = open.iter().map(|&i| members[i].capacity.as_f64()).sum();
        open.iter().for_each(|&i| {
            shares[i] = members[i].capacity.as_f64() / capacity * (partitions * (copies - capped));
        });
        if shares.iter().all(|&share| share.is_nan() || share <= partitions) {
            return shares;
        }
        shares
            .iter_mut()
            .filter(|share| **share > partitions)
            .for_each(|share| *share = partitions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn prop_owners_are_distinct_and_in_as_many_zones_as_there_can_be_through_any_changes(
        steps in prop::collection::vec((any_members(), 0..=7u32, 1..=6u8), 1..4),
    ) {
        let mut previous: Option<Ring> = None;
        for (members, bits, replicas) in steps {
            let ring = plan(previous.as_ref(), members, partitions(1 << bits), replicas).unwrap();
            prop_assert_eq!(ring.validate(), Ok(()));
            assert_owners_are_distinct_and_spread(&ring);
            assert_first_owners_are_balanced(&ring);
            previous = Some(ring);
        }
    }

    #[test]
    fn prop_loads_are_the_shares_of_capacity_rounded_down_or_up(
        mut members in any_members(), bits in 0..=8u32, replicas in 1..=6u8,
    ) {
        members.iter_mut().for_each(|member| member.zone.clear());
        let ring = plan(None, members, partitions(1 << bits), replicas).unwrap();
        let shares = naive_shares(ring.members(), f64::from(1u32 << bits), ring.copies() as f64);
        for (load, share) in loads(&ring).into_iter().zip(shares) {
            prop_assert!((load as f64 - share).abs() < 1.001, "{} for {}", load, share);
        }
    }

    #[test]
    fn prop_a_node_more_or_less_moves_what_a_minimum_cost_flow_moves(
        mut members in any_members(), bits in 0..=5u32, replicas in 1..=4u8, equal in any::<bool>(),
    ) {
        if equal {
            members.iter_mut().for_each(|member| member.capacity = Capacity::default());
        }
        let (last, fewer) = members.split_last().unwrap();
        if fewer.is_empty() {
            return Ok(());
        }
        let small = plan(None, fewer.to_vec(), partitions(1 << bits), replicas).unwrap();
        let large = plan(Some(&small), members.clone(), partitions(1 << bits), replicas).unwrap();
        let again = plan(Some(&large), fewer.to_vec(), partitions(1 << bits), replicas).unwrap();
        let joining = movement(&small, &large) - least_movement(&small, &large);
        let leaving = movement(&large, &again) - least_movement(&large, &again);
        // A new zone makes partitions give up an owner each, which the planner chooses one partition at a time.
        let zone_is_new = fewer.iter().all(|member| member.zone != last.zone);
        prop_assert!(joining <= if zone_is_new { 3 } else { 0 }, "{} too many joining", joining);
        prop_assert_eq!(leaving, 0, "too many leaving");
    }

    #[test]
    fn prop_the_order_in_which_members_are_given_changes_nothing(
        members in any_members().prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
    ) {
        let (sorted, shuffled) = members;
        prop_assert_eq!(plan(None, sorted, partitions(64), 3), plan(None, shuffled, partitions(64), 3));
    }
}

#[test]
fn equal_nodes_own_the_mean_rounded_down_or_up_from_3_to_200_nodes() {
    for count in 3..=200 {
        let ring = ring(count, 1);
        let (loads, slots) = (loads(&ring), 1024 * 3);
        assert_eq!(
            loads.iter().max(),
            Some(&usize::div_ceil(slots, count)),
            "{count} nodes"
        );
        assert_eq!(loads.iter().min(), Some(&(slots / count)), "{count} nodes");
        assert_first_owners_are_balanced(&ring);
    }
}

#[test]
fn a_node_that_joins_equals_takes_only_its_own_share_from_3_to_200_nodes() {
    let mut before = ring(2, 1);
    for count in 3..=200 {
        let after = plan(Some(&before), members(count, 1), before.partitions(), 3).unwrap();
        let least = if count == 3 { 1024 } else { 1024 * 3 / count };
        assert_eq!(movement(&before, &after), least, "{count} nodes");
        before = after;
    }
}

#[test]
fn a_node_that_leaves_equals_moves_only_what_it_held_from_200_to_3_nodes() {
    let mut before = ring(200, 1);
    while before.members().len() > 3 {
        // Anyone may go, not only the newest.
        let leaving = before.members()[before.members().len() * 7 / 11].clone();
        let staying = before
            .members()
            .iter()
            .filter(|member| **member != leaving)
            .cloned()
            .collect();
        let after = plan(Some(&before), staying, before.partitions(), 3).unwrap();
        assert_eq!(
            movement(&before, &after),
            before.load(leaving.id()),
            "{} nodes",
            after.members().len()
        );
        before = after;
    }
}

#[test]
fn in_equal_zones_a_node_more_or_less_moves_only_its_own_replicas() {
    for (zones, per_zone) in [(3, 2), (3, 5), (3, 20), (4, 4), (5, 3), (6, 10)] {
        let before = ring(zones * per_zone, zones);
        let mut more = before.members().to_vec();
        more.push(member("joins", "z1", 1.0));
        let after = plan(Some(&before), more, before.partitions(), 3).unwrap();
        let joined = after
            .members()
            .iter()
            .find(|member| member.name.as_str() == "joins")
            .unwrap()
            .id();
        assert_eq!(
            movement(&before, &after),
            after.load(joined),
            "{zones} zones of {per_zone}, joining"
        );
        let again = plan(Some(&after), before.members().to_vec(), before.partitions(), 3).unwrap();
        assert_eq!(
            movement(&after, &again),
            after.load(joined),
            "{zones} zones of {per_zone}, leaving"
        );
    }
}

#[test]
fn planning_again_without_a_change_moves_nothing_but_the_epoch() {
    let before = ring(17, 4);
    let after = plan(Some(&before), before.members().to_vec(), before.partitions(), 3).unwrap();
    assert_eq!(after.epoch(), before.epoch() + 1);
    assert!((0..1024).all(|partition| before.owners(partition) == after.owners(partition)));
}

#[test]
fn doubling_the_partitions_moves_no_more_than_rounding() {
    let before = ring(5, 1);
    let after = plan(Some(&before), before.members().to_vec(), partitions(2048), 3).unwrap();
    let least = after
        .members()
        .iter()
        .map(|m| after.load(m.id()).saturating_sub(2 * before.load(m.id())))
        .sum();
    assert_eq!(movement(&before, &after), least);
    assert!(least < 5);
}

#[test]
fn one_replica_more_copies_one_a_partition_and_one_less_copies_none() {
    let three = ring(9, 1);
    let four = plan(Some(&three), members(9, 1), three.partitions(), 4).unwrap();
    assert_eq!(movement(&three, &four), 1024);
    let again = plan(Some(&four), members(9, 1), three.partitions(), 3).unwrap();
    assert_eq!(movement(&four, &again), 0);
}

#[test]
fn nodes_that_join_one_after_the_other_are_not_neighbours_everywhere() {
    let mut ring = ring(10, 1);
    for count in 11..=20 {
        ring = plan(Some(&ring), members(count, 1), ring.partitions(), 3).unwrap();
    }
    let mut pairs = BTreeMap::<(NodeId, NodeId), usize>::new();
    for partition in 0..1024 {
        let owners = ring.owners(partition);
        for (a, b) in owners
            .iter()
            .flat_map(|a| owners.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| a < b)
        {
            *pairs.entry((a, b)).or_default() += 1;
        }
    }
    // 190 pairs share 3072 places, 16 each in the mean: losing one node then loads all the others alike.
    let extremes = (
        pairs.len(),
        pairs.values().min().unwrap(),
        pairs.values().max().unwrap(),
    );
    assert!(
        pairs.len() == 190 && pairs.values().all(|shared| (4..=40).contains(shared)),
        "{extremes:?}"
    );
}

#[test]
fn a_cluster_that_is_none_is_refused() {
    let refused = |members, replicas| plan(None, members, partitions(8), replicas).unwrap_err();
    assert_eq!(refused(vec![], 3), PlanError::Ring(RingError::Members { got: 0 }));
    assert_eq!(
        refused(members(3, 1), 0),
        PlanError::Ring(RingError::Replicas { got: 0 })
    );
    assert_eq!(
        refused(members(3, 1), 17),
        PlanError::Ring(RingError::Replicas { got: 17 })
    );
    let twice = [members(3, 1), members(1, 1)].concat();
    assert_eq!(refused(twice, 3), PlanError::Ring(RingError::MemberOrder { index: 1 }));
    let long = vec![member("a", &"z".repeat(65), 1.0)];
    assert_eq!(
        refused(long, 1),
        PlanError::Ring(RingError::Member {
            index: 0,
            field: "zone"
        })
    );
}
