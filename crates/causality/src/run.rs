//! Runs of dots: what a causal context is made of, and how they show to others.

use std::ops::RangeInclusive;

use crate::dot::{Actor, Dot};

/// A part of a [`CausalContext`](crate::CausalContext): of every one of these incarnations, these counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The node's identity in the cluster.
    pub node: u64,
    /// More than one only where they are closed.
    pub incarnations: RangeInclusive<u64>,
    /// `1..=u64::MAX` where the incarnations are closed.
    pub counters: RangeInclusive<u64>,
}

impl Span {
    /// Whether all dots of these incarnations are in the set.
    pub fn is_closed(&self) -> bool {
        self.counters == (1..=u64::MAX)
    }

    /// The least dot and the greatest: every dot that is between them in order is in the span.
    pub fn dots(&self) -> RangeInclusive<Dot> {
        let dot = |incarnation, counter| {
            let node = self.node;
            Dot::new(Actor { node, incarnation }, counter)
        };
        dot(*self.incarnations.start(), *self.counters.start())..=dot(*self.incarnations.end(), *self.counters.end())
    }
}

/// A node's dots from one to another, none left out.
///
/// A dot's place is a number: its incarnation above its counter. Counter 0 is no dot, and its place is in a run if and
/// only if that of counter 1 is: so the end of an incarnation and the beginning of the next are neighbours, and runs are
/// to each other what ranges of numbers are. No run ends at the place of a counter 0, and none begins at that of a
/// counter 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) node: u64,
    pub(crate) start: u128,
    pub(crate) end: u128,
}

const fn place(incarnation: u64, counter: u64) -> u128 {
    (incarnation as u128) << 64 | counter as u128
}

impl Run {
    /// The counters `first..=last` of an actor, where `1 <= first <= last`.
    pub(crate) const fn of(actor: Actor, first: u64, last: u64) -> Self {
        Self {
            node: actor.node,
            start: place(actor.incarnation, if first == 1 { 0 } else { first }),
            end: place(actor.incarnation, last),
        }
    }

    pub(crate) const fn all_of(actor: Actor) -> Self {
        Self::of(actor, 1, u64::MAX)
    }

    /// All incarnations of a node before this one: before 0 there is none.
    pub(crate) fn before(node: u64, incarnation: u64) -> Option<Self> {
        let last = incarnation.checked_sub(1)?;
        Some(Self {
            node,
            start: 0,
            end: place(last, u64::MAX),
        })
    }

    /// Whether this one ends before the other begins.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        (self.node, self.end) < (other.node, other.start)
    }

    /// Whether this one ends before the other begins, and there is something between.
    pub(crate) fn is_apart_before(&self, other: &Self) -> bool {
        (self.node, self.end) < (other.node, other.start.saturating_sub(1))
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.node == other.node && self.start <= other.start && other.end <= self.end
    }

    /// From where the first of the two begins to where the last one ends.
    pub(crate) fn joined(&self, other: &Self) -> Self {
        Self {
            node: self.node,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    pub(crate) const fn first_actor(&self) -> Actor {
        Actor {
            node: self.node,
            incarnation: (self.start >> 64) as u64,
        }
    }

    pub(crate) const fn last_actor(&self) -> Actor {
        Actor {
            node: self.node,
            incarnation: (self.end >> 64) as u64,
        }
    }

    pub(crate) fn begins_in_same_actor(&self, other: &Self) -> bool {
        self.first_actor() == other.first_actor()
    }

    /// The first and the last counter: of one actor, or all of each.
    pub(crate) fn counters(&self) -> (u64, u64) {
        ((self.start as u64).max(1), self.end as u64)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.counters() == (1, u64::MAX)
    }

    /// The first piece and the rest. A piece is of one actor, or of closed ones: a run is the end of an incarnation, then
    /// closed ones, then the beginning of one, or what of these there is.
    pub(crate) fn split(self) -> (Self, Option<Self>) {
        let (first, last) = (self.first_actor().incarnation, self.last_actor().incarnation);
        let last_of_piece = match self.counters() {
            _ if first == last => return (self, None),
            (1, u64::MAX) => return (self, None),
            (1, _) => last - 1,
            _ => first,
        };
        let end = place(last_of_piece, u64::MAX);
        let rest = Self { start: end + 1, ..self };
        (Self { end, ..self }, Some(rest))
    }

    pub(crate) fn span(&self) -> Span {
        let (start, end) = self.counters();
        Span {
            node: self.node,
            incarnations: self.first_actor().incarnation..=self.last_actor().incarnation,
            counters: start..=end,
        }
    }
}
