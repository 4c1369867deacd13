//! One key that everybody writes, in bursts.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload};

pub(super) struct Hot;

impl Workload for Hot {
    fn name(&self) -> &'static str {
        "hot"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let burst = rng.random_range(1..5);
        let call = |rng: &mut StdRng| {
            let key = "hot".to_owned();
            let ask = match rng.random_bool(0.5) {
                true => Ask::Get,
                false => Ask::Put {
                    bytes: 0,
                    with: seen.any(rng, &key),
                },
            };
            let options = seen.options(rng);
            Call { key, ask, options }
        };
        (0..burst).map(|_| call(rng)).collect()
    }
}
