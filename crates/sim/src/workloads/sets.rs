//! Sets by sibling merge: what was read is written back with one more, so siblings come and go.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, With, Workload, key};

pub(super) struct Sets;

impl Workload for Sets {
    fn name(&self) -> &'static str {
        "sets"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 3);
        let options = seen.options(rng);
        let ask = match seen.mine(&key).filter(|_| rng.random_bool(0.6)) {
            Some(sight) => Ask::Put {
                bytes: 0,
                with: With::Context(sight.clone()),
            },
            None => Ask::Get,
        };
        vec![Call { key, ask, options }]
    }
}
