//! What a replica notices, bounds and finds again: damage, hints without end, clocks after many batches, expired keys in listings.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};
use annulus_ring::{Address, Bucket, Key, NodeId, Partitions};
use annulus_storage::engine::memory::MemoryEngine;
use annulus_storage::engine::{Batch, Engine, Space};
use annulus_storage::{ApplyError, EngineError, HintError, MAX_COUNTER, OpenError, Replica};

const ACTOR: Actor = Actor {
    node: 7,
    incarnation: 1,
};

fn address(key: &str) -> Address {
    Address::new(
        Bucket::parse("b").unwrap(),
        Key::parse(key.to_owned()).unwrap(),
        3,
        Partitions::default(),
    )
}

fn open(engine: &MemoryEngine) -> Result<Replica<MemoryEngine>, OpenError> {
    Replica::open(engine.clone(), Partitions::default())
}

fn write(replica: &mut Replica<MemoryEngine>, key: &str, expires: Option<u64>) -> (Dot, Object) {
    let at = address(key);
    let dot = replica.next_dot(at.partition, ACTOR);
    let version = Version::new(
        b"value".to_vec().into(),
        None,
        Vec::new(),
        Timestamp::default(),
        expires,
    );
    let delta = replica
        .read(&at)
        .unwrap()
        .write(dot, Some(version), None, ConflictPolicy::Siblings);
    replica
        .apply(&at, delta.clone(), &CausalContext::from_iter([dot]))
        .unwrap();
    (dot, delta)
}

/// Flips one bit of every record of a space.
fn damage(engine: &MemoryEngine, space: Space) {
    let mut batch = Batch::new();
    engine
        .scan(space, &[], None, &mut |key, value| {
            let mut value = value.to_vec();
            *value.last_mut().unwrap() ^= 1;
            batch.put(space, key.to_vec(), value);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(!batch.is_empty());
    engine.clone().apply(batch).unwrap();
}

fn engine_with_a_record_in_every_space() -> MemoryEngine {
    let engine = MemoryEngine::new();
    let mut replica = open(&engine).unwrap();
    let (dot, delta) = write(&mut replica, "k", None);
    replica
        .hint(NodeId(1), &address("k"), &CausalContext::from_iter([dot]), delta, 1)
        .unwrap();
    replica.put_meta("name", b"bytes");
    replica.commit().unwrap();
    engine
}

#[test]
fn a_damaged_object_is_an_error_and_never_absent() {
    let engine = engine_with_a_record_in_every_space();
    damage(&engine, Space::Object);
    let mut replica = open(&engine).unwrap();
    let error = replica.read(&address("k")).unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Damaged {
                space: Space::Object,
                ..
            }
        ),
        "{error}"
    );
    let dot = replica.next_dot(address("k").partition, ACTOR);
    let clock = replica.clock(address("k").partition).clone();
    let applied = replica.apply(&address("k"), Object::default(), &CausalContext::from_iter([dot]));
    assert!(matches!(applied, Err(ApplyError::Engine(EngineError::Damaged { .. }))));
    assert_eq!(
        *replica.clock(address("k").partition),
        clock,
        "a dot that was not incorporated is not seen"
    );
    assert_eq!(replica.commit(), Ok(None));
}

#[test]
fn a_damaged_log_leaves_what_the_objects_prove_and_a_doubt_about_all_the_rest() {
    let engine = engine_with_a_record_in_every_space();
    damage(&engine, Space::Log);
    let mut replica = open(&engine).unwrap();
    let at = address("k");
    let object = replica.read(&at).unwrap();
    assert_eq!(object.versions().len(), 1);
    assert_eq!(*replica.clock(at.partition), object.dots().collect());
    assert!(replica.is_in_doubt(at.partition) && replica.has_doubts());
    replica.commit().unwrap();
    assert!(
        open(&engine).unwrap().is_in_doubt(at.partition),
        "a restart does not forget the doubt"
    );
}

#[test]
fn damage_anywhere_is_reported_where_it_is_met() {
    let damaged = |space: Space| {
        let engine = engine_with_a_record_in_every_space();
        damage(&engine, space);
        open(&engine)
    };
    let error = damaged(Space::Meta).unwrap_err();
    assert!(
        matches!(
            &error,
            OpenError::Engine(EngineError::Damaged { space: Space::Meta, .. })
        ),
        "{error}"
    );
    let listing = damaged(Space::Index)
        .unwrap()
        .list(&address("k").bucket, b"", b"", 9, 0);
    assert!(matches!(
        listing,
        Err(EngineError::Damaged {
            space: Space::Index,
            ..
        })
    ));
}

#[test]
fn another_number_of_partitions_is_refused() {
    let engine = engine_with_a_record_in_every_space();
    let error = Replica::open(engine, Partitions::new(64).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the data is kept in 1024 partitions, not in 64; start with that number"
    );
}

#[test]
fn a_dot_that_cannot_be_is_refused() {
    let mut replica = open(&MemoryEngine::new()).unwrap();
    let mut dots = CausalContext::new();
    dots.close(ACTOR);
    let error = replica.apply(&address("k"), Object::default(), &dots).unwrap_err();
    assert!(matches!(error, ApplyError::ImplausibleDot { .. }), "{error}");
    let dots = CausalContext::from_iter([Dot::new(ACTOR, MAX_COUNTER)]);
    replica.apply(&address("k"), Object::default(), &dots).unwrap();
    assert_eq!(replica.next_dot(address("k").partition, ACTOR).counter, MAX_COUNTER + 1);
}

#[test]
fn a_range_of_dots_is_one_log_entry() {
    let mut replica = open(&MemoryEngine::new()).unwrap();
    let mut dots = CausalContext::new();
    dots.insert_range(ACTOR, 3..=MAX_COUNTER);
    replica.apply(&address("k"), Object::default(), &dots).unwrap();
    replica.commit().unwrap();
    let mut entries = Vec::new();
    let visit = &mut |batch: annulus_storage::LogBatch| {
        entries.extend(batch.entries);
        ControlFlow::Continue(())
    };
    replica.log_since(0, visit).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].counters, 3..=MAX_COUNTER);
}

#[test]
fn clocks_are_the_same_after_reopening_across_checkpoints() {
    let engine = MemoryEngine::new();
    let mut replica = open(&engine).unwrap();
    for number in 0..40_000 {
        write(&mut replica, &format!("key {number}"), None);
        if number % 7 == 0 {
            replica.commit().unwrap();
        }
    }
    let last = replica.commit().unwrap().unwrap();
    let mut again = open(&engine).unwrap();
    assert_eq!(again.size().partitions, replica.size().partitions);
    for number in 0..40_000 {
        let partition = address(&format!("key {number}")).partition;
        assert_eq!(again.clock(partition), replica.clock(partition));
    }
    write(&mut again, "one more", None);
    assert_eq!(again.commit(), Ok(Some(last + 1)));
}

#[test]
fn hints_are_bounded_for_each_owner() {
    let mut replica = open(&MemoryEngine::new()).unwrap();
    replica.set_hint_limit_bytes(1000);
    let (dot, delta) = write(&mut replica, "k", None);
    let dots = CausalContext::from_iter([dot]);
    let mut taken = 0;
    let error = loop {
        match replica.hint(NodeId(1), &address("k"), &dots, delta.clone(), 100) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            HintError::Full {
                owner: NodeId(1),
                limit_bytes: 1000,
                ..
            }
        ),
        "{error}"
    );
    assert!((2..=5).contains(&taken), "{taken}");
    replica
        .hint(NodeId(2), &address("k"), &dots, Object::default(), 100)
        .unwrap();
    assert!(replica.hint_summary()[&NodeId(1)].bytes <= 1000);
    assert_eq!(replica.overdue_hints(99), []);
    let overdue = replica.overdue_hints(100);
    assert_eq!(overdue.len(), taken + 1);
    overdue
        .iter()
        .for_each(|hint| replica.forget_hint(hint.owner, hint.sequence));
    assert_eq!(replica.size().hint_bytes, 0);
    assert!(replica.hint_summary().is_empty());
}

#[test]
fn a_damaged_hint_is_dropped_and_keeps_no_other_from_being_read() {
    let engine = MemoryEngine::new();
    let mut replica = open(&engine).unwrap();
    let dots = CausalContext::new();
    let hint = |replica: &mut Replica<MemoryEngine>| {
        replica
            .hint(NodeId(1), &address("k"), &dots, Object::default(), 100)
            .unwrap();
        replica.commit().unwrap();
    };
    hint(&mut replica);
    damage(&engine, Space::Hint);
    hint(&mut replica);
    assert!(replica.hinted(&address("k")).is_err(), "what is damaged is not absent");
    assert_eq!(replica.drop_damaged_hints(), [Some(NodeId(1))]);
    replica.hinted(&address("k")).unwrap();
    assert_eq!(replica.hints(NodeId(1), 0, 0).unwrap().len(), 1);
    replica.commit().unwrap();
    let last = replica.hints(NodeId(1), 0, 0).unwrap()[0].sequence;
    damage(&engine, Space::Hint);

    let mut replica = open(&engine).unwrap();
    assert!(replica.hint_summary().is_empty());
    hint(&mut replica);
    assert_eq!(replica.drop_damaged_hints(), [Some(NodeId(1))]);
    replica.commit().unwrap();
    let left = open(&engine).unwrap().hints(NodeId(1), 0, 0).unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].sequence > last, "it did not take the place of the damaged one");
    assert_eq!(replica.drop_damaged_hints(), []);
}

#[test]
fn doubt_writes_the_indexes_of_a_partition_anew() {
    let engine = MemoryEngine::new();
    let mut replica = open(&engine).unwrap();
    write(&mut replica, "k", Some(50));
    replica.commit().unwrap();
    let mut batch = annulus_storage::engine::Batch::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        batch.delete(Space::Expiry, key.to_vec());
        ControlFlow::Continue(())
    };
    engine.scan(Space::Expiry, b"", None, visit).unwrap();
    // The index of a key that is not there cannot be read, either.
    batch.put(Space::Index, address("absent").scope(), &b"damaged"[..]);
    engine.clone().apply(batch).unwrap();
    damage(&engine, Space::Index);
    let bucket = address("k").bucket;
    replica.list(&bucket, b"", b"", 9, 0).unwrap_err();
    replica.read(&address("absent")).unwrap_err();
    for key in ["k", "absent"] {
        replica.distrust_index(&address(key));
        replica.doubt(address(key).partition).unwrap();
    }
    replica.commit().unwrap();
    assert_eq!(replica.list(&bucket, b"", b"", 9, 0).unwrap().keys, [address("k").key]);
    assert_eq!(replica.expiring(None, 99, 9).unwrap().len(), 1);
    assert!(replica.read(&address("absent")).unwrap().versions().is_empty());
}

#[test]
fn a_hint_delivered_late_does_not_drop_a_newer_one() {
    let engine = MemoryEngine::new();
    let mut replica = open(&engine).unwrap();
    let dots = CausalContext::new();
    replica
        .hint(NodeId(1), &address("k"), &dots, Object::default(), 100)
        .unwrap();
    let first = replica.hints(NodeId(1), 0, 0).unwrap()[0].sequence;
    replica.forget_hint(NodeId(1), first);
    replica
        .hint(NodeId(1), &address("k"), &dots, Object::default(), 100)
        .unwrap();
    replica.forget_hint(NodeId(1), first);
    assert_eq!(replica.hints(NodeId(1), 0, 0).unwrap().len(), 1);
}

#[test]
fn a_listing_over_expired_keys_does_bounded_work_and_goes_on() {
    let mut replica = open(&MemoryEngine::new()).unwrap();
    for number in 0..5000 {
        write(&mut replica, &format!("{number:04}"), Some(10));
    }
    replica.commit().unwrap();
    write(&mut replica, "9999", None);
    let bucket = address("k").bucket;
    let (mut start, mut pages, mut keys) = (Vec::new(), 0, Vec::new());
    loop {
        let page = replica.list(&bucket, b"", &start, 3, 10).unwrap();
        keys.extend(page.keys);
        pages += 1;
        match page.resume {
            Some(key) => start = key.as_bytes().to_vec(),
            None => break,
        }
    }
    assert_eq!(pages, 5, "each looks at a thousand keys");
    assert_eq!(keys, [Key::parse("9999").unwrap()]);
    assert_eq!(replica.list(&bucket, b"", b"", 3, 9).unwrap().keys.len(), 3);
}

#[test]
fn a_put_costs_one_object_record_and_its_share_of_one_log_record() {
    let engine = MemoryEngine::new();
    let mut replica = open(&engine).unwrap();
    let records = |space| {
        let mut count = 0;
        engine
            .scan(space, &[], None, &mut |_, _| {
                count += 1;
                ControlFlow::Continue(())
            })
            .map(|()| count)
    };
    for number in 0..32 {
        write(&mut replica, &format!("key {number}"), None);
    }
    replica.commit().unwrap();
    assert_eq!(
        (records(Space::Object), records(Space::Log), records(Space::Index)),
        (Ok(32), Ok(1), Ok(32))
    );
    for number in 0..32 {
        write(&mut replica, &format!("key {number}"), None);
    }
    let staged = replica.size().staged_bytes;
    assert!(staged < 32 * 200, "{staged} bytes: the index is not written again");
    replica.commit().unwrap();
    assert_eq!((records(Space::Object), records(Space::Log)), (Ok(32), Ok(2)));
}

#[test]
fn a_deleted_key_leaves_no_record() {
    let engine = MemoryEngine::new();
    let mut replica = open(&engine).unwrap();
    write(&mut replica, "k", None);
    replica.commit().unwrap();
    let dot = replica.next_dot(address("k").partition, ACTOR);
    let delta = replica
        .read(&address("k"))
        .unwrap()
        .write(dot, None, None, ConflictPolicy::Siblings);
    replica
        .apply(&address("k"), delta, &CausalContext::from_iter([dot]))
        .unwrap();
    replica.commit().unwrap();
    for space in [Space::Object, Space::Index] {
        engine
            .scan(space, &[], None, &mut |key, _| panic!("{key:?} is left"))
            .unwrap();
    }
}
