//! What owners say to each other to catch up.

use annulus_causality::{DecodeError, Reader};
use annulus_membership::Witnessed;
use annulus_ring::PartitionId;

use super::value::{Wire, fixed, wire_enum, wire_struct};
use crate::catch_up::{Caught, CaughtObject, CaughtPart, ClockRange, PartitionClock, SUB_RANGES, StreamWant, Want};

wire_struct!(ClockRange { n, first, count, hash });

wire_struct!(PartitionId { n, index });

wire_struct!(Witnessed { incarnation, batch });

wire_struct!(PartitionClock {
    partition,
    clock,
    contents
});

wire_struct!(Want {
    partition,
    clock,
    stream
});

wire_struct!(StreamWant { from, fingerprints });

wire_struct!(CaughtObject {
    bucket,
    key,
    dots,
    object
});

wire_struct!(Caught { partition, part });

wire_enum!(CaughtPart {
    0 => Refused,
    1 => LogShort,
    2 => Objects { clock, objects, more },
    3 => Streamed { clock, from, until, objects },
});

/// Hashes: eight bytes each, as varints would only lengthen them.
impl Wire for [u64; SUB_RANGES] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        let mut hashes = [0; SUB_RANGES];
        for hash in &mut hashes {
            *hash = fixed(reader, what).map(u64::from_le_bytes)?;
        }
        Ok(hashes)
    }
}
