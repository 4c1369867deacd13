//! Batches: many keys at one moment, each a write or a read of its own.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload};

pub(super) struct Batches;

impl Workload for Batches {
    fn name(&self) -> &'static str {
        "batches"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let options = seen.options(rng);
        let call = |rng: &mut StdRng, number: u32| {
            let key = format!("k{number}");
            let ask = match rng.random_bool(0.2) {
                true => Ask::Get,
                false => Ask::Put {
                    bytes: 0,
                    with: seen.any(rng, &key),
                },
            };
            Call { key, ask, options }
        };
        let count = rng.random_range(2..16);
        (0..count).map(|number| call(rng, number)).collect()
    }
}
