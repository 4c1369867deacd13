//! What has expired goes from every disk by itself, and never by one clock alone.

use std::ops::ControlFlow;
use std::time::Duration;

use annulus_causality::ConflictPolicy;
use annulus_coordinator::{BucketSpec, Level, Options, Request};
use annulus_ring::{Bucket, NodeId};
use annulus_storage::engine::{Engine, Space};

use crate::world::{World, id};

const MINUTE: Duration = Duration::from_secs(60);
const YEAR_MILLIS: u64 = 365 * 24 * 3600 * 1000;

/// A cluster whose keys live so long.
fn with_ttl(nodes: usize, ttl: Duration, conflicts: ConflictPolicy) -> World {
    let mut world = World::formed(nodes);
    let spec = BucketSpec {
        ttl: Some(ttl),
        conflicts: Some(conflicts),
        ..BucketSpec::default()
    };
    let bucket = Bucket::parse("b").unwrap();
    world.ask(id("n1"), Request::DeclareBucket(bucket, spec)).unwrap();
    world.advance(Duration::from_secs(2));
    world
}

/// Records of objects, of the listing's index and of the expiry index on a disk.
fn records(world: &World, node: NodeId) -> [usize; 3] {
    [Space::Object, Space::Index, Space::Expiry].map(|space| {
        let mut count = 0;
        let visit = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        world.engine(node).scan(space, &[], None, visit).unwrap();
        count
    })
}

fn dropped(world: &World) -> u64 {
    let nodes = ["n1", "n2", "n3"].map(id).into_iter();
    nodes
        .map(|node| world.metric(node, "expired_versions_dropped_total"))
        .sum()
}

#[test]
fn a_key_that_nobody_reads_goes_from_every_disk_and_each_version_once() {
    for conflicts in [ConflictPolicy::Siblings, ConflictPolicy::LastWriteWins] {
        let mut world = with_ttl(3, MINUTE, conflicts);
        for number in 0..600 {
            world
                .put(id("n1"), &format!("{number}"), "v", None, Options::default())
                .unwrap();
        }
        assert_eq!(records(&world, id("n2")), [600; 3]);
        world.advance(3 * MINUTE);
        for node in ["n1", "n2", "n3"] {
            assert_eq!(records(&world, id(node)), [0; 3]);
        }
        assert_eq!(dropped(&world), 600);
    }
}

#[test]
fn a_clock_that_is_years_ahead_hides_and_drops_nothing() {
    let mut world = with_ttl(3, 60 * MINUTE, ConflictPolicy::Siblings);
    let (owners, _) = world.preference("k");
    world.behind.extend(owners.iter().map(|owner| (*owner, YEAR_MILLIS)));
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    let one = Options {
        r: Some(Level::One),
        ..Options::default()
    };
    world.behind.remove(&owners[0]);
    world.advance(10 * MINUTE);
    assert!(world.get(owners[0], "k", one).unwrap().versions.is_empty());
    assert_eq!(world.get(owners[1], "k", one).unwrap().versions.len(), 1);
    assert_eq!((dropped(&world), records(&world, owners[0])), (0, [1; 3]));
    world.behind.insert(owners[0], YEAR_MILLIS);
    world.advance(MINUTE);
    assert_eq!(world.get(owners[0], "k", one).unwrap().versions.len(), 1);
}

#[test]
fn an_owner_that_is_alone_drops_nothing_until_another_one_is_there() {
    let mut world = with_ttl(3, MINUTE, ConflictPolicy::Siblings);
    world.put(id("n1"), "k", "v", None, Options::default()).unwrap();
    world.cut(id("n1"), id("n2"));
    world.cut(id("n1"), id("n3"));
    world.cut(id("n2"), id("n3"));
    world.advance(5 * MINUTE);
    assert_eq!(dropped(&world), 0);
    world.heal();
    world.advance(MINUTE);
    assert_eq!(dropped(&world), 1);
}

#[test]
fn an_owner_that_was_away_brings_nothing_back() {
    let mut world = with_ttl(3, MINUTE, ConflictPolicy::Siblings);
    let (owners, _) = world.preference("k");
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    world.kill(owners[2]);
    world.advance(5 * MINUTE);
    assert_eq!(records(&world, owners[1]), [0; 3]);
    assert_eq!(records(&world, owners[2]), [1; 3], "it has it as it was");
    world.start(owners[2]);
    world.advance(MINUTE);
    for owner in &owners {
        assert_eq!(records(&world, *owner), [0; 3]);
    }
    assert_eq!(dropped(&world), 1);
}

#[test]
fn an_expired_version_goes_and_leaves_its_sibling() {
    let mut world = with_ttl(3, 4 * MINUTE, ConflictPolicy::Siblings);
    let seen = world.get(id("n1"), "k", Options::default()).unwrap().token;
    world
        .put(id("n1"), "k", "old", Some(&seen), Options::default())
        .unwrap();
    world.advance(3 * MINUTE);
    world
        .put(id("n1"), "k", "new", Some(&seen), Options::default())
        .unwrap();
    assert_eq!(world.get(id("n2"), "k", Options::default()).unwrap().versions.len(), 2);
    world.advance(3 * MINUTE);
    assert_eq!(dropped(&world), 1);
    let found = world.get(id("n2"), "k", Options::default()).unwrap();
    let values: Vec<_> = found.versions.iter().map(|version| version.value.clone()).collect();
    assert_eq!(values, ["new"]);
    world.advance(3 * MINUTE);
    assert_eq!(records(&world, id("n3")), [0; 3]);
}
