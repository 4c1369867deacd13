//! A causal context does what a plain set of dots does.

use std::collections::BTreeSet;

use annulus_causality::{Actor, CausalContext, Dot};
use proptest::prelude::*;

use crate::{actor, context, dot};

const LAST: u64 = u64::MAX;
/// Where ranges may begin and end.
const ENDPOINTS: [u64; 17] = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    1000,
    LAST - 3,
    LAST - 2,
    LAST - 1,
    LAST,
];
/// One counter for each stretch between endpoints: with it in or out, so is the whole stretch. With these the twin knows
/// every counter there is.
const BETWEEN: [u64; 2] = [500, 1 << 40];

fn points() -> impl Iterator<Item = u64> {
    ENDPOINTS.into_iter().chain(BETWEEN)
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Actor, u64),
    InsertRange(Actor, u64, u64),
    Close(Actor),
}

fn step() -> impl Strategy<Value = Step> {
    let endpoint = || prop::sample::select(&ENDPOINTS[..]);
    prop_oneof![
        6 => (actor(), endpoint()).prop_map(|(actor, counter)| Step::Insert(actor, counter)),
        4 => (actor(), endpoint(), endpoint()).prop_map(|(actor, start, end)| Step::InsertRange(actor, start, end)),
        1 => actor().prop_map(Step::Close),
    ]
}

type Twin = BTreeSet<Dot>;

fn both() -> impl Strategy<Value = (CausalContext, Twin)> {
    prop::collection::vec(step(), 0..24).prop_map(|steps| {
        let (mut context, mut twin) = (CausalContext::new(), Twin::new());
        for step in steps {
            let (actor, start, end) = match step {
                Step::Insert(actor, counter) => {
                    assert_eq!(
                        context.insert(Dot { actor, counter }),
                        !twin.contains(&Dot { actor, counter })
                    );
                    (actor, counter, counter)
                }
                Step::InsertRange(actor, start, end) => {
                    context.insert_range(actor, start..=end);
                    (actor, start, end)
                }
                Step::Close(actor) => {
                    context.close(actor);
                    (actor, 1, LAST)
                }
            };
            twin.extend(
                points()
                    .filter(|point| (start..=end).contains(point))
                    .map(|counter| Dot { actor, counter }),
            );
        }
        (context, twin)
    })
}

fn all_dots() -> impl Iterator<Item = Dot> {
    let ids = [0, 1, 2, LAST];
    let actors = ids
        .into_iter()
        .flat_map(move |node| ids.into_iter().map(move |incarnation| Actor { node, incarnation }));
    actors.flat_map(|actor| points().map(move |counter| Dot { actor, counter }))
}

fn twin_of(context: &CausalContext) -> Twin {
    all_dots().filter(|dot| context.contains(*dot)).collect()
}

/// Rebuilding a set from its dots in another order must give the same value, or `==` would not be equality of sets.
fn assert_canonical(context: &CausalContext) {
    let ranges: Vec<_> = context.iter_ranges().collect();
    for pair in ranges.windows(2) {
        let ((actor, range), (next_actor, next)) = (&pair[0], &pair[1]);
        assert!(
            actor < next_actor || (actor == next_actor && range.end() + 1 < *next.start()),
            "{context}"
        );
    }
    let mut rebuilt = CausalContext::new();
    for (actor, range) in ranges.into_iter().rev() {
        rebuilt.insert_range(actor, range);
    }
    assert_eq!(&rebuilt, context);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_context_agrees_with_a_plain_set((context, twin) in both()) {
        prop_assert_eq!(twin_of(&context), twin.clone());
        prop_assert_eq!(context.is_empty(), twin.is_empty());
        assert_canonical(&context);
        for actor in all_dots().map(|dot| dot.actor) {
            let counters = || twin.iter().filter(|dot| dot.actor == actor).map(|dot| dot.counter);
            prop_assert_eq!(context.max_counter(actor), counters().max().unwrap_or(0));
            prop_assert_eq!(context.is_closed(actor), counters().count() == points().count());
            prop_assert!(!context.contains(Dot::new(actor, 0)));
        }
        prop_assert!(context.actors().eq(twin.iter().map(|dot| dot.actor).collect::<BTreeSet<_>>()));
    }

    #[test]
    fn two_contexts_combine_as_plain_sets_do((a, twin_a) in both(), (b, twin_b) in both()) {
        let mut union = a.clone();
        union.union(&b);
        prop_assert_eq!(twin_of(&union), &twin_a | &twin_b);
        let difference = a.difference(&b);
        prop_assert_eq!(twin_of(&difference), &twin_a - &twin_b);
        prop_assert_eq!(a.intersects(&b), !twin_a.is_disjoint(&twin_b));
        prop_assert_eq!(a.is_subset(&b), twin_a.is_subset(&twin_b));
        prop_assert_eq!(a == b, twin_a == twin_b);
        assert_canonical(&union);
        assert_canonical(&difference);
    }

    #[test]
    fn what_was_taken_away_can_be_put_back((a, _) in both(), (b, _) in both()) {
        let mut again = a.difference(&b);
        again.union(&b);
        let mut union = a.clone();
        union.union(&b);
        prop_assert_eq!(again, union);
    }
}

#[test]
fn the_order_of_insertion_leaves_no_trace() {
    let forwards: CausalContext = (1..=6).map(|counter| dot(1, counter)).collect();
    let backwards: CausalContext = (1..=6).rev().map(|counter| dot(1, counter)).collect();
    assert_eq!(forwards, backwards);
}

#[test]
fn an_actor_of_which_every_counter_is_in_the_set_is_closed() {
    let actor = dot(1, 1).actor;
    let mut set = context([dot(1, 1), dot(1, LAST)]);
    assert!(!set.is_closed(actor));
    set.insert_range(actor, 2..=LAST - 1);
    assert!(set.is_closed(actor));
    assert!(!set.insert(dot(1, 77)));
}

#[test]
fn counter_zero_and_empty_ranges_add_nothing() {
    let mut set = CausalContext::new();
    assert!(!set.insert(dot(1, 0)));
    set.insert_range(dot(1, 1).actor, 0..=0);
    #[allow(clippy::reversed_empty_ranges)]
    set.insert_range(dot(1, 1).actor, 5..=4);
    assert!(set.is_empty());
    assert_eq!(set, CausalContext::new());
}

#[test]
fn a_context_prints_as_its_ranges() {
    let mut set = context([dot(0x7f, 1), dot(0x7f, 2), dot(0x7f, 9)]);
    set.close(dot(3, 1).actor);
    assert_eq!(set.to_string(), "{3.1: closed, 7f.1: 1-2 9}");
}

#[test]
fn hostile_contexts_of_many_ranges_are_united_in_one_pass() {
    let spread = |first: u64| {
        let mut set = CausalContext::new();
        for step in 0..50_000 {
            set.insert(dot(1, first + 4 * step));
        }
        set
    };
    let mut union = spread(2);
    union.union(&spread(4));
    assert_eq!(union.iter_ranges().count(), 100_000);
    assert_eq!(union.difference(&spread(4)), spread(2));
}
