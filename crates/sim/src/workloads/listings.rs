//! Listings while keys come and go.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload, key};

pub(super) struct Listings;

impl Workload for Listings {
    fn name(&self) -> &'static str {
        "listings"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 12);
        let options = seen.options(rng);
        let ask = match rng.random_range(0..100) {
            0..20 => Ask::List {
                limit: rng.random_range(1..6),
            },
            20..40 => Ask::Get,
            40..55 => Ask::Delete {
                with: seen.any(rng, &key),
            },
            _ => Ask::Put {
                bytes: 0,
                with: seen.any(rng, &key),
            },
        };
        vec![Call { key, ask, options }]
    }
}
