//! A forwarded write is one write: in its partition, in its expiry and its stamp, and in the clocks, whoever begins it and when.

use std::time::Duration;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Instant, Timestamp};
use annulus_coordinator::{BucketSpec, Failure, Found, Level, Mode, Options, Request};
use annulus_protocol::{Message, RequestId, WriteIdentity};
use annulus_ring::{Bucket, Partitions};

use crate::world::{World, id, put};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn bucket() -> Bucket {
    Bucket::parse("b").unwrap()
}

fn within(timeout: Duration) -> Options {
    Options {
        timeout: Some(timeout),
        ..Options::default()
    }
}

fn values(found: &Found) -> Vec<String> {
    let text = |version: &annulus_causality::Version| String::from_utf8(version.value.to_vec()).unwrap();
    found.versions.iter().map(text).collect()
}

/// The node that passes the write on and the one that coordinates it differ about the bucket's `n` for a moment.
#[test]
fn a_dot_is_of_the_partition_that_it_is_written_to() {
    let mut world = World::formed(5);
    let (owners, others) = world.preference("k");
    let (first, origin) = (owners[0], others[0]);
    // The declaration does not reach the origin yet.
    world.deaf = vec![(origin, "Declare"), (origin, "Buckets")];
    let spec = BucketSpec {
        n: Some(2),
        ..BucketSpec::default()
    };
    let declaring = world.send(first, Request::DeclareBucket(bucket(), spec));
    let refused = world.put(origin, "k", "first", None, Options::default());
    assert!(matches!(refused, Err(Failure::NotReady { .. })), "{refused:?}");
    world.deaf.clear();
    world.advance(6 * SECOND);
    assert!(world.reply(declaring).is_some());
    assert!(
        world.ask(origin, Request::GetBucket(bucket())).is_ok(),
        "the origin knows the declaration now"
    );
    let written = world.put(origin, "k", "second", None, Options::default());
    assert!(written.is_ok(), "{written:?}");
    let found = world.get(first, "k", Options::default()).unwrap();
    assert_eq!(values(&found), ["second"], "an acknowledged write is there");
}

/// Forwards that are refused push a running one out of `RecentForwards`.
#[test]
fn a_running_forward_is_not_forgotten_by_an_overloaded_node() {
    let mut world = World::with(3, |settings| {
        settings.max_tasks = 8;
        settings.replicas = 1;
    });
    let (owners, others) = world.preference("k");
    let (owner, origin, other) = (owners[0], others[0], others[1]);
    world.advance(3 * SECOND);
    world.slow_syncs = Some(4 * SECOND);
    let client = world.send(origin, put("b", "k", "v", None, Options::default()));
    // The owner's disk lags, so that its requests fill it up, and all that comes then is refused at once.
    for number in 0..66_000 {
        let Request::Key(request) = put("b", "k2", "x", None, Options::default()) else {
            unreachable!()
        };
        let actor = Actor {
            node: other.0,
            incarnation: 1,
        };
        let identity = Some(Box::new(WriteIdentity {
            n: 1,
            dot: Dot::new(actor, number + 1),
            modified: Timestamp {
                millis: 1_800_000_000_000,
                logical: 0,
            },
            expires: None,
            voided: CausalContext::new(),
        }));
        world.inject(
            other,
            owner,
            Message::Forward {
                id: RequestId {
                    origin: other,
                    incarnation: 1,
                    number,
                },
                attempt: 1,
                start_by: Instant::FAR_FUTURE,
                deadline: Instant::from_nanos(60_000_000_000),
                identity,
                request,
            },
        );
    }
    world.advance(2 * SECOND);
    let reply = world.reply(client);
    world.slow_syncs = None;
    world.advance(6 * SECOND);
    let found = world.get(owner, "k", Options::default()).unwrap();
    assert!(
        !(matches!(reply, Some(Err(Failure::Overloaded { .. }))) && values(&found) == ["v"]),
        "the client was told that nothing was written, and it was"
    );
}

fn lww_story(last_write_through_origin: bool) -> Vec<String> {
    let mut world = World::with(5, |settings| settings.partitions = Partitions::new(64).unwrap());
    let strict = Options {
        mode: Some(Mode::Strict),
        ..Options::default()
    };
    let spec = BucketSpec {
        conflicts: Some(ConflictPolicy::LastWriteWins),
        ..BucketSpec::default()
    };
    world.ask(id("n1"), Request::DeclareBucket(bucket(), spec)).unwrap();
    let (owners, others) = world.preference("k");
    let (one, two, three, origin) = (owners[0], owners[1], owners[2], others[0]);
    world.behind.insert(origin, 500);
    for node in [one, two, origin, others[1]] {
        world.cut(node, three);
    }
    let single = Options {
        w: Some(Level::One),
        mode: Some(Mode::Strict),
        ..Options::default()
    };
    world.put(three, "k", "v0", None, single).unwrap();
    world.advance(100 * MS);
    world.put(one, "k", "v1", None, strict).unwrap();
    let found = world.get(origin, "k", Options::default()).unwrap();
    assert_eq!(values(&found), ["v1"]);
    let through = if last_write_through_origin { origin } else { one };
    world.put(through, "k", "w", Some(&found.token), strict).unwrap();
    world.heal();
    world.advance(20 * SECOND);
    values(
        &world
            .get(
                one,
                "k",
                Options {
                    r: Some(Level::All),
                    ..Options::default()
                },
            )
            .unwrap(),
    )
}

#[test]
fn lww_a_write_is_later_than_what_it_replaces_coordinated_where_the_client_is() {
    assert_eq!(lww_story(false), ["w"]);
}

/// v0 is older than v1; w was written by someone who read v1. So w is the last.
#[test]
fn lww_a_write_is_later_than_what_it_replaces_passed_on() {
    assert_eq!(lww_story(true), ["w"]);
}

/// Forwards whose coordinator is frozen until the client's deadline has passed; it then says that it never began them.
#[test]
fn a_forward_that_was_never_begun_leaves_no_gap() {
    let mut world = World::formed(5);
    let (owners, others) = world.preference("k");
    let origin = others[0];
    let mut lengths = Vec::new();
    for round in 0..40 {
        let written = world
            .put(origin, "k", &round.to_string(), None, Options::default())
            .unwrap();
        lengths.push(written.token.len());
        owners.iter().for_each(|&owner| world.pause(owner));
        let late = world.send(origin, put("b", "k", "late", None, within(300 * MS)));
        world.advance(600 * MS);
        assert!(matches!(world.reply(late), Some(Err(Failure::TimedOut { .. }))));
        owners.iter().for_each(|&owner| world.resume(owner));
        world.advance(2 * SECOND);
    }
    assert!(lengths[39] < lengths[0] + 20, "{} to {}", lengths[0], lengths[39]);
}

/// Two owners that differ about the bucket's `ttl` for a moment both begin the write.
#[test]
fn a_write_begun_twice_has_one_expiry() {
    let mut world = World::formed(5);
    let (owners, others) = world.preference("k");
    let (one, two, three, origin) = (owners[0], owners[1], owners[2], others[0]);
    world.deaf = vec![(one, "Declare"), (one, "Buckets"), (two, "Write"), (three, "Write")];
    let spec = BucketSpec {
        ttl: Some(SECOND),
        ..BucketSpec::default()
    };
    let declaring = world.send(two, Request::DeclareBucket(bucket(), spec));
    let strict = Options {
        mode: Some(Mode::Strict),
        ..Options::default()
    };
    let client = world.send(origin, put("b", "k", "v", None, strict));
    world.advance(200 * MS);
    world.deaf.truncate(2);
    world.advance(2 * SECOND);
    assert!(matches!(world.reply(client), Some(Ok(_))));
    world.deaf.clear();
    world.advance(10 * SECOND);
    assert!(world.reply(declaring).is_some());
    let seen = |world: &mut World, node, r| {
        let options = Options {
            r: Some(r),
            ..Options::default()
        };
        values(&world.get(node, "k", options).unwrap())
    };
    seen(&mut world, one, Level::All);
    world.advance(5 * SECOND);
    assert_eq!(
        seen(&mut world, one, Level::One),
        seen(&mut world, two, Level::One),
        "owners agree"
    );
}
