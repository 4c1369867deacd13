//! Large values, which fill disks, hints and frames.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload, key};

pub(super) struct Large;

impl Workload for Large {
    fn name(&self) -> &'static str {
        "large"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 4);
        let options = seen.options(rng);
        let ask = match rng.random_bool(0.4) {
            true => Ask::Get,
            false => Ask::Put {
                bytes: 1 << rng.random_range(8..17),
                with: seen.any(rng, &key),
            },
        };
        vec![Call { key, ask, options }]
    }
}
