//! Buckets: one declaration for all nodes, and none that would lose sight of keys.

use std::time::Duration;

use annulus_causality::ConflictPolicy;
use annulus_coordinator::{Answer, BucketSpec, Failure, Options, Request};
use annulus_ring::Bucket;

use crate::world::{World, id};

fn bucket() -> Bucket {
    Bucket::parse("b").unwrap()
}

fn lww() -> BucketSpec {
    BucketSpec {
        conflicts: Some(ConflictPolicy::LastWriteWins),
        ..BucketSpec::default()
    }
}

#[test]
fn all_nodes_know_a_declaration_and_one_that_was_away_learns_it() {
    let mut world = World::formed(3);
    world.kill(id("n3"));
    assert!(world.ask(id("n1"), Request::DeclareBucket(bucket(), lww())).is_ok());
    assert!(
        matches!(world.ask(id("n2"), Request::GetBucket(bucket())), Ok(Answer::Bucket(_, config)) if config.conflicts == ConflictPolicy::LastWriteWins)
    );
    world.start(id("n3"));
    world.advance(Duration::from_secs(2));
    assert!(world.ask(id("n3"), Request::GetBucket(bucket())).is_ok());
    world.kill(id("n1"));
    world.start(id("n1"));
    world.advance(Duration::from_secs(1));
    assert!(
        world.ask(id("n1"), Request::GetBucket(bucket())).is_ok(),
        "it survives a restart"
    );
}

#[test]
fn conflicts_and_n_do_not_change_under_keys() {
    let mut world = World::formed(3);
    world.put(id("n1"), "k", "v", None, Options::default()).unwrap();
    assert!(matches!(
        world.ask(id("n2"), Request::DeclareBucket(bucket(), lww())),
        Err(Failure::BucketHoldsKeys { .. })
    ));
    let n = BucketSpec {
        n: Some(2),
        ..BucketSpec::default()
    };
    assert!(matches!(
        world.ask(id("n2"), Request::DeclareBucket(bucket(), n.clone())),
        Err(Failure::BucketHoldsKeys { .. })
    ));
    let same = BucketSpec {
        max_siblings: Some(5),
        ..BucketSpec::default()
    };
    assert!(world.ask(id("n2"), Request::DeclareBucket(bucket(), same)).is_ok());
    assert!(matches!(
        world.ask(id("n3"), Request::DropBucket(bucket())),
        Err(Failure::BucketHoldsKeys { .. })
    ));
    world.delete(id("n1"), "k", Options::default()).unwrap();
    assert!(world.ask(id("n2"), Request::DeclareBucket(bucket(), n)).is_ok());
    world.put(id("n1"), "k", "v", None, Options::default()).unwrap();
    assert_eq!(world.get(id("n3"), "k", Options::default()).unwrap().n, 2);
    world.delete(id("n1"), "k", Options::default()).unwrap();
    assert_eq!(world.ask(id("n3"), Request::DropBucket(bucket())), Ok(Answer::Dropped));
    assert!(matches!(
        world.ask(id("n1"), Request::GetBucket(bucket())),
        Err(Failure::NoSuchBucket { .. })
    ));
}

#[test]
fn a_bucket_of_last_writes_keeps_one_value() {
    let mut world = World::formed(3);
    world.ask(id("n1"), Request::DeclareBucket(bucket(), lww())).unwrap();
    let first = world.put(id("n1"), "k", "1", None, Options::default()).unwrap();
    world
        .put(id("n2"), "k", "2", Some(&first.token), Options::default())
        .unwrap();
    world
        .put(id("n3"), "k", "3", Some(&first.token), Options::default())
        .unwrap();
    let found = world.get(id("n1"), "k", Options::default()).unwrap();
    assert_eq!(found.versions.len(), 1);
    assert_eq!(found.versions[0].value, "3");
}

#[test]
fn values_expire_with_the_bucket_s_ttl() {
    let mut world = World::formed(3);
    let ttl = BucketSpec {
        ttl: Some(Duration::from_secs(5)),
        ..BucketSpec::default()
    };
    world.ask(id("n1"), Request::DeclareBucket(bucket(), ttl)).unwrap();
    world.put(id("n1"), "k", "v", None, Options::default()).unwrap();
    assert_eq!(world.list(id("n2"), "", 10).unwrap().keys.len(), 1);
    world.advance(Duration::from_secs(6));
    assert!(
        world
            .get(id("n2"), "k", Options::default())
            .unwrap()
            .versions
            .is_empty()
    );
    assert!(world.list(id("n3"), "", 10).unwrap().keys.is_empty());
}

#[test]
fn one_sibling_more_than_the_limit_is_refused_and_all_others_stay() {
    let mut world = World::formed(3);
    let spec = BucketSpec {
        max_siblings: Some(3),
        ..BucketSpec::default()
    };
    world.ask(id("n1"), Request::DeclareBucket(bucket(), spec)).unwrap();
    let empty = world.get(id("n1"), "k", Options::default()).unwrap().token;
    for value in ["1", "2", "3"] {
        world
            .put(id("n2"), "k", value, Some(&empty), Options::default())
            .unwrap();
    }
    let refused = world.put(id("n3"), "k", "4", Some(&empty), Options::default());
    assert_eq!(refused, Err(Failure::TooManySiblings { siblings: 4, limit: 3 }));
    let found = world.get(id("n1"), "k", Options::default()).unwrap();
    assert_eq!(found.versions.len(), 3);
    world
        .put(id("n1"), "k", "merged", Some(&found.token), Options::default())
        .unwrap();
}

#[test]
fn impossible_declarations_are_refused_by_name() {
    let mut world = World::formed(3);
    for (spec, name) in [
        (
            BucketSpec {
                n: Some(4),
                ..BucketSpec::default()
            },
            "n",
        ),
        (
            BucketSpec {
                n: Some(0),
                ..BucketSpec::default()
            },
            "n",
        ),
        (
            BucketSpec {
                n: Some(1),
                r: Some(annulus_coordinator::Level::Count(2)),
                ..BucketSpec::default()
            },
            "r",
        ),
        (
            BucketSpec {
                max_siblings: Some(0),
                ..BucketSpec::default()
            },
            "max_siblings",
        ),
        (
            BucketSpec {
                ttl: Some(Duration::ZERO),
                ..BucketSpec::default()
            },
            "ttl",
        ),
    ] {
        let reply = world.ask(id("n1"), Request::DeclareBucket(bucket(), spec));
        assert!(
            matches!(&reply, Err(Failure::Invalid { parameter, .. }) if *parameter == name),
            "{reply:?}"
        );
    }
}
