//! A hint may be all that there is of a write: whatever becomes of the owner that it is for, some owner gets it.

use std::ops::ControlFlow;
use std::time::Duration;

use annulus_coordinator::{Level, Mode, Options};
use annulus_protocol::Message;
use annulus_ring::{Capacity, Member, NodeId, NodeName, Partitions, plan};
use annulus_storage::engine::{Batch, Engine, Space};
use bytes::Bytes;

use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

/// Four nodes, of which the one that owns nothing of "k" has taken a write of it, and keeps it for this owner alone, which is down.
fn kept_for_one_that_is_down() -> (World, Vec<NodeId>, NodeId) {
    let mut world = World::with(4, |settings| settings.hint_lifetime = 5 * MINUTE);
    let (owners, fallbacks) = world.preference("k");
    let keeper = fallbacks[0];
    owners.iter().for_each(|owner| world.cut(*owner, keeper));
    let options = Options {
        w: Some(Level::One),
        ..Options::default()
    };
    world.put(keeper, "k", "v", None, options).unwrap();
    assert_eq!(world.metric(keeper, "hints_waiting"), 3);
    world.kill(owners[0]);
    world.kill(keeper);
    let mut batch = Batch::new();
    let mut engine = world.engine(keeper);
    let visit = &mut |key: &[u8], _: &[u8]| {
        if !key.starts_with(&owners[0].0.to_be_bytes()) {
            batch.delete(Space::Hint, Bytes::copy_from_slice(key));
        }
        ControlFlow::Continue(())
    };
    engine.scan(Space::Hint, &[], None, visit).unwrap();
    engine.apply(batch).unwrap();
    engine.syncer().sync().unwrap();
    world.heal();
    world.start(keeper);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.metric(keeper, "hints_waiting"), 1);
    (world, owners, keeper)
}

/// How many versions an owner has itself.
fn shown(world: &mut World, node: NodeId) -> usize {
    let options = Options {
        r: Some(Level::One),
        mode: Some(Mode::Strict),
        ..Options::default()
    };
    world.get(node, "k", options).unwrap().versions.len()
}

#[test]
fn an_owner_that_stays_away_gets_its_hint_from_another_one() {
    let (mut world, owners, keeper) = kept_for_one_that_is_down();
    assert_eq!(shown(&mut world, owners[1]), 0, "nobody else has it");
    world.advance(6 * MINUTE);
    assert_eq!(world.metric(keeper, "hints_passed_on_total"), 1);
    assert_eq!(world.metric(keeper, "hints_waiting"), 0);
    for owner in &owners[1..] {
        assert_eq!(shown(&mut world, *owner), 1);
    }
    world.start(owners[0]);
    world.advance(Duration::from_secs(5));
    assert_eq!(shown(&mut world, owners[0]), 1);
}

#[test]
fn a_hint_waits_while_no_owner_is_there_however_long_that_is() {
    let (mut world, owners, keeper) = kept_for_one_that_is_down();
    world.kill(owners[1]);
    world.kill(owners[2]);
    world.advance(20 * MINUTE);
    assert_eq!(world.metric(keeper, "hints_waiting"), 1);
    world.start(owners[1]);
    world.start(owners[2]);
    world.advance(2 * MINUTE);
    assert_eq!(shown(&mut world, owners[2]), 1);
}

#[test]
fn a_hint_for_a_node_that_owns_its_key_no_more_goes_to_one_that_does() {
    let (mut world, owners, keeper) = kept_for_one_that_is_down();
    let members = ["n1", "n2", "n3", "n4"].map(|name| Member {
        name: NodeName::parse(name).unwrap(),
        region: "default".into(),
        zone: "default".into(),
        capacity: Capacity::default(),
    });
    let partitions = Partitions::new(64).unwrap();
    let ring = plan(None, members.to_vec(), partitions, 3).unwrap();
    let others = members.into_iter().filter(|member| member.id() != owners[0]);
    let ring = plan(Some(&ring), others.collect(), partitions, 3).unwrap();
    let mut bytes = Vec::new();
    ring.encode(&mut bytes);
    for node in [owners[1], owners[2], keeper] {
        world.inject(owners[1], node, Message::Ring(bytes.clone().into()));
    }
    world.start(owners[0]);
    world.inject(owners[1], owners[0], Message::Ring(bytes.into()));
    world.advance(Duration::from_secs(5));
    assert!(world.preference("k").0.contains(&keeper), "it owns the key by now");
    assert_eq!(world.metric(keeper, "hints_passed_on_total"), 1);
    for node in [owners[1], owners[2], keeper] {
        assert_eq!(shown(&mut world, node), 1);
    }
}

#[test]
fn a_hint_that_damage_has_taken_is_told_of_and_keeps_no_node_from_starting() {
    let (mut world, _, keeper) = kept_for_one_that_is_down();
    let damage = |world: &World| {
        let mut engine = world.engine(keeper);
        let mut batch = Batch::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            batch.put(Space::Hint, Bytes::copy_from_slice(key), Bytes::from_static(b"damaged"));
            ControlFlow::Continue(())
        };
        engine.scan(Space::Hint, &[], None, visit).unwrap();
        engine.apply(batch).unwrap();
        engine.syncer().sync().unwrap();
    };
    damage(&world);
    world.kill(keeper);
    world.start(keeper);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.metric(keeper, "hints_waiting"), 0);
    assert_eq!(world.metric(keeper, "hints_lost_total"), 1);
    assert!(
        world
            .log
            .iter()
            .any(|line| line.contains("is lost, unless another fallback keeps it"))
    );
}
