//! Who is silent is suspected, who is heard is alive, and who slept blames nobody.

use std::time::Duration;

use annulus_membership::{Liveness, next_incarnation};
use proptest::prelude::*;
use rand::RngExt;

use crate::world::{World, start};

const SECOND: Duration = Duration::from_secs(1);

fn settled(seed: u64, nodes: usize) -> World {
    let mut world = World::founders(seed, nodes);
    world.run_until(5 * SECOND, World::is_settled);
    world.run(5 * SECOND);
    world.changes.clear();
    world
}

fn all_say(world: &World, node: usize, liveness: Liveness) -> bool {
    (0..world.len())
        .filter(|&other| other != node)
        .all(|other| world.at(other).liveness(world.id(node)) == liveness)
}

#[test]
fn a_killed_node_is_suspected_at_once_then_down_then_alive_again() {
    let mut world = settled(1, 3);
    world.kill(2);
    assert!(world.run_until(SECOND, |world| all_say(world, 2, Liveness::Suspect)) < Duration::from_millis(100));
    assert!(!world.at(0).is_reachable(world.id(2)));
    let down = world.run_until(20 * SECOND, |world| all_say(world, 2, Liveness::Down));
    assert!((9 * SECOND..12 * SECOND).contains(&down), "{down:?}");
    world.boot(2);
    world.run_until(2 * SECOND, World::is_settled);
}

#[test]
fn a_paused_node_is_suspected_then_recovers_and_blames_nobody() {
    let mut world = settled(2, 5);
    world.pause(4, 5 * SECOND);
    let suspected = world.run_until(5 * SECOND, |world| all_say(world, 4, Liveness::Suspect));
    assert!(
        (SECOND..Duration::from_millis(2500)).contains(&suspected),
        "{suspected:?}"
    );
    world.run_until(6 * SECOND, World::is_settled);
    world.run(10 * SECOND);
    let blamed: Vec<_> = world
        .changes
        .iter()
        .filter(|(by, _, to)| *by == 4 && *to != Liveness::Alive)
        .collect();
    assert!(
        world
            .changes
            .iter()
            .all(|(by, node, _)| *by == 4 || *node == world.id(4)),
        "the others go on trusting each other: {:?}",
        world.changes
    );
    // It may hear that the others do not hear it, which is true; it suspects none of them.
    assert_eq!(blamed, Vec::<&_>::new());
}

#[test]
fn a_node_that_is_cut_off_is_suspected_by_all_and_suspects_all() {
    let mut world = settled(3, 3);
    world.isolate(0);
    world.run_until(3 * SECOND, |world| {
        all_say(world, 0, Liveness::Suspect)
            && (1..3).all(|node| world.at(0).liveness(world.id(node)) == Liveness::Suspect)
    });
    world.cut.clear();
    world.run_until(2 * SECOND, World::is_settled);
}

#[test]
fn a_node_that_is_heard_but_does_not_hear_is_not_reachable() {
    let mut world = settled(4, 3);
    world.cut.insert((1, 0));
    world.run_until(4 * SECOND, |world| !world.at(1).is_reachable(world.id(0)));
    assert_eq!(world.at(1).liveness(world.id(0)), Liveness::Alive);
    assert!(
        world.changes.contains(&(1, world.id(0), Liveness::Alive)),
        "whoever waits for it is told"
    );
    assert!(world.at(2).is_reachable(world.id(0)));
    world.cut.clear();
    world.run_until(2 * SECOND, World::is_settled);
}

#[test]
fn an_idle_cluster_exchanges_one_small_frame_a_peer_a_heartbeat() {
    let mut world = settled(5, 5);
    world.frames.clear();
    world.run(50 * SECOND);
    let expected = 5 * 4 * 100;
    assert!(
        (expected - 40..=expected).contains(&world.frames.len()),
        "{}",
        world.frames.len()
    );
    let largest = world.frames.iter().max().copied();
    assert!(largest < Some(64), "{largest:?} bytes");
    assert_eq!(world.changes, []);
}

#[test]
fn a_node_that_moves_is_found_at_its_new_address() {
    let mut world = settled(6, 3);
    world.kill(1);
    world.start_mut(1).address = "127.0.0.1:9999".into();
    world.boot(1);
    world.run_until(3 * SECOND, World::is_settled);
    assert_eq!(world.at(0).record(world.id(1)).unwrap().peer, "127.0.0.1:9999");
    assert_eq!(world.problems, []);
}

#[test]
fn a_node_from_an_old_copy_of_its_directory_takes_a_new_incarnation() {
    let mut world = settled(7, 3);
    let yesterday = world.disk(2);
    for _ in 0..5 {
        world.kill(2);
        world.boot(2);
        world.run_until(3 * SECOND, World::is_settled);
    }
    let last = world.at(2).me().incarnation;
    world.kill(2);
    *world.disk_mut(2) = yesterday;
    world.boot(2);
    assert!(world.at(2).me().incarnation < last);
    world.run_until(3 * SECOND, World::is_settled);
    assert!(world.at(2).me().incarnation > last);
}

#[test]
fn incarnations_grow_whatever_is_random() {
    let mut last = 0;
    for random in [u64::MAX, 0, 1, u64::MAX >> 44, 5] {
        let next = next_incarnation(last, random);
        assert!(next > last);
        last = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_tables_converge_after_any_trouble(seed: u64, nodes in 3usize..10, steps in 1usize..15) {
        let mut world = settled(seed, nodes);
        world.loss = 200;
        world.longest_delay = Duration::from_millis(800);
        for _ in 0..steps {
            let node = world.rng.random_range(0..world.len());
            match world.rng.random_range(0..6) {
                0 => world.kill(node),
                1 => world.boot(node),
                2 => world.pause(node, 3 * SECOND),
                3 => world.isolate(node),
                4 => world.cut.clear(),
                _ => {
                    let number = world.len();
                    let late = world.add(start(number, vec![node], None));
                    world.boot(late);
                }
            }
            let pause = Duration::from_millis(world.rng.random_range(10..3000));
            world.run(pause);
        }
        world.loss = 0;
        world.longest_delay = Duration::from_millis(5);
        world.cut.clear();
        (0..world.len()).for_each(|node| world.boot(node));
        world.run_until(20 * SECOND, World::is_settled);
        prop_assert_eq!(world.at(0).members().len(), world.len());
    }
}
