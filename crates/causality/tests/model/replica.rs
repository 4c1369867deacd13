//! What the world asks of a replica, and the rules that can be switched off to see what breaks.

use std::collections::BTreeSet;

use annulus_causality::{Actor, Dot};

pub(crate) const KEYS: [Key; 4] = [0, 1, 2, 3];

pub(crate) type Key = usize;
/// Names a write for the checks; what is stored as its value.
pub(crate) type WriteId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The whole clock goes out as context with every object that is sent.
    Fill,
    /// A received write adds its own dots to the clock, never its context.
    OwnDotsOnly,
    /// A log entry is kept until every owner's clock has it. Only the cost of catching up rests on it.
    LogUntilAll,
    /// Missing dots without a log entry mean that the whole partition is streamed.
    StreamWhenLogShort,
    /// Every start takes a new actor.
    NewIncarnation,
    /// Finished actors are closed only when no member can still hold a hint with one of their dots.
    CloseAsksAll,
    /// The record of a deleted key stays until the clock covers its context.
    KeepUntilCovered,
    /// An answer counts only after the store is durable.
    AckAfterStore,
    /// An owner with amnesia counts again only after it has caught up with every other owner.
    RefillFromAll,
}

impl Rule {
    pub(crate) const ALL: [Self; 9] = [
        Self::Fill,
        Self::OwnDotsOnly,
        Self::LogUntilAll,
        Self::StreamWhenLogShort,
        Self::NewIncarnation,
        Self::CloseAsksAll,
        Self::KeepUntilCovered,
        Self::AckAfterStore,
        Self::RefillFromAll,
    ];
}

/// Whether the actor is an earlier incarnation of the node of `current`.
pub(crate) fn is_finished(actor: Actor, current: Actor) -> bool {
    actor.node == current.node && actor.incarnation < current.incarnation
}

/// The durable state of one owner: its clock, objects and log.
pub(crate) trait Replica: Clone {
    /// A key's versions and context on their way: a write, a hint, an answer to a read.
    type Delta: Clone;

    fn new(rule_off: Option<Rule>) -> Self;
    /// What a coordinator knows that is no owner.
    fn nothing() -> Self::Delta;
    fn read(&self, key: Key) -> Self::Delta;
    /// The delta of a write by one who knows `known`, for a client that has seen `seen`.
    fn write(known: &Self::Delta, dot: Dot, value: Option<WriteId>, seen: &Self::Delta) -> Self::Delta;
    /// What a client sees of two answers.
    fn merge(a: Self::Delta, b: Self::Delta) -> Self::Delta;
    fn join(&mut self, key: Key, delta: &Self::Delta, dot: Dot);
    /// Takes over what `source` has and this one lacks; returns the keys that were sent.
    fn catch_up(&mut self, source: &Self) -> BTreeSet<Key>;

    fn seen(&self, dot: Dot) -> bool;
    fn logged(&self) -> Vec<Dot>;
    fn drop_from_log(&mut self, dot: Dot);
    /// Whether both know the same of the finished incarnations of the node of `current`.
    fn same_before(&self, other: &Self, current: Actor) -> bool;
    /// Closes all incarnations of a node before `current`.
    fn close_before(&mut self, current: Actor);
    fn live(&self, key: Key) -> Vec<(Dot, WriteId)>;
    /// Whether there is a record of a key that has no version.
    fn has_leftover(&self, key: Key) -> bool;
}
