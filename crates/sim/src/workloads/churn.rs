//! Deletes and re-creates: keys come and go, with and without contexts, and must not come back by themselves.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Condition, Seen, With, Workload, key};

pub(super) struct Churn;

impl Workload for Churn {
    fn name(&self) -> &'static str {
        "churn"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 4);
        let options = seen.options(rng);
        let ask = match rng.random_range(0..100) {
            0..30 => Ask::Get,
            30..60 => Ask::Delete {
                with: seen.any(rng, &key),
            },
            60..70 => Ask::Put {
                bytes: 0,
                with: With::Guard(Condition::Absent, Vec::new()),
            },
            _ => Ask::Put {
                bytes: 0,
                with: seen.any(rng, &key),
            },
        };
        vec![Call { key, ask, options }]
    }
}
