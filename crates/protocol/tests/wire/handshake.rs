//! Who opens a connection is known before anything else is read, or it is closed.

use annulus_membership::Hello;
use annulus_protocol::{
    FrameError, Handshake, HandshakeError, MAGIC, MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES, MAX_REASON_BYTES, Opening,
    PROTOCOL_MAX, PROTOCOL_MIN, Refused, append_frame, negotiate,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::samples;
use crate::strategies::hello;

fn opened(opening: &Opening) -> Vec<u8> {
    let mut out = Vec::new();
    opening.append(&mut out).unwrap();
    out
}

fn read(bytes: &[u8]) -> Result<Option<Opening>, HandshakeError> {
    let mut handshake = Handshake::new();
    handshake.space().extend_from_slice(bytes);
    handshake.opening()
}

fn speaking(protocol_min: u16, protocol_max: u16) -> Hello {
    Hello {
        protocol_min,
        protocol_max,
        ..samples::hello()
    }
}

proptest! {
    #[test]
    fn a_hello_is_read_byte_by_byte_as_it_was_written(hello in hello(), behind in vec(any::<u8>(), 0..20)) {
        let opening = Opening::Hello(hello);
        let bytes = opened(&opening);
        let mut handshake = Handshake::new();
        for byte in &bytes[..bytes.len() - 1] {
            handshake.space().extend_from_slice(&[*byte]);
            prop_assert_eq!(handshake.opening(), Ok(None));
        }
        handshake.space().extend_from_slice(&bytes[bytes.len() - 1..]);
        // The first messages may come in the same piece.
        let mut frame = Vec::new();
        append_frame(&mut frame, |payload| payload.extend_from_slice(&behind)).unwrap();
        handshake.space().extend_from_slice(&frame);
        prop_assert_eq!(handshake.opening(), Ok(Some(opening)));
        let first = handshake.into_frames().next_frame().unwrap().unwrap();
        prop_assert_eq!(&first[..], &behind);
    }

    #[test]
    fn every_hello_fits(hello in hello()) {
        prop_assert!(opened(&Opening::Hello(hello)).len() < MAX_HANDSHAKE_BYTES as usize);
    }

    #[test]
    fn a_reason_is_one_short_line(text in any::<String>(), times in 1..40usize) {
        let refused = Refused::new(text.repeat(times));
        prop_assert!(refused.reason().len() <= MAX_REASON_BYTES);
        prop_assert!(!refused.reason().contains(char::is_control));
        let opening = Opening::Refused(refused);
        prop_assert_eq!(read(&opened(&opening)), Ok(Some(opening)));
    }

    #[test]
    fn both_sides_come_to_the_same_version(a in hello(), b in hello()) {
        let common = (a.protocol_min..=a.protocol_max).rev().find(|version| {
            (b.protocol_min..=b.protocol_max).contains(version)
        });
        prop_assert_eq!(negotiate(&a, &b).ok(), common);
        prop_assert_eq!(negotiate(&b, &a).ok(), common);
    }

    #[test]
    fn random_bytes_open_nothing(bytes in vec(any::<u8>(), 1..100)) {
        prop_assume!(!bytes.starts_with(&MAGIC[..1]));
        let refused = matches!(read(&bytes), Err(HandshakeError::Magic { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn random_payloads_open_nothing_and_are_harmless(payload in vec(any::<u8>(), 0..200)) {
        let mut bytes = MAGIC.to_vec();
        append_frame(&mut bytes, |frame| frame.extend_from_slice(&payload)).unwrap();
        drop(read(&bytes));
    }
}

#[test]
fn this_build_speaks_with_itself() {
    let mine = speaking(PROTOCOL_MIN, PROTOCOL_MAX);
    assert_eq!(negotiate(&mine, &mine), Ok(PROTOCOL_MAX));
}

#[test]
fn versions_that_do_not_meet_are_refused_in_words() {
    let refused = negotiate(&speaking(1, 2), &speaking(3, 4)).unwrap_err();
    assert_eq!(
        refused.reason(),
        "no common version of the protocol: n1 speaks 1 to 2, n1 speaks 3 to 4; upgrade the older one",
    );
}

#[test]
fn a_stranger_is_told_apart_by_its_first_wrong_byte() {
    let error = read(b"GET / HTTP/1.1\r\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "this is no annulus node: it begins with \"GET / HT\""
    );
    assert_eq!(read(b"AN"), Ok(None));
    assert!(matches!(read(b"ANT"), Err(HandshakeError::Magic { .. })));
}

#[test]
fn a_long_hello_is_refused_by_its_length() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((MAX_HANDSHAKE_BYTES + 1).to_le_bytes());
    bytes.extend(crate::frames::checked(MAX_HANDSHAKE_BYTES + 1));
    bytes.extend([0; 4]);
    let length = u64::from(MAX_HANDSHAKE_BYTES) + 1;
    let error = FrameError::TooLarge {
        length,
        limit: MAX_HANDSHAKE_BYTES,
    };
    assert_eq!(read(&bytes), Err(HandshakeError::Frame(error)));
}

#[test]
fn a_hello_too_long_to_be_accepted_is_not_sent() {
    let mut hello = samples::hello();
    hello.record.version = "x".repeat(MAX_HANDSHAKE_BYTES as usize);
    let mut out = b"before".to_vec();
    assert!(Opening::Hello(hello).append(&mut out).is_err());
    assert_eq!(out, b"before");
}

#[test]
fn what_a_later_version_appends_to_its_hello_is_ignored() {
    let opening = Opening::Hello(samples::hello());
    let mut payload = opened(&opening)[MAGIC.len() + annulus_protocol::FRAME_HEADER_BYTES..].to_vec();
    payload.extend(b"of version 2");
    let mut bytes = MAGIC.to_vec();
    append_frame(&mut bytes, |frame| frame.extend_from_slice(&payload)).unwrap();
    assert_eq!(read(&bytes), Ok(Some(opening)));
}

#[test]
fn messages_after_the_handshake_may_be_long() {
    let mut handshake = Handshake::new();
    handshake
        .space()
        .extend_from_slice(&opened(&Opening::Hello(samples::hello())));
    assert!(handshake.opening().unwrap().is_some());
    let mut frames = handshake.into_frames();
    frames.space().extend_from_slice(&MAX_FRAME_BYTES.to_le_bytes());
    frames.space().extend_from_slice(&[0; 4]);
    assert_eq!(frames.next_frame(), Ok(None));
}
