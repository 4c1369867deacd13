//! What every engine must do: `conformance!(name, Maker)` runs the whole suite on an engine, and a random walk beside its twin.
//!
//! A [`Place`] opens the engine again and again on the same records.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Batch, Engine, EngineError, MAX_ENGINE_KEY_BYTES, Space};

/// Where an engine's records outlive the engine.
pub(crate) trait Place {
    /// The engine.
    type Opened: Engine;

    /// A place without records.
    fn empty() -> Self;

    /// Opens the engine; the one opened before has been dropped.
    fn open(&self) -> Self::Opened;
}

/// Tests an engine: the module's name, and its [`Place`].
macro_rules! conformance {
    ($name:ident, $place:ty) => {
        mod $name {
            use super::*;
            use $crate::engine::conformance as suite;

            #[test]
            fn a_record_is_what_was_last_put() {
                suite::a_record_is_what_was_last_put::<$place>();
            }
            #[test]
            fn spaces_do_not_see_each_other() {
                suite::spaces_do_not_see_each_other::<$place>();
            }
            #[test]
            fn a_scan_is_ordered_and_keeps_its_bounds() {
                suite::a_scan_is_ordered_and_keeps_its_bounds::<$place>();
            }
            #[test]
            fn a_scan_stops_when_its_visitor_does() {
                suite::a_scan_stops_when_its_visitor_does::<$place>();
            }
            #[test]
            fn the_later_of_two_changes_in_a_batch_counts() {
                suite::the_later_of_two_changes_in_a_batch_counts::<$place>();
            }
            #[test]
            fn values_of_all_sizes_come_back_whole() {
                suite::values_of_all_sizes_come_back_whole::<$place>();
            }
            #[test]
            fn what_was_synced_is_there_after_reopening() {
                suite::what_was_synced_is_there_after_reopening::<$place>();
            }
            #[test]
            fn a_key_that_is_too_long_is_refused_and_nothing_is_written() {
                suite::a_key_that_is_too_long_is_refused_and_nothing_is_written::<$place>();
            }
            #[test]
            fn the_size_grows_with_what_is_kept() {
                suite::the_size_grows_with_what_is_kept::<$place>();
            }
            #[test]
            fn prop_any_history_agrees_with_plain_maps() {
                suite::any_history_agrees_with_plain_maps::<$place>();
            }
        }
    };
}
pub(crate) use conformance;

fn put(engine: &mut impl Engine, space: Space, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(space, key.to_vec(), value.to_vec());
    engine.apply(batch).unwrap();
}

fn keys(engine: &impl Engine, space: Space, from: &[u8], until: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        found.push(key.to_vec());
        if found.len() == limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    engine.scan(space, from, until, visit).unwrap();
    found
}

pub(crate) fn a_record_is_what_was_last_put<P: Place>() {
    let place = P::empty();
    let mut engine = place.open();
    assert_eq!(engine.get(Space::Object, b"k"), Ok(None));
    for value in [&b"first"[..], b"", b"a longer second value", b"x"] {
        put(&mut engine, Space::Object, b"k", value);
        assert_eq!(engine.get(Space::Object, b"k").unwrap().as_deref(), Some(value));
    }
    let mut batch = Batch::new();
    batch.delete(Space::Object, &b"k"[..]);
    batch.delete(Space::Object, &b"was never there"[..]);
    engine.apply(batch).unwrap();
    assert_eq!(engine.get(Space::Object, b"k"), Ok(None));
    put(&mut engine, Space::Object, b"", b"an empty key");
    assert_eq!(
        engine.get(Space::Object, b"").unwrap().as_deref(),
        Some(&b"an empty key"[..])
    );
}

pub(crate) fn spaces_do_not_see_each_other<P: Place>() {
    let place = P::empty();
    let mut engine = place.open();
    for space in Space::ALL {
        put(&mut engine, space, b"k", space.name().as_bytes());
        put(&mut engine, space, b"\xff\xff\xff\xff", b"last");
    }
    for space in Space::ALL {
        assert_eq!(
            engine.get(space, b"k").unwrap().as_deref(),
            Some(space.name().as_bytes())
        );
        assert_eq!(keys(&engine, space, b"", None, 9), [&b"k"[..], b"\xff\xff\xff\xff"]);
    }
}

pub(crate) fn a_scan_is_ordered_and_keeps_its_bounds<P: Place>() {
    let place = P::empty();
    let mut engine = place.open();
    for key in [&b"b"[..], b"a", b"c\x00", b"c", b"\xff", b"a\x00z"] {
        put(&mut engine, Space::Index, key, key);
    }
    let all = [&b"a"[..], b"a\x00z", b"b", b"c", b"c\x00", b"\xff"];
    assert_eq!(keys(&engine, Space::Index, b"", None, 99), all);
    assert_eq!(keys(&engine, Space::Index, b"a\x00", Some(b"c\x00"), 99), all[1..4]);
    assert_eq!(keys(&engine, Space::Index, b"c", Some(b"c"), 99), all[..0]);
    assert_eq!(keys(&engine, Space::Index, b"d", Some(b"c"), 99), all[..0]);
    assert_eq!(keys(&engine, Space::Index, b"\xff\x00", None, 99), all[..0]);
}

pub(crate) fn a_scan_stops_when_its_visitor_does<P: Place>() {
    let place = P::empty();
    let mut engine = place.open();
    let mut batch = Batch::new();
    for number in 0..500_u32 {
        batch.put(Space::Log, number.to_be_bytes().to_vec(), Bytes::from_static(b"v"));
    }
    engine.apply(batch).unwrap();
    assert_eq!(keys(&engine, Space::Log, b"", None, 3).len(), 3);
    assert_eq!(keys(&engine, Space::Log, b"", None, 1000).len(), 500);
}

pub(crate) fn the_later_of_two_changes_in_a_batch_counts<P: Place>() {
    let place = P::empty();
    let mut engine = place.open();
    let long = vec![7; 200_000];
    let mut batch = Batch::new();
    batch.put(Space::Meta, &b"a"[..], long.clone());
    batch.put(Space::Meta, &b"a"[..], &b"short"[..]);
    batch.put(Space::Meta, &b"b"[..], &b"short"[..]);
    batch.delete(Space::Meta, &b"b"[..]);
    batch.delete(Space::Meta, &b"c"[..]);
    batch.put(Space::Meta, &b"c"[..], long.clone());
    assert_eq!(batch.len(), 6);
    assert_eq!(batch.bytes(), 400_016);
    engine.apply(batch).unwrap();
    assert_eq!(engine.get(Space::Meta, b"a").unwrap().as_deref(), Some(&b"short"[..]));
    assert_eq!(engine.get(Space::Meta, b"b"), Ok(None));
    assert_eq!(engine.get(Space::Meta, b"c").unwrap().as_deref(), Some(&long[..]));
    assert_eq!(keys(&engine, Space::Meta, b"", None, 99), [&b"a"[..], b"c"]);
}

pub(crate) fn values_of_all_sizes_come_back_whole<P: Place>() {
    let place = P::empty();
    let sizes = [
        0,
        1,
        511,
        512,
        4096,
        32_767,
        32_768,
        32_769,
        65_536,
        1 << 20,
        8 << 20,
        100_000,
        10,
        0,
    ];
    let value = |size: usize| (0..size).map(|at| (at * 31 % 251) as u8).collect::<Vec<u8>>();
    let mut engine = place.open();
    for size in sizes {
        put(&mut engine, Space::Object, b"one key", &value(size));
        put(
            &mut engine,
            Space::Object,
            format!("key {size}").as_bytes(),
            &value(size),
        );
        assert!(
            engine.get(Space::Object, b"one key").unwrap().unwrap() == value(size),
            "{size} bytes"
        );
    }
    engine.syncer().sync().unwrap();
    drop(engine);
    let mut engine = place.open();
    for size in sizes {
        assert!(
            engine
                .get(Space::Object, format!("key {size}").as_bytes())
                .unwrap()
                .unwrap()
                == value(size)
        );
    }
    let mut scanned = 0;
    let visit = &mut |key: &[u8], found: &[u8]| {
        scanned += 1;
        assert!(key == b"one key" || found == value(found.len()));
        ControlFlow::Continue(())
    };
    engine.scan(Space::Object, b"", None, visit).unwrap();
    assert_eq!(scanned, sizes.len());
    let mut batch = Batch::new();
    batch.delete(Space::Object, &b"key 8388608"[..]);
    engine.apply(batch).unwrap();
    assert_eq!(engine.get(Space::Object, b"key 8388608"), Ok(None));
}

pub(crate) fn what_was_synced_is_there_after_reopening<P: Place>() {
    let place = P::empty();
    for round in 0..5_u8 {
        let mut engine = place.open();
        for before in 0..round {
            assert_eq!(
                engine.get(Space::Object, &[before]).unwrap().as_deref(),
                Some(&[before; 100][..])
            );
        }
        put(&mut engine, Space::Object, &[round], &[round; 100]);
        engine.syncer().sync().unwrap();
    }
}

pub(crate) fn a_key_that_is_too_long_is_refused_and_nothing_is_written<P: Place>() {
    let place = P::empty();
    let mut engine = place.open();
    let mut batch = Batch::new();
    batch.put(Space::Object, &b"fine"[..], Bytes::new());
    batch.put(Space::Object, vec![1; MAX_ENGINE_KEY_BYTES + 1], Bytes::new());
    let error = engine.apply(batch).unwrap_err();
    assert_eq!(
        error,
        EngineError::KeyTooLong {
            space: Space::Object,
            bytes: MAX_ENGINE_KEY_BYTES + 1
        }
    );
    assert!(error.usable());
    assert_eq!(engine.get(Space::Object, b"fine"), Ok(None));
    put(&mut engine, Space::Object, &[1; MAX_ENGINE_KEY_BYTES], b"just fits");
}

pub(crate) fn the_size_grows_with_what_is_kept<P: Place>() {
    let place = P::empty();
    let mut engine = place.open();
    engine.room().unwrap();
    for number in 0..40_u8 {
        put(&mut engine, Space::Object, &[number], &[number; 100_000]);
    }
    engine.syncer().sync().unwrap();
    assert!(engine.size().disk_bytes >= 4_000_000, "{:?}", engine.size());
}

/// A record, and the byte and length of its new value.
type Change = (Space, Vec<u8>, Option<(u8, usize)>);

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Change>),
    Scan(Space, Vec<u8>, Option<Vec<u8>>, usize),
    Sync,
    Reopen,
}

fn any_space() -> impl Strategy<Value = Space> {
    prop::sample::select(Space::ALL.to_vec())
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(prop::sample::select(b"\x00ab\xff".to_vec()), 0..4),
        1 => prop::collection::vec(any::<u8>(), 1000..=MAX_ENGINE_KEY_BYTES),
    ]
}

fn any_value() -> impl Strategy<Value = Option<(u8, usize)>> {
    let size = prop_oneof![12 => 0..300_usize, 3 => 30_000..34_000_usize, 2 => 60_000..300_000_usize];
    prop::option::weighted(0.75, (any::<u8>(), size))
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec((any_space(), any_key(), any_value()), 1..20).prop_map(Step::Apply),
        3 => (any_space(), any_key(), prop::option::of(any_key()), 1..40_usize)
            .prop_map(|(space, from, until, limit)| Step::Scan(space, from, until, limit)),
        2 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

type Twin = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

pub(crate) fn any_history_agrees_with_plain_maps<P: Place>() {
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in prop::collection::vec(any_step(), 1..40))| {
        let place = P::empty();
        let mut engine = place.open();
        let mut twin = Twin::new();
        for step in steps {
            match step {
                Step::Apply(changes) => apply_to_both(&mut engine, &mut twin, changes),
                Step::Sync => engine.syncer().sync().unwrap(),
                Step::Reopen => {
                    engine.syncer().sync().unwrap();
                    drop(engine);
                    engine = place.open();
                }
                Step::Scan(space, from, until, limit) => {
                    let expected = twin
                        .keys()
                        .filter(|(of, key)| *of == space && *key >= from && until.as_ref().is_none_or(|until| key < until))
                        .map(|(_, key)| key.clone())
                        .take(limit)
                        .collect::<Vec<_>>();
                    assert_eq!(keys(&engine, space, &from, until.as_deref(), limit), expected);
                }
            }
        }
        engine.syncer().sync().unwrap();
        drop(engine);
        let engine = place.open();
        for space in Space::ALL {
            let mut found = Vec::new();
            engine
                .scan(space, b"", None, &mut |key, value| {
                    found.push(((space, key.to_vec()), value.to_vec()));
                    ControlFlow::Continue(())
                })
                .unwrap();
            let expected = twin.iter().filter(|((of, _), _)| *of == space);
            assert!(expected.map(|(key, value)| (key.clone(), value.clone())).eq(found));
        }
        for ((space, key), value) in &twin {
            assert!(engine.get(*space, key).unwrap().unwrap() == value[..]);
        }
    });
}

fn apply_to_both(engine: &mut impl Engine, twin: &mut Twin, changes: Vec<Change>) {
    let mut batch = Batch::new();
    for (space, key, value) in changes {
        match value {
            Some((byte, size)) => {
                batch.put(space, key.clone(), vec![byte; size]);
                twin.insert((space, key), vec![byte; size]);
            }
            None => {
                batch.delete(space, key.clone());
                twin.remove(&(space, key));
            }
        }
    }
    engine.apply(batch).unwrap();
}
