//! The naive and the compact replica as one: whatever is asked of it is asked of both, and must be answered alike.

use std::collections::BTreeSet;
use std::fmt::Debug;

use annulus_causality::{Actor, Dot, Object};

use crate::compact::{self, Compact};
use crate::naive::{self, Naive};
use crate::replica::{KEYS, Key, Replica, Rule, WriteId};

#[derive(Clone)]
pub(crate) struct Twins {
    naive: Naive,
    compact: Compact,
}

#[derive(Clone)]
pub(crate) struct Delta {
    naive: naive::Delta,
    compact: Object,
}

impl Delta {
    /// The versions must be equal, and every dot that either context names must be in both.
    fn agreed(naive: naive::Delta, compact: Object) -> Self {
        let versions: Vec<_> = naive.versions.iter().map(|(dot, id)| (*dot, *id)).collect();
        assert_eq!(compact::values(&compact), versions);
        assert_same_dots(&naive.context, compact.context());
        Self { naive, compact }
    }
}

/// The naive set, where counter 0 stands for a closed actor, against the ranges.
fn assert_same_dots(naive: &BTreeSet<Dot>, compact: &annulus_causality::CausalContext) {
    let mut expected = annulus_causality::CausalContext::new();
    for dot in naive {
        match dot.counter {
            0 => expected.close(dot.actor),
            _ => _ = expected.insert(*dot),
        }
    }
    assert_eq!(*compact, expected);
}

fn agreed<T: PartialEq + Debug>(naive: T, compact: T) -> T {
    assert_eq!(naive, compact, "the naive replica on the left");
    compact
}

impl Twins {
    fn assert_agreed(&self) {
        for key in KEYS {
            self.live(key);
            self.has_leftover(key);
        }
        assert_same_dots(&self.naive.clock, &self.compact.clock);
    }
}

impl Replica for Twins {
    type Delta = Delta;

    fn new(rule_off: Option<Rule>) -> Self {
        Self {
            naive: Naive::new(rule_off),
            compact: Compact::new(rule_off),
        }
    }

    fn nothing() -> Delta {
        Delta {
            naive: Naive::nothing(),
            compact: Compact::nothing(),
        }
    }

    fn read(&self, key: Key) -> Delta {
        Delta::agreed(self.naive.read(key), self.compact.read(key))
    }

    fn write(known: &Delta, dot: Dot, value: Option<WriteId>, seen: &Delta) -> Delta {
        Delta::agreed(
            Naive::write(&known.naive, dot, value, &seen.naive),
            Compact::write(&known.compact, dot, value, &seen.compact),
        )
    }

    fn merge(a: Delta, b: Delta) -> Delta {
        Delta::agreed(Naive::merge(a.naive, b.naive), Compact::merge(a.compact, b.compact))
    }

    fn join(&mut self, key: Key, delta: &Delta, dot: Dot) {
        self.naive.join(key, &delta.naive, dot);
        self.compact.join(key, &delta.compact, dot);
        self.assert_agreed();
    }

    fn catch_up(&mut self, source: &Self) -> BTreeSet<Key> {
        let keys = agreed(
            self.naive.catch_up(&source.naive),
            self.compact.catch_up(&source.compact),
        );
        self.assert_agreed();
        keys
    }

    fn seen(&self, dot: Dot) -> bool {
        agreed(self.naive.seen(dot), self.compact.seen(dot))
    }

    fn logged(&self) -> Vec<Dot> {
        agreed(self.naive.logged(), self.compact.logged())
    }

    fn drop_from_log(&mut self, dot: Dot) {
        self.naive.drop_from_log(dot);
        self.compact.drop_from_log(dot);
    }

    fn same_before(&self, other: &Self, current: Actor) -> bool {
        agreed(
            self.naive.same_before(&other.naive, current),
            self.compact.same_before(&other.compact, current),
        )
    }

    fn close_before(&mut self, current: Actor) {
        self.naive.close_before(current);
        self.compact.close_before(current);
        self.assert_agreed();
    }

    fn live(&self, key: Key) -> Vec<(Dot, WriteId)> {
        agreed(self.naive.live(key), self.compact.live(key))
    }

    fn has_leftover(&self, key: Key) -> bool {
        agreed(self.naive.has_leftover(key), self.compact.has_leftover(key))
    }
}
