//! The reader gives what a naive one gives, however the bytes come.

use annulus_protocol::{FRAME_HEADER_BYTES, FrameError, FrameReader, MAX_FRAME_BYTES, append_frame};
use proptest::collection::vec;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

const LIMIT: u32 = 200;

type Read = (Vec<Vec<u8>>, Option<FrameError>);

/// Has all bytes at once and copies each payload.
fn naive(mut bytes: &[u8]) -> Read {
    let mut payloads = Vec::new();
    while bytes.len() >= 12 {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (length, of_length, expected) = (word(0), word(4), word(8));
        let computed = xxh3_64(&bytes[..4]) as u32;
        if computed != of_length {
            let expected = of_length;
            return (payloads, Some(FrameError::Checksum { expected, computed }));
        }
        if length > LIMIT {
            return (
                payloads,
                Some(FrameError::TooLarge {
                    length: u64::from(length),
                    limit: LIMIT,
                }),
            );
        }
        let end = 12 + length as usize;
        if bytes.len() < end {
            break;
        }
        let computed = xxh3_64(&bytes[12..end]) as u32;
        if computed != expected {
            return (payloads, Some(FrameError::Checksum { expected, computed }));
        }
        payloads.push(bytes[12..end].to_vec());
        bytes = &bytes[end..];
    }
    (payloads, None)
}

fn in_pieces(bytes: &[u8], lengths: &[usize]) -> Read {
    let mut reader = FrameReader::new(LIMIT);
    let (mut payloads, mut rest, mut lengths) = (Vec::new(), bytes, lengths.iter().cycle());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(lengths.next().copied().unwrap_or(1).min(rest.len()));
        reader.space().extend_from_slice(piece);
        rest = behind;
        loop {
            match reader.next_frame() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
    }
    (payloads, None)
}

fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for payload in payloads {
        append_frame(&mut out, |frame| frame.extend_from_slice(payload)).unwrap();
    }
    out
}

proptest! {
    #[test]
    fn what_was_framed_is_read_however_it_comes(
        payloads in vec(vec(any::<u8>(), 0..LIMIT as usize), 0..6),
        pieces in vec(1..50usize, 1..5),
    ) {
        prop_assert_eq!(in_pieces(&framed(&payloads), &pieces), (payloads, None));
    }

    #[test]
    fn the_reader_agrees_with_the_naive_one_on_damaged_streams(
        payloads in vec(vec(any::<u8>(), 0..LIMIT as usize + 20), 1..6),
        damage in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        pieces in vec(1..50usize, 1..5),
    ) {
        let mut stream = framed(&payloads);
        if let Some((at, byte)) = damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        prop_assert_eq!(in_pieces(&stream, &pieces), naive(&stream));
    }

    #[test]
    fn every_flipped_bit_is_noticed(payload in vec(any::<u8>(), 1..64), bit in any::<proptest::sample::Index>()) {
        let mut stream = framed(&[payload]);
        let bit = bit.index(stream.len() * 8);
        stream[bit / 8] ^= 1 << (bit % 8);
        let (payloads, error) = in_pieces(&stream, &[stream.len()]);
        prop_assert!(payloads.is_empty());
        let noticed = matches!(error, Some(FrameError::Checksum { .. }));
        prop_assert!(noticed);
    }
}

/// The checksum of a length.
pub(crate) fn checked(length: u32) -> [u8; 4] {
    let hash = xxhash_rust::xxh3::xxh3_64(&length.to_le_bytes()) as u32;
    hash.to_le_bytes()
}

#[test]
fn an_error_is_given_for_ever() {
    let mut reader = FrameReader::new(LIMIT);
    reader.space().extend_from_slice(&[1; FRAME_HEADER_BYTES]);
    let error = reader.next_frame().unwrap_err();
    reader.space().extend_from_slice(&framed(&[b"fine".to_vec()]));
    assert_eq!(reader.next_frame(), Err(error));
}

#[test]
fn a_frame_too_large_is_refused_by_its_header_alone() {
    let mut reader = FrameReader::new(MAX_FRAME_BYTES);
    let length = MAX_FRAME_BYTES + 1;
    reader.space().extend_from_slice(&length.to_le_bytes());
    reader.space().extend_from_slice(&checked(length));
    assert_eq!(reader.next_frame(), Ok(None));
    reader.space().extend_from_slice(&[0; 4]);
    let error = FrameError::TooLarge {
        length: u64::from(length),
        limit: MAX_FRAME_BYTES,
    };
    assert_eq!(reader.next_frame(), Err(error));
}

#[test]
fn an_announced_length_takes_no_memory_before_its_bytes_come() {
    let mut reader = FrameReader::new(MAX_FRAME_BYTES);
    reader.space().extend_from_slice(&MAX_FRAME_BYTES.to_le_bytes());
    reader.space().extend_from_slice(&checked(MAX_FRAME_BYTES));
    reader.space().extend_from_slice(&[0; 4]);
    let mut came = FRAME_HEADER_BYTES;
    for _ in 0..100 {
        assert_eq!(reader.next_frame(), Ok(None));
        let space = reader.space();
        assert!(
            space.capacity() <= 2 * came + (128 << 10),
            "{} for {came}",
            space.capacity()
        );
        let room = space.capacity() - space.len();
        assert!(room >= 4 << 10);
        space.extend_from_slice(&vec![7; room.min(64 << 10)]);
        came += room.min(64 << 10);
    }
}

#[test]
fn a_frame_as_long_as_is_allowed_is_read_in_few_steps() {
    let mut stream = Vec::new();
    append_frame(&mut stream, |out| out.resize(out.len() + MAX_FRAME_BYTES as usize, 1)).unwrap();
    let (mut reader, mut rest, mut growths) = (FrameReader::new(MAX_FRAME_BYTES), &stream[..], 0);
    let mut capacity = 0;
    while !rest.is_empty() {
        let space = reader.space();
        growths += u32::from(space.capacity() != capacity);
        capacity = space.capacity();
        let room = (space.capacity() - space.len()).min(rest.len());
        let (piece, behind) = rest.split_at(room);
        space.extend_from_slice(piece);
        rest = behind;
    }
    assert_eq!(reader.next_frame().unwrap().unwrap().len(), MAX_FRAME_BYTES as usize);
    assert!(growths < 20, "{growths}");
}

#[test]
fn a_payload_too_large_is_not_framed_and_leaves_what_was_there() {
    let mut out = b"before".to_vec();
    let too_large = append_frame(&mut out, |out| out.resize(out.len() + MAX_FRAME_BYTES as usize + 1, 0));
    assert!(matches!(too_large, Err(FrameError::TooLarge { .. })));
    assert_eq!(out, b"before");
}
