//! A causal context is a set of dots in one canonical form, whose cost is that of its ranges, never of its counters.

use std::fmt;
use std::ops::RangeInclusive;

use crate::codec::{DecodeError, Reader, put_varint};
use crate::dot::{Actor, Dot};

/// A set of dots: what a replica has incorporated, what an object's past is, what a client has seen.
///
/// A plain version vector would not do: a fallback that coordinates two writes to a key would cover its first by its
/// second. So each actor has a base (all of `1..=base`) and exceptions above it. An actor is *closed* when all of its
/// dots are in the set, also those it never assigned: the base is then `u64::MAX`, and closing is no special case of
/// any operation. In particular the difference of a closed actor and a partial one is exact: the rest, up to
/// `u64::MAX`, which the union with the partial one closes again.
///
/// ```
/// use annulus_causality::{Actor, CausalContext, Dot};
///
/// let actor = Actor { node: 7, incarnation: 1 };
/// let seen: CausalContext = [1, 2, 5].into_iter().map(|counter| Dot { actor, counter }).collect();
/// assert_eq!(seen.iter_ranges().collect::<Vec<_>>(), [(actor, 1..=2), (actor, 5..=5)]);
///
/// let mut closed = seen.clone();
/// closed.close(actor);
/// let mut rest = closed.difference(&seen);
/// assert_eq!(rest.iter_ranges().collect::<Vec<_>>(), [(actor, 3..=4), (actor, 6..=u64::MAX)]);
/// rest.union(&seen);
/// assert_eq!(rest, closed);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CausalContext {
    /// Ascending by actor; none is empty.
    entries: Vec<(Actor, Entry)>,
}

impl CausalContext {
    /// The empty set.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Whether the dot is in the set. Counter 0 never is.
    pub fn contains(&self, dot: Dot) -> bool {
        self.get(dot.actor)
            .is_some_and(|entry| entry.covers(dot.counter, dot.counter))
    }

    /// Adds a dot, and says whether it is new. Counter 0 is not a dot and is not added.
    pub fn insert(&mut self, dot: Dot) -> bool {
        if dot.counter == 0 {
            return false;
        }
        let entry = self.entry(dot.actor);
        let is_new = !entry.covers(dot.counter, dot.counter);
        entry.insert(dot.counter, dot.counter);
        is_new
    }

    /// Adds all dots of an actor whose counters are in the range; counter 0 is left out, an empty range adds nothing.
    pub fn insert_range(&mut self, actor: Actor, counters: RangeInclusive<u64>) {
        let (start, end) = ((*counters.start()).max(1), *counters.end());
        // A range iterated to its end still shows its bounds, and only `is_empty` tells.
        if start <= end && !counters.is_empty() {
            self.entry(actor).insert(start, end);
        }
    }

    /// Adds all dots of an actor, also those it never assigned: nothing more is to be expected of it.
    pub fn close(&mut self, actor: Actor) {
        self.entry(actor).insert(1, u64::MAX);
    }

    /// Whether all dots of the actor are in the set.
    pub fn is_closed(&self, actor: Actor) -> bool {
        self.get(actor).is_some_and(|entry| entry.base == u64::MAX)
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &Self) {
        let known = self.entries.len();
        let mut position = 0;
        for (actor, theirs) in &other.entries {
            while position < known && self.entries[position].0 < *actor {
                position += 1;
            }
            match self.entries[..known].get_mut(position) {
                Some((mine, entry)) if mine == actor => entry.union(theirs),
                _ => self.entries.push((*actor, theirs.clone())),
            }
        }
        if self.entries.len() > known {
            // Two ascending runs: the standard sort finds and merges them in one pass.
            self.entries.sort_by_key(|(actor, _)| *actor);
        }
    }

    /// What is in `self` and not in `other`, exactly; see [`CausalContext`] for closed actors.
    pub fn difference(&self, other: &Self) -> Self {
        let entries = self.entries.iter().filter_map(|(actor, entry)| {
            let rest = match other.get(*actor) {
                Some(theirs) => entry.difference(theirs),
                None => entry.clone(),
            };
            (!rest.is_empty()).then_some((*actor, rest))
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// Whether some dot is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        let common = |(actor, entry): &(Actor, Entry)| other.get(*actor).is_some_and(|theirs| entry.intersects(theirs));
        self.entries.iter().any(common)
    }

    /// Whether every dot of `self` is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        let within = |(actor, entry): &(Actor, Entry)| other.get(*actor).is_some_and(|theirs| entry.is_subset(theirs));
        self.entries.iter().all(within)
    }

    /// Whether there is no dot.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many dots there are; `u64::MAX` where there are more.
    pub fn count(&self) -> u64 {
        let counts = self
            .iter_ranges()
            .map(|(_, range)| (range.end() - range.start()).saturating_add(1));
        counts.fold(0, u64::saturating_add)
    }

    /// The actors of which some dot is in the set, ascending.
    pub fn actors(&self) -> impl ExactSizeIterator<Item = Actor> + '_ {
        self.entries.iter().map(|(actor, _)| *actor)
    }

    /// The set as ranges that do not touch, ascending by actor and counter; a closed actor is `1..=u64::MAX`.
    ///
    /// Iterate over the ranges, never over their counters: a range from outside may hold 2⁶⁴ of them.
    pub fn iter_ranges(&self) -> impl Iterator<Item = (Actor, RangeInclusive<u64>)> + '_ {
        self.entries
            .iter()
            .flat_map(|(actor, entry)| entry.ranges().map(|(start, end)| (*actor, start..=end)))
    }

    /// One actor's part of the set, as ascending ranges that do not touch.
    pub fn ranges_of(&self, actor: Actor) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.get(actor)
            .into_iter()
            .flat_map(Entry::ranges)
            .map(|(start, end)| start..=end)
    }

    /// The greatest counter of the actor: 0 where there is none, `u64::MAX` where it is closed.
    pub fn max_counter(&self, actor: Actor) -> u64 {
        self.get(actor).map_or(0, Entry::max)
    }

    /// Appends the encoding. Actors follow as differences from the one before, so that the closed incarnations of a
    /// node take three bytes each: clocks carry them for ever.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        let mut previous: Option<Actor> = None;
        for (actor, entry) in &self.entries {
            put_varint(out, actor.node - previous.map_or(0, |previous| previous.node));
            put_varint(
                out,
                match previous {
                    Some(previous) if previous.node == actor.node => actor.incarnation - previous.incarnation - 1,
                    _ => actor.incarnation,
                },
            );
            entry.encode(out);
            previous = Some(*actor);
        }
    }

    /// Reads what [`CausalContext::encode`] wrote; every set has one encoding, any other is refused.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        const LEAST_ENTRY_BYTES: usize = 3;
        let count = reader.count(LEAST_ENTRY_BYTES, "causal context")?;
        let mut entries: Vec<(Actor, Entry)> = Vec::with_capacity(count);
        for _ in 0..count {
            let actor = decode_actor(reader, entries.last().map(|(actor, _)| *actor))?;
            entries.push((actor, Entry::decode(reader)?));
        }
        Ok(Self { entries })
    }

    fn get(&self, actor: Actor) -> Option<&Entry> {
        let index = self.entries.binary_search_by_key(&actor, |(actor, _)| *actor).ok()?;
        Some(&self.entries[index].1)
    }

    /// The actor's entry, an empty one where there was none: the caller must put something in.
    fn entry(&mut self, actor: Actor) -> &mut Entry {
        let index = match self.entries.binary_search_by_key(&actor, |(actor, _)| *actor) {
            Ok(index) => index,
            Err(index) => {
                self.entries.insert(index, (actor, Entry::default()));
                index
            }
        };
        &mut self.entries[index].1
    }
}

impl FromIterator<Dot> for CausalContext {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::new();
        context.extend(dots);
        context
    }
}

impl Extend<Dot> for CausalContext {
    fn extend<I: IntoIterator<Item = Dot>>(&mut self, dots: I) {
        for dot in dots {
            self.insert(dot);
        }
    }
}

impl fmt::Debug for CausalContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for CausalContext {
    /// As `{7.1: 1-2 5, 8.3: closed}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (actor, entry)) in self.entries.iter().enumerate() {
            write!(f, "{}{actor}:", if index == 0 { "" } else { ", " })?;
            for range in entry.ranges() {
                match range {
                    (1, u64::MAX) => f.write_str(" closed")?,
                    (start, end) if start == end => write!(f, " {start}")?,
                    (start, end) => write!(f, " {start}-{end}")?,
                }
            }
        }
        f.write_str("}")
    }
}

fn decode_actor(reader: &mut Reader, previous: Option<Actor>) -> Result<Actor, DecodeError> {
    let Some(previous) = previous else {
        return Actor::decode(reader);
    };
    let Actor {
        node: step,
        incarnation,
    } = Actor::decode(reader)?;
    let actor = if step == 0 {
        let incarnation = incarnation
            .checked_add(1)
            .and_then(|step| previous.incarnation.checked_add(step));
        incarnation.map(|incarnation| Actor {
            incarnation,
            ..previous
        })
    } else {
        previous.node.checked_add(step).map(|node| Actor { node, incarnation })
    };
    actor.ok_or_else(|| reader.malformed("causal context"))
}

/// The counters of one actor: `1..=base`, and ranges above it.
///
/// Canonical: the exceptions are ascending, and neither they nor the base touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    base: u64,
    exceptions: Vec<(u64, u64)>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.base == 0 && self.exceptions.is_empty()
    }

    fn max(&self) -> u64 {
        self.exceptions.last().map_or(self.base, |(_, end)| *end)
    }

    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        (self.base > 0)
            .then_some((1, self.base))
            .into_iter()
            .chain(self.exceptions.iter().copied())
    }

    /// Appends a range that starts at least two after the last.
    fn push(&mut self, start: u64, end: u64) {
        if start == 1 {
            self.base = end;
        } else {
            self.exceptions.push((start, end));
        }
    }

    /// Whether `start..=end` is in here as a whole.
    fn covers(&self, start: u64, end: u64) -> bool {
        start > 0
            && (end <= self.base
                || self
                    .first_ending_from(start)
                    .is_some_and(|range| range.0 <= start && end <= range.1))
    }

    /// The first exception that does not end before `counter`.
    fn first_ending_from(&self, counter: u64) -> Option<(u64, u64)> {
        let index = self.exceptions.partition_point(|(_, end)| *end < counter);
        self.exceptions.get(index).copied()
    }

    /// Adds `start..=end`, where `1 <= start <= end`.
    fn insert(&mut self, start: u64, end: u64) {
        if start <= self.base.saturating_add(1) {
            self.base = self.base.max(end);
            let touching = self
                .exceptions
                .partition_point(|range| range.0 <= self.base.saturating_add(1));
            if let Some(last) = self.exceptions.drain(..touching).next_back() {
                self.base = self.base.max(last.1);
            }
            return;
        }
        let first = self.exceptions.partition_point(|range| range.1 < start - 1);
        let after = self
            .exceptions
            .partition_point(|range| range.0 <= end.saturating_add(1));
        if first == after {
            self.exceptions.insert(first, (start, end));
        } else {
            let merged = (
                start.min(self.exceptions[first].0),
                end.max(self.exceptions[after - 1].1),
            );
            self.exceptions[first] = merged;
            self.exceptions.drain(first + 1..after);
        }
    }

    fn union(&mut self, other: &Self) {
        if other.base > 0 {
            self.insert(1, other.base);
        }
        if other.exceptions.is_empty() {
            return;
        }
        // In one pass: inserted one by one, thousands of ranges from outside would shift each other about.
        let mut ranges: Vec<_> = self.ranges().chain(other.exceptions.iter().copied()).collect();
        ranges.sort();
        ranges.dedup_by(|next, last| {
            let touch = next.0 <= last.1.saturating_add(1);
            if touch {
                last.1 = last.1.max(next.1);
            }
            touch
        });
        self.exceptions.clear();
        for (start, end) in ranges {
            self.push(start, end);
        }
    }

    fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        let mut holes = other.ranges().peekable();
        for (mut start, end) in self.ranges() {
            loop {
                match holes.peek().copied() {
                    Some((_, hole_end)) if hole_end < start => _ = holes.next(),
                    Some((hole_start, hole_end)) if hole_start <= end => {
                        if hole_start > start {
                            rest.push(start, hole_start - 1);
                        }
                        if hole_end >= end {
                            break;
                        }
                        start = hole_end + 1;
                    }
                    _ => {
                        rest.push(start, end);
                        break;
                    }
                }
            }
        }
        rest
    }

    fn intersects(&self, other: &Self) -> bool {
        self.ranges().any(|(start, end)| {
            start <= other.base || other.first_ending_from(start).is_some_and(|range| range.0 <= end)
        })
    }

    fn is_subset(&self, other: &Self) -> bool {
        self.ranges().all(|(start, end)| other.covers(start, end))
    }

    /// Zero for all of it; otherwise the number of exceptions plus one, the base, and each exception as its distance
    /// from what it may not touch and its length less one: whatever is read so is canonical, but for what `decode`
    /// refuses.
    fn encode(&self, out: &mut Vec<u8>) {
        if self.base == u64::MAX {
            return put_varint(out, 0);
        }
        put_varint(out, self.exceptions.len() as u64 + 1);
        put_varint(out, self.base);
        let mut previous = self.base;
        for (start, end) in &self.exceptions {
            put_varint(out, start - previous - 2);
            put_varint(out, end - start);
            previous = *end;
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        const WHAT: &str = "causal context";
        const LEAST_EXCEPTION_BYTES: usize = 2;
        let Some(exceptions) = reader.varint(WHAT)?.checked_sub(1) else {
            return Ok(Self {
                base: u64::MAX,
                exceptions: Vec::new(),
            });
        };
        let base = reader.varint(WHAT)?;
        if base == u64::MAX || (base == 0 && exceptions == 0) {
            return Err(reader.malformed(WHAT));
        }
        let exceptions = match usize::try_from(exceptions) {
            Ok(count) if count <= reader.remaining() / LEAST_EXCEPTION_BYTES => count,
            _ => return Err(reader.truncated(WHAT)),
        };
        let mut entry = Self {
            base,
            exceptions: Vec::with_capacity(exceptions),
        };
        let mut previous = base;
        for _ in 0..exceptions {
            let (gap, length) = (reader.varint(WHAT)?, reader.varint(WHAT)?);
            let start = previous.checked_add(2).and_then(|least| least.checked_add(gap));
            let range = start.and_then(|start| Some((start, start.checked_add(length)?)));
            let (start, end) = range.ok_or_else(|| reader.malformed(WHAT))?;
            entry.exceptions.push((start, end));
            previous = end;
        }
        Ok(entry)
    }
}
