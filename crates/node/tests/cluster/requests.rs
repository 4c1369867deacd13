//! Requests in a cluster where all is well.

use std::time::Duration;

use annulus_coordinator::{Answer, Condition, Durability, Failure, Level, NewValue, Operation, Options, Outcome};

use crate::world::{World, id, on_key, put};

fn values(found: &annulus_coordinator::Found) -> Vec<String> {
    found
        .versions
        .iter()
        .map(|version| String::from_utf8(version.value.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_cluster_of_one_serves() {
    let mut world = World::formed(1);
    let written = world.put(id("n1"), "k", "v", None, Options::default()).unwrap();
    assert_eq!((written.answered, written.n), (1, 1));
    assert_eq!(values(&world.get(id("n1"), "k", Options::default()).unwrap()), ["v"]);
}

#[test]
fn what_is_put_at_one_node_is_got_at_every_other() {
    let mut world = World::formed(5);
    for (number, node) in ["n1", "n2", "n3", "n4", "n5"].into_iter().enumerate() {
        let key = format!("key/{number}");
        let written = world.put(id(node), &key, node, None, Options::default()).unwrap();
        assert!(written.answered >= 2 && written.n == 3 && written.fallbacks == 0);
        for reader in ["n1", "n2", "n3", "n4", "n5"] {
            let found = world.get(id(reader), &key, Options::default()).unwrap();
            assert_eq!(values(&found), [node]);
            assert!(found.answered >= 2);
        }
    }
}

#[test]
fn writes_without_a_token_replace_each_other_through_whichever_node() {
    let mut world = World::formed(5);
    for (number, node) in ["n1", "n2", "n3", "n4", "n5"].into_iter().cycle().take(20).enumerate() {
        world
            .put(id(node), "k", &number.to_string(), None, Options::default())
            .unwrap();
        assert_eq!(
            values(&world.get(id("n1"), "k", Options::default()).unwrap()),
            [number.to_string()]
        );
    }
}

#[test]
fn a_token_replaces_exactly_what_it_has_seen() {
    let mut world = World::formed(3);
    let first = world.put(id("n1"), "k", "first", None, Options::default()).unwrap();
    world
        .put(id("n2"), "k", "second", Some(&first.token), Options::default())
        .unwrap();
    let third = world
        .put(id("n3"), "k", "third", Some(&first.token), Options::default())
        .unwrap();
    let found = world.get(id("n1"), "k", Options::default()).unwrap();
    assert_eq!(values(&found), ["second", "third"]);
    // The token of a write never covers a sibling that its writer has not seen.
    world
        .put(id("n1"), "k", "fourth", Some(&third.token), Options::default())
        .unwrap();
    let found = world.get(id("n2"), "k", Options::default()).unwrap();
    assert_eq!(values(&found), ["second", "fourth"]);
    world
        .put(id("n2"), "k", "merged", Some(&found.token), Options::default())
        .unwrap();
    assert_eq!(
        values(&world.get(id("n3"), "k", Options::default()).unwrap()),
        ["merged"]
    );
}

#[test]
fn equal_siblings_count_and_show_as_one() {
    let mut world = World::formed(3);
    let empty = world.get(id("n1"), "k", Options::default()).unwrap();
    assert!(empty.versions.is_empty());
    world
        .put(id("n1"), "k", "same", Some(&empty.token), Options::default())
        .unwrap();
    world
        .put(id("n2"), "k", "same", Some(&empty.token), Options::default())
        .unwrap();
    assert_eq!(values(&world.get(id("n3"), "k", Options::default()).unwrap()), ["same"]);
}

#[test]
fn a_token_of_another_key_is_refused_and_nothing_is_written() {
    let mut world = World::formed(3);
    let other = world.put(id("n1"), "other", "v", None, Options::default()).unwrap();
    for node in ["n1", "n2", "n3"] {
        let refused = world.put(id(node), "k", "v", Some(&other.token), Options::default());
        assert!(matches!(refused, Err(Failure::InvalidContext { .. })), "{refused:?}");
    }
    assert!(
        world
            .get(id("n1"), "k", Options::default())
            .unwrap()
            .versions
            .is_empty()
    );
}

#[test]
fn a_deleted_key_is_gone_and_comes_back_only_when_it_is_written() {
    let mut world = World::formed(3);
    world.put(id("n1"), "k", "v", None, Options::default()).unwrap();
    world.delete(id("n2"), "k", Options::default()).unwrap();
    for node in ["n1", "n2", "n3"] {
        assert!(
            world
                .get(id(node), "k", Options::default())
                .unwrap()
                .versions
                .is_empty()
        );
    }
    assert!(world.list(id("n3"), "", 10).unwrap().keys.is_empty());
    world.put(id("n3"), "k", "again", None, Options::default()).unwrap();
    assert_eq!(
        values(&world.get(id("n1"), "k", Options::default()).unwrap()),
        ["again"]
    );
}

#[test]
fn a_condition_is_held_against_a_quorum() {
    let mut world = World::formed(3);
    let write = |value: &str, condition: Condition| {
        let value = NewValue {
            value: value.as_bytes().to_vec().into(),
            content_type: None,
            meta: Vec::new(),
        };
        let operation = Operation::Write {
            value: Some(value),
            token: None,
            condition: Some(condition),
        };
        on_key("b", "k", operation, Options::default())
    };
    assert!(world.ask(id("n1"), write("first", Condition::Absent)).is_ok());
    let refused = world.ask(id("n2"), write("second", Condition::Absent));
    let Err(Failure::ConditionFailed { etag: Some(etag) }) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        world
            .ask(id("n3"), write("third", Condition::Match(vec![etag])))
            .is_ok()
    );
    let refused = world.ask(id("n1"), write("fourth", Condition::Match(vec![etag])));
    assert!(matches!(refused, Err(Failure::ConditionFailed { .. })));
    assert_eq!(
        values(&world.get(id("n2"), "k", Options::default()).unwrap()),
        ["third"]
    );
}

#[test]
fn a_level_that_the_bucket_cannot_meet_is_refused() {
    let mut world = World::formed(2);
    for level in [Level::Count(0), Level::Count(3)] {
        let options = Options {
            w: Some(level),
            ..Options::default()
        };
        assert!(matches!(
            world.put(id("n1"), "k", "v", None, options),
            Err(Failure::Invalid { parameter: "w", .. })
        ));
    }
    let options = Options {
        w: Some(Level::All),
        ..Options::default()
    };
    assert_eq!(world.put(id("n1"), "k", "v", None, options).unwrap().answered, 2);
}

#[test]
fn memory_durability_is_answered_before_the_sync() {
    let mut world = World::formed(1);
    let options = Options {
        durability: Some(Durability::Memory),
        ..Options::default()
    };
    assert_eq!(world.put(id("n1"), "k", "v", None, options).unwrap().answered, 1);
}

#[test]
fn pages_hold_every_key_once_in_order() {
    let mut world = World::formed(5);
    let mut keys: Vec<String> = (0..50)
        .map(|number| format!("{:02}/{}", (number * 7) % 50, number))
        .collect();
    for key in &keys {
        world.put(id("n1"), key, "v", None, Options::default()).unwrap();
    }
    keys.sort();
    let (mut listed, mut start) = (Vec::new(), String::new());
    loop {
        let page = world.list(id("n3"), &start, 7).unwrap();
        listed.extend(
            page.keys
                .iter()
                .map(|key| String::from_utf8(key.as_bytes().to_vec()).unwrap()),
        );
        match page.next {
            Some(next) => start = String::from_utf8(next.to_vec()).unwrap(),
            None => break,
        }
    }
    assert_eq!(listed, keys);
}

#[test]
fn a_forward_whose_answer_was_lost_is_one_write_when_it_is_tried_again() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    let (coordinator, other) = (owners[0], owners[1]);
    world.lose.push("Forwarded");
    let client = world.send(other, put("b", "k", "v", None, Options::default()));
    world.lose.clear();
    world.advance(Duration::from_millis(20));
    assert!(world.reply(client).is_none(), "its answer was lost");
    // The next owner takes over, which here is the one that forwarded.
    world.advance(Duration::from_secs(2));
    assert!(world.reply(client).unwrap().is_ok());
    let found = world.get(coordinator, "k", Options::default()).unwrap();
    assert_eq!(values(&found), ["v"]);
}

#[test]
fn a_node_that_is_short_of_room_refuses_writes_and_goes_on_by_itself() {
    let mut world = World::formed(1);
    world.free_space(id("n1"), 1);
    assert!(matches!(
        world.put(id("n1"), "k", "v", None, Options::default()),
        Err(Failure::StorageUnavailable { .. })
    ));
    assert!(world.get(id("n1"), "k", Options::default()).is_ok());
    world.free_space(id("n1"), u64::MAX);
    assert!(world.put(id("n1"), "k", "v", None, Options::default()).is_ok());
}

#[test]
fn an_unreachable_quorum_is_said_at_once_and_nothing_is_written() {
    let mut world = World::formed(3);
    world.kill(id("n2"));
    world.kill(id("n3"));
    let refused = world.put(id("n1"), "k", "v", None, Options::default());
    assert_eq!(
        refused,
        Err(Failure::QuorumUnreachable {
            required: 2,
            answered: 1,
            n: 3,
            outcome: Outcome::None
        })
    );
    let options = Options {
        r: Some(Level::One),
        ..Options::default()
    };
    assert!(world.get(id("n1"), "k", options).unwrap().versions.is_empty());
    assert!(matches!(
        world.get(id("n1"), "k", Options::default()),
        Err(Failure::QuorumUnreachable { .. })
    ));
}

#[test]
fn the_ring_names_a_key_s_owners() {
    let mut world = World::formed(4);
    let (owners, fallbacks) = world.preference("k");
    assert_eq!((owners.len(), fallbacks.len()), (3, 1));
    assert!(
        matches!(world.ask(id("n1"), annulus_coordinator::Request::Ring), Ok(Answer::Ring(ring)) if ring.owners.len() == 64)
    );
}
