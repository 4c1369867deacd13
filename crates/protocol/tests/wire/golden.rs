//! An encoding changes only on purpose: with a new version of the protocol, and `UPDATE_GOLDEN=1` to write these files.

use std::fs;
use std::path::{Path, PathBuf};

use annulus_causality::{Actor, CausalContext, TokenKey};
use annulus_protocol::{Message, Opening, Refused, append_frame};
use annulus_ring::Ring;

use crate::messages::encoded;
use crate::samples;

const BYTES_A_LINE: usize = 32;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("hex")
}

fn seed(target: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target)
        .join(name)
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(BYTES_A_LINE).map(line).collect()
}

fn must_be(path: &Path, expected: &[u8]) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, expected).unwrap();
    }
    let found = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    assert_eq!(
        String::from_utf8_lossy(&found),
        String::from_utf8_lossy(expected),
        "the encoding of {} changed: nodes of two builds would not understand each other",
        path.display(),
    );
}

fn opened(opening: &Opening) -> Vec<u8> {
    let mut out = Vec::new();
    opening.append(&mut out).unwrap();
    out
}

#[test]
fn every_kind_of_message_has_a_sample() {
    let sampled: Vec<_> = samples::messages()
        .iter()
        .map(|message| (encoded(message)[0], message.kind()))
        .collect();
    assert_eq!(sampled, Message::kinds());
}

#[test]
fn messages_are_encoded_as_they_always_were() {
    for message in samples::messages() {
        must_be(&golden(message.kind()), hex(&encoded(&message)).as_bytes());
        assert_eq!(Message::decode(encoded(&message)), Ok(message));
    }
}

#[test]
fn connections_are_opened_as_they_always_were() {
    must_be(
        &golden("Hello"),
        hex(&opened(&Opening::Hello(samples::hello()))).as_bytes(),
    );
    must_be(
        &golden("Refused"),
        hex(&opened(&Opening::Refused(Refused::new("another cluster")))).as_bytes(),
    );
}

#[test]
fn a_frame_is_laid_out_as_it_always_was() {
    let mut out = Vec::new();
    append_frame(&mut out, |payload| payload.extend_from_slice(b"payload")).unwrap();
    must_be(&golden("frame"), hex(&out).as_bytes());
}

/// The fuzz targets begin with what is valid.
#[test]
fn the_seeds_of_the_fuzz_targets_are_valid() {
    // The target takes the first byte as the length of the pieces in which the rest comes.
    let mut frames = vec![16];
    for message in samples::messages() {
        must_be(&seed("message", message.kind()), &encoded(&message));
        append_frame(&mut frames, |payload| message.encode(payload)).unwrap();
    }
    must_be(&seed("frame", "every-kind"), &frames);
    must_be(&seed("hello", "hello"), &opened(&Opening::Hello(samples::hello())));
    must_be(
        &seed("hello", "refused"),
        &opened(&Opening::Refused(Refused::new("another cluster"))),
    );

    Ring::decode(samples::ENCODED_RING).unwrap();
    must_be(&seed("ring", "one-member"), samples::ENCODED_RING);

    let mut context = CausalContext::new();
    context.insert_range(
        Actor {
            node: 7,
            incarnation: 300,
        },
        1..=4,
    );
    let token = |context: &CausalContext| TokenKey::new([7; 32]).seal(b"photos\0cat", context);
    must_be(&seed("token", "one-actor"), token(&context).as_bytes());
    context.close_below(7, 300);
    must_be(&seed("token", "closed-below"), token(&context).as_bytes());
}
