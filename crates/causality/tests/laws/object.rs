//! However writes travel, the same writes make the same object.

use annulus_causality::{CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version, etag};
use proptest::prelude::*;

use ConflictPolicy::{LastWriteWins, Siblings};

use crate::{context, dot, object, version};

/// A dot names one write: whatever is said of it is a function of it.
fn version_of(dot: Dot) -> Version {
    let stamp = Timestamp {
        millis: dot.counter % 3,
        logical: 0,
    };
    Version::new(format!("{}", dot.counter % 2).into(), None, Vec::new(), stamp, None)
}

/// Any filled object over few dots: each is unknown, superseded, or live.
fn filled() -> impl Strategy<Value = Object> {
    prop::collection::vec(0..3u8, 3 * 4).prop_map(|states| {
        let dots = (0..3).flat_map(|node| (1..=4).map(move |counter| dot(node, counter)));
        let (mut versions, mut context) = (Vec::new(), CausalContext::new());
        for (dot, state) in dots.zip(states) {
            if state > 0 {
                context.insert(dot);
            }
            if state == 2 {
                versions.push((dot, version_of(dot)));
            }
        }
        Object::new(versions, context)
    })
}

/// The join of any number of objects, as a definition.
fn joined_at_once(objects: &[Object]) -> Object {
    let holds = |object: &Object, dot| object.dots().any(|other| other == dot);
    let mut context = CausalContext::new();
    objects.iter().for_each(|object| context.union(object.context()));
    let dots = context
        .open_ranges()
        .flat_map(|(actor, range)| range.map(move |counter| Dot { actor, counter }));
    let live = dots.filter(|dot| {
        objects.iter().any(|object| holds(object, *dot))
            && objects
                .iter()
                .all(|object| holds(object, *dot) || !object.context().contains(*dot))
    });
    Object::new(live.map(|dot| (dot, version_of(dot))).collect(), context)
}

fn join(a: &Object, b: &Object) -> Object {
    a.clone().join(b.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_join_is_commutative_associative_and_idempotent(a in filled(), b in filled(), c in filled()) {
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&join(&a, &b), &b), join(&a, &b));
        prop_assert_eq!(join(&a, &Object::default()), a);
    }

    #[test]
    fn a_version_survives_if_one_holds_it_and_none_covers_it(
        objects in prop::collection::vec(filled(), 1..6), order in any::<prop::sample::Index>(), repeat in any::<prop::sample::Index>(),
    ) {
        let expected = joined_at_once(&objects);
        let mut schedule = objects.clone();
        schedule.rotate_left(order.index(objects.len()));
        schedule.push(objects[repeat.index(objects.len())].clone());
        let joined = schedule.into_iter().reduce(Object::join).unwrap();
        prop_assert_eq!(&joined, &expected);
        for policy in [Siblings, LastWriteWins] {
            prop_assert_eq!(joined.visible(0, policy), expected.visible(0, policy));
        }
        prop_assert_eq!(joined.digest(), expected.digest());
    }

    #[test]
    fn stripped_objects_join_as_filled_ones(a in filled(), b in filled(), more_of_a in filled(), more_of_b in filled()) {
        let clock_of = |object: &Object, more: &Object| {
            let mut clock: CausalContext = object.dots().collect();
            clock.union(&more.context().difference(&object.context().difference(&clock)));
            clock
        };
        let (mine, theirs) = (clock_of(&a, &more_of_a), clock_of(&b, &more_of_b));
        let mut both = mine.clone();
        both.union(&theirs);
        let filled = a.filled(&mine).join(b.filled(&theirs)).strip(&both);
        let stripped = a.strip(&mine).join_stripped(&mine, b.strip(&theirs), &theirs).strip(&both);
        prop_assert_eq!(stripped, filled);
    }

    #[test]
    fn strip_and_fill_undo_each_other(object in filled(), other in filled(), later in filled()) {
        let mut clock: CausalContext = object.dots().collect();
        clock.union(other.context());
        let stored = object.clone().strip(&clock);
        prop_assert!(!stored.context().intersects(&clock));
        prop_assert_eq!(stored.filled(&clock), object.filled(&clock));
        clock.union(later.context());
        prop_assert_eq!(stored.filled(&clock), object.filled(&clock));
    }

    #[test]
    fn a_write_is_a_delta_that_joins_to_itself(known in filled(), seen in prop::option::of(filled()), delete in any::<bool>()) {
        let new = dot(9, 1);
        let seen = seen.as_ref().map(Object::context);
        for policy in [Siblings, LastWriteWins] {
            let delta = known.write(new, (!delete).then(|| version_of(new)), seen, policy);
            prop_assert_eq!(join(&known, &delta), delta.clone());
            prop_assert!(delta.context().contains(new));
            prop_assert!(delta.dots().all(|dot| delta.context().contains(dot)));
            prop_assert!(known.context().is_subset(delta.context()));
            prop_assert!(seen.is_none_or(|seen| seen.is_subset(delta.context())));
            let kept = known.dots().filter(|dot| policy == Siblings && seen.is_some_and(|seen| !seen.contains(*dot)));
            prop_assert!(delta.dots().eq(kept.chain((!delete).then_some(new))));
        }
    }

    #[test]
    fn the_tag_is_equal_where_the_set_of_values_is(a in filled(), b in filled()) {
        let values = |object: &Object| {
            let mut values: Vec<_> = object.versions().iter().map(|(_, version)| version.value.clone()).collect();
            values.sort();
            values.dedup();
            values
        };
        let tag = |object: &Object| etag(&object.visible(0, Siblings));
        prop_assert_eq!(tag(&a) == tag(&b), values(&a) == values(&b));
        prop_assert_eq!(a.visible(0, Siblings).len(), values(&a).len());
        prop_assert_eq!(a.digest() == b.digest(), a.dots().eq(b.dots()));
    }
}

#[test]
fn a_write_without_a_context_replaces_what_is_known() {
    let known = object([(dot(1, 1), version("a", 1)), (dot(2, 1), version("b", 2))]);
    let written = known.write(dot(1, 2), Some(version("c", 3)), None, Siblings);
    assert!(written.dots().eq([dot(1, 2)]));
    assert_eq!(*written.context(), context([dot(1, 1), dot(1, 2), dot(2, 1)]));
}

#[test]
fn a_write_with_a_context_leaves_what_its_client_has_not_seen() {
    let known = object([(dot(1, 1), version("a", 1)), (dot(2, 1), version("b", 2))]);
    let written = known.write(dot(1, 2), Some(version("c", 3)), Some(&context([dot(2, 1)])), Siblings);
    assert!(written.dots().eq([dot(1, 1), dot(1, 2)]));
    let written = known.write(
        dot(1, 2),
        Some(version("c", 3)),
        Some(&context([dot(2, 1)])),
        LastWriteWins,
    );
    assert!(written.dots().eq([dot(1, 2)]));
}

#[test]
fn a_delete_leaves_no_record_once_the_clock_covers_it() {
    let known = object([(dot(1, 1), version("a", 1))]);
    let deleted = known.write(dot(1, 2), None, None, Siblings);
    let behind = context([dot(1, 2)]);
    assert!(!deleted.clone().strip(&behind).is_absent());
    let caught_up = context([dot(1, 1), dot(1, 2)]);
    assert!(deleted.strip(&caught_up).is_absent());
}

#[test]
fn a_deleted_version_does_not_come_back_with_an_old_replica() {
    let clock = context([dot(1, 1), dot(1, 2)]);
    let deleted_here = Object::default().filled(&clock);
    let old = object([(dot(1, 1), version("a", 1))]);
    assert_eq!(deleted_here.join(old).versions(), []);
}

/// A record stripped under a partly known actor, filled under the closed one and the other way round.
#[test]
fn a_closed_actor_is_stripped_and_filled_exactly() {
    let actor = dot(1, 1).actor;
    let mut closed = CausalContext::new();
    closed.close(actor);
    let known = context([dot(1, 1), dot(1, 2)]);
    let stored = Object::new(Vec::new(), closed.clone()).strip(&known);
    assert!(!stored.is_absent());
    assert_eq!(*stored.filled(&known).context(), closed);
    assert!(Object::new(Vec::new(), known).strip(&closed).is_absent());
}

#[test]
fn the_last_write_wins_and_equal_stamps_are_decided_by_the_dot() {
    let known = object([
        (dot(1, 1), version("a", 7)),
        (dot(2, 1), version("b", 7)),
        (dot(3, 1), version("c", 6)),
    ]);
    assert_eq!(known.visible(0, LastWriteWins), [&version("b", 7)]);
    assert_eq!(
        known.visible(0, Siblings),
        [&version("c", 6), &version("b", 7), &version("a", 7)]
            .map(|v| v)
            .to_vec()
    );
}

#[test]
fn an_expired_winner_does_not_bring_an_older_version_back() {
    let expiring = Version::new(
        "b".into(),
        None,
        Vec::new(),
        Timestamp { millis: 2, logical: 0 },
        Some(100),
    );
    let known = object([(dot(1, 1), version("a", 1)), (dot(2, 1), expiring.clone())]);
    assert_eq!(known.visible(99, LastWriteWins), [&expiring]);
    assert!(known.visible(100, LastWriteWins).is_empty());
    assert_eq!(known.visible(100, Siblings), [&version("a", 1)]);
}

/// Why the join does not drop losers: the module's documentation tells the story.
#[test]
fn a_delete_of_the_winner_alone_leaves_the_same_on_replicas_that_heard_of_it_in_another_order() {
    let a = object([(dot(1, 1), version("a", 1))]);
    let b = object([(dot(2, 1), version("b", 2))]);
    let delete = b.write(dot(2, 2), None, None, LastWriteWins);
    let first = join(&join(&a, &b), &delete);
    let second = join(&join(&a, &delete), &b);
    assert_eq!(first, second);
    assert_eq!(first.visible(0, LastWriteWins), [&version("a", 1)]);
}

#[test]
fn versions_equal_in_content_show_once_as_the_oldest() {
    let known = object([
        (dot(1, 1), version("same", 9)),
        (dot(2, 1), version("same", 4)),
        (dot(3, 1), version("x", 5)),
    ]);
    assert_eq!(known.visible(0, Siblings), [&version("same", 4), &version("x", 5)]);
}

#[test]
fn content_is_value_type_and_metadata_but_not_time() {
    let of = |value: &'static str, content_type: Option<&str>, meta: &[(&str, &str)], millis| {
        let meta = meta
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let stamp = Timestamp { millis, logical: 0 };
        Version::new(value.into(), content_type.map(str::to_owned), meta, stamp, Some(millis))
    };
    let base = of("v", Some("t"), &[("a", "1"), ("B", "2")], 1);
    assert_eq!(
        base.content_hash(),
        of("v", Some("t"), &[("b", "2"), ("A", "1")], 2).content_hash()
    );
    let others = [
        of("w", Some("t"), &[("a", "1"), ("b", "2")], 1),
        of("v", None, &[("a", "1"), ("b", "2")], 1),
        of("v", Some(""), &[("a", "1"), ("b", "2")], 1),
        of("v", Some("t"), &[("a", "1b2")], 1),
        of("v", Some("t"), &[("a1", ""), ("b", "2")], 1),
        of("v", Some("t"), &[], 1),
    ];
    for other in others {
        assert_ne!(base.content_hash(), other.content_hash(), "{other:?}");
        assert!(!base.same_content(&other));
    }
}

#[test]
fn the_digest_of_nothing_is_fixed_and_contexts_do_not_matter() {
    let nothing = Object::new(Vec::new(), context([dot(1, 1)]));
    assert_eq!(nothing.digest(), Object::default().digest());
    assert_eq!(nothing.digest(), 0x2d06_8005_38d3_94c2);
    assert_ne!(object([(dot(1, 1), version("a", 1))]).digest(), nothing.digest());
}

#[test]
fn a_policy_is_named_as_in_a_bucket_declaration() {
    use serde::de::{
        IntoDeserializer,
        value::{Error, StrDeserializer},
    };
    let parse = |name: &'static str| {
        let text: StrDeserializer<'_, Error> = name.into_deserializer();
        <ConflictPolicy as serde::Deserialize>::deserialize(text)
    };
    assert_eq!(parse("siblings"), Ok(Siblings));
    assert_eq!(parse("lww"), Ok(LastWriteWins));
    assert!(parse("newest").is_err());
}

#[test]
fn of_two_versions_under_one_dot_the_first_counts() {
    let twice = Object::new(
        vec![
            (dot(2, 1), version("b", 1)),
            (dot(1, 1), version("a", 1)),
            (dot(1, 1), version("z", 1)),
        ],
        CausalContext::new(),
    );
    assert_eq!(
        twice.versions(),
        [(dot(1, 1), version("a", 1)), (dot(2, 1), version("b", 1))]
    );
}
