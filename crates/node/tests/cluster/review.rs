//! Lives that overlap, answers that are lost, disks that lag, peers that refuse: what a second look at the node asked.

use std::time::Duration;

use annulus_causality::CausalContext;
use annulus_coordinator::{
    Condition, Durability, Failure, Level, Mode, NewValue, Operation, Options, Outcome, Request,
};
use annulus_node::Settings;
use annulus_protocol::Message;
use annulus_storage::Engine;
use annulus_storage::engine::{Batch, Space};
use bytes::Bytes;

use crate::world::{World, id, on_key, put};

const SECOND: Duration = Duration::from_secs(1);

fn within(timeout: Duration) -> Options {
    Options {
        timeout: Some(timeout),
        ..Options::default()
    }
}

fn put_if_absent(key: &str, value: &str) -> Request {
    let value = NewValue {
        value: value.as_bytes().to_vec().into(),
        content_type: None,
        meta: Vec::new(),
    };
    let operation = Operation::Write {
        value: Some(value),
        token: None,
        condition: Some(Condition::Absent),
    };
    on_key("b", key, operation, Options::default())
}

fn values(found: &annulus_coordinator::Found) -> Vec<String> {
    let text = |version: &annulus_causality::Version| String::from_utf8(version.value.to_vec()).unwrap();
    found.versions.iter().map(text).collect()
}

/// The request numbers of the writes that a node sends.
fn numbers(world: &World, kind: &str) -> Vec<u64> {
    world
        .requests
        .iter()
        .filter(|(sent, _)| *sent == kind)
        .map(|&(_, number)| number)
        .collect()
}

#[test]
fn an_answer_that_a_peer_owes_to_an_earlier_life_acknowledges_nothing_in_this_one() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.requests.clear();
    for number in 0..5 {
        world
            .put(owners[0], "k", &number.to_string(), None, Options::default())
            .unwrap();
    }
    let earlier = numbers(&world, "Write");
    world.kill(owners[0]);
    world.start(owners[0]);
    world.advance(3 * SECOND);
    world.pause(owners[1]);
    world.pause(owners[2]);
    let client = world.send(owners[0], put("b", "k", "not replicated", None, within(SECOND)));
    for request in earlier {
        let done = Message::WriteDone {
            request,
            result: Ok(()),
        };
        world.inject(owners[1], owners[0], done);
    }
    world.advance(2 * SECOND);
    let reply = world.reply(client).unwrap();
    assert!(
        matches!(
            reply,
            Err(Failure::TimedOut {
                outcome: Outcome::Unknown,
                ..
            } | Failure::QuorumUnreachable {
                outcome: Outcome::Unknown,
                ..
            })
        ),
        "{reply:?}"
    );
}

#[test]
fn what_an_owner_says_of_an_earlier_life_s_hint_forgets_none_of_this_one() {
    let mut world = World::formed(4);
    let (owners, fallbacks) = world.preference("k");
    world.kill(owners[2]);
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    for sequence in 0..10 {
        world.inject(owners[2], fallbacks[0], Message::HintTaken { sequence });
    }
    assert_eq!(world.metric(fallbacks[0], "hints_waiting"), 1);
}

#[test]
fn a_takeover_that_cannot_write_does_not_say_that_nothing_was_written() {
    let mut world = World::formed(4);
    let (owners, fallbacks) = world.preference("k");
    // The first owner writes, and its answer is lost; to the one that takes over the others cannot be reached.
    world.lose.push("Forwarded");
    let options = Options {
        mode: Some(Mode::Strict),
        ..Options::default()
    };
    let client = world.send(fallbacks[0], put("b", "k", "v", None, options));
    world.lose.clear();
    world.cut(owners[0], owners[1]);
    world.cut(owners[1], owners[2]);
    world.cut(owners[0], owners[2]);
    world.advance(6 * SECOND);
    let reply = world.reply(client).unwrap();
    assert!(reply.is_ok(), "it was written, and the first still knows: {reply:?}");
    world.heal();
    world.advance(3 * SECOND);
    assert_eq!(values(&world.get(owners[2], "k", Options::default()).unwrap()), ["v"]);
}

#[test]
fn a_guarded_write_that_is_taken_over_is_not_refused_because_of_itself() {
    let mut world = World::formed(4);
    let (owners, fallbacks) = world.preference("k");
    world.lose.push("Forwarded");
    let client = world.send(fallbacks[0], put_if_absent("k", "v"));
    world.lose.clear();
    world.advance(6 * SECOND);
    let reply = world.reply(client).unwrap();
    assert!(reply.is_ok(), "{reply:?}");
    assert_eq!(values(&world.get(owners[1], "k", Options::default()).unwrap()), ["v"]);
}

#[test]
fn a_forward_that_was_read_too_late_does_not_bring_in_a_third_coordinator() {
    let mut world = World::formed(4);
    let (owners, fallbacks) = world.preference("k");
    world.pause(owners[0]);
    world.lose.push("WriteDone");
    world.requests.clear();
    let client = world.send(fallbacks[0], put("b", "k", "v", None, Options::default()));
    // The second has taken over, and waits for its replicas, when the first says that it came too late.
    world.advance(Duration::from_millis(300));
    assert_eq!(numbers(&world, "Forward").len(), 2);
    world.resume(owners[0]);
    assert_eq!(numbers(&world, "Forward").len(), 2, "the second is at it");
    world.lose.clear();
    world.advance(6 * SECOND);
    assert!(world.reply(client).is_some());
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_where_nobody_can_take_over() {
    let mut world = World::with(2, |settings| settings.replicas = 1);
    let (owners, fallbacks) = world.preference("k");
    let empty = world.get(owners[0], "k", Options::default()).unwrap().token;
    world.lose.push("Forwarded");
    let client = world.send(fallbacks[0], put("b", "k", "v", Some(&empty), Options::default()));
    world.lose.clear();
    world.advance(2 * SECOND);
    assert!(world.reply(client).is_some_and(|reply| reply.is_ok()));
    assert_eq!(world.metric(owners[0], "writes_total"), 1, "it is one write");
}

#[test]
fn a_batch_that_was_applied_during_a_sync_is_acknowledged_though_nothing_follows() {
    let mut world = World::formed(1);
    world.slow_syncs = Some(Duration::from_millis(200));
    let first = world.send(id("n1"), put("b", "small", "v", None, Options::default()));
    // More than is left staged while a sync is under way.
    let large = "v".repeat(9 << 20);
    let second = world.send(id("n1"), put("b", "large", &large, None, Options::default()));
    world.advance(10 * SECOND);
    assert!(world.reply(first).unwrap().is_ok());
    let reply = world.reply(second).unwrap();
    assert!(reply.is_ok(), "{reply:?}");
}

#[test]
fn a_fallback_that_has_no_room_for_a_hint_leaves_it_to_the_next() {
    let mut world = World::with(7, |settings: &mut Settings| {
        settings.hint_bytes_per_peer = if settings.name.as_str() == "n1" { 1 } else { 1 << 20 };
    });
    // A key that n1 is the first fallback of.
    let key = (0..)
        .map(|number| format!("k{number}"))
        .find(|key| world.preference(key).1.first() == Some(&id("n1")))
        .unwrap();
    let (owners, fallbacks) = world.preference(&key);
    owners.iter().for_each(|&owner| world.kill(owner));
    let options = Options {
        w: Some(Level::All),
        ..within(2 * SECOND)
    };
    let written = world.put(id("n1"), &key, "v", None, options);
    assert!(written.is_ok(), "{fallbacks:?}: {written:?}");
}

#[test]
fn a_read_waits_no_longer_for_hints_than_for_owners() {
    let mut world = World::formed(5);
    let (owners, fallbacks) = world.preference("k");
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    world.kill(owners[2]);
    world.pause(fallbacks[0]);
    let client = world.send(
        owners[0],
        on_key("b", "k", Operation::Get, within(Duration::from_millis(800))),
    );
    world.advance(Duration::from_millis(400));
    assert!(
        world.reply(client).is_some_and(|reply| reply.is_ok()),
        "two owners have answered"
    );
}

#[test]
fn a_listing_goes_around_a_node_whose_index_is_damaged() {
    for damaged in ["n2", "n3"] {
        let mut world = World::formed(3);
        for number in 0..20 {
            world
                .put(id("n1"), &format!("{number:02}"), "v", None, Options::default())
                .unwrap();
        }
        let mut batch = Batch::new();
        batch.put(
            Space::Index,
            Bytes::from_static(b"b\x0000"),
            Bytes::from_static(b"damaged"),
        );
        world.engine(id(damaged)).apply(batch).unwrap();
        let page = world.list(id("n1"), "", 100).unwrap();
        assert_eq!(page.keys.len(), 20);
        let _ = world.list(id(damaged), "", 100);
        world.advance(10 * SECOND);
        assert_eq!(world.metric(id(damaged), "partitions_in_doubt"), 0);
        let met = world.metric(id(damaged), "damaged_records_total");
        assert!(met > 0);
        assert_eq!(world.list(id(damaged), "", 100).unwrap().keys.len(), 20);
        assert_eq!(
            world.metric(id(damaged), "damaged_records_total"),
            met,
            "it is met once"
        );
    }
}

#[test]
fn an_owner_whose_records_are_all_damaged_is_refilled_and_then_answers() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    let away = owners[2];
    let keys: Vec<String> = (0..16).map(|number| format!("key{number}")).collect();
    for key in &keys {
        world.put(owners[0], key, "old", None, Options::default()).unwrap();
    }
    world.kill(away);
    for key in &keys[..8] {
        world.put(owners[0], key, "new", None, Options::default()).unwrap();
    }
    let mut damaged = Batch::new();
    let mut engine = world.engine(away);
    engine
        .scan(Space::Object, &[], None, &mut |key, _| {
            damaged.put(
                Space::Object,
                Bytes::copy_from_slice(key),
                Bytes::from_static(b"damaged"),
            );
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    engine.apply(damaged).unwrap();
    world.start(away);
    world.advance(10 * SECOND);
    assert!(world.metric(away, "doubts_total") >= 1);
    assert_eq!(world.metric(away, "partitions_in_doubt"), 0);
    for (number, key) in keys.iter().enumerate() {
        let one = Options {
            r: Some(Level::One),
            ..Options::default()
        };
        let found = world.get(away, key, one).unwrap();
        let expected = if number < 8 { "new" } else { "old" };
        assert_eq!(found.versions[0].value, expected, "{key}");
    }
}

#[test]
fn a_hint_from_the_far_future_is_refused_as_a_write_is() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.requests.clear();
    let dot = annulus_causality::Dot::new(
        annulus_causality::Actor {
            node: owners[0].0,
            incarnation: 1,
        },
        1,
    );
    let modified = annulus_causality::Timestamp {
        millis: 2_000_000_000_000,
        logical: 0,
    };
    let version = annulus_causality::Version::new("v".into(), None, Vec::new(), modified, None);
    let dots: CausalContext = [dot].into_iter().collect();
    let object = annulus_causality::Object::new(vec![(dot, version)], dots.clone());
    let at = annulus_protocol::WireKey {
        n: 3,
        bucket: annulus_ring::Bucket::parse("b").unwrap(),
        key: annulus_ring::Key::parse("k").unwrap(),
    };
    let delta = annulus_protocol::Delta { at, dots, object };
    world.inject(owners[0], owners[1], Message::Hint { sequence: 1, delta });
    assert_eq!(world.metric(owners[1], "hints_taken_total"), 0);
}

#[test]
fn memory_durability_needs_no_sync_and_loses_nothing_that_was_synced() {
    let mut world = World::formed(3);
    world.slow_syncs = Some(Duration::from_millis(500));
    let (owners, _) = world.preference("k");
    world.put(owners[0], "k", "durable", None, Options::default()).unwrap();
    let memory = Options {
        durability: Some(Durability::Memory),
        ..Options::default()
    };
    world.put(owners[0], "k", "in memory", None, memory).unwrap();
    owners.iter().for_each(|&owner| world.kill(owner));
    owners.iter().for_each(|&owner| world.start(owner));
    world.advance(5 * SECOND);
    let found = values(&world.get(owners[1], "k", Options::default()).unwrap());
    assert!(
        found
            .iter()
            .all(|value| ["durable", "in memory"].contains(&value.as_str()))
            && !found.is_empty(),
        "{found:?}"
    );
}
