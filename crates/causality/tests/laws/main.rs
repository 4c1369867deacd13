//! What the crate promises, each law beside a naive twin or a fixed example.
#![allow(clippy::unwrap_used)]

mod codec;
mod context;
mod expiry;
mod object;
mod time;
mod token;
mod typed;

use annulus_causality::{Actor, CausalContext, Dot, Object, Timestamp, Version};
use proptest::prelude::*;

/// Few actors, of which some are incarnations of one node.
pub(crate) fn actor() -> impl Strategy<Value = Actor> {
    (
        prop_oneof![Just(1), Just(2), Just(u64::MAX)],
        prop_oneof![Just(0), Just(1), Just(2), Just(u64::MAX)],
    )
        .prop_map(|(node, incarnation)| Actor { node, incarnation })
}

pub(crate) fn dot(node: u64, counter: u64) -> Dot {
    Dot::new(Actor { node, incarnation: 1 }, counter)
}

pub(crate) fn context<const COUNT: usize>(dots: [Dot; COUNT]) -> CausalContext {
    dots.into_iter().collect()
}

/// A version that says no more than its value and its time.
pub(crate) fn version(value: &'static str, millis: u64) -> Version {
    Version::new(value.into(), None, Vec::new(), Timestamp { millis, logical: 0 }, None)
}

pub(crate) fn object<const COUNT: usize>(versions: [(Dot, Version); COUNT]) -> Object {
    let context = versions.iter().map(|(dot, _)| *dot).collect();
    Object::new(versions.into(), context)
}
