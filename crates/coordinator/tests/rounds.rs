//! Rounds agree with a naive count of who answered, whatever the order of answers, refusals and absences.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};
use annulus_coordinator::{
    Level, Mode, Participants, Quorum, ReadRound, ReadStep, ReadVerdict, Verdict, WriteRound, WriteStep,
};
use annulus_ring::NodeId;
use proptest::prelude::*;

const ME: NodeId = NodeId(1);

fn nodes(count: u64) -> Vec<NodeId> {
    (1..=count).map(NodeId).collect()
}

fn object(node: u64, counter: u64) -> Object {
    let dot = Dot {
        actor: Actor { node, incarnation: 1 },
        counter,
    };
    let version = Version::new(
        vec![counter as u8].into(),
        None,
        Vec::new(),
        Timestamp {
            millis: counter,
            logical: 0,
        },
        None,
    );
    Object::default().write(
        dot,
        Some(version),
        Some(&CausalContext::new()),
        ConflictPolicy::Siblings,
    )
}

#[derive(Clone, Debug)]
enum Event {
    Answer(usize),
    Fail(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event =
        (any::<bool>(), 0usize..8).prop_map(|(answer, who)| if answer { Event::Answer(who) } else { Event::Fail(who) });
    proptest::collection::vec(event, 0..24)
}

proptest! {
    #[test]
    fn prop_a_quorum_agrees_with_sets_of_names(owners in 1u64..=5, required in 1u8..=5, events in events()) {
        let owners = nodes(owners);
        prop_assume!(usize::from(required) <= owners.len());
        let mut quorum = Quorum::new(&owners, required);
        owners.iter().for_each(|&owner| quorum.ask(owner, owner));
        let (mut answered, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for event in events {
            match event {
                Event::Answer(who) => {
                    let who = NodeId(who as u64 + 1);
                    quorum.answer(who);
                    if owners.contains(&who) && !failed.contains(&who) {
                        answered.insert(who);
                    }
                }
                Event::Fail(who) => {
                    let who = NodeId(who as u64 + 1);
                    quorum.fail(who);
                    if owners.contains(&who) && !answered.contains(&who) {
                        failed.insert(who);
                    }
                }
            }
            let naive = if answered.len() >= usize::from(required) {
                Verdict::Met
            } else if owners.len() - failed.len() < usize::from(required) {
                Verdict::Unreachable
            } else {
                Verdict::Pending
            };
            prop_assert_eq!(quorum.verdict(), naive);
            prop_assert_eq!(usize::from(quorum.answered()), answered.len());
        }
    }

    #[test]
    fn prop_every_owner_that_does_not_answer_is_left_a_hint_or_an_owners_log(
        reachable in proptest::collection::vec(any::<bool>(), 2..=5),
        fallbacks in 0u64..=3,
        sloppy in any::<bool>(),
        me_is_owner in any::<bool>(),
        events in events(),
    ) {
        let me = if me_is_owner { ME } else { NodeId(100) };
        let owners = nodes(reachable.len() as u64);
        let reachable: Vec<bool> =
            owners.iter().zip(&reachable).map(|(&owner, &reachable)| owner == me || (reachable && me_is_owner)).collect();
        let fallbacks: Vec<NodeId> = (0..fallbacks).map(|number| NodeId(200 + number)).collect();
        let who = Participants { me, owners: &owners, reachable: &reachable, fallbacks: &fallbacks };
        let mode = if sloppy { Mode::Sloppy } else { Mode::Strict };
        let mut steps = Vec::new();
        let mut round = WriteRound::start(&who, 1, mode, &mut steps);
        if me_is_owner {
            round.on_answer(me);
        }
        let everybody: Vec<NodeId> = owners.iter().chain(&fallbacks).copied().collect();
        let (mut answered, mut dead) = (BTreeSet::new(), BTreeSet::new());
        for event in events {
            let (Event::Answer(place) | Event::Fail(place)) = &event;
            let node = everybody[place % everybody.len()];
            if node == me || !round.quorum().holds(node) || answered.contains(&node) || dead.contains(&node) {
                continue;
            }
            match event {
                Event::Answer(_) => {
                    answered.insert(node);
                    round.on_answer(node);
                }
                Event::Fail(_) => {
                    dead.insert(node);
                    round.on_failure(node, &mut steps);
                }
            }
        }
        round.on_deadline(&mut steps);
        let mut kept: Vec<NodeId> = Vec::new();
        for step in &steps {
            match *step {
                WriteStep::KeepHint { owner } => kept.push(owner),
                WriteStep::SendHint { to, owner } if answered.contains(&to) => kept.push(owner),
                _ => {}
            }
        }
        kept.sort();
        let without: Vec<NodeId> =
            owners.iter().copied().filter(|&owner| owner != me && !answered.contains(&owner)).collect();
        // The log of an owner that coordinates has it for all others.
        for owner in without.iter().filter(|_| !me_is_owner) {
            prop_assert!(kept.contains(owner), "{owner:?} has no hint: {steps:?}");
        }
        let keeps = steps.iter().any(|step| matches!(step, WriteStep::KeepHint { .. }));
        prop_assert!(!(me_is_owner && keeps), "an owner keeps no hints: {steps:?}");
        kept.dedup();
        prop_assert!(kept.iter().all(|owner| without.contains(owner)), "a hint for one that answered: {steps:?}");
        prop_assert!(mode == Mode::Sloppy || round.quorum().stand_ins() == 0, "a fallback counted in a strict write");
    }

    #[test]
    fn prop_nothing_is_only_concluded_from_enough_owners(
        reachable in proptest::collection::vec(any::<bool>(), 3),
        required in 1u8..=3,
        sloppy in any::<bool>(),
    ) {
        let owners = nodes(3);
        let reachable = [true, reachable[1], reachable[2]];
        let who = Participants { me: ME, owners: &owners, reachable: &reachable, fallbacks: &[NodeId(9)] };
        let mode = if sloppy { Mode::Sloppy } else { Mode::Strict };
        let mut steps = Vec::new();
        let mut round = ReadRound::start(&who, required, mode, ConflictPolicy::Siblings, Some(Object::default()), CausalContext::new(), &mut steps);
        let mut answered = 1;
        while let Some(step) = steps.pop() {
            match step {
                ReadStep::Ask { owner } => {
                    prop_assert!(reachable[owner.0 as usize - 1], "asked one that cannot be reached");
                    answered += 1;
                    round.on_same(owner, &mut steps);
                }
                ReadStep::AskHints { fallback } => round.on_hints(fallback, Object::default(), &mut steps),
                ReadStep::AskWhole { owner } => prop_assert!(false, "{owner} said all there is to say"),
            }
        }
        let expected = if answered >= required { ReadVerdict::Met } else { ReadVerdict::Unreachable };
        prop_assert_eq!(round.verdict(0), expected);
    }
}

#[test]
fn a_level_that_n_cannot_meet_is_none() {
    assert_eq!(Level::Quorum.required(3), Some(2));
    assert_eq!(Level::Quorum.required(4), Some(3));
    assert_eq!(Level::All.required(2), Some(2));
    assert_eq!(Level::Count(0).required(3), None);
    assert_eq!(Level::Count(4).required(3), None);
}

#[test]
fn a_write_that_cannot_be_met_is_unreachable_before_anything_is_sent() {
    let owners = nodes(3);
    let who = Participants {
        me: ME,
        owners: &owners,
        reachable: &[true, false, false],
        fallbacks: &[],
    };
    let round = WriteRound::start(&who, 2, Mode::Sloppy, &mut Vec::new());
    assert_eq!(round.verdict(), Verdict::Unreachable);
}

#[test]
fn a_fallback_stands_in_for_an_owner_that_goes_away_while_it_is_asked() {
    let owners = nodes(3);
    let fallback = NodeId(4);
    let who = Participants {
        me: ME,
        owners: &owners,
        reachable: &[true, true, true],
        fallbacks: &[fallback],
    };
    let mut steps = Vec::new();
    let mut round = WriteRound::start(&who, 3, Mode::Sloppy, &mut steps);
    round.on_answer(ME);
    round.on_answer(NodeId(2));
    steps.clear();
    round.on_failure(NodeId(3), &mut steps);
    assert_eq!(
        steps,
        [WriteStep::SendHint {
            to: fallback,
            owner: NodeId(3)
        }]
    );
    assert_eq!(round.verdict(), Verdict::Pending);
    round.on_answer(fallback);
    assert_eq!((round.verdict(), round.quorum().stand_ins()), (Verdict::Met, 1));
}

#[test]
fn a_replica_with_nothing_is_as_stale_as_any() {
    let owners = nodes(3);
    let who = Participants {
        me: ME,
        owners: &owners,
        reachable: &[true, true, true],
        fallbacks: &[],
    };
    let mut steps = Vec::new();
    let mut round = ReadRound::start(
        &who,
        3,
        Mode::Strict,
        ConflictPolicy::Siblings,
        Some(Object::default()),
        CausalContext::new(),
        &mut steps,
    );
    steps.clear();
    round.on_same(NodeId(2), &mut steps);
    round.on_object(NodeId(3), object(3, 1), &mut steps);
    assert_eq!(steps, [ReadStep::AskWhole { owner: NodeId(2) }]);
    round.on_object(NodeId(2), Object::default(), &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Met);
    assert_eq!(round.stale(), [ME, NodeId(2)]);
}

#[test]
fn an_owner_that_saw_a_delete_is_heard_though_it_holds_the_same_as_one_that_saw_nothing() {
    let owners = nodes(3);
    let who = Participants {
        me: ME,
        owners: &owners,
        reachable: &[true, true, true],
        fallbacks: &[],
    };
    let mut steps = Vec::new();
    let nothing = Some(Object::default());
    let mut round = ReadRound::start(
        &who,
        3,
        Mode::Strict,
        ConflictPolicy::Siblings,
        nothing,
        CausalContext::new(),
        &mut steps,
    );
    let old = object(3, 1);
    let seen: CausalContext = old.dots().collect();
    round.on_same(NodeId(2), &mut steps);
    round.on_object(NodeId(3), old, &mut steps);
    assert_eq!(
        round.verdict(0),
        ReadVerdict::Pending,
        "2 has said nothing yet of what 3 holds"
    );
    round.on_object(NodeId(2), Object::new(Vec::new(), seen), &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Met);
    assert_eq!(round.merged().versions(), []);
    assert_eq!(round.stale(), [NodeId(3)]);
}

#[test]
fn a_slow_owner_has_a_spare_asked_beside_it() {
    let owners = nodes(3);
    let who = Participants {
        me: ME,
        owners: &owners,
        reachable: &[true, true, true],
        fallbacks: &[],
    };
    let mut steps = Vec::new();
    let mut round = ReadRound::start(
        &who,
        2,
        Mode::Strict,
        ConflictPolicy::Siblings,
        Some(object(1, 1)),
        CausalContext::new(),
        &mut steps,
    );
    assert_eq!(steps, [ReadStep::Ask { owner: NodeId(2) }]);
    steps.clear();
    round.on_slow(&mut steps);
    assert_eq!(steps, [ReadStep::Ask { owner: NodeId(3) }]);
    round.on_same(NodeId(3), &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Met);
}

#[test]
fn a_sloppy_read_with_one_owner_left_says_what_it_and_the_hints_know() {
    let owners = nodes(3);
    let who = Participants {
        me: ME,
        owners: &owners,
        reachable: &[true, false, false],
        fallbacks: &[NodeId(4), NodeId(5)],
    };
    let mut steps = Vec::new();
    let mut round = ReadRound::start(
        &who,
        2,
        Mode::Sloppy,
        ConflictPolicy::Siblings,
        Some(Object::default()),
        CausalContext::new(),
        &mut steps,
    );
    assert_eq!(steps.len(), 2);
    assert_eq!(round.verdict(0), ReadVerdict::Pending);
    round.on_hints(NodeId(4), object(4, 1), &mut steps);
    round.on_hints(NodeId(5), Object::default(), &mut steps);
    assert_eq!(round.verdict(0), ReadVerdict::Thin);
    assert_eq!(round.merged().versions().len(), 1);
}
