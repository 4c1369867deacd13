//! Counters, sets and maps: what a key shows is a function of its versions, and an operation is a delta like any write.
//!
//! Nothing here touches the join. A version is one contribution: of a counter what one actor has added, of a set an
//! element, of a map a field's value. So replicas store and join them as they do values, and two that have incorporated
//! the same operations show the same.
//!
//! **A delta covers only what it replaces.** It is small, and what it does not name, it leaves.
//!
//! **Each addition counts once.** An actor's next total replaces exactly its former one: only that actor adds to it, and
//! only where it is sure to see its last ([`Standing`]). Two that folded one version would both count it. Whoever is not
//! sure begins a new version, which is right, too, as all are summed.
//!
//! The types are those of Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types"
//! (2011), by dots as in Almeida et al., "Delta State Replicated Data Types" (2018).

use std::collections::BTreeMap;
use std::num::NonZeroI64;

use annulus_mutants::{Mutant, planted};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::context::CausalContext;
use crate::dot::{Actor, Dot};
use crate::object::{ConflictPolicy, Object};
use crate::time::Timestamp;
use crate::version::Version;

/// The longest element of a set, in bytes: 64 KiB.
pub const MAX_ELEMENT_BYTES: usize = 64 << 10;

/// The longest name of a map's field, in bytes.
pub const MAX_FIELD_BYTES: usize = 256;

/// Elements of a set or fields of a map, concurrent ones counted each: every operation and every read handles them all.
pub const MAX_ENTRIES: usize = 10_000;

/// Elements of a set, or names and values of a map, all together in bytes: 1 MiB, as one value may have.
pub const MAX_COLLECTION_BYTES: usize = 1 << 20;

/// What one actor may have added to one counter, either way: so many of them can never overflow their sum.
const MAX_TOTAL: i128 = 1 << 96;

/// An element of a set: 1 to [`MAX_ELEMENT_BYTES`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element(Bytes);

impl Element {
    /// An element; `None` where the bytes are none, or too many.
    pub fn parse(bytes: Bytes) -> Option<Element> {
        (1..=MAX_ELEMENT_BYTES).contains(&bytes.len()).then_some(Element(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// The name of a map's field: 1 to [`MAX_FIELD_BYTES`] bytes of text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(String);

impl Field {
    /// A name; `None` where it is empty or too long.
    pub fn parse(name: String) -> Option<Field> {
        (1..=MAX_FIELD_BYTES).contains(&name.len()).then_some(Field(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One operation on a counter, a set or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds to a counter; a negative amount takes away.
    Increment(NonZeroI64),
    /// Puts an element into a set.
    Add(Element),
    /// Takes an element out of a set.
    Remove(Element),
    /// Gives a field of a map a value.
    Set {
        /// Which.
        field: Field,
        /// The value; may be empty.
        value: Bytes,
        /// Its media type, as it was sent.
        content_type: Option<String>,
    },
    /// Takes a field out of a map.
    Unset(Field),
}

impl Change {
    /// What it is an operation of.
    pub fn policy(&self) -> ConflictPolicy {
        match self {
            Change::Increment(_) => ConflictPolicy::Counter,
            Change::Add(_) | Change::Remove(_) => ConflictPolicy::Set,
            Change::Set { .. } | Change::Unset(_) => ConflictPolicy::Map,
        }
    }

    /// Whether it replaces what its client has seen, where the client says so: it must know what that was.
    pub fn replaces_seen(&self) -> bool {
        matches!(self, Change::Remove(_) | Change::Set { .. } | Change::Unset(_))
    }
}

/// Which version of its own a coordinator adds to: one of which it is sure that it has not replaced it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An owner: whatever this actor did here as an owner, its replica has.
    Owner,
    /// A fallback knows the hints that it still keeps. One of them may hold a version that a later one replaced, which
    /// was delivered since: only its last version will do, if it is still there.
    Fallback {
        /// The dot of the last that this actor wrote here as a fallback, as far as it remembers.
        last: Option<Dot>,
    },
}

/// Why a change cannot be made; nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// One actor's additions would leave what can be summed.
    #[error("the counter would leave the range of what can be counted")]
    Overflow,
    /// The set or map has as many entries as may be.
    #[error("it would hold more than {MAX_ENTRIES} entries")]
    TooMany,
    /// The set or map is as large as may be.
    #[error("it would hold more than {MAX_COLLECTION_BYTES} bytes")]
    TooLarge,
}

/// What a change brings: a version, or none, and what it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    version: Option<Version>,
    context: CausalContext,
}

impl Contribution {
    /// The delta, to be stored here and sent to the other owners. `dot` is new: never used, and the coordinator's own.
    pub fn under(self, dot: Dot) -> Object {
        let Contribution { version, mut context } = self;
        context.insert(dot);
        Object::new(version.into_iter().map(|version| (dot, version)).collect(), context)
    }
}

/// What one actor has added to a counter, in one standing.
#[derive(Clone, Copy)]
struct Total {
    as_owner: bool,
    amount: i128,
}

impl Total {
    /// What a version says; nothing where it is no counter's.
    fn of(version: &Version) -> Option<Total> {
        let (standing, amount) = version.value.split_first()?;
        let amount = i128::from_be_bytes(amount.try_into().ok()?);
        let as_owner = match standing {
            0 => false,
            1 => true,
            _ => return None,
        };
        (-MAX_TOTAL..=MAX_TOTAL)
            .contains(&amount)
            .then_some(Total { as_owner, amount })
    }

    fn to_bytes(self) -> Bytes {
        let mut bytes = vec![u8::from(self.as_owner)];
        bytes.extend_from_slice(&self.amount.to_be_bytes());
        bytes.into()
    }
}

/// The one entry of a map's version's metadata.
const FIELD: &str = "field";

/// The field that a version is a value of; nothing where it is no map's.
fn field_of(version: &Version) -> Option<&str> {
    match &version.meta[..] {
        [(name, field)] if name == FIELD => Some(field),
        _ => None,
    }
}

impl Object {
    /// What a change contributes, where `self` is all that its coordinator, `actor`, knows of the key, filled.
    ///
    /// It replaces the contributions to the same thing that are known here: of an element or a field those that `seen`
    /// covers, where a client says what it has seen. (Adding an element replaces them all: it is there, and stays.)
    ///
    /// # Errors
    /// [`ChangeError`] where the key would grow beyond a bound. What does not make it grow is never refused.
    pub fn change(
        &self,
        change: &Change,
        (actor, standing): (Actor, Standing),
        modified: Timestamp,
        seen: Option<&CausalContext>,
    ) -> Result<Contribution, ChangeError> {
        let is_seen = |dot: Dot| seen.is_none_or(|seen| seen.contains(dot));
        let mut context = CausalContext::new();
        let (replaced, version): (Vec<&(Dot, Version)>, Option<Version>) = match change {
            Change::Increment(by) => {
                let inherited = self.inherited(actor, standing);
                let replaced = self.own_totals(actor, standing, &inherited);
                let before: i128 = replaced.iter().map(|(_, total)| total.amount).sum();
                let amount = before + i128::from(by.get());
                if !(-MAX_TOTAL..=MAX_TOTAL).contains(&amount) {
                    return Err(ChangeError::Overflow);
                }
                // Nobody but this actor replaces its totals: to whoever missed an earlier one, this says that it is gone.
                context = self.gone(actor);
                context.union(&inherited.difference(&self.dots().collect()));
                let as_owner = standing == Standing::Owner;
                let value = Total { as_owner, amount }.to_bytes();
                let replaced = replaced.into_iter().map(|(version, _)| version).collect();
                (replaced, Some(Version::new(value, None, Vec::new(), modified, None)))
            }
            Change::Add(element) => {
                let version = Version::new(element.as_bytes().clone(), None, Vec::new(), modified, None);
                (self.of_element(element, |_| true), Some(version))
            }
            Change::Remove(element) => (self.of_element(element, is_seen), None),
            Change::Set {
                field,
                value,
                content_type,
            } => {
                let meta = vec![(FIELD.to_owned(), field.as_str().to_owned())];
                let version = Version::new(value.clone(), content_type.clone(), meta, modified, None);
                (self.of_field(field, is_seen), Some(version))
            }
            Change::Unset(field) => (self.of_field(field, is_seen), None),
        };
        if let Some(version) = &version
            && change.policy() != ConflictPolicy::Counter
        {
            self.check_growth(&replaced, version)?;
        }
        context.extend(replaced.iter().map(|(dot, _)| *dot));
        Ok(Contribution { version, context })
    }

    /// The dots of this actor that are known to have no version any more.
    fn gone(&self, actor: Actor) -> CausalContext {
        let mut seen = CausalContext::new();
        let ranges = self.context().ranges_of(actor);
        ranges.for_each(|counters| seen.insert_range(actor, counters));
        seen.difference(&self.dots().collect())
    }

    /// The dots of the earlier incarnations of an owner's node, once all of them are closed: it takes over what they have added.
    ///
    /// All owners then have the same of them, and nobody will bring another. While one is not closed, it may have added to an earlier one,
    /// unknown to its successor.
    fn inherited(&self, actor: Actor, standing: Standing) -> CausalContext {
        let finished = CausalContext::closed_below(actor.node, actor.incarnation);
        match standing == Standing::Owner && finished.is_subset(self.context()) {
            true => finished,
            false => CausalContext::new(),
        }
    }

    /// The totals that this actor may add to.
    fn own_totals(&self, actor: Actor, standing: Standing, inherited: &CausalContext) -> Vec<(&(Dot, Version), Total)> {
        let is_own = |known: Dot, total: Total| match standing {
            _ if planted(Mutant::CounterFoldsOthers) => true,
            Standing::Owner => (total.as_owner && known.actor == actor) || inherited.contains(known),
            Standing::Fallback { .. } if planted(Mutant::OldTotalAddedTo) => !total.as_owner && known.actor == actor,
            Standing::Fallback { last } => !total.as_owner && last == Some(known) && known.actor == actor,
        };
        let totals = self
            .versions()
            .iter()
            .filter_map(|version| Some((version, Total::of(&version.1)?)));
        totals.filter(|((known, _), total)| is_own(*known, *total)).collect()
    }

    fn of_element(&self, element: &Element, is_seen: impl Fn(Dot) -> bool) -> Vec<&(Dot, Version)> {
        let versions = self.versions().iter();
        versions
            .filter(|(dot, version)| version.value == element.0 && is_seen(*dot))
            .collect()
    }

    fn of_field(&self, field: &Field, is_seen: impl Fn(Dot) -> bool) -> Vec<&(Dot, Version)> {
        let versions = self.versions().iter();
        versions
            .filter(|(dot, version)| field_of(version) == Some(field.as_str()) && is_seen(*dot))
            .collect()
    }

    fn check_growth(&self, replaced: &[&(Dot, Version)], new: &Version) -> Result<(), ChangeError> {
        let size = |version: &Version| version.value.len() + field_of(version).map_or(0, str::len);
        let freed: usize = replaced.iter().map(|(_, version)| size(version)).sum();
        let bytes: usize = self.versions().iter().map(|(_, version)| size(version)).sum();
        if replaced.is_empty() && self.versions().len() >= MAX_ENTRIES {
            return Err(ChangeError::TooMany);
        }
        if size(new) > freed && bytes - freed + size(new) > MAX_COLLECTION_BYTES {
            return Err(ChangeError::TooLarge);
        }
        Ok(())
    }

    /// What a reader is shown: values and siblings as [`Object::visible`] has them; of a counter, a set or a map one JSON
    /// document, or nothing where nothing contributes to it.
    pub fn shown(&self, wall_ms: u64, policy: ConflictPolicy) -> Vec<Version> {
        let live = self.visible(wall_ms, policy);
        if !policy.is_typed() {
            return live.into_iter().cloned().collect();
        }
        let Some(modified) = live.iter().map(|version| version.modified).max() else {
            return Vec::new();
        };
        let document = match policy {
            ConflictPolicy::Counter => sum(&live).to_string(),
            ConflictPolicy::Set => elements(&live).to_string(),
            _ => fields(&live).to_string(),
        };
        let content_type = Some("application/json".to_owned());
        vec![Version::new(document.into(), content_type, Vec::new(), modified, None)]
    }

    /// The versions that contribute to what a counter, a set or a map shows; of a field's concurrent values the one with
    /// the greatest (modified, dot).
    ///
    /// A version of another kind (written by a node that did not know the declaration yet) contributes nothing.
    pub(crate) fn contributions(&self, policy: ConflictPolicy) -> Vec<&Version> {
        let versions = self.versions().iter();
        match policy {
            ConflictPolicy::Counter => versions
                .map(|(_, version)| version)
                .filter(|version| Total::of(version).is_some())
                .collect(),
            ConflictPolicy::Map => {
                let mut winners: BTreeMap<&str, (Timestamp, Dot, &Version)> = BTreeMap::new();
                for (dot, version) in versions {
                    let Some(field) = field_of(version) else { continue };
                    let claim = (version.modified, *dot, version);
                    let winner = winners.entry(field).or_insert(claim);
                    if (winner.0, winner.1) < (claim.0, claim.1) {
                        *winner = claim;
                    }
                }
                winners.into_values().map(|(_, _, version)| version).collect()
            }
            _ => versions.map(|(_, version)| version).collect(),
        }
    }
}

fn sum(live: &[&Version]) -> i128 {
    let totals = live.iter().filter_map(|version| Total::of(version));
    totals.map(|total| total.amount).sum()
}

/// In byte order, each once.
fn elements(live: &[&Version]) -> Value {
    let mut elements: Vec<&Bytes> = live.iter().map(|version| &version.value).collect();
    elements.sort_unstable();
    elements.dedup();
    elements.into_iter().map(json_value).collect()
}

/// By name.
fn fields(live: &[&Version]) -> Value {
    let named = live
        .iter()
        .filter_map(|version| Some((field_of(version)?.to_owned(), json_value(&version.value))));
    Value::Object(named.collect::<Map<_, _>>())
}

/// Text where the bytes are UTF-8, else base64.
fn json_value(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}
