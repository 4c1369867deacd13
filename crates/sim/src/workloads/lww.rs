//! Last write wins: one value is shown, and the same one everywhere.

use annulus_coordinator::BucketSpec;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload, key, last_write_wins};

pub(super) struct Lww;

impl Workload for Lww {
    fn name(&self) -> &'static str {
        "lww"
    }

    fn bucket(&self) -> Option<BucketSpec> {
        Some(last_write_wins())
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 4);
        let options = seen.options(rng);
        let ask = match rng.random_range(0..100) {
            0..45 => Ask::Get,
            45..90 => Ask::Put {
                bytes: 0,
                with: seen.any(rng, &key),
            },
            _ => Ask::Delete {
                with: seen.any(rng, &key),
            },
        };
        vec![Call { key, ask, options }]
    }
}
