//! Counters by compare-and-write: what was read is replaced if it is still there.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Condition, Seen, With, Workload, key};

pub(super) struct Counters;

impl Workload for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 3);
        let options = seen.options(rng);
        let sight = seen.mine(&key).filter(|_| rng.random_bool(0.6));
        let ask = match sight.and_then(|sight| Some((sight.etag?, sight))) {
            Some((_, sight)) if sight.values.is_empty() => Ask::Put {
                bytes: 0,
                with: With::Guard(Condition::Absent, Vec::new()),
            },
            Some((etag, sight)) => Ask::Put {
                bytes: 0,
                with: With::Guard(Condition::Match(vec![etag]), sight.values.clone()),
            },
            None => Ask::Get,
        };
        vec![Call { key, ask, options }]
    }
}
