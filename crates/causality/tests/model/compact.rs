//! The replica as it is built: contexts as ranges, objects stripped at rest and filled on the way out.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};

use crate::replica::{KEYS, Key, Replica, Rule, WriteId};

#[derive(Clone)]
pub(crate) struct Compact {
    pub(crate) clock: CausalContext,
    pub(crate) objects: BTreeMap<Key, Object>,
    pub(crate) log: BTreeMap<Dot, Key>,
}

pub(crate) fn values(object: &Object) -> Vec<(Dot, WriteId)> {
    let id = |version: &Version| WriteId::from_be_bytes(version.value.as_ref().try_into().unwrap());
    object
        .versions()
        .iter()
        .map(|(dot, version)| (*dot, id(version)))
        .collect()
}

impl Compact {
    fn join_dots(&mut self, key: Key, delta: &Object, dots: impl IntoIterator<Item = Dot>) {
        let joined = self.read(key).join(delta.clone());
        for dot in dots.into_iter().chain(delta.dots()) {
            if self.clock.insert(dot) {
                self.log.insert(dot, key);
            }
        }
        let stored = joined.strip(&self.clock);
        if stored.is_absent() {
            self.objects.remove(&key);
        } else {
            // Through the codec, so that what a disk gives back is what is joined.
            self.objects.insert(key, Object::from_bytes(stored.to_bytes()).unwrap());
        }
    }
}

impl Replica for Compact {
    type Delta = Object;

    fn new(_: Option<Rule>) -> Self {
        Self {
            clock: CausalContext::new(),
            objects: BTreeMap::new(),
            log: BTreeMap::new(),
        }
    }

    fn nothing() -> Object {
        Object::default()
    }

    fn read(&self, key: Key) -> Object {
        self.objects.get(&key).cloned().unwrap_or_default().fill(&self.clock)
    }

    fn write(known: &Object, dot: Dot, value: Option<WriteId>, seen: &Object) -> Object {
        let version = value.map(|id| {
            let stamp = Timestamp {
                millis: u64::from(id),
                logical: 0,
            };
            Version::new(id.to_be_bytes().to_vec().into(), None, Vec::new(), stamp, None)
        });
        known.write(dot, version, Some(seen.context()), ConflictPolicy::Siblings)
    }

    fn merge(a: Object, b: Object) -> Object {
        a.join(b)
    }

    fn join(&mut self, key: Key, delta: &Object, dot: Dot) {
        self.join_dots(key, delta, [dot]);
    }

    fn catch_up(&mut self, source: &Self) -> BTreeSet<Key> {
        let missing = source.clock.difference(&self.clock);
        let mut logged = BTreeMap::new();
        let mut is_log_short = false;
        for span in missing.spans() {
            let before = logged.len() as u64;
            logged.extend(source.log.range(span.dots()).map(|(dot, key)| (*dot, *key)));
            is_log_short |=
                span.is_closed() || logged.len() as u64 - before <= span.counters.end() - span.counters.start();
        }
        let mut keys: BTreeSet<Key> = logged.values().copied().collect();
        if is_log_short {
            keys.extend(KEYS);
        }
        for key in &keys {
            let dots = logged.iter().filter(|(_, other)| *other == key).map(|(dot, _)| *dot);
            self.join_dots(*key, &source.read(*key), dots);
        }
        self.clock.union(&source.clock);
        self.log.extend(logged);
        keys
    }

    fn seen(&self, dot: Dot) -> bool {
        self.clock.contains(dot)
    }

    fn logged(&self) -> Vec<Dot> {
        self.log.keys().copied().collect()
    }

    fn drop_from_log(&mut self, dot: Dot) {
        self.log.remove(&dot);
    }

    fn same_before(&self, other: &Self, current: Actor) -> bool {
        let Actor { node, incarnation } = current;
        self.clock.before(node, incarnation) == other.clock.before(node, incarnation)
    }

    fn close_before(&mut self, current: Actor) {
        self.clock.close_below(current.node, current.incarnation);
    }

    fn live(&self, key: Key) -> Vec<(Dot, WriteId)> {
        self.objects.get(&key).map(values).unwrap_or_default()
    }

    fn has_leftover(&self, key: Key) -> bool {
        self.objects
            .get(&key)
            .is_some_and(|object| object.versions().is_empty())
    }
}
