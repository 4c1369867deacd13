//! Counters, sets and maps show the same wherever the same operations have come, in whatever order; a log of them is the naive twin.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroI64;

use annulus_causality::{
    Actor, CausalContext, Change, ChangeError, ConflictPolicy, Dot, Element, Field, MAX_COLLECTION_BYTES,
    MAX_ELEMENT_BYTES, MAX_ENTRIES, MAX_FIELD_BYTES, Object, Standing, Timestamp, Version, etag,
};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use ConflictPolicy::{Counter, Map, Set};

use crate::{context, dot, version};

const OWNERS: usize = 3;

fn increment(by: i64) -> Change {
    Change::Increment(NonZeroI64::new(by).unwrap())
}

fn element(bytes: impl Into<Bytes>) -> Element {
    Element::parse(bytes.into()).unwrap()
}

fn field(name: &str) -> Field {
    Field::parse(name.to_owned()).unwrap()
}

fn set(name: &str, value: impl Into<Bytes>) -> Change {
    Change::Set {
        field: field(name),
        value: value.into(),
        content_type: None,
    }
}

fn shown(object: &Object, policy: ConflictPolicy) -> Option<String> {
    let shown = object.shown(0, policy);
    assert!(shown.len() <= 1);
    shown
        .first()
        .map(|version| String::from_utf8(version.value.to_vec()).unwrap())
}

fn stamp(millis: u64) -> Timestamp {
    Timestamp { millis, logical: 0 }
}

#[derive(Clone, Debug)]
enum Step {
    /// An operation at an owner: which, on what (of few), with which amount or value; and whether it says what its client
    /// has seen: what this owner knows.
    Owner {
        at: usize,
        kind: u8,
        on: u8,
        by: i64,
        seen_at: Option<usize>,
    },
    /// The same at a fallback, which still keeps some of its hints, and may have forgotten its last.
    Fallback {
        kind: u8,
        on: u8,
        by: i64,
        kept: u64,
        forgets: bool,
    },
    /// One of the deltas so far comes to an owner.
    Deliver { delta: Index, to: usize },
    /// An owner becomes another actor.
    Restart { at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let by = || prop_oneof![-5..=-1i64, 1..=5i64];
    prop_oneof![
        4 => (0..OWNERS, 0..4u8, 0..2u8, by(), prop::option::of(0..OWNERS))
            .prop_map(|(at, kind, on, by, seen_at)| Step::Owner { at, kind, on, by, seen_at }),
        1 => (0..4u8, 0..2u8, by(), any::<u64>(), any::<bool>())
            .prop_map(|(kind, on, by, kept, forgets)| Step::Fallback { kind, on, by, kept, forgets }),
        3 => (any::<Index>(), 0..OWNERS).prop_map(|(delta, to)| Step::Deliver { delta, to }),
        1 => (0..OWNERS).prop_map(|at| Step::Restart { at }),
    ]
}

/// An operation as the naive twin has it.
#[derive(Clone, Debug)]
struct Logged {
    change: Change,
    modified: Timestamp,
    /// The dots of the operations that it makes void.
    voids: BTreeSet<Dot>,
}

/// The naive twin: whoever has these operations shows what those that no other one makes void leave.
fn replayed(log: &BTreeMap<Dot, Logged>, has: &BTreeSet<Dot>) -> BTreeMap<Dot, Logged> {
    let voids: BTreeSet<Dot> = has.iter().flat_map(|dot| log[dot].voids.clone()).collect();
    let left = has.difference(&voids).map(|dot| (*dot, log[dot].clone()));
    left.filter(|(_, logged)| !matches!(logged.change, Change::Remove(_) | Change::Unset(_)))
        .collect()
}

fn thing(change: &Change) -> Vec<u8> {
    match change {
        Change::Increment(_) => Vec::new(),
        Change::Add(element) | Change::Remove(element) => element.as_bytes().to_vec(),
        Change::Set { field, .. } | Change::Unset(field) => field.as_str().as_bytes().to_vec(),
    }
}

struct World {
    policy: ConflictPolicy,
    owners: Vec<Object>,
    /// What each owner has in the twin.
    has: Vec<BTreeSet<Dot>>,
    actors: Vec<Actor>,
    deltas: Vec<(Dot, Object)>,
    log: BTreeMap<Dot, Logged>,
    fallbacks: Vec<usize>,
    last: Option<Dot>,
}

impl World {
    fn new(policy: ConflictPolicy) -> World {
        let actor = |node| Actor { node, incarnation: 1 };
        World {
            policy,
            owners: vec![Object::default(); OWNERS],
            has: vec![BTreeSet::new(); OWNERS],
            actors: (0..=OWNERS as u64).map(actor).collect(),
            deltas: Vec::new(),
            log: BTreeMap::new(),
            fallbacks: Vec::new(),
            last: None,
        }
    }

    fn change(&self, kind: u8, on: u8, by: i64) -> Change {
        let name = ["a", "b"][usize::from(on)];
        match (self.policy, kind) {
            (Counter, _) => increment(by),
            (Set, 0..=2) => Change::Add(element(name)),
            (Set, _) => Change::Remove(element(name)),
            (_, 0..=2) => set(name, by.to_string()),
            (_, _) => Change::Unset(field(name)),
        }
    }

    /// Writes down what the operation makes void, as it is said in prose: what is known of the same thing, and was seen.
    fn note(&mut self, dot: Dot, change: Change, has: &BTreeSet<Dot>, seen: Option<&BTreeSet<Dot>>) {
        let known = replayed(&self.log, has);
        let same = known.iter().filter(|(_, other)| thing(&other.change) == thing(&change));
        let is_seen = |dot: &Dot| matches!(change, Change::Add(_)) || seen.is_none_or(|seen| seen.contains(dot));
        let voids = match self.policy {
            // Additions are summed; none is ever void.
            Counter => BTreeSet::new(),
            _ => same.map(|(dot, _)| *dot).filter(is_seen).collect(),
        };
        let modified = self.stamp();
        self.log.insert(
            dot,
            Logged {
                change,
                modified,
                voids,
            },
        );
    }

    /// Some are equal.
    fn stamp(&self) -> Timestamp {
        stamp(self.log.len() as u64 / 2)
    }

    fn next_dot(&self, actor: Actor) -> Dot {
        let used = self.log.keys().filter(|dot| dot.actor == actor).count();
        Dot::new(actor, used as u64 + 1)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Owner {
                at,
                kind,
                on,
                by,
                seen_at,
            } => {
                let (change, dot, modified) = (self.change(kind, on, by), self.next_dot(self.actors[at]), self.stamp());
                let seen = seen_at.map(|seen_at| self.owners[seen_at].context().clone());
                let delta = self.owners[at]
                    .change(&change, (dot.actor, Standing::Owner), modified, seen.as_ref())
                    .unwrap()
                    .under(dot);
                let seen = seen_at.map(|seen_at| self.has[seen_at].clone());
                // A client sees through an owner what that one knows to be void, too.
                let (has, seen) = (self.has[at].clone(), seen.map(|seen| self.with_voids(seen)));
                self.note(dot, change, &has, seen.as_ref());
                self.owners[at] = std::mem::take(&mut self.owners[at]).join(delta.clone());
                self.has[at].insert(dot);
                self.deltas.push((dot, delta));
            }
            Step::Fallback {
                kind,
                on,
                by,
                kept,
                forgets,
            } => {
                let (change, dot, modified) = (
                    self.change(kind, on, by),
                    self.next_dot(self.actors[OWNERS]),
                    self.stamp(),
                );
                let kept: Vec<&(Dot, Object)> = self
                    .fallbacks
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| kept >> (place % 64) & 1 == 1)
                    .map(|(_, hint)| &self.deltas[*hint])
                    .collect();
                let known = kept.iter().map(|(_, hint)| hint.clone()).reduce(Object::join);
                let has = kept.iter().map(|(dot, _)| *dot).collect();
                let last = self.last.filter(|_| !forgets);
                let delta = known
                    .unwrap_or_default()
                    .change(&change, (dot.actor, Standing::Fallback { last }), modified, None)
                    .unwrap()
                    .under(dot);
                self.note(dot, change, &has, None);
                self.last = Some(dot);
                self.fallbacks.push(self.deltas.len());
                self.deltas.push((dot, delta));
            }
            Step::Deliver { delta, to } if !self.deltas.is_empty() => {
                self.deliver(delta.index(self.deltas.len()), to);
            }
            Step::Deliver { .. } => {}
            Step::Restart { at } => self.actors[at].incarnation += 1,
        }
    }

    fn with_voids(&self, has: BTreeSet<Dot>) -> BTreeSet<Dot> {
        let voids: Vec<Dot> = has.iter().flat_map(|dot| self.log[dot].voids.clone()).collect();
        has.into_iter().chain(voids).collect()
    }

    fn deliver(&mut self, index: usize, to: usize) {
        let (dot, delta) = self.deltas[index].clone();
        self.owners[to] = std::mem::take(&mut self.owners[to]).join(delta);
        self.has[to].insert(dot);
    }

    /// What the twin shows to whoever has these. What an actor adds to a counter says again what it added before.
    fn expected(&self, has: &BTreeSet<Dot>) -> Option<String> {
        let is_said = |dot: &&Dot| {
            has.iter()
                .any(|said| said.actor == dot.actor && said.counter >= dot.counter)
        };
        let left = match self.policy {
            Counter => replayed(&self.log, &self.log.keys().filter(is_said).copied().collect()),
            _ => replayed(&self.log, has),
        };
        if left.is_empty() {
            return None;
        }
        let quoted = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
        Some(match self.policy {
            Counter => left
                .values()
                .map(|logged| match logged.change {
                    Change::Increment(by) => by.get(),
                    _ => 0,
                })
                .sum::<i64>()
                .to_string(),
            Set => {
                let elements: BTreeSet<String> = left.values().map(|logged| quoted(&thing(&logged.change))).collect();
                format!("[{}]", Vec::from_iter(elements).join(","))
            }
            _ => {
                let mut fields: BTreeMap<String, (Timestamp, Dot, String)> = BTreeMap::new();
                for (dot, logged) in &left {
                    let Change::Set { value, .. } = &logged.change else {
                        continue;
                    };
                    let claim = (logged.modified, *dot, quoted(value));
                    let name = quoted(&thing(&logged.change));
                    if fields.get(&name).is_none_or(|winner| *winner < claim) {
                        fields.insert(name, claim);
                    }
                }
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, (_, _, value))| format!("{name}:{value}"))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whoever_has_the_same_operations_shows_what_the_log_says(
        policy in prop_oneof![Just(Counter), Just(Set), Just(Map)],
        steps in prop::collection::vec(step(), 0..40),
        order in prop::collection::vec((any::<Index>(), 0..OWNERS), 0..60),
    ) {
        let mut world = World::new(policy);
        for step in steps {
            world.step(step);
            // A fallback that forgets begins anew, and what is shown on the way depends on what it forgot.
            if policy != Counter || world.fallbacks.is_empty() {
                for (owner, has) in world.owners.iter().zip(&world.has) {
                    prop_assert_eq!(shown(owner, policy), world.expected(has));
                }
            }
        }
        // In any order, some twice; then all.
        if !world.deltas.is_empty() {
            for (delta, to) in order {
                world.deliver(delta.index(world.deltas.len()), to);
            }
            for owner in 0..OWNERS {
                (0..world.deltas.len()).for_each(|delta| world.deliver(delta, owner));
            }
        }
        let expected = world.expected(&world.log.keys().copied().collect());
        for owner in &world.owners {
            prop_assert_eq!(shown(owner, policy), expected.clone());
            prop_assert_eq!(owner.digest(), world.owners[0].digest());
        }
    }

    #[test]
    fn what_is_shown_is_json(bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 1..5)) {
        let add = |object: Object, (counter, bytes): (usize, &Vec<u8>)| {
            let change = Change::Add(element(bytes.clone()));
            let delta = changed(&object, &change, dot(1, counter as u64 + 1), None);
            object.join(delta)
        };
        let object = bytes.iter().enumerate().fold(Object::default(), add);
        let json: serde_json::Value = serde_json::from_str(&shown(&object, Set).unwrap()).unwrap();
        let mut distinct = bytes.clone();
        distinct.sort();
        distinct.dedup();
        let elements: Vec<serde_json::Value> = distinct
            .iter()
            .map(|bytes| match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => serde_json::json!({ "base64": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes) }),
            })
            .collect();
        prop_assert_eq!(json, serde_json::Value::Array(elements));
    }
}

/// The first change of node 1 to what it knows.
fn changed(known: &Object, change: &Change, dot: Dot, seen: Option<&CausalContext>) -> Object {
    changed_as(known, change, dot, seen, Standing::Owner)
}

fn changed_as(known: &Object, change: &Change, dot: Dot, seen: Option<&CausalContext>, standing: Standing) -> Object {
    let contribution = known.change(change, (dot.actor, standing), stamp(1), seen);
    contribution.unwrap().under(dot)
}

#[test]
fn an_element_that_is_added_while_it_is_removed_stays() {
    let first = changed(&Object::default(), &Change::Add(element("e")), dot(1, 1), None);
    let removal = changed(&first, &Change::Remove(element("e")), dot(2, 1), None);
    assert_eq!(shown(&first.clone().join(removal.clone()), Set), None);
    let again = changed(&first, &Change::Add(element("e")), dot(1, 2), None);
    assert_eq!(shown(&first.join(again).join(removal), Set).as_deref(), Some("[\"e\"]"));
}

#[test]
fn a_removal_takes_what_its_token_covers_and_no_more() {
    let add = Change::Add(element("e"));
    let first = changed(&Object::default(), &add, dot(1, 1), None);
    let both = first.clone().join(changed(&Object::default(), &add, dot(2, 1), None));
    let removal = changed(&both, &Change::Remove(element("e")), dot(1, 2), Some(first.context()));
    let left = both.join(removal);
    assert!(left.dots().eq([dot(2, 1)]));
}

#[test]
fn a_delta_leaves_what_its_coordinator_does_not_name() {
    let known = changed(&Object::default(), &Change::Add(element("a")), dot(1, 1), None);
    let delta = changed(&known, &Change::Add(element("b")), dot(1, 2), None);
    assert_eq!(*delta.context(), context([dot(1, 2)]));
    assert!(delta.dots().eq([dot(1, 2)]));
}

/// Two hints of one fallback: the first waits, and the second, which replaces it, was delivered.
#[test]
fn a_fallback_adds_nothing_to_a_version_that_it_has_replaced_since() {
    let fallback = |last| Standing::Fallback { last };
    let first = changed_as(&Object::default(), &increment(1), dot(9, 1), None, fallback(None));
    let second = changed_as(&first, &increment(1), dot(9, 2), None, fallback(Some(dot(9, 1))));
    assert_eq!(shown(&second, Counter).as_deref(), Some("2"));
    for last in [Some(dot(9, 2)), None] {
        let third = changed_as(&first, &increment(1), dot(9, 3), None, fallback(last));
        let owner = second.clone().join(third).join(first.clone());
        assert_eq!(shown(&owner, Counter).as_deref(), Some("3"));
    }
}

#[test]
fn an_owner_adds_nothing_to_what_it_wrote_as_a_fallback() {
    let hint = changed_as(
        &Object::default(),
        &increment(4),
        dot(1, 1),
        None,
        Standing::Fallback { last: None },
    );
    let delta = changed(&hint, &increment(5), dot(1, 2), None);
    assert_eq!(shown(&hint.join(delta), Counter).as_deref(), Some("9"));
}

/// Of three additions the second was lost on the way.
#[test]
fn a_total_replaces_all_earlier_ones_of_its_actor() {
    let first = changed(&Object::default(), &increment(1), dot(1, 1), None);
    let second = first.clone().join(changed(&first, &increment(1), dot(1, 2), None));
    let third = changed(&second, &increment(1), dot(1, 3), None);
    assert_eq!(shown(&first.join(third), Counter).as_deref(), Some("3"));
}

#[test]
fn a_node_takes_over_what_its_closed_incarnations_have_added_and_no_other() {
    let in_life = |incarnation, counter| Dot::new(Actor { node: 1, incarnation }, counter);
    let first = changed(&Object::default(), &increment(4), in_life(1, 1), None);
    let others = changed(&first, &increment(7), dot(2, 1), None);
    let known = first.clone().join(others);
    let next = |known: &Object| known.clone().join(changed(known, &increment(5), in_life(3, 1), None));

    let beside = next(&known);
    assert_eq!(beside.versions().len(), 3);
    let mut one_closed = CausalContext::new();
    one_closed.close(in_life(1, 1).actor);
    let beside = next(&known.filled(&one_closed));
    assert_eq!(beside.versions().len(), 3, "life 2 may have taken over from life 1");

    let mut closed = CausalContext::new();
    closed.close_below(1, 3);
    let folded = next(&known.filled(&closed));
    assert_eq!(folded.versions().len(), 2);
    for object in [
        &beside,
        &folded,
        &folded.clone().join(known),
        &folded.clone().join(first),
    ] {
        assert_eq!(shown(object, Counter).as_deref(), Some("16"));
    }
}

#[test]
fn what_is_no_contribution_is_not_shown() {
    let foreign = Object::new(vec![(dot(1, 1), version("7", 1))], context([dot(1, 1)]));
    assert_eq!(shown(&foreign, Counter), None);
    assert_eq!(shown(&foreign, Map), None);
    assert_eq!(shown(&foreign, Set).as_deref(), Some("[\"7\"]"));
    let counted = changed(&foreign, &increment(3), dot(1, 2), None);
    assert_eq!(shown(&foreign.join(counted), Counter).as_deref(), Some("3"));
}

#[test]
fn equal_states_have_equal_tags() {
    let tag = |object: &Object, policy| etag(&object.shown(0, policy).iter().collect::<Vec<&Version>>());
    let three = changed(&Object::default(), &increment(3), dot(1, 1), None);
    let one = changed(&Object::default(), &increment(1), dot(1, 1), None);
    let two = changed(&Object::default(), &increment(2), dot(2, 1), None);
    assert_eq!(tag(&three, Counter), tag(&one.clone().join(two), Counter));
    assert_ne!(tag(&three, Counter), tag(&one, Counter));
}

#[test]
fn bounds_are_kept_and_removals_are_never_refused() {
    let entry = |number: usize| (dot(1, number as u64 + 1), version(String::leak(number.to_string()), 1));
    let full = Object::new((0..MAX_ENTRIES).map(entry).collect(), CausalContext::new());
    let actor = (dot(2, 1).actor, Standing::Owner);
    let change = |object: &Object, change: &Change| object.change(change, actor, stamp(1), None);
    assert_eq!(change(&full, &Change::Add(element("new"))), Err(ChangeError::TooMany));
    assert!(change(&full, &Change::Add(element("7"))).is_ok());
    assert!(change(&full, &Change::Remove(element("7"))).is_ok());

    let large = changed(
        &Object::default(),
        &set("f", vec![0; MAX_COLLECTION_BYTES - 1]),
        dot(1, 1),
        None,
    );
    assert_eq!(change(&large, &set("g", "")), Err(ChangeError::TooLarge));
    assert_eq!(
        change(&large, &set("f", vec![0; MAX_COLLECTION_BYTES])),
        Err(ChangeError::TooLarge)
    );
    assert!(change(&large, &set("f", "smaller")).is_ok());
    assert!(change(&large, &Change::Unset(field("f"))).is_ok());
}

#[test]
fn names_and_elements_have_their_lengths() {
    assert_eq!(Element::parse(Bytes::new()), None);
    assert!(Element::parse(vec![0; MAX_ELEMENT_BYTES].into()).is_some());
    assert_eq!(Element::parse(vec![0; MAX_ELEMENT_BYTES + 1].into()), None);
    assert_eq!(Field::parse(String::new()), None);
    assert!(Field::parse("é".repeat(MAX_FIELD_BYTES / 2)).is_some());
    assert_eq!(Field::parse("x".repeat(MAX_FIELD_BYTES + 1)), None);
}
