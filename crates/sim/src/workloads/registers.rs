//! Registers: unique values, read and written with contexts that are kept, lost, reused and shared.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload, key};

pub(super) struct Registers;

impl Workload for Registers {
    fn name(&self) -> &'static str {
        "registers"
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 8);
        let ask = match rng.random_range(0..100) {
            0..45 => Ask::Get,
            45..90 => Ask::Put {
                bytes: 0,
                with: seen.any(rng, &key),
            },
            90..97 => Ask::Delete {
                with: seen.any(rng, &key),
            },
            _ => match seen.foreign(rng, &key) {
                Some(token) => Ask::Foreign { token },
                None => Ask::Get,
            },
        };
        let options = seen.options(rng);
        vec![Call { key, ask, options }]
    }
}
