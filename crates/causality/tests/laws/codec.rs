//! Every value has one encoding, and bytes from outside never do harm.

use annulus_causality::{
    Actor, CausalContext, DecodeError, DecodeErrorKind, Dot, Object, Reader, Timestamp, Version, put_bytes, put_varint,
};
use bytes::Bytes;
use proptest::prelude::*;

use crate::{actor, context, dot, version};

fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

fn any_context() -> impl Strategy<Value = CausalContext> {
    prop::collection::vec((actor(), number(), number(), any::<bool>()), 0..12).prop_map(|ranges| {
        let mut context = CausalContext::new();
        for (actor, start, length, near) in ranges {
            if near && start % 8 == 0 {
                context.close_below(actor.node, actor.incarnation.min(length));
            }
            // Neighbours and distant ranges both.
            let start = if near { start % 20 } else { start };
            let length = if near { length % 3 } else { length };
            context.insert_range(actor, start..=start.saturating_add(length));
        }
        context
    })
}

fn any_version() -> impl Strategy<Value = Version> {
    let text = || "[a-zA-Z0-9é/-]{0,8}";
    (
        prop::collection::vec(any::<u8>(), 0..40),
        prop::option::of(text()),
        prop::collection::vec((text(), text()), 0..4),
        (number(), any::<u16>()),
        prop::option::of(number()),
    )
        .prop_map(|(value, content_type, meta, (millis, logical), expires)| {
            Version::new(value.into(), content_type, meta, Timestamp { millis, logical }, expires)
        })
}

fn any_object() -> impl Strategy<Value = Object> {
    let dots = (actor(), 1..=u64::MAX).prop_map(|(actor, counter)| Dot { actor, counter });
    (prop::collection::vec((dots, any_version()), 0..4), any_context())
        .prop_map(|(versions, context)| Object::new(versions, context))
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// Reads all of `bytes` as one value.
fn whole<T>(bytes: &[u8], decode: impl FnOnce(&mut Reader) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let value = decode(&mut reader)?;
    reader.finish("test")?;
    Ok(value)
}

/// Bytes that are read without error must be the very bytes that the value would be written as.
macro_rules! assert_only_canonical_bytes_are_read {
    ($bytes:expr, $($type:ty),*) => {
        $(if let Ok(value) = whole($bytes, <$type>::decode) {
            prop_assert_eq!(encoded(|out| value.encode(out)), $bytes.as_slice());
        })*
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_was_written_is_read(object in any_object(), number in number()) {
        let bytes = encoded(|out| object.encode(out));
        prop_assert_eq!(whole(&bytes, Object::decode), Ok(object.clone()));
        prop_assert_eq!(Object::from_bytes(object.to_bytes()), Ok(object.clone()));
        let bytes = encoded(|out| object.context().encode(out));
        prop_assert_eq!(whole(&bytes, CausalContext::decode), Ok(object.context().clone()));
        let bytes = encoded(|out| put_varint(out, number));
        prop_assert_eq!(whole(&bytes, |reader| reader.varint("number")), Ok(number));
    }

    #[test]
    fn every_proper_prefix_is_refused(object in any_object(), cut in any::<prop::sample::Index>()) {
        let bytes = object.to_bytes();
        let cut = cut.index(bytes.len());
        prop_assert!(Object::from_bytes(bytes.slice(..cut)).is_err());
    }

    #[test]
    fn random_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        assert_only_canonical_bytes_are_read!(&bytes, Actor, Dot, Timestamp, CausalContext, Version, Object);
    }

    /// Small numbers come much closer to being something than random bytes do.
    #[test]
    fn nearly_right_bytes_are_refused_or_canonical(bytes in prop::collection::vec(0..5u8, 0..40)) {
        assert_only_canonical_bytes_are_read!(&bytes, Actor, Dot, Timestamp, CausalContext, Version, Object);
    }

    #[test]
    fn a_damaged_encoding_is_refused_or_canonical(
        object in any_object(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = object.to_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        assert_only_canonical_bytes_are_read!(&bytes, Object);
    }
}

#[test]
fn the_encoding_is_fixed() {
    let mut set = context([dot(1, 1), dot(1, 2), dot(1, 5), dot(300, 9)]);
    set.close(Actor {
        node: 1,
        incarnation: 0,
    });
    set.close_below(301, 7);
    let expected = [
        4, // entries
        1, 0, 0, 0, // node 1, incarnation 0, closed, no other with it
        0, 0, 2, 2, 1,
        0, // the same node's next incarnation: one exception, base 2, a gap of 1 more than the least, one long
        0xab, 2, 1, 2, 0, 7,
        0, // node 299 further on, incarnation 1: one exception, base 0, 9 is 7 above the least
        1, 0, 0, 6, // the next node, incarnation 0, closed, and 6 more with it
    ];
    assert_eq!(encoded(|out| set.encode(out)), expected);

    let meta = vec![("k".to_owned(), "v".to_owned())];
    let stamp = Timestamp {
        millis: 300,
        logical: 1,
    };
    let version = Version::new("abc".into(), Some("t".to_owned()), meta, stamp, Some(5));
    let object = Object::new(vec![(dot(1, 2), version)], CausalContext::new());
    let expected = b"\x01\x01\x01\x02\x03abc\x01\x01t\x01\x01k\x01v\xac\x02\x01\x01\x05\x00";
    assert_eq!(object.to_bytes(), &expected[..]);
}

/// The one form of a set of which a run begins in one incarnation and ends in another.
#[test]
fn what_touches_a_closed_span_is_an_entry_of_its_own() {
    let mut set = CausalContext::new();
    set.close_below(1, 6);
    let mut rest = set.difference(&context([dot(1, 1)]));
    rest.insert(Dot::new(
        Actor {
            node: 1,
            incarnation: 6,
        },
        1,
    ));
    let expected = [
        4, // entries
        1, 0, 0, 0, // incarnation 0, closed
        0, 0, 2, 0, 0, // incarnation 1: one exception, base 0, from 2 on, and so long:
        0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, // to the end
        0, 0, 0, 3, // incarnations 2 to 5, closed
        0, 0, 1, 1, // incarnation 6: base 1
    ];
    assert_eq!(encoded(|out| rest.encode(out)), expected);
    assert_eq!(whole(&expected, CausalContext::decode), Ok(rest));
}

#[test]
fn a_count_beyond_what_remains_is_refused_before_anything_is_allocated() {
    let huge = encoded(|out| put_varint(out, u64::MAX));
    let truncated = |what| DecodeError {
        what,
        offset: huge.len(),
        kind: DecodeErrorKind::Truncated,
    };
    assert_eq!(whole(&huge, CausalContext::decode), Err(truncated("causal context")));
    assert_eq!(whole(&huge, Object::decode), Err(truncated("object")));
    assert_eq!(whole(&huge, |reader| reader.bytes("value")), Err(truncated("value")));
    let exceptions = [&[1, 0, 0][..], &huge].concat();
    assert_eq!(
        whole(&exceptions, CausalContext::decode).unwrap_err().kind,
        DecodeErrorKind::Truncated
    );
}

#[test]
fn a_longer_form_of_a_varint_is_refused() {
    for bytes in [
        &[0x80, 0][..],
        &[0xff, 0x80, 0],
        &[0xff; 11],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
    ] {
        assert_eq!(
            whole(bytes, |reader| reader.varint("number")).unwrap_err().kind,
            DecodeErrorKind::Malformed
        );
    }
    assert_eq!(
        whole(&[0xff; 9], |reader| reader.varint("number")).unwrap_err().kind,
        DecodeErrorKind::Truncated
    );
}

#[test]
fn contexts_that_are_not_canonical_are_refused() {
    let cases: [(&str, &[u8]); 8] = [
        (
            "two closed actors that touch, as two entries",
            &[2, 1, 1, 0, 0, 0, 0, 0, 0],
        ),
        ("two closed spans that touch", &[2, 1, 1, 0, 5, 0, 0, 0, 3]),
        (
            "closed incarnations past the last",
            &[1, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        ("an actor with nothing", &[1, 1, 1, 1, 0]),
        (
            "a closed actor as a base",
            &[1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        (
            "an exception past the last counter",
            &[
                1, 1, 1, 2, 5, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
        ),
        (
            "a node past the last",
            &[
                2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 1, 0, 0, 0,
            ],
        ),
        (
            "an incarnation past the last",
            &[
                2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0,
            ],
        ),
    ];
    for (what, bytes) in cases {
        assert_eq!(
            whole(bytes, CausalContext::decode).unwrap_err().kind,
            DecodeErrorKind::Malformed,
            "{what}"
        );
    }
}

#[test]
fn a_dot_of_counter_zero_is_refused() {
    assert!(whole(&[1, 1, 0], Dot::decode).is_err());
    assert_eq!(whole(&[1, 1, 1], Dot::decode), Ok(dot(1, 1)));
}

#[test]
fn metadata_out_of_order_or_in_upper_case_is_refused() {
    let meta = |names: [&[u8]; 2]| {
        encoded(|out| {
            out.extend([0, 0, 2]);
            for name in names {
                put_bytes(out, name);
                put_bytes(out, b"");
            }
            out.extend([0, 0, 0]);
        })
    };
    assert!(whole(&meta([b"a", b"b"]), Version::decode).is_ok());
    assert!(whole(&meta([b"b", b"a"]), Version::decode).is_err());
    assert!(whole(&meta([b"A", b"b"]), Version::decode).is_err());
    assert!(whole(&meta([b"a", b"\xff"]), Version::decode).is_err());
}

#[test]
fn a_decoded_value_shares_the_memory_it_came_in() {
    let bytes = Object::new(vec![(dot(1, 1), version("a value", 1))], CausalContext::new()).to_bytes();
    let object = Object::from_bytes(bytes.clone()).unwrap();
    assert!(bytes.as_ptr_range().contains(&object.versions()[0].1.value.as_ptr()));
}
