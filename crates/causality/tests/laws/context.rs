//! A causal context does what a plain set of dots does.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use annulus_causality::{Actor, CausalContext, Dot, Reader};
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

const NODES: [u64; 4] = [0, 1, 2, LAST];
/// Every incarnation that is named, and one between for all that are not: those are only closed together.
const INCARNATIONS: [u64; 7] = [0, 1, 2, 3, 1 << 40, LAST - 1, LAST];
/// Below which they are closed.
const BOUNDS: [u64; 6] = [0, 1, 2, 3, LAST - 1, LAST];

fn points() -> impl Iterator<Item = u64> {
    ENDPOINTS.into_iter().chain(BETWEEN)
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Actor, u64),
    InsertRange(Actor, u64, u64),
    Close(Actor),
    CloseBelow(Actor),
}

fn step() -> impl Strategy<Value = Step> {
    let endpoint = || prop::sample::select(&ENDPOINTS[..]);
    prop_oneof![
        6 => (actor(), endpoint()).prop_map(|(actor, counter)| Step::Insert(actor, counter)),
        4 => (actor(), endpoint(), endpoint()).prop_map(|(actor, start, end)| Step::InsertRange(actor, start, end)),
        1 => actor().prop_map(Step::Close),
        1 => (actor(), prop::sample::select(&BOUNDS[..]))
            .prop_map(|(actor, incarnation)| Step::CloseBelow(Actor { incarnation, ..actor })),
    ]
}

type Twin = BTreeSet<Dot>;

/// All dots of the actors, whose counters are in the range.
fn of(actors: impl Fn(Actor) -> bool, counters: RangeInclusive<u64>) -> impl Iterator<Item = Dot> {
    all_dots().filter(move |dot| actors(dot.actor) && counters.contains(&dot.counter))
}

fn is_before(actor: Actor, bound: Actor) -> bool {
    actor.node == bound.node && actor.incarnation < bound.incarnation
}

fn both() -> impl Strategy<Value = (CausalContext, Twin)> {
    prop::collection::vec(step(), 0..24).prop_map(|steps| {
        let (mut context, mut twin) = (CausalContext::new(), Twin::new());
        for step in steps {
            match step {
                Step::Insert(actor, counter) => {
                    let dot = Dot { actor, counter };
                    assert_eq!(context.insert(dot), twin.insert(dot));
                }
                Step::InsertRange(actor, start, end) => {
                    context.insert_range(actor, start..=end);
                    twin.extend(of(|other| other == actor, start..=end));
                }
                Step::Close(actor) => {
                    context.close(actor);
                    twin.extend(of(|other| other == actor, 1..=LAST));
                }
                Step::CloseBelow(bound) => {
                    context.close_below(bound.node, bound.incarnation);
                    twin.extend(of(|other| is_before(other, bound), 1..=LAST));
                }
            }
        }
        (context, twin)
    })
}

fn all_actors() -> impl Iterator<Item = Actor> {
    let of_node = |node| INCARNATIONS.map(|incarnation| Actor { node, incarnation });
    NODES.into_iter().flat_map(of_node)
}

fn all_dots() -> impl Iterator<Item = Dot> {
    all_actors().flat_map(|actor| points().map(move |counter| Dot { actor, counter }))
}

fn twin_of(context: &CausalContext) -> Twin {
    all_dots().filter(|dot| context.contains(*dot)).collect()
}

/// Rebuilding a set from its spans in another order must give the same value, or `==` would not be equality of sets.
fn assert_canonical(context: &CausalContext) {
    let spans: Vec<_> = context.spans().collect();
    for span in &spans {
        assert!(span.is_closed() || span.incarnations.start() == span.incarnations.end());
    }
    for pair in spans.windows(2) {
        let (last, next) = (*pair[0].dots().end(), *pair[1].dots().start());
        assert!(last < next, "{context}");
        let touch = match pair[0].is_closed() && pair[1].is_closed() {
            true => last.actor.node == next.actor.node && last.actor.incarnation + 1 == next.actor.incarnation,
            false => last.actor == next.actor && last.counter + 1 == next.counter,
        };
        assert!(!touch, "{context}");
    }
    let mut rebuilt = CausalContext::new();
    for span in spans.iter().rev() {
        if span.is_closed() {
            rebuilt.union(&closed(span.node, span.incarnations.clone()));
        } else {
            rebuilt.insert_range(span.dots().start().actor, span.counters.clone());
        }
    }
    assert_eq!(&rebuilt, context);
}

fn closed(node: u64, incarnations: RangeInclusive<u64>) -> CausalContext {
    let (first, last) = incarnations.into_inner();
    let mut set = CausalContext::new();
    set.close_below(node, last);
    let incarnation = last;
    set.close(Actor { node, incarnation });
    set.difference(&set.before(node, first))
}

fn encoded(context: &CausalContext) -> Vec<u8> {
    let mut out = Vec::new();
    context.encode(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_context_agrees_with_a_plain_set((context, twin) in both()) {
        prop_assert_eq!(twin_of(&context), twin.clone());
        prop_assert_eq!(context.is_empty(), twin.is_empty());
        assert_canonical(&context);
        for actor in all_actors() {
            let counters = || twin.iter().filter(|dot| dot.actor == actor).map(|dot| dot.counter);
            prop_assert_eq!(context.max_counter(actor), counters().max().unwrap_or(0));
            let is_closed = counters().count() == points().count();
            prop_assert_eq!(context.is_closed(actor), is_closed);
            let open: Vec<_> = context.open_ranges().filter(|(open, _)| *open == actor).map(|(_, range)| range).collect();
            let ranges: Vec<_> = context.ranges_of(actor).collect();
            prop_assert_eq!(ranges, if is_closed { vec![1..=LAST] } else { open });
            prop_assert!(!context.contains(Dot::new(actor, 0)));
        }
        prop_assert!(context.nodes().eq(twin.iter().map(|dot| dot.actor.node).collect::<BTreeSet<_>>()));
    }

    #[test]
    fn what_is_before_an_incarnation_is_a_part_of_the_set((context, twin) in both(), node in actor()) {
        for incarnation in INCARNATIONS {
            let bound = Actor { incarnation, ..node };
            let before = context.before(bound.node, bound.incarnation);
            prop_assert_eq!(twin_of(&before), twin.iter().copied().filter(|dot| is_before(dot.actor, bound)).collect::<Twin>());
            assert_canonical(&before);
        }
    }

    #[test]
    fn a_context_is_read_as_it_was_written((context, _) in both()) {
        let bytes = encoded(&context);
        let mut reader = Reader::new(bytes.into());
        prop_assert_eq!(CausalContext::decode(&mut reader), Ok(context));
        prop_assert!(reader.is_empty());
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
fn closing_below_incarnation_zero_adds_nothing() {
    let mut set = CausalContext::new();
    set.close_below(1, 0);
    assert_eq!(set, CausalContext::new());
    assert!(set.before(1, 0).is_empty());
}

#[test]
fn incarnations_closed_one_by_one_are_those_closed_at_once() {
    let mut one_by_one = context([dot(1, 1), dot(1, 3)]);
    let mut at_once = one_by_one.clone();
    for incarnation in [3, 0, 2, 1] {
        one_by_one.close(Actor { node: 1, incarnation });
    }
    at_once.close_below(1, 4);
    assert_eq!(one_by_one, at_once);
    assert_eq!(at_once.spans().count(), 1);
}

#[test]
fn partial_actors_leave_a_closed_span_in_pieces() {
    let mut all = CausalContext::new();
    all.close_below(1, 5);
    let known = context([dot(1, 2), dot(1, 3)]);
    let rest = all.difference(&known);
    assert_eq!(
        rest.to_string(),
        "{1.0: closed, 1.1: 1 4-18446744073709551615, 1.2-4: closed}"
    );
    let mut again = rest.clone();
    again.union(&known);
    assert_eq!(again, all);
}

#[test]
fn a_context_prints_as_its_ranges() {
    let mut set = context([dot(0x7f, 1), dot(0x7f, 2), dot(0x7f, 9)]);
    set.close(dot(3, 1).actor);
    set.close_below(8, 42);
    assert_eq!(set.to_string(), "{3.1: closed, 8.0-41: closed, 7f.1: 1-2 9}");
}

/// As a node takes them: a step up, and at random within it.
fn next_incarnation(last: u64) -> u64 {
    let random = last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    (((last >> 20) + 1) << 20) | random
}

#[test]
fn a_thousand_restarts_of_each_node_leave_a_small_clock() {
    let nodes: Vec<u64> = (1..=5u64)
        .map(|node| node.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect();
    let (mut behind, mut all) = (CausalContext::new(), CausalContext::new());
    let mut current = Vec::new();
    for &node in &nodes {
        let mut incarnation = next_incarnation(node >> 44);
        for _ in 0..1_000 {
            let actor = Actor { node, incarnation };
            // A gap that a crash left.
            behind.insert_range(actor, 1..=700);
            behind.insert(Dot::new(actor, 702));
            all.insert_range(actor, 2..=800);
            incarnation = next_incarnation(incarnation);
        }
        let actor = Actor { node, incarnation };
        behind.insert_range(actor, 1..=90_000);
        current.push(actor);
    }
    let mut clock = behind.clone();
    clock.union(&all);
    for actor in &current {
        clock.close_below(actor.node, actor.incarnation);
    }

    let bytes = encoded(&clock);
    assert!(bytes.len() < 200, "{} bytes", bytes.len());
    assert_eq!(CausalContext::decode(&mut Reader::new(bytes.into())), Ok(clock.clone()));
    assert!(behind.is_subset(&clock));
    for known in [&behind, &all] {
        let mut again = clock.difference(known);
        assert!(!again.intersects(known));
        again.union(known);
        assert_eq!(again, clock);
    }
    for actor in &current {
        assert_eq!(clock.max_counter(*actor), 90_000);
        assert_eq!(clock.before(actor.node, actor.incarnation).spans().count(), 1);
        assert_eq!(behind.before(actor.node, actor.incarnation).spans().count(), 2_000);
    }
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
    assert_eq!(union.spans().count(), 100_000);
    assert_eq!(union.difference(&spread(4)), spread(2));
}
