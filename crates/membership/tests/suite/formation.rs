//! Never two clusters from one set of founders; always one where nothing is wrong.

use std::time::Duration;

use proptest::prelude::*;
use rand::RngExt;

use crate::world::{World, start};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn three_founders_that_start_together_form_within_two_seconds() {
    let mut world = World::founders(1, 3);
    assert!(world.run_until(2 * SECOND, World::is_settled) <= 2 * SECOND);
    assert_eq!(world.problems, []);
    assert_eq!(world.at(0).formation_status(), None);
}

#[test]
fn one_founder_that_expects_one_forms_at_once() {
    let mut world = World::founders(2, 1);
    assert!(world.run_until(SECOND, World::is_settled) < Duration::from_millis(100));
}

#[test]
fn founders_that_start_one_by_one_wait_for_each_other() {
    let mut world = World::new(3, (0..3).map(|i| start(i, vec![0, 1, 2], Some(3))).collect());
    world.boot(0);
    world.run(5 * SECOND);
    world.boot(1);
    world.run(5 * SECOND);
    assert_eq!(
        world.at(0).formation_status().unwrap(),
        "waiting for 1 more of 3 founders; in sight: n0 and n1"
    );
    assert_eq!(world.at(1).waiting_for(), 1);
    world.boot(2);
    world.run_until(3 * SECOND, World::is_settled);
    assert_eq!(world.problems, []);
}

#[test]
fn a_chain_of_join_lists_is_enough() {
    let mut world = World::new(4, (0..5).map(|i| start(i, vec![(i + 1) % 4], Some(5))).collect());
    (0..5).for_each(|node| world.boot(node));
    world.run_until(5 * SECOND, World::is_settled);
    assert_eq!(world.problems, []);
}

#[test]
fn a_node_that_comes_later_is_let_in() {
    let mut world = World::founders(5, 3);
    world.run_until(3 * SECOND, World::is_settled);
    let late = world.add(start(3, vec![1], None));
    world.boot(late);
    world.run_until(3 * SECOND, World::is_settled);
    assert_eq!(
        (world.at(late).cluster(), world.at(late).key()),
        (world.at(0).cluster(), world.at(0).key())
    );
    assert_eq!(world.at(0).members().len(), 4);
}

#[test]
fn a_founder_that_lost_its_directory_comes_back_as_a_member() {
    let mut world = World::founders(6, 3);
    world.run_until(3 * SECOND, World::is_settled);
    let cluster = world.at(0).cluster();
    world.kill(2);
    world.wipe(2);
    world.boot(2);
    world.run_until(5 * SECOND, World::is_settled);
    assert_eq!(world.at(2).cluster(), cluster);
}

#[test]
fn a_whole_cluster_that_restarts_is_the_same_cluster() {
    let mut world = World::founders(7, 3);
    world.run_until(3 * SECOND, World::is_settled);
    let cluster = world.at(0).cluster();
    (0..3).for_each(|node| world.kill(node));
    world.run(SECOND);
    (0..3).for_each(|node| world.boot(node));
    world.run_until(3 * SECOND, World::is_settled);
    assert_eq!(world.at(0).cluster(), cluster);
}

/// Crashes, pauses, cuts and (where `may_wipe`) lost directories for a while; what is down at the end is started.
fn trouble(world: &mut World, steps: usize, may_wipe: Wipes) {
    world.loss = world.rng.random_range(0..400);
    world.longest_delay = Duration::from_millis(world.rng.random_range(1..1500));
    for _ in 0..steps {
        let node = world.rng.random_range(0..world.len());
        let other = world.rng.random_range(0..world.len());
        match world.rng.random_range(0..8) {
            0 | 1 => world.boot(node),
            2 => world.kill(node),
            3 => world.pause(node, Duration::from_millis(1500)),
            4 => {
                world.cut.insert((node, other));
            }
            5 => world.cut.clear(),
            6 if may_wipe == Wipes::Allowed => {
                world.kill(node);
                world.wipe(node);
            }
            _ => {}
        }
        let pause = Duration::from_millis(world.rng.random_range(10..900));
        world.run(pause);
    }
    world.loss = 0;
    world.longest_delay = Duration::from_millis(5);
    world.cut.clear();
    (0..world.len()).for_each(|node| world.boot(node));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wipes {
    Allowed,
    None,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_founders_with_right_lists_always_form_one_cluster(
        seed: u64, founders in 1usize..7, joiners in 0usize..3, steps in 0usize..25
    ) {
        // Lists that are partial, but connect all: everybody names an earlier node.
        let mut world = World::new(seed, Vec::new());
        for node in 0..founders + joiners {
            let earlier = world.rng.random_range(0..=node);
            let expect = (node < founders).then_some(founders);
            let join = if node == 0 { vec![0] } else { vec![earlier.min(node - 1), node] };
            world.add(start(node, join, expect));
        }
        trouble(&mut world, steps, Wipes::None);
        world.run_until(Duration::from_secs(30), World::is_settled);
        prop_assert_eq!(world.at(0).members().len(), founders + joiners);
    }

    /// Wrong lists, different expectations, extra nodes, lost directories: whatever happens, `World` checks after every
    /// step that clusters do not share a founder and that no founder enters two.
    #[test]
    fn prop_no_two_clusters_share_a_founder(seed: u64, nodes in 2usize..8, steps in 5usize..40) {
        let mut world = World::new(seed, Vec::new());
        for node in 0..nodes {
            let join = (0..world.rng.random_range(0..4)).map(|_| world.rng.random_range(0..nodes)).collect();
            let expect = match world.rng.random_range(0..8) {
                0 => None,
                1 => Some(world.rng.random_range(1..=nodes)),
                _ => Some((nodes / 2).max(2)),
            };
            let mut start = start(node, join, expect);
            start.replicas = if world.rng.random_range(0..20) == 0 { 2 } else { 3 };
            world.add(start);
        }
        trouble(&mut world, steps, Wipes::Allowed);
        world.run(Duration::from_secs(5));
    }
}
