//! Names, keys, capacities and positions: what is out of range is refused with the facts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use annulus_ring::{Bucket, Capacity, Key, NodeId, NodeName, Partitions, Position};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

#[test]
fn an_error_says_what_is_allowed_and_what_came() {
    let long = "x".repeat(65);
    let cases = [
        (
            Bucket::parse("").unwrap_err().to_string(),
            "not a bucket name: it must have 1 to 64 characters, and has 0 bytes",
        ),
        (
            Bucket::parse(&long).unwrap_err().to_string(),
            "not a bucket name: it must have 1 to 64 characters, and has 65 bytes",
        ),
        (
            Bucket::parse("a/é").unwrap_err().to_string(),
            "not a bucket name: only a-z A-Z 0-9 . _ - are allowed, and byte 1 begins '/'",
        ),
        (
            NodeName::parse("né").unwrap_err().to_string(),
            "not a node name: only a-z A-Z 0-9 . _ - are allowed, and byte 1 begins 'é'",
        ),
        (
            Key::parse(vec![0; 1025]).unwrap_err().to_string(),
            "not a key: it must have 1 to 1024 bytes, and has 1025",
        ),
        (
            Capacity::parse(f64::NAN).unwrap_err().to_string(),
            "a capacity must be from 0.01 to 1000, not NaN",
        ),
        (
            Partitions::new(48).unwrap_err().to_string(),
            "partitions must be a power of two from 1 to 65536, not 48",
        ),
    ];
    for (got, expected) in cases {
        assert_eq!(got, expected);
    }
}

#[test]
fn the_ends_of_every_range_are_allowed() {
    assert_eq!(Bucket::parse(&"A".repeat(64)).unwrap().as_str().len(), 64);
    assert_eq!(Key::parse(vec![0xFF; 1024]).unwrap().as_bytes().len(), 1024);
    assert_eq!(
        [0.01, 1000.0].map(|value| Capacity::parse(value).unwrap().as_f64()),
        [0.01, 1000.0]
    );
    for refused in [0.0, 0.004, -1.0, 1000.01, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(Capacity::parse(refused).is_err(), "{refused}");
    }
    assert_eq!(
        [1, 65536].map(|count| Partitions::new(count).unwrap().count()),
        [1, 65536]
    );
    assert!([0, 3, 1 << 17].iter().all(|&count| Partitions::new(count).is_err()));
}

#[test]
fn identifiers_are_the_same_for_ever() {
    // Stored data and other nodes depend on these numbers.
    let position = Position::of(&Bucket::parse("b").unwrap(), &Key::parse("k").unwrap());
    assert_eq!(position, Position(xxh3_64(b"b\0k")));
    assert_eq!(position.to_string(), format!("{:016x}", position.0));
    assert_eq!(NodeId::of(&NodeName::parse("n1").unwrap()), NodeId(xxh3_64(b"n1")));
    assert_eq!(NodeId(0xAB).to_string(), "00000000000000ab");
}

#[test]
fn json_is_checked_as_strictly_as_a_call() {
    assert_eq!(serde_json::to_string(&Bucket::parse("b").unwrap()).unwrap(), r#""b""#);
    assert!(serde_json::from_str::<Bucket>(r#""a b""#).is_err());
    assert!(serde_json::from_str::<NodeName>(r#""""#).is_err());
    assert!(serde_json::from_str::<Capacity>("0").is_err());
    assert_eq!(serde_json::from_str::<Capacity>("2.5").unwrap().hundredths(), 250);
    assert!(serde_json::from_str::<Partitions>("1000").is_err());
}

proptest! {
    #[test]
    fn prop_a_position_is_the_hash_of_bucket_zero_key(
        bucket in "[a-zA-Z0-9._-]{1,64}", key in prop::collection::vec(any::<u8>(), 1..=1024),
    ) {
        let naive = xxh3_64(&[bucket.as_bytes(), &[0], &key].concat());
        prop_assert_eq!(Position::of(&Bucket::parse(&bucket).unwrap(), &Key::parse(key).unwrap()), Position(naive));
    }

    #[test]
    fn prop_a_partition_is_an_equal_range_of_positions(position in any::<u64>(), bits in 0..=16u32) {
        let partitions = Partitions::new(1 << bits).unwrap();
        let index = partitions.of(Position(position));
        let width = (1u128 << 64) / u128::from(partitions.count());
        prop_assert_eq!(u128::from(index), u128::from(position) / width);
        let (first, last) = partitions.range(index);
        prop_assert!((first..=last).contains(&Position(position)));
        prop_assert_eq!(u128::from(last.0 - first.0) + 1, width);
    }
}
