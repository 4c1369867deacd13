//! The naive replica: a clock is a plain set of dots, nothing is compact, every rule is a few lines.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::{Actor, Dot};

use crate::replica::{KEYS, Key, Replica, Rule, WriteId, is_finished};

type Dots = BTreeSet<Dot>;

/// Counter 0 is no dot; here it stands for all dots of a closed actor.
const ALL: u64 = 0;

fn covers(dots: &Dots, dot: Dot) -> bool {
    dots.contains(&dot) || dots.contains(&Dot { counter: ALL, ..dot })
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Delta {
    pub(crate) versions: BTreeMap<Dot, WriteId>,
    pub(crate) context: Dots,
}

impl Delta {
    fn join(&self, other: &Self) -> Self {
        let survivors = |mine: &Self, theirs: &Self| {
            let lives = |dot: &Dot| theirs.versions.contains_key(dot) || !covers(&theirs.context, *dot);
            mine.versions
                .clone()
                .into_iter()
                .filter(|(dot, _)| lives(dot))
                .collect::<BTreeMap<_, _>>()
        };
        let mut versions = survivors(self, other);
        versions.extend(survivors(other, self));
        Self {
            versions,
            context: &self.context | &other.context,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Naive {
    rule_off: Option<Rule>,
    pub(crate) clock: Dots,
    /// The versions, and the dots of their context that are not in the clock.
    pub(crate) objects: BTreeMap<Key, Delta>,
    pub(crate) log: BTreeMap<Dot, Key>,
}

impl Naive {
    fn follows(&self, rule: Rule) -> bool {
        self.rule_off != Some(rule)
    }

    /// A closed actor is one entry.
    fn tidy(&mut self) {
        let clock = std::mem::take(&mut self.clock);
        let closed = |dot: &Dot| dot.counter != ALL && clock.contains(&Dot { counter: ALL, ..*dot });
        self.clock = clock.iter().copied().filter(|dot| !closed(dot)).collect();
    }

    fn store(&mut self, key: Key, delta: Delta) {
        let context: Dots = delta.context.into_iter().filter(|dot| !self.seen(*dot)).collect();
        if delta.versions.is_empty() && (context.is_empty() || !self.follows(Rule::KeepUntilCovered)) {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, Delta { context, ..delta });
        }
    }

    fn join_dots(&mut self, key: Key, delta: &Delta, dots: impl IntoIterator<Item = Dot>) {
        let joined = self.read(key).join(delta);
        for dot in dots.into_iter().chain(delta.versions.keys().copied()) {
            if !self.seen(dot) {
                self.log.insert(dot, key);
                self.clock.insert(dot);
            }
        }
        if !self.follows(Rule::OwnDotsOnly) {
            self.clock.extend(&delta.context);
        }
        self.store(key, joined);
    }

    fn before(&self, current: Actor) -> impl Iterator<Item = &Dot> {
        self.clock.iter().filter(move |dot| is_finished(dot.actor, current))
    }
}

impl Replica for Naive {
    type Delta = Delta;

    fn new(rule_off: Option<Rule>) -> Self {
        Self {
            rule_off,
            clock: Dots::new(),
            objects: BTreeMap::new(),
            log: BTreeMap::new(),
        }
    }

    fn nothing() -> Delta {
        Delta::default()
    }

    fn read(&self, key: Key) -> Delta {
        let mut delta = self.objects.get(&key).cloned().unwrap_or_default();
        if self.follows(Rule::Fill) {
            delta.context.extend(&self.clock);
        }
        delta
    }

    fn write(known: &Delta, dot: Dot, value: Option<WriteId>, seen: &Delta) -> Delta {
        let mut versions = known.versions.clone();
        versions.retain(|dot, _| !covers(&seen.context, *dot));
        versions.extend(value.map(|value| (dot, value)));
        let mut context = &known.context | &seen.context;
        context.insert(dot);
        Delta { versions, context }
    }

    fn merge(a: Delta, b: Delta) -> Delta {
        a.join(&b)
    }

    fn join(&mut self, key: Key, delta: &Delta, dot: Dot) {
        self.join_dots(key, delta, [dot]);
    }

    fn catch_up(&mut self, source: &Self) -> BTreeSet<Key> {
        let missing: Dots = source.clock.iter().copied().filter(|dot| !self.seen(*dot)).collect();
        let logged: BTreeMap<Dot, Key> = source
            .log
            .iter()
            .filter(|(dot, _)| !self.seen(**dot))
            .map(|(dot, key)| (*dot, *key))
            .collect();
        let mut keys: BTreeSet<Key> = logged.values().copied().collect();
        if missing.iter().any(|dot| !logged.contains_key(dot)) && self.follows(Rule::StreamWhenLogShort) {
            keys.extend(KEYS);
        }
        for key in &keys {
            let dots = logged.iter().filter(|(_, other)| *other == key).map(|(dot, _)| *dot);
            self.join_dots(*key, &source.read(*key), dots);
        }
        self.clock.extend(&source.clock);
        self.tidy();
        self.log.extend(logged);
        keys
    }

    fn seen(&self, dot: Dot) -> bool {
        covers(&self.clock, dot)
    }

    fn logged(&self) -> Vec<Dot> {
        self.log.keys().copied().collect()
    }

    fn drop_from_log(&mut self, dot: Dot) {
        self.log.remove(&dot);
    }

    fn same_before(&self, other: &Self, current: Actor) -> bool {
        self.before(current).eq(other.before(current))
    }

    fn close_before(&mut self, current: Actor) {
        let finished = (0..current.incarnation).map(|incarnation| Actor { incarnation, ..current });
        self.clock.extend(finished.map(|actor| Dot { actor, counter: ALL }));
        self.tidy();
    }

    fn live(&self, key: Key) -> Vec<(Dot, WriteId)> {
        let versions = self
            .objects
            .get(&key)
            .map(|object| object.versions.clone())
            .unwrap_or_default();
        versions.into_iter().collect()
    }

    fn has_leftover(&self, key: Key) -> bool {
        self.objects.get(&key).is_some_and(|object| object.versions.is_empty())
    }
}
