//! A session's read is answered by what covers the session, and a session's token brings back what was put into it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, TokenError, TokenKey, Version};
use annulus_coordinator::{MAX_SESSION_BYTES, Mode, Participants, ReadRound, ReadStep, ReadVerdict, Session};
use annulus_ring::{NodeId, PartitionId};
use proptest::collection::vec;
use proptest::prelude::*;

const ME: NodeId = NodeId(1);
const OWNERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const FALLBACKS: [NodeId; 4] = [NodeId(4), NodeId(5), NodeId(6), NodeId(7)];

fn dot(counter: u64) -> Dot {
    Dot::new(
        Actor {
            node: 9,
            incarnation: 1,
        },
        counter,
    )
}

/// What somebody knows who has incorporated these writes, of which the last one replaced all others.
fn after(counters: &[u64]) -> Object {
    let context = counters.iter().copied().map(dot).collect();
    let version = |counter: &u64| {
        let value = counter.to_string().into_bytes().into();
        (
            dot(*counter),
            Version::new(value, None, Vec::new(), Timestamp::default(), None),
        )
    };
    Object::new(counters.last().map(version).into_iter().collect(), context)
}

fn seen(counters: &[u64]) -> CausalContext {
    counters.iter().copied().map(dot).collect()
}

fn who(reachable: &[bool; 3]) -> Participants<'_> {
    Participants {
        me: ME,
        owners: &OWNERS,
        reachable,
        fallbacks: &FALLBACKS,
    }
}

/// A sloppy read of one owner, which knows these writes itself.
fn read(known: &[u64], seen: CausalContext, steps: &mut Vec<ReadStep>) -> ReadRound {
    let local = Some(after(known));
    let policy = ConflictPolicy::Siblings;
    ReadRound::start(&who(&[true; 3]), 1, Mode::Sloppy, policy, local, seen, steps)
}

#[test]
fn an_owner_that_knows_what_the_session_has_seen_answers_alone() {
    let mut steps = Vec::new();
    let round = read(&[1, 2], seen(&[1]), &mut steps);
    assert_eq!((round.verdict(0), &steps[..]), (ReadVerdict::Met, &[][..]));
}

#[test]
fn an_owner_that_is_behind_asks_all_others_for_all_they_know() {
    let mut steps = Vec::new();
    let mut round = read(&[1], seen(&[1, 2]), &mut steps);
    let [two, three] = [OWNERS[1], OWNERS[2]].map(|owner| ReadStep::AskWhole { owner });
    assert_eq!((round.verdict(0), &steps[..]), (ReadVerdict::Behind, &[two, three][..]));
    assert_eq!(round.missing(), seen(&[2]));
    round.on_object(OWNERS[1], after(&[1]), &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Behind);
    round.on_object(OWNERS[2], after(&[1, 2]), &mut steps);
    assert_eq!((round.verdict(0), round.merged()), (ReadVerdict::Met, &after(&[1, 2])));
    assert_eq!(round.stale(), [ME, OWNERS[1]], "who was behind is repaired");
}

#[test]
fn a_delete_that_the_session_has_seen_is_waited_for_though_it_left_nothing() {
    let mut steps = Vec::new();
    let mut round = read(&[1], seen(&[1, 2]), &mut steps);
    round.on_object(OWNERS[1], Object::new(Vec::new(), seen(&[1, 2])), &mut steps);
    assert_eq!(
        (round.verdict(0), round.merged().versions()),
        (ReadVerdict::Met, &[][..])
    );
}

#[test]
fn whoever_has_answered_is_asked_again_and_whoever_has_not_is_not() {
    let mut steps = Vec::new();
    let mut round = read(&[1], seen(&[2]), &mut steps);
    round.on_object(OWNERS[1], after(&[1]), &mut steps);
    steps.clear();
    round.ask_again(&who(&[true; 3]), Some(after(&[1])), &mut steps);
    let hints = FALLBACKS[..3].iter().map(|&fallback| ReadStep::AskHints { fallback });
    let expected: Vec<ReadStep> = [ReadStep::AskWhole { owner: OWNERS[1] }]
        .into_iter()
        .chain(hints)
        .collect();
    assert_eq!(
        steps, expected,
        "3 owes an answer still, and no more fallbacks than owners are asked"
    );
    steps.clear();
    round.ask_again(&who(&[true; 3]), Some(after(&[1])), &mut steps);
    assert_eq!(steps, [], "all of them owe an answer");

    round.on_hints(FALLBACKS[2], after(&[1, 2]), &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Met);
    assert_eq!(
        (steps, round.quorum().answered()),
        (Vec::new(), 2),
        "hints count for nothing"
    );
}

#[test]
fn what_the_owner_itself_has_got_by_then_ends_the_waiting() {
    let mut steps = Vec::new();
    let mut round = read(&[1], seen(&[2]), &mut steps);
    round.on_failure(OWNERS[1], &mut steps);
    round.on_failure(OWNERS[2], &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Behind);
    steps.clear();
    round.ask_again(&who(&[true, false, false]), Some(after(&[1, 2])), &mut steps);
    assert_eq!((round.verdict(0), steps), (ReadVerdict::Met, Vec::new()));
}

#[test]
fn an_owner_that_was_away_is_asked_once_it_is_back() {
    let mut steps = Vec::new();
    let local = Some(after(&[1]));
    let policy = ConflictPolicy::Siblings;
    let away = [true, false, false];
    let mut round = ReadRound::start(&who(&away), 1, Mode::Strict, policy, local, seen(&[2]), &mut steps);
    assert_eq!((round.verdict(0), &steps[..]), (ReadVerdict::Behind, &[][..]));
    round.ask_again(&who(&[true, false, true]), None, &mut steps);
    assert_eq!(steps, [ReadStep::AskWhole { owner: OWNERS[2] }]);
    round.on_object(OWNERS[2], after(&[2]), &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Met);
}

const KEY: TokenKey = TokenKey::new([7; 32]);

fn partition() -> impl Strategy<Value = PartitionId> {
    (1u8..=3, 0u32..40).prop_map(|(n, index)| PartitionId { n, index })
}

fn context() -> impl Strategy<Value = CausalContext> {
    let range = (1u64..4, 1u64..3, 1u64..50, 0u64..9);
    vec(range, 0..6).prop_map(|ranges| {
        let mut context = CausalContext::new();
        for (node, incarnation, start, length) in ranges {
            context.insert_range(Actor { node, incarnation }, start..=start + length);
        }
        context
    })
}

/// Partitions that fit in any case, where four nodes have written to each.
const FIT: usize = 110;

proptest! {
    #[test]
    fn prop_a_session_is_a_map_of_sets_that_any_node_can_open(added in vec((partition(), context()), 0..60)) {
        let mut session = Session::default();
        let mut naive: BTreeMap<PartitionId, CausalContext> = BTreeMap::new();
        for (partition, seen) in &added {
            session.add(*partition, seen);
            naive.entry(*partition).or_default().union(seen);
            let (token, left_out) = session.seal(&KEY);
            prop_assert_eq!((Session::open(&KEY, &token), left_out), (Ok(session.clone()), 0));
        }
        for (partition, seen) in naive {
            prop_assert_eq!(session.seen(partition), seen);
        }
    }

    #[test]
    fn prop_a_token_stays_within_its_bound_and_keeps_what_was_used_last(
        count in 1u32..700,
        actors in 1u64..5,
        again in vec(0u32..700, 0..20),
    ) {
        let mut session = Session::default();
        let seen = |index: u32| -> CausalContext {
            let dots = (1..=actors).map(|node| {
                let actor = Actor { node: u64::MAX / node, incarnation: 1 << 20 };
                Dot::new(actor, 300 + u64::from(index))
            });
            dots.collect()
        };
        let mut recent: Vec<u32> = Vec::new();
        for index in (0..count).chain(again) {
            session.add(PartitionId { n: 3, index }, &seen(index));
            recent.retain(|other| *other != index);
            recent.insert(0, index);
        }
        let (token, left_out) = session.seal(&KEY);
        prop_assert!(token.len() <= MAX_SESSION_BYTES);
        let opened = Session::open(&KEY, &token).unwrap();
        let is_kept = |index: &u32| match opened.seen(PartitionId { n: 3, index: *index }) {
            kept if kept == seen(*index) => true,
            lost => {
                assert!(lost.is_empty(), "a partition is kept as a whole");
                false
            }
        };
        prop_assert!(recent.iter().take(FIT).all(is_kept));
        prop_assert_eq!(recent.iter().filter(|&index| !is_kept(index)).count(), left_out);
    }

    #[test]
    fn prop_any_content_is_opened_or_refused(content in vec(any::<u8>(), 0..64)) {
        let token = KEY.seal_bytes(b"\0session", &content);
        if let Ok(session) = Session::open(&KEY, &token) {
            prop_assert_eq!(session.seal(&KEY).0, token);
        }
    }

    #[test]
    fn prop_any_text_is_a_session_of_this_cluster_or_is_refused(text in "[A-Za-z0-9_-]{0,200}") {
        prop_assert!(Session::open(&KEY, &text).is_err());
    }
}

#[test]
fn a_context_is_no_session_and_a_session_no_context() {
    let mut session = Session::default();
    session.add(PartitionId { n: 3, index: 1 }, &seen(&[1]));
    let (token, _) = session.seal(&KEY);
    assert_eq!(KEY.open(b"b\0k", &token), Err(TokenError::Forged));
    let context = KEY.seal(b"b\0k", &seen(&[1]));
    assert_eq!(Session::open(&KEY, &context), Err(TokenError::Forged));
    assert_eq!(Session::open(&TokenKey::new([8; 32]), &token), Err(TokenError::Forged));
}

#[test]
fn a_partition_that_alone_is_too_large_is_left_out_and_the_others_stay() {
    let mut session = Session::default();
    session.add(PartitionId { n: 3, index: 1 }, &seen(&[5]));
    let gaps: Vec<u64> = (1..20_000).map(|counter| 2 * counter).collect();
    session.add(PartitionId { n: 3, index: 2 }, &seen(&gaps));
    let (token, left_out) = session.seal(&KEY);
    let opened = Session::open(&KEY, &token).unwrap();
    assert_eq!((left_out, opened.seen(PartitionId { n: 3, index: 1 })), (1, seen(&[5])));
}
