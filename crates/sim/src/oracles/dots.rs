//! A dot names one write of one key, whoever sends it, for ever.

use std::collections::BTreeMap;

use annulus_causality::Dot;
use annulus_protocol::Delta;
use annulus_ring::{Partitions, Position};
use annulus_storage::MAX_COUNTER;

/// Every dot that ever travelled with a value.
#[derive(Debug)]
pub(crate) struct Dots {
    partitions: Partitions,
    /// By partition and dot: the key's position, and the content.
    seen: BTreeMap<(u8, u32, Dot), (u64, u64)>,
}

impl Dots {
    pub(crate) fn new(partitions: Partitions) -> Dots {
        Dots {
            partitions,
            seen: BTreeMap::new(),
        }
    }

    /// # Errors
    /// Where a dot was seen with another key or another value.
    pub(crate) fn delta(&mut self, delta: &Delta) -> Result<(), String> {
        let position = Position::of(&delta.at.bucket, &delta.at.key);
        let partition = self.partitions.of(position);
        for (dot, version) in delta.object.versions() {
            if dot.counter > MAX_COUNTER {
                return Err(format!("{dot} is above the greatest counter"));
            }
            let mut content = version.content_hash() as u64;
            content ^= version.modified.millis.rotate_left(20) ^ u64::from(version.modified.logical);
            content ^= version.expires.unwrap_or(0).rotate_left(40);
            let found = (position.0, content);
            let first = *self.seen.entry((delta.at.n, partition, *dot)).or_insert(found);
            if first != found {
                let what = if first.0 == found.0 {
                    "two values"
                } else {
                    "values of two keys"
                };
                return Err(format!("{dot} in partition {partition} names {what}"));
            }
        }
        Ok(())
    }
}
