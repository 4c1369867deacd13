//! One message a kind that has all its parts, for the golden files.

use std::time::Duration;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Instant, Object, Timestamp, Version};
use annulus_coordinator::{
    Answer, BucketConfig, Condition, Durability, Found, KeyRequest, Level, Mode, NewValue, Operation, Options, Seen,
};
use annulus_membership::{Advertised, ClusterId, Formation, Gossip, Hello, MemberRecord, Secret, Witnessed};
use annulus_protocol::{
    BucketRecord, Caught, CaughtObject, CaughtPart, ClockRange, ClosingStep, Delta, HintOffer, Known, Message,
    PartitionClock, PartitionDots, Refusal, RequestId, StreamWant, Want, WireKey, WriteIdentity,
};
use annulus_ring::{Bucket, Capacity, Key, Member, NodeId, NodeName, PartitionId};
use bytes::Bytes;

const DEADLINE: Instant = Instant::from_nanos(1_750_000_000);

fn bucket() -> Bucket {
    Bucket::parse("photos").unwrap()
}

fn key() -> Key {
    Key::parse("2026/cat.jpg").unwrap()
}

fn at() -> WireKey {
    WireKey {
        n: 3,
        bucket: bucket(),
        key: key(),
    }
}

fn meta() -> Vec<(String, String)> {
    vec![("camera".to_owned(), "X100".to_owned())]
}

fn version() -> Version {
    let modified = Timestamp {
        millis: 1_790_000_000_000,
        logical: 2,
    };
    let expires = Some(1_790_000_060_000);
    Version::new(
        Bytes::from_static(b"a cat"),
        Some("image/jpeg".to_owned()),
        meta(),
        modified,
        expires,
    )
}

fn object() -> Object {
    let actor = Actor {
        node: 7,
        incarnation: 300,
    };
    let mut context = CausalContext::new();
    context.insert_range(actor, 1..=4);
    context.insert(Dot::new(actor, 9));
    context.close_below(8, 1 << 20);
    Object::new(vec![(Dot::new(actor, 9), version())], context)
}

fn delta() -> Delta {
    let dots = object().dots().collect();
    Delta {
        at: at(),
        dots,
        object: object(),
    }
}

fn record() -> BucketRecord {
    let config = BucketConfig {
        n: 3,
        r: Level::Quorum,
        w: Level::Count(2),
        mode: Mode::Sloppy,
        durability: Durability::Disk,
        conflicts: ConflictPolicy::LastWriteWins,
        ttl: Some(Duration::from_millis(86_400_500)),
        max_siblings: 64,
    };
    BucketRecord {
        bucket: bucket(),
        version: 1_790_000_000_000 << 16,
        by: NodeId(7),
        config: Some(config),
    }
}

fn member_record() -> MemberRecord {
    MemberRecord {
        member: Member {
            name: NodeName::parse("n1").unwrap(),
            region: "eu".to_owned(),
            zone: "a".to_owned(),
            capacity: Capacity::default(),
        },
        http: "127.0.0.1:8101".to_owned(),
        peer: "127.0.0.1:7101".to_owned(),
        version: "0.1.0".to_owned(),
        incarnation: 1 << 20,
    }
}

fn gossip() -> Gossip {
    Gossip {
        clock: DEADLINE,
        incarnation: 1 << 20,
        cluster: Some(ClusterId(*b"sixteen bytes id")),
        hears_you: true,
        advertised: Advertised {
            epoch: 2,
            ring_fingerprint: 0x1122,
            buckets_fingerprint: 0x3344,
        },
        members_fingerprint: 0x5566,
        members: Some(vec![member_record()]),
        formation: Some(Formation::Welcome {
            key: Secret::new([0xab; 32]),
        }),
    }
}

fn forward() -> Message {
    let value = NewValue {
        value: Bytes::from_static(b"a cat"),
        content_type: Some("image/jpeg".to_owned()),
        meta: meta(),
    };
    let operation = Operation::Write {
        value: Some(value),
        token: Some("a-token".to_owned()),
        condition: Some(Condition::Match(vec![0x0102_0304])),
    };
    let options = Options {
        r: None,
        w: Some(Level::All),
        mode: Some(Mode::Strict),
        durability: Some(Durability::Memory),
        timeout: Some(Duration::from_millis(750)),
    };
    let actor = Actor {
        node: 7,
        incarnation: 1 << 20,
    };
    let identity = Some(Box::new(WriteIdentity {
        n: 3,
        dot: Dot::new(actor, 21),
        modified: Timestamp {
            millis: 1_790_000_000_000,
            logical: 2,
        },
        expires: Some(1_790_000_060_000),
        voided: [Dot::new(actor, 20)].into_iter().collect(),
    }));
    Message::Forward {
        id: RequestId {
            origin: NodeId(7),
            incarnation: 1 << 20,
            number: 77,
        },
        attempt: 2,
        start_by: Instant::from_nanos(1_000_000_000),
        deadline: DEADLINE,
        identity,
        request: KeyRequest {
            bucket: bucket(),
            key: key(),
            operation,
            options,
            seen: Some(Seen {
                n: 3,
                dots: [Dot::new(actor, 19)].into_iter().collect(),
            }),
        },
    }
}

fn forwarded() -> Message {
    let found = Found {
        versions: vec![version()],
        etag: 0x0102_0304,
        token: "a-token".to_owned(),
        answered: 2,
        n: 3,
        seen: Some(object().context().clone()),
    };
    Message::Forwarded {
        number: 77,
        attempt: 2,
        reply: Some(Ok(Answer::Found(found))),
    }
}

fn list() -> Message {
    Message::List {
        request: 5,
        deadline: DEADLINE,
        bucket: bucket(),
        prefix: Bytes::from_static(b"2026/"),
        start: Bytes::from_static(b"2026/b"),
        limit: 100,
    }
}

/// One message a kind, in the order of their tags.
pub(crate) fn messages() -> Vec<Message> {
    vec![
        Message::Gossip(gossip()),
        Message::Ring(Bytes::from_static(ENCODED_RING)),
        Message::Buckets(vec![
            record(),
            BucketRecord {
                config: None,
                ..record()
            },
        ]),
        Message::Declare {
            request: 4,
            record: record(),
        },
        Message::Declared { request: 4 },
        Message::Write {
            request: 300,
            deadline: DEADLINE,
            durability: Durability::Disk,
            hint_for: Some(NodeId(8)),
            delta: delta(),
        },
        Message::WriteDone {
            request: 300,
            result: Err(Refusal::Overloaded),
        },
        Message::Read {
            request: 301,
            deadline: DEADLINE,
            at: at(),
            digest: Some(object().digest()),
            hints: false,
        },
        Message::ReadDone {
            request: 301,
            result: Ok(Known::Object(object())),
        },
        forward(),
        forwarded(),
        list(),
        Message::Listed {
            request: 5,
            result: Ok((vec![key()], Some(Bytes::from_static(b"2026/d")))),
        },
        Message::HintsWait {
            offers: vec![HintOffer {
                sequence: 12,
                at: at(),
                dots: object().dots().collect(),
                live: object().dots().collect(),
                context: object().context().clone(),
            }],
        },
        Message::HintsWanted {
            sequences: vec![12, 70_000],
        },
        Message::Hint {
            sequence: 12,
            delta: delta(),
        },
        Message::HintTaken { sequence: 12 },
        Message::ClockHashes {
            durable: Witnessed {
                incarnation: 300,
                batch: 70_000,
            },
            wall_millis: 1_800_000_000_000,
            ranges: vec![ClockRange {
                n: 3,
                first: 64,
                count: 16,
                hash: 0x1234_5678_9abc_def0,
            }],
        },
        Message::Clocks {
            answer: true,
            clocks: vec![PartitionClock {
                partition: PARTITION,
                clock: object().context().clone(),
                contents: 0x1234_5678_9abc_def0,
            }],
        },
        catch_up(),
        caught_up(),
        closing(),
    ]
}

const PARTITION: PartitionId = PartitionId { n: 3, index: 700 };

fn catch_up() -> Message {
    let want = |stream| Want {
        partition: PARTITION,
        clock: object().context().clone(),
        stream,
    };
    let stream = StreamWant {
        from: Some(Bytes::from_static(b"\x03position")),
        fingerprints: std::array::from_fn(|index| index as u64),
    };
    Message::CatchUp {
        request: 77,
        wants: vec![want(None), want(Some(stream))],
    }
}

fn closing() -> Message {
    let dots = PartitionDots {
        partition: PARTITION,
        hash: u64::MAX,
    };
    let step = ClosingStep::Counted {
        dots: vec![dots],
        more: true,
    };
    Message::Closing {
        below: 300,
        ballot: 2,
        step,
    }
}

fn caught_up() -> Message {
    let objects = || {
        vec![CaughtObject {
            bucket: bucket(),
            key: key(),
            dots: delta().dots,
            object: object(),
        }]
    };
    let clock = || object().context().clone();
    let parts = [
        CaughtPart::Refused,
        CaughtPart::LogShort,
        CaughtPart::Objects {
            clock: clock(),
            objects: objects(),
            more: true,
        },
        CaughtPart::Streamed {
            clock: clock(),
            from: Bytes::from_static(b"\x03a"),
            until: Some(Bytes::from_static(b"\x03b")),
            objects: objects(),
        },
    ];
    let caught = parts.into_iter().map(|part| Caught {
        partition: PARTITION,
        part,
    });
    Message::CaughtUp {
        request: 77,
        caught: caught.collect(),
    }
}

/// A hello that has all its parts.
pub(crate) fn hello() -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        cluster: Some(ClusterId(*b"sixteen bytes id")),
        record: member_record(),
        seen: Some(1 << 20),
        witnessed: Some(Witnessed {
            incarnation: 1 << 20,
            batch: 70_000,
        }),
        clock: DEADLINE,
    }
}

/// A ring of epoch 1 with one partition and one member, as `Ring::encode` writes it: format, epoch, replicas, partitions,
/// members; name, region, zone, capacity; the owner.
pub(crate) const ENCODED_RING: &[u8] = b"\x01\x01\0\0\0\0\0\0\0\x01\x01\0\0\0\x01\0\x02n1\x02eu\x01a\x64\0\0\0\0\0";
