//! Sessions: each client writes keys of its own with one replica and reads them, and others' keys, from one, through any node.

use annulus_coordinator::{Level, Options};
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Manner, Seen, With, Workload};

pub(super) struct Sessions;

/// Of a client.
const KEYS: u32 = 2;
/// Clients whose keys are read.
const CLIENTS: u32 = 10;

impl Workload for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn manner(&self) -> Manner {
        Manner::InSession
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let mine = rng.random_bool(0.7);
        let owner = if mine {
            seen.client
        } else {
            rng.random_range(0..CLIENTS)
        };
        let key = format!("c{owner}k{}", rng.random_range(0..KEYS));
        let with = With::Nothing;
        let ask = match rng.random_range(0..100) {
            0..45 if mine => Ask::Put { bytes: 0, with },
            45..55 if mine => Ask::Delete { with },
            _ => Ask::Get,
        };
        let weak = Options {
            r: Some(Level::One),
            w: Some(Level::One),
            ..seen.options(rng)
        };
        let options = if rng.random_bool(0.9) { weak } else { seen.options(rng) };
        vec![Call { key, ask, options }]
    }
}
