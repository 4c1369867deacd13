//! Bytes that nobody meant to send are refused, at a cost that their number bounds.

use allocation_counter::measure;
use annulus_protocol::{Handshake, Message};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::messages::encoded;
use crate::strategies::message;

/// A version with its dot takes about this many times its shortest encoding; a `Vec` that grows has twice what it holds.
const EXPANSION: u64 = 64;

/// What an error, or the first items of a few short lists, may take whatever the length.
const FIXED_BYTES: u64 = 1024;

fn decoding_costs_no_more_than(frame: Bytes) -> Result<(), TestCaseError> {
    let length = frame.len() as u64;
    let cost = measure(|| {
        if let Ok(message) = Message::decode(frame) {
            drop(message);
        }
    });
    prop_assert!(
        cost.bytes_max <= EXPANSION * length + FIXED_BYTES,
        "{} bytes for {length}",
        cost.bytes_max
    );
    Ok(())
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(u8),
    Set(u8),
    Insert(u8),
    Remove,
    Largest,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0..8u8).prop_map(Damage::Flip),
        any::<u8>().prop_map(Damage::Set),
        any::<u8>().prop_map(Damage::Insert),
        Just(Damage::Remove),
        Just(Damage::Largest),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[(proptest::sample::Index, Damage)]) -> Vec<u8> {
    for (at, damage) in damages {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match damage {
            Damage::Flip(bit) => bytes[at] ^= 1 << bit,
            Damage::Set(byte) => bytes[at] = *byte,
            Damage::Insert(byte) => bytes.insert(at, *byte),
            Damage::Remove => drop(bytes.remove(at)),
            // A length of almost 2^64.
            Damage::Largest => drop(bytes.splice(at..=at, [0xff; 9].into_iter().chain([1]))),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn random_bytes_are_harmless(tag in 0..20u8, rest in vec(any::<u8>(), 0..256)) {
        let frame = [&[tag][..], &rest].concat();
        decoding_costs_no_more_than(frame.into())?;
    }

    #[test]
    fn a_damaged_message_is_harmless(
        message in message(),
        damages in vec((any::<proptest::sample::Index>(), damage()), 1..4),
    ) {
        let frame = damaged(encoded(&message).to_vec(), &damages);
        decoding_costs_no_more_than(frame.into())?;
    }

    #[test]
    fn a_long_run_of_one_byte_is_harmless(tag in 0..20u8, byte in any::<u8>(), length in 0..4096usize) {
        let mut frame = vec![byte; length];
        frame.insert(0, tag);
        decoding_costs_no_more_than(frame.into())?;
    }

    #[test]
    fn a_damaged_message_that_is_read_is_a_message(
        message in message(),
        damages in vec((any::<proptest::sample::Index>(), damage()), 1..4),
    ) {
        let frame = damaged(encoded(&message).to_vec(), &damages);
        if let Ok(read) = Message::decode(frame.into()) {
            prop_assert_eq!(Message::decode(encoded(&read)), Ok(read));
        }
    }

    #[test]
    fn a_stranger_cannot_make_the_handshake_grow(
        greeted in any::<bool>(),
        bytes in vec(any::<u8>(), 0..64),
    ) {
        let cost = measure(|| {
            let mut handshake = Handshake::new();
            if greeted {
                handshake.space().extend_from_slice(&annulus_protocol::MAGIC);
            }
            handshake.space().extend_from_slice(&bytes);
            drop(handshake.opening());
        });
        prop_assert!(cost.bytes_max <= (64 << 10) + FIXED_BYTES);
    }
}

#[test]
fn the_largest_count_that_fits_costs_no_more_than_its_frame() {
    // A listing that claims as many keys as there are bytes, all of them empty and so refused at the first.
    let mut frame = vec![13, 1, 0];
    frame.extend([0x80, 0x80, 0x40]);
    frame.extend(std::iter::repeat_n(0, 1 << 20));
    let length = frame.len() as u64;
    let frame = Bytes::from(frame);
    let cost = measure(|| assert!(Message::decode(frame).is_err()));
    assert!(cost.bytes_max <= length, "{} bytes for {length}", cost.bytes_max);
}
