//! Values that expire: hidden at one instant everywhere, and never shown after it.

use std::time::Duration;

use annulus_coordinator::BucketSpec;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, Workload, key};

/// Long enough to be read, short enough to be outlived.
pub(super) const LIFETIME: Duration = Duration::from_secs(5);

pub(super) struct Ttl;

impl Workload for Ttl {
    fn name(&self) -> &'static str {
        "ttl"
    }

    fn bucket(&self) -> Option<BucketSpec> {
        Some(BucketSpec {
            ttl: Some(LIFETIME),
            ..BucketSpec::default()
        })
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 4);
        let options = seen.options(rng);
        let ask = match rng.random_bool(0.5) {
            true => Ask::Get,
            false => Ask::Put {
                bytes: 0,
                with: seen.any(rng, &key),
            },
        };
        vec![Call { key, ask, options }]
    }
}
