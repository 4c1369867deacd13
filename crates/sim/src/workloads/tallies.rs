//! Counters as a type: everybody adds and takes away through any node.

use std::num::NonZeroI64;

use annulus_causality::{Change, ConflictPolicy};
use annulus_coordinator::BucketSpec;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload, key};

pub(super) struct Tallies;

impl Workload for Tallies {
    fn name(&self) -> &'static str {
        "tallies"
    }

    fn bucket(&self) -> Option<BucketSpec> {
        Some(BucketSpec {
            conflicts: Some(ConflictPolicy::Counter),
            ..BucketSpec::default()
        })
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 2);
        let options = seen.options(rng);
        // Mostly large amounts: one that counts twice stands out.
        let amount = match rng.random_range(0..10) {
            0 => -rng.random_range(1..100),
            _ => 1i64 << rng.random_range(0..40),
        };
        let ask = match NonZeroI64::new(amount) {
            Some(by) if rng.random_bool(0.7) => Ask::Change {
                change: Change::Increment(by),
                token: None,
            },
            _ => Ask::Get,
        };
        vec![Call { key, ask, options }]
    }
}
