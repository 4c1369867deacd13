//! A causal context is a set of dots in one canonical form, whose cost is that of its gaps, never that of its counters or
//! of the restarts of its nodes.

use std::fmt;
use std::iter;
use std::ops::RangeInclusive;

use crate::codec::{DecodeError, Reader, put_varint};
use crate::dot::{Actor, Dot};
use crate::run::{Run, Span};

const WHAT: &str = "causal context";

/// A set of dots: what a replica has incorporated, what an object's past is, what a client has seen.
///
/// A plain version vector would not do: a fallback that coordinates two writes to a key would cover its first by its
/// second. So the set is kept as runs of dots without a gap. The dots of a node have an order, that of its incarnations
/// and in each that of the counters, and a run goes from any of them to any other: all incarnations that are finished
/// with what the present one has written are one run, however often the node was restarted.
///
/// An actor is *closed* when all of its dots are in the set, also those it never assigned. That is no special case of
/// any operation: the difference of a closed actor and a partial one is exact, the rest up to `u64::MAX`, which the union
/// with the partial one closes again.
///
/// ```
/// use annulus_causality::{Actor, CausalContext, Dot};
///
/// let actor = Actor { node: 7, incarnation: 41 };
/// let seen: CausalContext = [1, 2, 5].into_iter().map(|counter| Dot { actor, counter }).collect();
/// assert_eq!(seen.open_ranges().collect::<Vec<_>>(), [(actor, 1..=2), (actor, 5..=5)]);
///
/// let mut closed = seen.clone();
/// closed.close_below(7, 42);
/// assert_eq!(closed.to_string(), "{7.0-41: closed}");
/// let mut rest = closed.difference(&seen);
/// assert_eq!(rest.open_ranges().collect::<Vec<_>>(), [(actor, 3..=4), (actor, 6..=u64::MAX)]);
/// rest.union(&seen);
/// assert_eq!(rest, closed);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CausalContext {
    /// Ascending; none touches the next.
    runs: Vec<Run>,
}

impl CausalContext {
    /// The empty set.
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// Whether the dot is in the set. Counter 0 never is.
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter > 0 && self.covers(&Run::of(dot.actor, dot.counter, dot.counter))
    }

    /// Adds a dot, and says whether it is new. Counter 0 is not a dot and is not added.
    pub fn insert(&mut self, dot: Dot) -> bool {
        dot.counter > 0 && self.add(Run::of(dot.actor, dot.counter, dot.counter))
    }

    /// Adds all dots of an actor whose counters are in the range; counter 0 is left out, an empty range adds nothing.
    pub fn insert_range(&mut self, actor: Actor, counters: RangeInclusive<u64>) {
        let (start, end) = ((*counters.start()).max(1), *counters.end());
        // A range iterated to its end still shows its bounds, and only `is_empty` tells.
        if start <= end && !counters.is_empty() {
            self.add(Run::of(actor, start, end));
        }
    }

    /// Adds all dots of an actor, also those it never assigned: nothing more is to be expected of it.
    pub fn close(&mut self, actor: Actor) {
        self.add(Run::all_of(actor));
    }

    /// Every incarnation of the node before this one, closed.
    pub fn closed_below(node: u64, incarnation: u64) -> Self {
        let mut closed = Self::new();
        closed.close_below(node, incarnation);
        closed
    }

    /// Closes every incarnation of the node before this one, also those that never were: an incarnation of 0 adds nothing.
    pub fn close_below(&mut self, node: u64, incarnation: u64) {
        if let Some(run) = Run::before(node, incarnation) {
            self.add(run);
        }
    }

    /// Whether all dots of the actor are in the set.
    pub fn is_closed(&self, actor: Actor) -> bool {
        self.covers(&Run::all_of(actor))
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &Self) {
        if self.is_empty() {
            return self.runs.clone_from(&other.runs);
        }
        let known = self.runs.len();
        let mut position = other.runs.first().map_or(0, |run| self.first_not_apart_before(run));
        let mut has_grown = false;
        for theirs in &other.runs {
            while self.runs[..known]
                .get(position)
                .is_some_and(|mine| mine.is_apart_before(theirs))
            {
                position += 1;
            }
            match self.runs[..known].get_mut(position) {
                Some(mine) if mine.covers(theirs) => continue,
                Some(mine) if !theirs.is_apart_before(mine) => *mine = mine.joined(theirs),
                _ => self.runs.push(*theirs),
            }
            has_grown = true;
        }
        if !has_grown {
            return;
        }
        if self.runs.len() > known {
            // Two ascending sequences: the standard sort finds and merges them in one pass.
            self.runs.sort_by_key(|run| (run.node, run.start));
        }
        self.runs.dedup_by(|next, last| {
            let touch = !last.is_apart_before(next);
            if touch {
                *last = last.joined(next);
            }
            touch
        });
    }

    /// What is in `self` and not in `other`, exactly; see [`CausalContext`] for closed actors.
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::new();
        'runs: for (run, holes) in self.overlaps(other) {
            let mut start = run.start;
            for hole in holes {
                if hole.start > start {
                    let end = hole.start - 1;
                    rest.runs.push(Run { start, end, ..*run });
                }
                if hole.end >= run.end {
                    continue 'runs;
                }
                start = hole.end + 1;
            }
            rest.runs.push(Run { start, ..*run });
        }
        rest
    }

    /// The part of the set that is of the node's incarnations before this one.
    pub fn before(&self, node: u64, incarnation: u64) -> Self {
        let bound = Run::before(node, incarnation);
        let runs = bound.iter().flat_map(|bound| self.within(bound));
        Self { runs: runs.collect() }
    }

    /// Whether some dot is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.overlaps(other).any(|(_, common)| !common.is_empty())
    }

    /// Whether every dot of `self` is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.overlaps(other)
            .all(|(run, common)| common.first().is_some_and(|common| common.covers(run)))
    }

    /// Whether there is no dot.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many dots there are; `u64::MAX` where there are more, or an actor is closed.
    pub fn count(&self) -> u64 {
        let counts = self.spans().map(|span| match span.is_closed() {
            true => u64::MAX,
            false => (span.counters.end() - span.counters.start()).saturating_add(1),
        });
        counts.fold(0, u64::saturating_add)
    }

    /// The nodes of which some dot is in the set, ascending.
    pub fn nodes(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.chunk_by(|a, b| a.node == b.node).map(|runs| runs[0].node)
    }

    /// The whole set as spans, ascending by node, incarnation and counter. Those of one actor do not touch, nor do closed
    /// ones: neighbours of which all is in the set are one span.
    ///
    /// Iterate over the spans, never over what is in one: it may be 2⁶⁴ incarnations of 2⁶⁴ counters.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let pieces = self.entries().flat_map(|entry| entry.pieces());
        pieces.map(|piece| piece.span())
    }

    /// The ranges of the actors that are not closed, ascending by actor and counter; they do not touch.
    ///
    /// Iterate over the ranges, never over their counters: a range from outside may hold 2⁶⁴ of them.
    pub fn open_ranges(&self) -> impl Iterator<Item = (Actor, RangeInclusive<u64>)> + '_ {
        let open = self.spans().filter(|span| !span.is_closed());
        open.map(|span| (span.dots().start().actor, span.counters))
    }

    /// One actor's part of the set, as ascending ranges that do not touch; `1..=u64::MAX` where it is closed.
    pub fn ranges_of(&self, actor: Actor) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.within(&Run::all_of(actor)).map(|run| run.span().counters)
    }

    /// The greatest counter of the actor: 0 where there is none, `u64::MAX` where it is closed.
    pub fn max_counter(&self, actor: Actor) -> u64 {
        let all = Run::all_of(actor);
        let last = self.overlapping(&all).last();
        last.map_or(0, |last| last.end.min(all.end) as u64)
    }

    /// Appends the encoding: one entry for each actor that is not closed, and one for each span of those that are, each
    /// as its difference from the one before. Clocks carry the finished incarnations of a node for ever.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries().count() as u64);
        let mut previous: Option<Actor> = None;
        for entry in self.entries() {
            let (first, last) = (entry.first.first_actor(), entry.first.last_actor());
            put_varint(out, first.node - previous.map_or(0, |previous| previous.node));
            put_varint(
                out,
                match previous {
                    Some(previous) if previous.node == first.node => first.incarnation - previous.incarnation - 1,
                    _ => first.incarnation,
                },
            );
            if entry.first.is_closed() {
                put_varint(out, 0);
                put_varint(out, last.incarnation - first.incarnation);
            } else {
                entry.encode_open(out);
            }
            previous = Some(last);
        }
    }

    /// Reads what [`CausalContext::encode`] wrote; every set has one encoding, any other is refused.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        const LEAST_ENTRY_BYTES: usize = 4;
        let count = reader.count(LEAST_ENTRY_BYTES, WHAT)?;
        let mut context = Self {
            runs: Vec::with_capacity(count),
        };
        let mut previous = None;
        for _ in 0..count {
            let actor = decode_actor(reader, previous)?;
            let last = match reader.varint(WHAT)?.checked_sub(1) {
                None => context.decode_closed(reader, actor)?,
                Some(exceptions) => context.decode_open(reader, actor, exceptions)?,
            };
            previous = Some(last);
        }
        Ok(context)
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut runs = &self.runs[..];
        let mut rest: Option<Run> = None;
        iter::from_fn(move || {
            let run = match rest {
                Some(run) => run,
                None => *runs.split_off_first()?,
            };
            let (first, first_rest) = run.split();
            let others = runs.iter().take_while(|other| other.begins_in_same_actor(&first));
            let (others, next) = runs.split_at(others.count());
            runs = next;
            rest = others.last().map_or(first_rest, |last| last.split().1);
            Some(Entry { first, others })
        })
    }

    fn decode_closed(&mut self, reader: &mut Reader, first: Actor) -> Result<Actor, DecodeError> {
        let more = reader.varint(WHAT)?;
        let before = first.incarnation.checked_sub(1);
        let touches = before.is_some_and(|incarnation| self.is_closed(Actor { incarnation, ..first }));
        match first.incarnation.checked_add(more) {
            Some(incarnation) if !touches => {
                let last = Actor { incarnation, ..first };
                self.append(Run::all_of(first).joined(&Run::all_of(last)));
                Ok(last)
            }
            _ => Err(reader.malformed(WHAT)),
        }
    }

    fn decode_open(&mut self, reader: &mut Reader, actor: Actor, exceptions: u64) -> Result<Actor, DecodeError> {
        const LEAST_EXCEPTION_BYTES: usize = 2;
        let base = reader.varint(WHAT)?;
        if base == u64::MAX || (base == 0 && exceptions == 0) {
            return Err(reader.malformed(WHAT));
        }
        if exceptions > (reader.remaining() / LEAST_EXCEPTION_BYTES) as u64 {
            return Err(reader.truncated(WHAT));
        }
        // What comes from outside makes no more room than it fills, but for a quarter: a run is many times as large as its encoding.
        let more = exceptions as usize + 1;
        if self.runs.capacity() - self.runs.len() < more {
            self.runs.reserve_exact(more.max(self.runs.len() / 4));
        }
        if base > 0 {
            self.append(Run::of(actor, 1, base));
        }
        let mut previous = base;
        for _ in 0..exceptions {
            let (gap, length) = (reader.varint(WHAT)?, reader.varint(WHAT)?);
            let start = previous.checked_add(2).and_then(|least| least.checked_add(gap));
            let range = start.and_then(|start| Some((start, start.checked_add(length)?)));
            let (start, end) = range.ok_or_else(|| reader.malformed(WHAT))?;
            self.append(Run::of(actor, start, end));
            previous = end;
        }
        Ok(actor)
    }

    /// Adds a run that begins after all that is here.
    fn append(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if !last.is_apart_before(&run) => last.end = run.end,
            _ => self.runs.push(run),
        }
    }

    /// Adds a run, and says whether some of it is new.
    fn add(&mut self, run: Run) -> bool {
        let first = self.first_not_apart_before(&run);
        let touching = self.runs[first..]
            .iter()
            .take_while(|known| !run.is_apart_before(known));
        let after = first + touching.count();
        if first == after {
            self.runs.insert(first, run);
            return true;
        }
        if self.runs[first].covers(&run) {
            return false;
        }
        self.runs[first] = self.runs[first].joined(&run).joined(&self.runs[after - 1]);
        self.runs.drain(first + 1..after);
        true
    }

    /// Whether the run is in here as a whole.
    fn covers(&self, run: &Run) -> bool {
        let known = self.runs.get(self.first_not_before(run));
        known.is_some_and(|known| known.covers(run))
    }

    /// The runs that have a dot in common with this one.
    fn overlapping(&self, run: &Run) -> &[Run] {
        let from = &self.runs[self.first_not_before(run)..];
        &from[..from.partition_point(|known| !run.is_before(known))]
    }

    /// Each run with those of the other set that have a dot in common with it.
    fn overlaps<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Run, &'a [Run])> {
        let first = self.runs.first().map_or(0, |run| other.first_not_before(run));
        let mut theirs = &other.runs[first..];
        self.runs.iter().map(move |run| {
            let skipped = theirs.iter().take_while(|known| known.is_before(run)).count();
            theirs = &theirs[skipped..];
            let common = theirs.iter().take_while(|known| !run.is_before(known)).count();
            (run, &theirs[..common])
        })
    }

    fn first_not_before(&self, run: &Run) -> usize {
        self.runs.partition_point(|known| known.is_before(run))
    }

    fn first_not_apart_before(&self, run: &Run) -> usize {
        self.runs.partition_point(|known| known.is_apart_before(run))
    }

    /// What is in here of a run.
    fn within(&self, bound: &Run) -> impl Iterator<Item = Run> + use<'_> {
        let bound = *bound;
        self.overlapping(&bound).iter().map(move |run| Run {
            start: run.start.max(bound.start),
            end: run.end.min(bound.end),
            ..bound
        })
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
    /// As `{7.1: 1-2 5, 8.0-41: closed}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, entry) in self.entries().enumerate() {
            let (first, last) = (entry.first.first_actor(), entry.first.last_actor());
            write!(f, "{}{first}", if index == 0 { "" } else { ", " })?;
            if first != last {
                write!(f, "-{}", last.incarnation)?;
            }
            f.write_str(":")?;
            for piece in entry.pieces() {
                match piece.counters() {
                    (1, u64::MAX) => f.write_str(" closed")?,
                    (start, end) if start == end => write!(f, " {start}")?,
                    (start, end) => write!(f, " {start}-{end}")?,
                }
            }
        }
        f.write_str("}")
    }
}

/// The ranges of an actor that is not closed, or one closed span.
#[derive(Clone, Copy)]
struct Entry<'a> {
    first: Run,
    /// These begin in the same actor. The last may go on beyond it.
    others: &'a [Run],
}

impl<'a> Entry<'a> {
    fn pieces(self) -> impl Iterator<Item = Run> + use<'a> {
        iter::once(self.first).chain(self.others.iter().map(|run| run.split().0))
    }

    /// The number of exceptions plus one (a closed entry has a zero here), the base, which is the end of a range from 1, and
    /// each other range as its distance from what it may not touch and its length less one: whatever is read so is
    /// canonical, but for what `decode_open` refuses.
    fn encode_open(self, out: &mut Vec<u8>) {
        let (base, exceptions) = match self.first.counters() {
            (1, end) => (end, self.others.len()),
            _ => (0, self.others.len() + 1),
        };
        put_varint(out, exceptions as u64 + 1);
        put_varint(out, base);
        let mut previous = base;
        for piece in self.pieces().skip(usize::from(base > 0)) {
            let (start, end) = piece.counters();
            put_varint(out, start - previous - 2);
            put_varint(out, end - start);
            previous = end;
        }
    }
}

/// The first actor of an entry, after the last one of the entry before.
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
    actor.ok_or_else(|| reader.malformed(WHAT))
}
