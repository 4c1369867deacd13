//! Sets as a type: elements are added, removed and removed as they were seen, and sometimes all of them at once.

use annulus_causality::{Change, ConflictPolicy, Element};
use annulus_coordinator::BucketSpec;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Ask, Call, Seen, With, Workload, key};

pub(super) struct Carts;

/// An element that there is to add.
fn element(rng: &mut StdRng) -> Element {
    let number: u32 = rng.random_range(1..6);
    Element::parse(number.to_string().into_bytes().into()).expect("a number has digits")
}

impl Workload for Carts {
    fn name(&self) -> &'static str {
        "carts"
    }

    fn bucket(&self) -> Option<BucketSpec> {
        Some(BucketSpec {
            conflicts: Some(ConflictPolicy::Set),
            ..BucketSpec::default()
        })
    }

    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call> {
        let key = key(rng, 3);
        let options = seen.options(rng);
        let token = || seen.mine(&key).map(|sight| sight.token.clone());
        let ask = match rng.random_range(0..100) {
            0..30 => Ask::Get,
            30..65 => Ask::Change {
                change: Change::Add(element(rng)),
                token: token().filter(|_| rng.random_bool(0.2)),
            },
            65..97 => Ask::Change {
                change: Change::Remove(element(rng)),
                token: token().filter(|_| rng.random_bool(0.7)),
            },
            _ => Ask::Delete { with: With::Nothing },
        };
        vec![Call { key, ask, options }]
    }
}
