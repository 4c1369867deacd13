//! One client of the bench: it takes requests from the plan, sends them one after the other, and keeps its own tally.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use annulus_client::{Client, Options, Put, Read};
use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::{
    keys::{Keys, name},
    plan::Plan,
    tally::{Kind, Tally},
};

pub(super) struct Load {
    pub(super) client: Client,
    pub(super) bucket: String,
    pub(super) options: Options,
    pub(super) keys: Keys,
    /// Per cent of PUTs; the rest are GETs.
    pub(super) puts: u8,
    pub(super) values: Values,
}

/// Different values without a copy: windows into random bytes, which no compression makes smaller.
pub(super) struct Values {
    bytes: Bytes,
    size: usize,
}

/// How many different values there are.
const WINDOWS: usize = 4096;

impl Values {
    pub(super) fn new(size: usize, seed: u64) -> Self {
        let mut bytes = vec![0; size + WINDOWS];
        StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        Self {
            bytes: bytes.into(),
            size,
        }
    }

    pub(super) fn next(&self, random: &mut impl Rng) -> Bytes {
        let start = random.random_range(0..WINDOWS);
        self.bytes.slice(start..start + self.size)
    }
}

pub(super) async fn work(load: Arc<Load>, plan: Arc<Plan>, counter: Arc<AtomicU64>, mut random: StdRng) -> Tally {
    let mut tally = Tally::new();
    while let Some(due) = plan.next().await {
        let key = name(load.keys.next(&mut random));
        let result = if random.random_range(0..100) < load.puts {
            let put = Put::new(load.values.next(&mut random));
            load.client
                .put(&load.bucket, key, put, &load.options)
                .await
                .map(|_| Kind::Put)
        } else {
            load.client
                .get(&load.bucket, key, &load.options)
                .await
                .map(|read| match read {
                    Read::None { .. } => Kind::Miss,
                    Read::One(_) | Read::Siblings(_) => Kind::Get,
                })
        };
        tally.record(due.elapsed(), result);
        counter.fetch_add(1, Ordering::Relaxed);
    }
    tally
}
