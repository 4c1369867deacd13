//! What a person is told when something is set up wrongly, and that it is said once.

use std::time::Duration;

use annulus_causality::Instant;
use annulus_membership::{Action, ClusterId, HelloError, Known, Membership, Secret, Settings};
use annulus_ring::Partitions;

use crate::world::{HEARTBEAT, World, record, start};

const SECOND: Duration = Duration::from_secs(1);

fn said_by(world: &World, node: usize) -> Vec<&str> {
    world
        .problems
        .iter()
        .filter(|(by, _)| *by == node)
        .map(|(_, text)| text.as_str())
        .collect()
}

#[test]
fn a_different_expectation_is_named() {
    let mut world = World::new(1, (0..3).map(|i| start(i, vec![0, 1, 2], Some(3))).collect());
    world.start_mut(2).expect = Some(5);
    (0..3).for_each(|node| world.boot(node));
    world.run(10 * SECOND);
    assert_eq!(
        said_by(&world, 0),
        ["n2 was started with --bootstrap-expect 5, this node with 3: founders must be started alike"]
    );
    assert_eq!(world.at(0).cluster(), None);
    world.kill(2);
    world.start_mut(2).expect = Some(3);
    world.boot(2);
    world.run_until(5 * SECOND, World::is_settled);
}

#[test]
fn different_replicas_and_partitions_are_named() {
    let mut world = World::new(2, (0..2).map(|i| start(i, vec![0, 1], Some(2))).collect());
    world.start_mut(1).partitions = 128;
    (0..2).for_each(|node| world.boot(node));
    world.run(5 * SECOND);
    assert_eq!(
        said_by(&world, 0),
        ["n1 was started with --partitions 128, this node with 64: founders must be started alike"]
    );
    world.kill(1);
    world.start_mut(1).partitions = 64;
    world.start_mut(1).replicas = 2;
    world.boot(1);
    world.run(5 * SECOND);
    assert_eq!(
        said_by(&world, 0)[1],
        "n1 was started with --replicas 2, this node with 3: founders must be started alike"
    );
}

#[test]
fn one_founder_too_many_is_named_and_its_end_lets_the_others_go_on() {
    let mut world = World::new(3, (0..4).map(|i| start(i, vec![0, 1, 2, 3], Some(3))).collect());
    // In two halves first, so that no three of them can agree before they see the fourth.
    world.cut = (0..2)
        .flat_map(|a| (2..4).flat_map(move |b| [(a, b), (b, a)]))
        .collect();
    (0..4).for_each(|node| world.boot(node));
    world.run(2 * SECOND);
    world.cut.clear();
    world.run(5 * SECOND);
    let text = "4 founders are in sight (n0, n1, n2 and n3), but 3 are expected: stop those that do not belong, or start \
                them without --bootstrap-expect so that they join";
    assert!((0..4).all(|node| world.at(node).formation_status().as_deref() == Some(text)));
    assert_eq!(said_by(&world, 0), [text]);
    world.kill(3);
    world.run_until(15 * SECOND, World::is_settled);
}

#[test]
fn a_list_that_names_nobody_is_named() {
    let mut world = World::new(4, vec![start(0, vec![0], Some(3))]);
    world.boot(0);
    world.run(10 * SECOND);
    assert_eq!(
        said_by(&world, 0),
        [
            "3 founders are expected, but the join list names no other node: this one can only be found by others; start \
          every founder with --join and the addresses of all"
        ]
    );
}

#[test]
fn two_nodes_of_one_name_are_named_and_the_second_is_refused() {
    let mut world = World::founders(5, 3);
    world.run_until(3 * SECOND, World::is_settled);
    let cluster = world.at(0).cluster();
    let mut second = start(9, vec![0, 1], None);
    second.name = "n1".into();
    let second = world.add(second);
    world.boot(second);
    world.run(10 * SECOND);
    assert_eq!(
        said_by(&world, 0),
        ["two nodes are called n1: one at 127.0.0.1:7101, which is alive, and one at 127.0.0.1:7109, which is refused"]
    );
    assert_eq!(
        said_by(&world, 1),
        ["the node at 127.0.0.1:7109 is called n1, as this node is: give every node a name of its own"]
    );
    assert_eq!(world.at(second).cluster(), None);
    assert!((0..3).all(|node| world.at(node).cluster() == cluster));
    assert!(world.at(0).is_reachable(world.id(1)));
}

#[test]
fn clusters_that_meet_do_not_mix() {
    let mut starts: Vec<_> = (0..4)
        .map(|i| start(i, vec![i / 2 * 2, i / 2 * 2 + 1], Some(2)))
        .collect();
    starts.push(start(4, vec![], None));
    let mut world = World::new(6, starts);
    (0..4).for_each(|node| world.boot(node));
    world.run(3 * SECOND);
    let (a, b) = (world.at(0).cluster().unwrap(), world.at(2).cluster().unwrap());
    assert_ne!(a, b);
    world.kill(0);
    world.start_mut(0).join = vec![1, 2];
    world.boot(0);
    world.run(5 * SECOND);
    let text = format!("n2 at 127.0.0.1:7102 belongs to cluster {b}, this node to cluster {a}: they do not mix");
    assert_eq!(said_by(&world, 0), [text]);
    assert_eq!((world.at(0).members().len(), world.at(2).members().len()), (2, 2));
}

fn settings(name: &str, address: &str) -> Settings {
    Settings {
        me: record(name, address, 1 << 20),
        join: vec!["b:1".into()],
        bootstrap_expect: Some(2),
        heartbeat: HEARTBEAT,
        replicas: 3,
        partitions: Partitions::default(),
        protocol: (2, 4),
    }
}

fn alone() -> Membership {
    Membership::new(settings("n1", "a:1"), None, Secret::new([1; 32]), None)
}

#[test]
fn hellos_are_refused_for_protocol_and_name_but_not_for_being_its_own() {
    let membership = alone();
    let mut hello = membership.hello(Default::default(), None);
    assert_eq!(membership.check_hello(&hello), Err(HelloError::Myself));
    hello.record.peer = "c:1".into();
    assert!(matches!(membership.check_hello(&hello), Err(HelloError::MyName { .. })));
    hello.record = record("n2", "b:1", 1 << 20);
    assert_eq!(membership.check_hello(&hello), Ok(()));
    for (min, max, fits) in [(1, 1, false), (1, 2, true), (4, 9, true), (5, 9, false), (3, 3, true)] {
        (hello.protocol_min, hello.protocol_max) = (min, max);
        assert_eq!(membership.check_hello(&hello).is_ok(), fits, "{min} to {max}");
    }
}

#[test]
fn a_peer_that_has_seen_a_later_life_says_so_once() {
    let mut membership = alone();
    let mut hello = membership.hello(Default::default(), None);
    hello.record = record("n2", "b:1", 1 << 20);
    hello.seen = Some(5 << 20);
    let mut out = Vec::new();
    membership.on_accepted(Default::default(), &hello, &mut out);
    membership.on_link_up(Default::default(), &hello, &mut out);
    let outlived: Vec<_> = out
        .iter()
        .filter(|action| matches!(action, Action::Outlived { .. }))
        .collect();
    assert_eq!(outlived, [&Action::Outlived { seen: 5 << 20 }]);
}

#[test]
fn a_stored_vote_of_another_node_is_not_used() {
    let mut world = World::founders(8, 2);
    world.run_until(3 * SECOND, World::is_settled);
    world.kill(0);
    world.disk_mut(0).known = None;
    world.start_mut(0).name = "n7".into();
    world.boot(0);
    world.run(Duration::from_millis(20));
    assert_eq!(
        said_by(&world, 0),
        ["the vote stored in the data directory is not of n7: start the node by the name that it had"]
    );
}

#[test]
fn a_founder_that_lost_its_directory_between_votes_and_cluster_is_named() {
    let mut world = World::founders(9, 3);
    world.run_until(3 * SECOND, |world| world.has_voted(0));
    (0..3).for_each(|node| world.kill(node));
    world.wipe(2);
    (0..3).for_each(|node| world.boot(node));
    world.run(5 * SECOND);
    assert_eq!(
        said_by(&world, 0).last().copied(),
        Some(
            "n2 was started with an empty data directory after this node had voted to found a cluster with it: if no \
             founder serves yet, empty the data directories of n0, n1 and n2 and start again"
        )
    );
    (0..3).for_each(|node| world.kill(node));
    (0..3).for_each(|node| world.wipe(node));
    (0..3).for_each(|node| world.boot(node));
    world.run_until(10 * SECOND, World::is_settled);
}

#[test]
fn what_a_stranger_says_of_others_is_not_believed_in_a_cluster() {
    let known = Known {
        cluster: ClusterId([1; 16]),
        key: Secret::new([2; 32]),
        members: Vec::new(),
    };
    let mut stranger = Membership::new(settings("n2", "b:1"), None, Secret::new([3; 32]), None);
    let mut member = Membership::new(settings("n1", "a:1"), Some(known), Secret::new([1; 32]), None);
    let (now, mut out) = (Instant::ZERO, Vec::new());
    stranger.on_link_up(now, &member.hello(now, None), &mut out);
    member.on_link_up(now, &stranger.hello(now, None), &mut out);
    let mut gossip = out
        .drain(..)
        .find_map(|action| match action {
            Action::Send { to, gossip } if to == member.me().id() => Some(gossip),
            _ => None,
        })
        .unwrap();
    gossip.members = Some(vec![record("n3", "c:1", 1 << 20)]);
    member.on_gossip(now, stranger.me().id(), gossip, &mut out);
    assert_eq!(member.record(record("n3", "c:1", 1).id()), None);
    assert_eq!(
        member.members().len(),
        1,
        "the stranger itself is no member before it says so"
    );
}
