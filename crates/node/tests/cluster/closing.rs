//! Finished incarnations are closed: with all members there, and not before.

use std::time::Duration;

use annulus_causality::CausalContext;
use annulus_coordinator::Options;
use annulus_protocol::{ClosingStep, Message, PartitionClock};
use annulus_ring::{NodeId, Partitions};
use annulus_storage::Replica;

use crate::world::{World, put};

const SECOND: Duration = Duration::from_secs(1);

/// The clocks on a node's disk that hold anything.
fn clocks(world: &World, node: NodeId) -> Vec<CausalContext> {
    let replica = Replica::open(world.engine(node), Partitions::new(64).unwrap()).unwrap();
    let clocks = replica.partitions().map(|partition| replica.clock(partition).clone());
    clocks.filter(|clock| !clock.is_empty()).collect()
}

fn bytes(clock: &CausalContext) -> usize {
    let mut out = Vec::new();
    clock.encode(&mut out);
    out.len()
}

/// Each life ends with a write on its way, whose dot some owners have and others do not, or nobody.
#[test]
fn a_node_that_was_restarted_a_thousand_times_leaves_clocks_that_are_small() {
    let mut world = World::formed(4);
    let (owners, fallbacks) = world.preference("k");
    for life in 0..1_000 {
        let node = if life % 2 == 0 { owners[0] } else { fallbacks[0] };
        world
            .put(node, "k", &life.to_string(), None, Options::default())
            .unwrap();
        world.send(node, put("b", "k", "lost", None, Options::default()));
        world.kill(node);
        world.start(node);
        world.advance(SECOND / 10 * (life % 40));
    }
    world.advance(150 * SECOND);
    assert_eq!(world.metric(owners[0], "incarnations_open"), 0);
    for owner in owners {
        for clock in clocks(&world, owner) {
            assert!(bytes(&clock) < 128, "{clock}");
        }
    }
}

#[test]
fn nothing_is_closed_while_a_member_is_down() {
    let mut world = World::formed(4);
    let (owners, fallbacks) = world.preference("k");
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    world.kill(fallbacks[0]);
    world.kill(owners[0]);
    world.start(owners[0]);
    world.advance(100 * SECOND);
    let is_closed = |world: &World, node| {
        let first = |clock: &CausalContext| clock.spans().next().is_some_and(|span| span.is_closed());
        clocks(world, node).iter().all(first)
    };
    assert!(!is_closed(&world, owners[1]));
    assert_eq!(world.metric(owners[0], "incarnations_open"), 1);
    world.start(fallbacks[0]);
    world.advance(5 * SECOND);
    assert!(is_closed(&world, owners[1]) && is_closed(&world, owners[2]));
}

/// A peer that is broken, or lies, says that lives are over which are not: a node that believed it could not write any more.
#[test]
fn no_peer_closes_a_life_that_is_not_over() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    let (liar, deceived) = (owners[1], owners[0]);
    let partition = {
        let replica = Replica::open(world.engine(deceived), Partitions::new(64).unwrap()).unwrap();
        let holding = replica
            .partitions()
            .find(|partition| !replica.clock(*partition).is_empty());
        holding.unwrap()
    };
    let mut closed = CausalContext::new();
    closed.close_below(deceived.0, u64::MAX);
    let clocks = vec![PartitionClock {
        partition,
        clock: closed,
        contents: 7,
    }];
    world.inject(liar, deceived, Message::Clocks { answer: false, clocks });
    for step in [
        ClosingStep::Freeze,
        ClosingStep::Close {
            partitions: vec![partition],
        },
    ] {
        let (below, ballot) = (u64::MAX, 1);
        world.inject(liar, deceived, Message::Closing { below, ballot, step });
    }
    world.advance(10 * SECOND);
    world.put(deceived, "k", "again", None, Options::default()).unwrap();
    assert!(clocks_of_none_are_closed(&world, deceived));
    assert_eq!(world.metric(deceived, "partitions_in_doubt"), 0);
}

fn clocks_of_none_are_closed(world: &World, node: NodeId) -> bool {
    let mut clocks = clocks(world, node).into_iter();
    clocks.all(|clock| clock.spans().all(|span| !span.is_closed()))
}
