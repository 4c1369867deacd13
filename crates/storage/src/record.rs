//! A stored value is framed so that a record that is damaged, or stands in another's place, is noticed.
//!
//! Frame: format version (1 byte), checksum (8 bytes, little-endian), payload. The checksum is `xxh3_64` over the payload, seeded
//! with that over the key, seeded with version and space.

use annulus_causality::{DecodeError, Reader, put_u8, put_varint};
use annulus_ring::PartitionId;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::{EngineError, Space};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 9;

/// Frames what `encode` appends.
pub(crate) fn seal(space: Space, key: &[u8], encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frame = Vec::with_capacity(128);
    frame.extend_from_slice(&[VERSION; HEADER_BYTES]);
    encode(&mut frame);
    let sum = checksum(space, key, &frame[HEADER_BYTES..]);
    frame[1..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    frame.into()
}

/// The payload of a frame, sharing its bytes.
pub(crate) fn open(space: Space, key: &[u8], frame: Bytes) -> Result<Bytes, EngineError> {
    check(space, key, &frame)?;
    Ok(frame.slice(HEADER_BYTES..))
}

/// The payload of a frame that is only borrowed.
pub(crate) fn open_slice<'a>(space: Space, key: &[u8], frame: &'a [u8]) -> Result<&'a [u8], EngineError> {
    check(space, key, frame)?;
    Ok(&frame[HEADER_BYTES..])
}

/// Reads a payload with `decode`, all of it.
pub(crate) fn decode<T>(
    space: Space,
    key: &[u8],
    payload: Bytes,
    decode: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
) -> Result<T, EngineError> {
    let mut reader = Reader::new(payload);
    let decoded = decode(&mut reader).and_then(|value| reader.finish("record").map(|()| value));
    decoded.map_err(|error| damaged(space, key, error.to_string()))
}

/// Appends a partition, as all records have it.
pub(crate) fn put_partition(out: &mut Vec<u8>, partition: PartitionId) {
    put_u8(out, partition.n);
    put_varint(out, u64::from(partition.index));
}

/// Reads what [`put_partition`] wrote.
pub(crate) fn read_partition(reader: &mut Reader) -> Result<PartitionId, DecodeError> {
    let n = reader.u8("partition")?;
    let index = reader.varint("partition")?;
    let index = u32::try_from(index).map_err(|_| reader.malformed("partition"))?;
    Ok(PartitionId { n, index })
}

pub(crate) fn damaged(space: Space, key: &[u8], detail: impl Into<String>) -> EngineError {
    EngineError::Damaged {
        space,
        key: Bytes::copy_from_slice(key),
        detail: detail.into(),
    }
}

fn check(space: Space, key: &[u8], frame: &[u8]) -> Result<(), EngineError> {
    let Some((header, payload)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(space, key, format!("it has only {} bytes", frame.len())));
    };
    let [version, sum @ ..] = *header;
    if version != VERSION {
        return Err(damaged(space, key, format!("format {version} is not known")));
    }
    if u64::from_le_bytes(sum) != checksum(space, key, payload) {
        return Err(damaged(space, key, "its checksum is wrong"));
    }
    Ok(())
}

fn checksum(space: Space, key: &[u8], payload: &[u8]) -> u64 {
    let place = xxh3_64_with_seed(key, u64::from_be_bytes([0, 0, 0, 0, 0, 0, VERSION, space.tag()]));
    xxh3_64_with_seed(payload, place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let frame = seal(Space::Object, b"key", |out| out.extend_from_slice(b"payload"));
        assert_eq!(open(Space::Object, b"key", frame.clone()).unwrap(), b"payload"[..]);
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(
                open(Space::Object, b"key", flipped.into()),
                Err(EngineError::Damaged { .. })
            ));
        }
        for length in 0..frame.len() {
            assert!(matches!(
                open(Space::Object, b"key", frame.slice(..length)),
                Err(EngineError::Damaged { .. })
            ));
        }
    }

    #[test]
    fn a_record_in_anothers_place_is_noticed() {
        let frame = seal(Space::Object, b"key", |_| {});
        open(Space::Object, b"key", frame.clone()).unwrap();
        open(Space::Object, b"kez", frame.clone()).unwrap_err();
        let error = open(Space::Index, b"key", frame).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the index record \"key\" is damaged: its checksum is wrong; it is refilled from the other owners"
        );
    }
}
