//! Counters, sets and maps: every operation counts once, whoever coordinates it, and whatever became of its answer.

use std::num::NonZeroI64;
use std::time::Duration;

use annulus_causality::{Change, ConflictPolicy, Element, Field};
use annulus_coordinator::{
    Answer, BucketSpec, Condition, Failure, Found, Level, Mode, Operation, Options, Outcome, Request, Written,
};
use annulus_ring::{Bucket, NodeId};

use crate::world::{World, id, on_key};

const SECOND: Duration = Duration::from_secs(1);

fn typed(nodes: usize, conflicts: ConflictPolicy) -> World {
    let mut world = World::formed(nodes);
    let spec = BucketSpec {
        conflicts: Some(conflicts),
        ..BucketSpec::default()
    };
    let declared = world.ask(id("n1"), Request::DeclareBucket(Bucket::parse("b").unwrap(), spec));
    assert!(declared.is_ok(), "{declared:?}");
    world
}

fn by(amount: i64) -> Change {
    Change::Increment(NonZeroI64::new(amount).unwrap())
}

fn element(text: &str) -> Element {
    Element::parse(text.as_bytes().to_vec().into()).unwrap()
}

fn add(text: &str) -> Change {
    Change::Add(element(text))
}

fn remove(text: &str) -> Change {
    Change::Remove(element(text))
}

fn field(name: &str) -> Field {
    Field::parse(name.to_owned()).unwrap()
}

fn set(name: &str, value: &str) -> Change {
    Change::Set {
        field: field(name),
        value: value.as_bytes().to_vec().into(),
        content_type: None,
    }
}

fn post(key: &str, change: Change, token: Option<&str>, options: Options) -> Request {
    let token = token.map(str::to_owned);
    on_key("b", key, Operation::Change { change, token }, options)
}

fn change_with(world: &mut World, node: NodeId, change: Change, token: Option<&str>) -> Result<Written, Failure> {
    match world.ask(node, post("k", change, token, Options::default()))? {
        Answer::Written(written) => Ok(written),
        other => panic!("{other:?}"),
    }
}

fn change(world: &mut World, node: NodeId, change: Change) -> Result<Written, Failure> {
    change_with(world, node, change, None)
}

fn text(found: &Found) -> Option<String> {
    assert!(found.versions.len() <= 1);
    let version = found.versions.first()?;
    assert_eq!(version.content_type.as_deref(), Some("application/json"));
    Some(String::from_utf8(version.value.to_vec()).unwrap())
}

fn shown(world: &mut World, node: NodeId) -> Option<String> {
    text(&world.get(node, "k", Options::default()).unwrap())
}

fn from_all() -> Options {
    Options {
        r: Some(Level::All),
        ..Options::default()
    }
}

fn nodes(world: &mut World) -> Vec<NodeId> {
    let (owners, fallbacks) = world.preference("k");
    owners.into_iter().chain(fallbacks).collect()
}

#[test]
fn what_is_added_through_all_nodes_is_summed_and_shown_by_all() {
    let mut world = typed(4, ConflictPolicy::Counter);
    assert_eq!(shown(&mut world, id("n1")), None);
    for (node, amount) in nodes(&mut world).into_iter().zip([1, 10, -3, 100]) {
        change(&mut world, node, by(amount)).unwrap();
    }
    for node in nodes(&mut world) {
        assert_eq!(shown(&mut world, node).as_deref(), Some("108"));
    }
    // All of them had one coordinator, and it keeps one total.
    assert_eq!(world.list(id("n1"), "", 10).unwrap().keys.len(), 1);
}

#[test]
fn a_restarted_coordinator_begins_a_new_total() {
    let mut world = typed(3, ConflictPolicy::Counter);
    let (owners, _) = world.preference("k");
    for _ in 0..3 {
        change(&mut world, owners[0], by(2)).unwrap();
        world.kill(owners[0]);
        change(&mut world, owners[1], by(5)).unwrap();
        world.start(owners[0]);
        world.advance(5 * SECOND);
    }
    assert_eq!(shown(&mut world, owners[2]).as_deref(), Some("21"));
}

#[test]
fn elements_come_and_go() {
    let mut world = typed(3, ConflictPolicy::Set);
    for text in ["b", "a", "b", "c"] {
        change(&mut world, id("n1"), add(text)).unwrap();
    }
    change(&mut world, id("n2"), remove("c")).unwrap();
    assert_eq!(shown(&mut world, id("n3")).as_deref(), Some("[\"a\",\"b\"]"));
    for text in ["a", "b", "b"] {
        change(&mut world, id("n2"), remove(text)).unwrap();
    }
    assert_eq!(shown(&mut world, id("n3")), None);
    assert!(world.list(id("n1"), "", 10).unwrap().keys.is_empty());
}

#[test]
fn fields_are_set_apart_and_the_last_value_of_one_is_shown() {
    let mut world = typed(3, ConflictPolicy::Map);
    change(&mut world, id("n1"), set("name", "Mia")).unwrap();
    change(&mut world, id("n2"), set("city", "Bonn")).unwrap();
    change(&mut world, id("n3"), set("city", "Köln")).unwrap();
    assert_eq!(
        shown(&mut world, id("n1")).as_deref(),
        Some("{\"city\":\"Köln\",\"name\":\"Mia\"}")
    );
    change(&mut world, id("n2"), Change::Unset(field("city"))).unwrap();
    assert_eq!(shown(&mut world, id("n1")).as_deref(), Some("{\"name\":\"Mia\"}"));
}

#[test]
fn a_partition_s_sides_both_write_and_both_count() {
    let mut world = typed(3, ConflictPolicy::Counter);
    let (owners, _) = world.preference("k");
    change(&mut world, owners[0], by(1)).unwrap();
    world.cut(owners[0], owners[1]);
    world.cut(owners[0], owners[2]);
    let alone = Options {
        w: Some(Level::One),
        ..Options::default()
    };
    world.ask(owners[0], post("k", by(10), None, alone)).unwrap();
    change(&mut world, owners[1], by(100)).unwrap();
    world.heal();
    world.advance(10 * SECOND);
    for owner in owners {
        assert_eq!(
            text(&world.get(owner, "k", from_all()).unwrap()).as_deref(),
            Some("111")
        );
    }
}

#[test]
fn a_lost_coordinator_s_operation_is_begun_by_nobody_else() {
    let mut world = typed(4, ConflictPolicy::Counter);
    let (owners, fallbacks) = world.preference("k");
    world.lose.push("Forwarded");
    let client = world.send(fallbacks[0], post("k", by(1), None, Options::default()));
    world.lose.clear();
    let begun = world.sent["Write"];
    world.kill(owners[0]);
    world.advance(2 * SECOND);
    world.start(owners[0]);
    world.advance(4 * SECOND);
    let reply = world.reply(client).unwrap();
    assert!(
        matches!(&reply, Err(failure) if failure.outcome() == Outcome::Unknown),
        "{reply:?}"
    );
    assert!(begun > 0);
    assert_eq!(
        text(&world.get(owners[1], "k", from_all()).unwrap()).as_deref(),
        Some("1")
    );
}

#[test]
fn a_coordinator_that_is_back_says_what_became_of_an_operation() {
    let mut world = typed(4, ConflictPolicy::Counter);
    let (owners, fallbacks) = world.preference("k");
    world.lose.push("Forwarded");
    let client = world.send(fallbacks[0], post("k", by(1), None, Options::default()));
    world.lose.clear();
    world.cut(fallbacks[0], owners[0]);
    world.advance(SECOND);
    assert_eq!(world.reply(client), None);
    world.heal();
    world.advance(2 * SECOND);
    let reply = world.reply(client).unwrap();
    assert!(matches!(reply, Ok(Answer::Written(_))), "{reply:?}");
    assert_eq!(shown(&mut world, owners[1]).as_deref(), Some("1"));
}

#[test]
fn a_slow_coordinator_is_waited_for() {
    let mut world = typed(4, ConflictPolicy::Counter);
    let (owners, fallbacks) = world.preference("k");
    world.pause(owners[0]);
    let client = world.send(fallbacks[0], post("k", by(1), None, Options::default()));
    world.advance(SECOND);
    assert_eq!(world.reply(client), None);
    world.resume(owners[0]);
    world.advance(SECOND);
    assert!(world.reply(client).unwrap().is_ok());
    assert_eq!(shown(&mut world, owners[1]).as_deref(), Some("1"));
}

#[test]
fn one_that_refuses_at_the_door_has_not_begun() {
    let mut world = typed(4, ConflictPolicy::Counter);
    let (owners, fallbacks) = world.preference("k");
    world.free_space(owners[0], 0);
    change(&mut world, fallbacks[0], by(1)).unwrap();
    assert_eq!(shown(&mut world, owners[1]).as_deref(), Some("1"));
}

/// A fallback's hint that was delivered replaces one that still waits: the waiting one is no ground to count on.
#[test]
fn a_fallback_that_has_delivered_some_of_its_hints_counts_right() {
    let mut world = typed(5, ConflictPolicy::Counter);
    let (owners, fallbacks) = world.preference("k");
    change(&mut world, owners[0], by(100)).unwrap();
    let one = Options {
        w: Some(Level::One),
        mode: Some(Mode::Sloppy),
        ..Options::default()
    };
    for round in 0..6 {
        for &owner in &owners {
            world.kill(owner);
        }
        world.advance(SECOND);
        for _ in 0..2 {
            let reply = world.ask(fallbacks[0], post("k", by(1), None, one));
            assert!(reply.is_ok(), "{reply:?}");
        }
        // One owner is back for long enough to take what waits for it.
        world.start(owners[round % 3]);
        world.advance(8 * SECOND);
    }
    for &owner in &owners {
        world.kill(owner);
        world.start(owner);
    }
    world.advance(15 * SECOND);
    for owner in owners {
        assert_eq!(
            text(&world.get(owner, "k", from_all()).unwrap()).as_deref(),
            Some("112")
        );
    }
}

#[test]
fn a_removal_takes_what_its_client_has_seen_also_where_the_coordinator_has_not() {
    let mut world = typed(3, ConflictPolicy::Set);
    let (owners, _) = world.preference("k");
    // What the others write does not reach the first owner, and no hint does either.
    world.deaf.push((owners[0], "Write"));
    world.cut(owners[0], owners[1]);
    world.cut(owners[0], owners[2]);
    change(&mut world, owners[1], add("e")).unwrap();
    let found = world.get(owners[1], "k", Options::default()).unwrap();
    world.heal();
    world.deaf.push((owners[0], "Hint"));
    world.advance(SECOND);
    change_with(&mut world, owners[0], remove("e"), Some(&found.token)).unwrap();
    world.deaf.clear();
    world.advance(10 * SECOND);
    for owner in owners {
        assert_eq!(text(&world.get(owner, "k", from_all()).unwrap()), None);
    }
}

#[test]
fn a_removal_with_a_token_leaves_what_was_added_since() {
    let mut world = typed(3, ConflictPolicy::Set);
    change(&mut world, id("n1"), add("e")).unwrap();
    let found = world.get(id("n2"), "k", Options::default()).unwrap();
    change(&mut world, id("n1"), add("e")).unwrap();
    change_with(&mut world, id("n2"), remove("e"), Some(&found.token)).unwrap();
    assert_eq!(shown(&mut world, id("n3")).as_deref(), Some("[\"e\"]"));
    change(&mut world, id("n2"), remove("e")).unwrap();
    assert_eq!(shown(&mut world, id("n3")), None);
}

#[test]
fn a_delete_empties_a_key_of_every_kind_and_its_condition_is_that_of_what_is_shown() {
    for (policy, operation) in [
        (ConflictPolicy::Counter, by(7)),
        (ConflictPolicy::Set, add("e")),
        (ConflictPolicy::Map, set("f", "v")),
    ] {
        let mut world = typed(4, policy);
        change(&mut world, id("n1"), operation).unwrap();
        let etag = world.get(id("n2"), "k", Options::default()).unwrap().etag;
        let mut delete = |etag| {
            let operation = Operation::Write {
                value: None,
                token: None,
                condition: Some(Condition::Match(vec![etag])),
            };
            world.ask(id("n3"), on_key("b", "k", operation, Options::default()))
        };
        assert_eq!(delete(1), Err(Failure::ConditionFailed { etag: Some(etag) }));
        assert!(delete(etag).is_ok());
        assert_eq!(shown(&mut world, id("n4")), None);
    }
}

#[test]
fn an_operation_that_the_bucket_does_not_take_is_refused_with_those_that_it_takes() {
    let mut world = typed(4, ConflictPolicy::Counter);
    for node in nodes(&mut world) {
        for (refused, takes) in [
            (change(&mut world, node, add("e")), "op=increment"),
            (world.put(node, "k", "7", None, Options::default()), "op=increment"),
        ] {
            assert!(
                matches!(&refused, Err(Failure::WrongOperation { detail, .. }) if detail.contains(takes)),
                "{refused:?}"
            );
        }
    }
    let mut world = World::formed(3);
    let refused = change(&mut world, id("n1"), by(1));
    assert!(
        matches!(&refused, Err(Failure::WrongOperation { detail, .. }) if detail.contains("PUT")),
        "{refused:?}"
    );
    let spec = BucketSpec {
        conflicts: Some(ConflictPolicy::Set),
        ttl: Some(SECOND),
        ..BucketSpec::default()
    };
    let refused = world.ask(id("n1"), Request::DeclareBucket(Bucket::parse("s").unwrap(), spec));
    assert!(
        matches!(refused, Err(Failure::Invalid { parameter: "ttl", .. })),
        "{refused:?}"
    );
}
