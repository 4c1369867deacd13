//! Requests while nodes crash, pause and lose each other.

use std::time::Duration;

use annulus_coordinator::{Failure, Level, Mode, Options, Outcome};

use crate::world::{World, put};

const SECOND: Duration = Duration::from_secs(1);

fn r(count: u8) -> Options {
    Options {
        r: Some(Level::Count(count)),
        ..Options::default()
    }
}

fn value(found: &annulus_coordinator::Found) -> Vec<String> {
    found
        .versions
        .iter()
        .map(|version| String::from_utf8(version.value.to_vec()).unwrap())
        .collect()
}

#[test]
fn an_owner_that_was_away_gets_its_writes_from_the_log_of_another() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.put(owners[0], "deleted", "v", None, Options::default()).unwrap();
    world.kill(owners[2]);
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    world.delete(owners[0], "deleted", Options::default()).unwrap();
    world.start(owners[2]);
    world.advance(5 * SECOND);
    assert_eq!(
        world.metric(owners[0], "hints_waiting") + world.metric(owners[1], "hints_waiting"),
        0
    );
    assert_eq!(
        world.metric(owners[2], "catch_up_objects_taken_total"),
        2,
        "each crosses once"
    );
    assert_eq!(
        world.metric(owners[0], "log_entries"),
        0,
        "what all owners have, no log need name"
    );
    // Its own answer is enough now.
    assert_eq!(value(&world.get(owners[2], "k", r(1)).unwrap()), ["v"]);
    assert!(world.get(owners[2], "deleted", r(1)).unwrap().versions.is_empty());
}

#[test]
fn an_owner_that_catches_up_is_sent_no_more_in_a_second_than_the_rate() {
    let mut world = World::with(3, |settings| settings.catch_up_bytes_per_second = 1 << 20);
    let (owners, _) = world.preference("k");
    world.kill(owners[2]);
    for number in 0..64 {
        let value = number.to_string().repeat(64 << 10);
        let options = Options::default();
        world
            .put(owners[0], &format!("k{number}"), &value, None, options)
            .unwrap();
    }
    world.start(owners[2]);
    let taken = |world: &World| world.metric(owners[2], "catch_up_objects_taken_total");
    world.advance(2 * SECOND);
    assert!((1..=48).contains(&taken(&world)), "{}", taken(&world));
    world.advance(10 * SECOND);
    assert_eq!(taken(&world), 64);
}

#[test]
fn the_log_survives_the_crash_of_who_has_it() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.kill(owners[2]);
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    world.kill(owners[0]);
    world.start(owners[0]);
    world.start(owners[2]);
    world.advance(5 * SECOND);
    assert_eq!(value(&world.get(owners[2], "k", r(1)).unwrap()), ["v"]);
}

#[test]
fn fallbacks_stand_in_for_owners_and_hand_over() {
    let mut world = World::formed(5);
    let (owners, fallbacks) = world.preference("k");
    world.kill(owners[1]);
    world.kill(owners[2]);
    let written = world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    assert_eq!((written.answered, written.fallbacks), (2, 1));
    // The owner that is left and the fallbacks are all that can answer: thin, but found.
    let found = world.get(fallbacks[0], "k", Options::default()).unwrap();
    assert_eq!((value(&found), found.answered), (vec!["v".to_owned()], 1));
    assert!(
        matches!(world.get(fallbacks[0], "nothing-here", Options::default()), Ok(found) if found.versions.is_empty())
            || world
                .preference("nothing-here")
                .0
                .iter()
                .filter(|owner| owners[1..].contains(owner))
                .count()
                == 2
    );
    let strict = Options {
        mode: Some(Mode::Strict),
        ..Options::default()
    };
    let refused = world.put(owners[0], "k", "w", None, strict);
    assert!(matches!(
        refused,
        Err(Failure::QuorumUnreachable {
            outcome: Outcome::None,
            ..
        })
    ));
    world.start(owners[1]);
    world.start(owners[2]);
    world.advance(5 * SECOND);
    for owner in &owners {
        assert_eq!(value(&world.get(*owner, "k", r(1)).unwrap()), ["v"]);
    }
}

#[test]
fn fallbacks_coordinate_where_no_owner_is_left() {
    let mut world = World::formed(6);
    let (owners, fallbacks) = world.preference("k");
    owners.iter().for_each(|&owner| world.kill(owner));
    let written = world.put(fallbacks[1], "k", "first", None, Options::default()).unwrap();
    assert!(written.fallbacks >= 2, "{written:?}");
    world
        .put(fallbacks[2], "k", "second", None, Options::default())
        .unwrap();
    let refused = world.get(fallbacks[0], "k", Options::default());
    assert!(
        matches!(refused, Err(Failure::QuorumUnreachable { .. })),
        "no owner answers: {refused:?}"
    );
    owners.iter().for_each(|&owner| world.start(owner));
    world.advance(6 * SECOND);
    for owner in owners {
        assert_eq!(value(&world.get(owner, "k", r(1)).unwrap()), ["second"]);
    }
}

#[test]
fn read_repair_brings_back_what_a_replica_never_got() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.lose.push("Write");
    let alone = Options {
        w: Some(Level::One),
        timeout: Some(Duration::from_millis(500)),
        ..Options::default()
    };
    world.put(owners[0], "k", "v", None, alone).unwrap();
    world.lose.clear();
    let found = world.get(owners[1], "k", r(3)).unwrap();
    assert_eq!(value(&found), ["v"]);
    world.advance(Duration::from_millis(50));
    for owner in &owners {
        assert_eq!(value(&world.get(*owner, "k", r(1)).unwrap()), ["v"]);
    }
    assert!(world.metric(owners[1], "read_repairs_total") >= 2);
}

#[test]
fn a_coordinator_that_is_paused_is_taken_over_and_does_not_undo_it_when_it_wakes() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.put(owners[1], "k", "old", None, Options::default()).unwrap();
    world.pause(owners[0]);
    // Forwarded to the paused one first, taken over by the next.
    world.put(owners[1], "k", "new", None, Options::default()).unwrap();
    world.put(owners[1], "k", "newest", None, Options::default()).unwrap();
    world.advance(SECOND);
    world.resume(owners[0]);
    world.advance(5 * SECOND);
    assert!(
        world.metric(owners[0], "expired_total") >= 1,
        "it read the forward too late, and said so"
    );
    for owner in &owners {
        assert_eq!(value(&world.get(*owner, "k", r(3)).unwrap()), ["newest"]);
    }
}

#[test]
fn a_read_of_a_paused_owner_asks_a_spare() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    world.pause(owners[1]);
    let found = world.get(owners[0], "k", Options::default()).unwrap();
    assert_eq!((value(&found), found.answered), (vec!["v".to_owned()], 2));
}

#[test]
fn a_write_whose_owners_do_not_answer_times_out_with_its_outcome_unknown() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.pause(owners[1]);
    world.pause(owners[2]);
    let options = Options {
        timeout: Some(Duration::from_millis(700)),
        ..Options::default()
    };
    let reply = world.put(owners[0], "k", "v", None, options);
    assert!(
        matches!(
            reply,
            Err(Failure::TimedOut {
                required: 2,
                answered: 1,
                outcome: Outcome::Unknown
            })
        ),
        "{reply:?}"
    );
    world.resume(owners[1]);
    world.resume(owners[2]);
    world.advance(5 * SECOND);
    assert_eq!(
        value(&world.get(owners[2], "k", r(1)).unwrap()),
        ["v"],
        "it took effect later, as it may"
    );
}

#[test]
fn a_partition_leaves_siblings_and_no_loss() {
    let mut world = World::formed(5);
    let (owners, fallbacks) = world.preference("k");
    let (left, right) = ([owners[0], fallbacks[0]], [owners[1], owners[2], fallbacks[1]]);
    for a in left {
        right.iter().for_each(|&b| world.cut(a, b));
    }
    world.put(owners[0], "k", "left", None, Options::default()).unwrap();
    world.put(owners[1], "k", "right", None, Options::default()).unwrap();
    world.heal();
    world.advance(15 * SECOND);
    for owner in &owners {
        let mut values = value(&world.get(*owner, "k", r(1)).unwrap());
        values.sort();
        assert_eq!(values, ["left", "right"]);
    }
}

#[test]
fn a_restarted_cluster_remembers_everything() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.put(owners[0], "k", "v", None, Options::default()).unwrap();
    owners.iter().for_each(|&owner| world.kill(owner));
    owners.iter().for_each(|&owner| world.start(owner));
    world.advance(3 * SECOND);
    assert_eq!(value(&world.get(owners[1], "k", r(3)).unwrap()), ["v"]);
    world.put(owners[2], "k", "w", None, Options::default()).unwrap();
    assert_eq!(value(&world.get(owners[1], "k", r(3)).unwrap()), ["w"]);
}

#[test]
fn listing_goes_on_while_an_owner_is_away_and_misses_nothing() {
    let mut world = World::formed(5);
    let (owners, _) = world.preference("k");
    for number in 0..20 {
        world
            .put(owners[0], &format!("before/{number:02}"), "v", None, Options::default())
            .unwrap();
    }
    world.kill(owners[0]);
    world.kill(owners[1]);
    for number in 0..20 {
        world
            .put(owners[2], &format!("after/{number:02}"), "v", None, Options::default())
            .unwrap();
    }
    let page = world.list(owners[2], "", 100).unwrap();
    assert_eq!(page.keys.len(), 40);
}

#[test]
fn two_clients_of_one_paused_node_get_one_reply_each() {
    let mut world = World::formed(3);
    let (owners, _) = world.preference("k");
    world.pause(owners[2]);
    let clients: Vec<u64> = (0..2)
        .map(|n| world.send(owners[2], put("b", &format!("k{n}"), "v", None, Options::default())))
        .collect();
    world.resume(owners[2]);
    world.advance(6 * SECOND);
    clients
        .into_iter()
        .for_each(|client| assert!(world.reply(client).is_some()));
}
