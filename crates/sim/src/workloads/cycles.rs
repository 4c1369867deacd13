//! Cycles: a client writes at one replica, deletes what it wrote, and reads from all: what one owner missed another must tell.

use annulus_coordinator::{Level, Options};
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, With, Workload, key};

pub(super) struct Cycles;

impl Workload for Cycles {
    fn name(&self) -> &'static str {
        "cycles"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 10);
        let ask = match seen.mine(&key) {
            _ if rng.random_bool(0.2) => Ask::Get,
            Some(sight) if !sight.values.is_empty() => Ask::Delete {
                with: With::Context(sight.clone()),
            },
            Some(sight) => Ask::Put {
                bytes: 0,
                with: With::Context(sight.clone()),
            },
            None => Ask::Put {
                bytes: 0,
                with: With::Nothing,
            },
        };
        let options = Options {
            r: Some(Level::All),
            w: Some(Level::One),
            ..Options::default()
        };
        vec![Call { key, ask, options }]
    }
}
