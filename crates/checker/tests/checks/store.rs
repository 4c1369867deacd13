//! A store that is right by construction: each operation happens at one moment between its start and its end, on a map. Whatever its
//! clients do, no promise is broken.

use std::collections::BTreeMap;

use annulus_checker::{
    Action, Bucket, Conflicts, Final, History, Operation, Outcome, Promises, Record, Replaces, check_with,
};
use proptest::collection::vec;
use proptest::prelude::*;

const BUCKETS: [(&str, Conflicts, Option<u64>); 4] = [
    ("plain", Conflicts::Siblings, None),
    ("lww", Conflicts::Lww, None),
    ("ttl", Conflicts::Siblings, Some(3)),
    ("both", Conflicts::Lww, Some(3)),
];
const KEYS: usize = 2;
const TICK_US: u64 = 100;
const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What a client does, and what becomes of it; each operation happens a little after the one before.
#[derive(Clone, Debug)]
struct Move {
    key: usize,
    node: usize,
    /// Out of 10: below 5 a PUT, 5 a DELETE, a read from there on.
    kind: u8,
    /// Which of the sights that were had by then gives the context; none, and none is sent.
    context: Option<usize>,
    /// Ticks since the one before, ticks from its start on, ticks to its end.
    times: (u64, u64, u64),
    /// Out of 10: 0 fails with nothing done, 1 and 2 with nobody knowing, 3 gets no answer.
    fate: u8,
    /// Whether an operation of which nobody knows was done.
    is_done: bool,
    strict: bool,
    answered: u8,
    fallbacks: u8,
    durable: bool,
}

fn step() -> impl Strategy<Value = Move> {
    let what = (
        0..BUCKETS.len() * KEYS,
        0..3usize,
        0..10u8,
        proptest::option::weighted(0.6, 0..6usize),
    );
    let when = (0..6u64, 0..12u64, 0..12u64);
    let then = (0..10u8, any::<bool>(), any::<bool>(), 0..=3u8, 0..=1u8, any::<bool>());
    (what, when, then).prop_map(|((key, node, kind, context), times, then)| {
        let (fate, is_done, strict, answered, fallbacks, durable) = then;
        Move {
            key,
            node,
            kind,
            context,
            times,
            fate,
            is_done,
            strict,
            answered,
            fallbacks: fallbacks.min(answered),
            durable,
        }
    })
}

/// What a key holds, with the moment each value expires.
type Values = Vec<(u64, u64)>;

#[derive(Default)]
struct Store {
    history: History,
    now: u64,
    keys: BTreeMap<String, Values>,
    /// By key, when each answer was had and what it showed.
    sights: BTreeMap<String, Vec<(u64, Vec<u64>)>>,
}

impl Store {
    fn new() -> Store {
        let mut store = Store::default();
        for (name, conflicts, ttl_ms) in BUCKETS {
            let name = name.to_owned();
            store.history.push(Record::Bucket(Bucket {
                name,
                conflicts,
                ttl_ms,
            }));
        }
        store
    }

    fn shown(&self, key: &str) -> Vec<u64> {
        let values = self.keys.get(key).into_iter().flatten();
        values
            .filter(|&&(_, until)| self.now < until)
            .map(|&(value, _)| value)
            .collect()
    }

    fn play(&mut self, step: &Move) {
        let (name, conflicts, ttl_ms) = BUCKETS[step.key % BUCKETS.len()];
        let key = format!("{name}/{}", step.key / BUCKETS.len());
        self.now += step.times.0 * TICK_US;
        let start_us = self.now.saturating_sub(step.times.1 * TICK_US);
        let end_us = self.now + step.times.2 * TICK_US;
        let number = self.history.operations.len() as u64 + 1;
        let sights = self.sights.entry(key.clone()).or_default();
        let had: Vec<&Vec<u64>> = sights
            .iter()
            .filter(|(at, _)| *at <= start_us)
            .map(|(_, shown)| shown)
            .collect();
        let replaces = match step.context.and_then(|back| had.iter().rev().nth(back)) {
            Some(shown) => Replaces::Shown((*shown).clone()),
            None => Replaces::Known,
        };
        let durable = step.durable;
        let until = ttl_ms.map_or(u64::MAX, |ttl| self.now + ttl * 1000);
        let (action, value) = match step.kind {
            0..5 => (
                Action::Put {
                    replaces: replaces.clone(),
                    durable,
                },
                Some((number, until)),
            ),
            5 => (
                Action::Delete {
                    replaces: replaces.clone(),
                    durable,
                },
                None,
            ),
            _ => (Action::Get { strict: step.strict }, None),
        };
        let is_write = step.kind <= 5;
        if is_write && step.fate != 0 && (step.fate > 3 || step.is_done) {
            let values = self.keys.entry(key.clone()).or_default();
            match &replaces {
                Replaces::Shown(shown) if conflicts == Conflicts::Siblings => {
                    values.retain(|(value, _)| !shown.contains(value));
                }
                _ => values.clear(),
            }
            values.extend(value);
        }
        let outcome = match step.fate {
            0 => Outcome::Nothing,
            1..=3 if is_write => Outcome::Unknown,
            1..=3 => Outcome::Nothing,
            _ if is_write => Outcome::Written {
                answered: step.answered,
                fallbacks: step.fallbacks,
                n: 3,
            },
            _ => Outcome::Read {
                values: self.shown(&key),
                answered: step.answered,
                n: 3,
            },
        };
        let shown = match &outcome {
            Outcome::Read { values, .. } => Some(values.clone()),
            Outcome::Written { .. } => Some(value.iter().map(|&(value, _)| value).collect()),
            Outcome::Nothing | Outcome::Unknown => None,
        };
        let sights = self.sights.entry(key.clone()).or_default();
        sights.extend(shown.map(|shown| (end_us, shown)));
        // One that gave up may be done long after its client was told so.
        let deadline_us = end_us + 1;
        let told_us = if outcome == Outcome::Unknown { start_us } else { end_us };
        self.history.push(Record::Operation(Operation {
            number,
            client: 1,
            session: None,
            node: NODES[step.node].to_owned(),
            key,
            start_us,
            end_us: (step.fate != 3).then_some(told_us),
            deadline_us,
            action,
            outcome,
        }));
    }

    fn finish(mut self, after: u64) -> History {
        for node in NODES {
            self.now += after * TICK_US;
            for key in self.keys.keys() {
                let values = self.shown(key);
                self.history.finals.push(Final {
                    key: key.clone(),
                    node: node.to_owned(),
                    at_us: self.now,
                    values,
                });
            }
        }
        self.history
    }
}

proptest! {
    #[test]
    fn prop_a_correct_store_breaks_no_promise(steps in vec(step(), 0..120), after in 0..40u64) {
        let mut store = Store::new();
        steps.iter().for_each(|step| store.play(step));
        let history = store.finish(after);
        prop_assert_eq!(check_with(&history, &Promises::all().with_skew_us(0)), []);
    }
}
