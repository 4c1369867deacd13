//! What is encoded is decoded as the same value, and what strangers send costs no more than its length.

use std::fmt::Debug;

use annulus_causality::{DecodeError, Instant, Reader};
use annulus_membership::{
    Advertised, Candidate, ClusterId, Digest, Formation, Gossip, Hello, MemberRecord, Secret, ShownVote, Vote,
    Witnessed,
};
use annulus_ring::{Capacity, Member, NodeName, Partitions};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = NodeName> {
    "[a-zA-Z0-9._-]{1,64}".prop_map(|text| NodeName::parse(&text).unwrap())
}

fn record() -> impl Strategy<Value = MemberRecord> {
    let member =
        (name(), "[a-z0-9-]{0,64}", "[a-z0-9-]{0,64}", 1u32..=100_000).prop_map(|(name, region, zone, capacity)| {
            Member {
                name,
                region,
                zone,
                capacity: Capacity::parse(f64::from(capacity) / 100.0).unwrap(),
            }
        });
    (
        member,
        "[a-z0-9.:]{0,260}",
        "[a-z0-9.:]{0,260}",
        "[ -~]{0,64}",
        any::<u64>(),
    )
        .prop_map(|(member, http, peer, version, incarnation)| MemberRecord {
            member,
            http,
            peer,
            version,
            incarnation,
        })
}

fn cluster() -> impl Strategy<Value = Option<ClusterId>> {
    option::of(any::<[u8; 16]>().prop_map(ClusterId))
}

fn hello() -> impl Strategy<Value = Hello> {
    let range = (any::<u16>(), any::<u16>());
    let disk = option::of((1u64.., any::<u64>()));
    let parts = (range, cluster(), record(), option::of(1u64..), disk, any::<u64>());
    parts.prop_map(|((a, b), cluster, record, seen, disk, clock)| {
        let (protocol_min, protocol_max) = (a.min(b), a.max(b));
        Hello {
            protocol_min,
            protocol_max,
            cluster,
            record,
            seen,
            witnessed: disk.map(|(incarnation, batch)| Witnessed { incarnation, batch }),
            clock: Instant::from_nanos(clock),
        }
    })
}

fn formation() -> impl Strategy<Value = Formation> {
    let vote = (any::<[u8; 32]>(), vec(name(), 0..6)).prop_map(|(digest, founders)| ShownVote {
        digest: Digest(digest),
        founders,
    });
    let candidate = (
        any::<u32>(),
        any::<u8>(),
        0u32..=16,
        any::<[u8; 32]>(),
        option::of(any::<[u8; 32]>()),
        option::of(vote),
    )
        .prop_map(|(expect, replicas, bits, secret, proposal, vote)| {
            let partitions = Partitions::new(1 << bits).unwrap();
            let (secret, proposal) = (Secret::new(secret), proposal.map(Digest));
            Formation::Candidate(Candidate {
                expect,
                replicas,
                partitions,
                secret,
                proposal,
                vote,
            })
        });
    prop_oneof![
        candidate,
        any::<[u8; 32]>().prop_map(|key| Formation::Welcome { key: Secret::new(key) })
    ]
}

fn gossip() -> impl Strategy<Value = Gossip> {
    let numbers = any::<[u64; 6]>();
    (
        numbers,
        any::<bool>(),
        cluster(),
        option::of(vec(record(), 0..5)),
        option::of(formation()),
    )
        .prop_map(
            |(
                [clock, incarnation, epoch, ring, buckets, members_fingerprint],
                hears_you,
                cluster,
                members,
                formation,
            )| Gossip {
                clock: Instant::from_nanos(clock),
                incarnation,
                cluster,
                hears_you,
                advertised: Advertised {
                    epoch,
                    ring_fingerprint: ring,
                    buckets_fingerprint: buckets,
                },
                members_fingerprint,
                members,
                formation,
            },
        )
}

fn encoded(encode: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// Decodes whole, and every shorter piece without success: no piece of a value is a value.
fn round_trip<T: Debug + PartialEq>(value: &T, bytes: &[u8], decode: fn(&mut Reader) -> Result<T, DecodeError>) {
    let mut reader = Reader::new(bytes.to_vec().into());
    assert_eq!(decode(&mut reader).as_ref(), Ok(value));
    assert_eq!(reader.finish("value"), Ok(()));
    for length in 0..bytes.len() {
        assert!(
            decode(&mut Reader::new(bytes[..length].to_vec().into())).is_err(),
            "{length} of {}",
            bytes.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_a_hello_survives_the_wire(hello in hello()) {
        round_trip(&hello, &encoded(|out| hello.encode(out)), Hello::decode);
    }

    #[test]
    fn prop_gossip_survives_the_wire(gossip in gossip()) {
        round_trip(&gossip, &encoded(|out| gossip.encode(out)), Gossip::decode);
    }

    #[test]
    fn prop_random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Hello::decode(&mut Reader::new(bytes.clone().into()));
        let _ = Gossip::decode(&mut Reader::new(bytes.clone().into()));
        let _ = Vote::decode(&mut Reader::new(bytes.into()));
    }

    /// What is decoded at all is encoded as the same bytes: one value has one encoding.
    #[test]
    fn prop_altered_bytes_never_panic(gossip in gossip(), at: prop::sample::Index, to: u8) {
        let mut bytes = encoded(|out| gossip.encode(out));
        let at = at.index(bytes.len());
        bytes[at] = to;
        let mut reader = Reader::new(bytes.clone().into());
        if let Ok(gossip) = Gossip::decode(&mut reader) {
            prop_assert_eq!(&encoded(|out| gossip.encode(out)), &bytes[..reader.offset()]);
        }
    }
}

#[test]
fn a_table_that_claims_more_than_it_can_hold_is_refused_before_it_is_allocated() {
    let mut bytes = vec![2, 0, 1, 0, 0];
    bytes.extend([0; 24]);
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    bytes.extend([0; 64]);
    assert!(Gossip::decode(&mut Reader::new(bytes.into())).is_err());
}

#[test]
fn texts_that_are_too_long_or_hold_control_characters_are_refused() {
    let mut record = crate::world::record("n1", "a:1", 1);
    for peer in ["a\nb".to_owned(), "a".repeat(261)] {
        record.peer = peer;
        let bytes = encoded(|out| record.encode(out));
        assert!(MemberRecord::decode(&mut Reader::new(bytes.into())).is_err());
    }
}

#[test]
fn a_cluster_id_is_32_hexadecimal_digits_and_nothing_else() {
    let id = ClusterId([0xab; 16]);
    assert_eq!(ClusterId::parse(&id.to_string()), Ok(id));
    for text in [
        "",
        "ab",
        "+b000000000000000000000000000000",
        "xb000000000000000000000000000000",
        &"a".repeat(33),
    ] {
        assert!(ClusterId::parse(text).is_err(), "{text}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!(
        "{:?}",
        Formation::Welcome {
            key: Secret::new([0x5a; 32])
        }
    );
    assert!(!shown.contains("90") && !shown.to_lowercase().contains("5a"), "{shown}");
}
