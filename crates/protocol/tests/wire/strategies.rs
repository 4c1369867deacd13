//! Every message that can be said, small.

use std::time::Duration;

use annulus_causality::{Actor, CausalContext, Change, Dot, Element, Field, Instant, Object, Timestamp, Version};
use annulus_coordinator::{
    Answer, BucketConfig, Condition, Durability, Failure, Found, KeyRequest, Level, Mode, NewValue, Operation, Options,
    Outcome, Reply, Seen, Written,
};
use annulus_membership::{
    Advertised, Candidate, ClusterId, Digest, Formation, Gossip, Hello, MemberRecord, Secret, ShownVote, Witnessed,
};
use annulus_protocol::{
    BucketRecord, Caught, CaughtObject, CaughtPart, ClockRange, ClosingStep, Delta, HintOffer, Known, Message,
    PartitionClock, PartitionDots, Refusal, RequestId, StreamWant, Want, WireKey, WriteIdentity,
};
use annulus_ring::{Bucket, Capacity, Key, Member, NodeId, NodeName, PartitionId, Partitions};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Numbers of every length that a varint can have.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(bits, shift)| bits >> shift)
}

fn bytes(length: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=length).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(NodeId)
}

fn instant() -> impl Strategy<Value = Instant> {
    number().prop_map(Instant::from_nanos)
}

fn duration() -> impl Strategy<Value = Duration> {
    (number(), 0..1_000_000_000u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn bucket() -> impl Strategy<Value = Bucket> {
    "[a-zA-Z0-9._-]{1,64}".prop_map(|name| Bucket::parse(&name).unwrap())
}

fn key() -> impl Strategy<Value = Key> {
    vec(any::<u8>(), 1..40).prop_map(|bytes| Key::parse(bytes).unwrap())
}

fn actor() -> impl Strategy<Value = Actor> {
    (0..3u64, number()).prop_map(|(node, incarnation)| Actor { node, incarnation })
}

fn dot() -> impl Strategy<Value = Dot> {
    (actor(), number()).prop_map(|(actor, counter)| Dot::new(actor, counter.max(1)))
}

fn context() -> impl Strategy<Value = CausalContext> {
    let range = (actor(), 1..100u64, 0..20u64);
    let below = option::of(actor());
    (vec(range, 0..6), option::of(actor()), below).prop_map(|(ranges, closed, below)| {
        let mut context = CausalContext::new();
        for (actor, first, more) in ranges {
            context.insert_range(actor, first..=first + more);
        }
        if let Some(actor) = closed {
            context.close(actor);
        }
        if let Some(Actor { node, incarnation }) = below {
            context.close_below(node, incarnation);
        }
        context
    })
}

fn meta() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("[a-z-]{1,8}", text()), 0..3)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (number(), any::<u16>()).prop_map(|(millis, logical)| Timestamp { millis, logical })
}

fn version() -> impl Strategy<Value = Version> {
    (bytes(64), option::of(text()), meta(), timestamp(), option::of(number())).prop_map(
        |(value, content_type, meta, modified, expires)| Version::new(value, content_type, meta, modified, expires),
    )
}

fn object() -> impl Strategy<Value = Object> {
    (vec((dot(), version()), 0..4), context()).prop_map(|(versions, context)| Object::new(versions, context))
}

fn wire_key() -> impl Strategy<Value = WireKey> {
    (any::<u8>(), bucket(), key()).prop_map(|(n, bucket, key)| WireKey { n, bucket, key })
}

fn witnessed() -> impl Strategy<Value = Witnessed> {
    (number(), number()).prop_map(|(incarnation, batch)| Witnessed { incarnation, batch })
}

fn partition() -> impl Strategy<Value = PartitionId> {
    (any::<u8>(), any::<u32>()).prop_map(|(n, index)| PartitionId { n, index })
}

fn clock_range() -> impl Strategy<Value = ClockRange> {
    (any::<u8>(), any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(n, first, count, hash)| ClockRange {
        n,
        first,
        count,
        hash,
    })
}

fn partition_clock() -> impl Strategy<Value = PartitionClock> {
    (partition(), context(), any::<u64>()).prop_map(|(partition, clock, contents)| PartitionClock {
        partition,
        clock,
        contents,
    })
}

fn want() -> impl Strategy<Value = Want> {
    let stream =
        (option::of(bytes(12)), any::<[u64; 16]>()).prop_map(|(from, fingerprints)| StreamWant { from, fingerprints });
    (partition(), context(), option::of(stream)).prop_map(|(partition, clock, stream)| Want {
        partition,
        clock,
        stream,
    })
}

fn caught_objects() -> impl Strategy<Value = Vec<CaughtObject>> {
    let object = (wire_key(), context(), object()).prop_map(|(at, dots, object)| CaughtObject {
        bucket: at.bucket,
        key: at.key,
        dots,
        object,
    });
    vec(object, 0..3)
}

fn caught() -> impl Strategy<Value = Caught> {
    let part = prop_oneof![
        Just(CaughtPart::Refused),
        Just(CaughtPart::LogShort),
        (context(), caught_objects(), any::<bool>()).prop_map(|(clock, objects, more)| CaughtPart::Objects {
            clock,
            objects,
            more
        }),
        (context(), bytes(12), option::of(bytes(12)), caught_objects()).prop_map(|(clock, from, until, objects)| {
            CaughtPart::Streamed {
                clock,
                from,
                until,
                objects,
            }
        }),
    ];
    (partition(), part).prop_map(|(partition, part)| Caught { partition, part })
}

fn delta() -> impl Strategy<Value = Delta> {
    (wire_key(), context(), object()).prop_map(|(at, dots, object)| Delta { at, dots, object })
}

fn hint_offer() -> impl Strategy<Value = HintOffer> {
    (number(), wire_key(), context(), context(), context()).prop_map(|(sequence, at, dots, live, context)| HintOffer {
        sequence,
        at,
        dots,
        live,
        context,
    })
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![
        any::<u8>().prop_map(Level::Count),
        Just(Level::One),
        Just(Level::Quorum),
        Just(Level::All)
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Sloppy), Just(Mode::Strict)]
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Disk), Just(Durability::Memory)]
}

fn policy() -> impl Strategy<Value = annulus_causality::ConflictPolicy> {
    use annulus_causality::ConflictPolicy::{Counter, LastWriteWins, Map, Set, Siblings};
    prop_oneof![Just(Siblings), Just(LastWriteWins), Just(Counter), Just(Set), Just(Map)]
}

fn config() -> impl Strategy<Value = BucketConfig> {
    (
        any::<u8>(),
        level(),
        level(),
        mode(),
        durability(),
        policy(),
        option::of(duration()),
        any::<u16>(),
    )
        .prop_map(
            |(n, r, w, mode, durability, conflicts, ttl, max_siblings)| BucketConfig {
                n,
                r,
                w,
                mode,
                durability,
                conflicts,
                ttl,
                max_siblings,
            },
        )
}

fn record() -> impl Strategy<Value = BucketRecord> {
    (bucket(), number(), node(), option::of(config())).prop_map(|(bucket, version, by, config)| BucketRecord {
        bucket,
        version,
        by,
        config,
    })
}

fn change() -> impl Strategy<Value = Change> {
    let element = || vec(any::<u8>(), 1..20).prop_map(|bytes| Element::parse(bytes.into()).unwrap());
    let field = || "\\PC{1,12}".prop_map(|name| Field::parse(name).unwrap());
    prop_oneof![
        any::<std::num::NonZeroI64>().prop_map(Change::Increment),
        element().prop_map(Change::Add),
        element().prop_map(Change::Remove),
        (field(), bytes(64), option::of(text())).prop_map(|(field, value, content_type)| Change::Set {
            field,
            value,
            content_type
        }),
        field().prop_map(Change::Unset),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let value = (bytes(64), option::of(text()), meta()).prop_map(|(value, content_type, meta)| NewValue {
        value,
        content_type,
        meta,
    });
    let condition = prop_oneof![
        vec(any::<u128>(), 0..3).prop_map(Condition::Match),
        Just(Condition::Exists),
        Just(Condition::Absent),
    ];
    let write = (option::of(value), option::of(text()), option::of(condition));
    prop_oneof![
        Just(Operation::Get),
        write.prop_map(|(value, token, condition)| Operation::Write {
            value,
            token,
            condition
        }),
        (change(), option::of(text())).prop_map(|(change, token)| Operation::Change { change, token }),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    (
        option::of(level()),
        option::of(level()),
        option::of(mode()),
        option::of(durability()),
        option::of(duration()),
    )
        .prop_map(|(r, w, mode, durability, timeout)| Options {
            r,
            w,
            mode,
            durability,
            timeout,
        })
}

fn key_request() -> impl Strategy<Value = KeyRequest> {
    let seen = (any::<u8>(), context()).prop_map(|(n, dots)| Seen { n, dots });
    (bucket(), key(), operation(), options(), option::of(seen)).prop_map(|(bucket, key, operation, options, seen)| {
        KeyRequest {
            bucket,
            key,
            operation,
            options,
            seen,
        }
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let parameter = prop_oneof![Just("r"), Just("timeout"), Just("If-Match"), Just("parameter")];
    let outcome = || prop_oneof![Just(Outcome::None), Just(Outcome::Unknown)];
    let count = any::<u8>;
    prop_oneof![
        (parameter, text()).prop_map(|(parameter, detail)| Failure::Invalid { parameter, detail }),
        text().prop_map(|detail| Failure::InvalidContext { detail }),
        text().prop_map(|bucket| Failure::NoSuchBucket { bucket }),
        (text(), text()).prop_map(|(bucket, detail)| Failure::BucketHoldsKeys { bucket, detail }),
        (any::<usize>(), any::<u16>()).prop_map(|(siblings, limit)| Failure::TooManySiblings { siblings, limit }),
        (text(), text()).prop_map(|(bucket, detail)| Failure::WrongOperation { bucket, detail }),
        text().prop_map(|detail| Failure::LimitReached { detail }),
        option::of(any::<u128>()).prop_map(|etag| Failure::ConditionFailed { etag }),
        (count(), count(), count(), outcome()).prop_map(|(required, answered, n, outcome)| {
            Failure::QuorumUnreachable {
                required,
                answered,
                n,
                outcome,
            }
        }),
        (count(), count(), outcome()).prop_map(|(required, answered, outcome)| Failure::TimedOut {
            required,
            answered,
            outcome
        }),
        text().prop_map(|reason| Failure::NotReady { reason }),
        timestamp().prop_map(|latest| Failure::StampBehind { latest }),
        text().prop_map(|detail| Failure::StorageUnavailable { detail }),
        text().prop_map(|detail| Failure::Overloaded { detail }),
        text().prop_map(|detail| Failure::Damaged { detail }),
        text().prop_map(|detail| Failure::InvalidSession { detail }),
        (any::<u32>(), any::<u64>(), count(), count()).prop_map(|(partition, missing, answered, n)| {
            Failure::SessionBehind {
                partition,
                missing,
                answered,
                n,
            }
        }),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let counts = || (any::<u8>(), any::<u8>(), any::<u8>());
    let seen = || option::of(context());
    let found = (vec(version(), 0..3), any::<u128>(), text(), counts(), seen()).prop_map(
        |(versions, etag, token, (answered, n, _), seen)| Found {
            versions,
            etag,
            token,
            answered,
            n,
            seen,
        },
    );
    let written = (text(), counts(), seen()).prop_map(|(token, (answered, n, fallbacks), seen)| Written {
        token,
        answered,
        n,
        fallbacks,
        seen,
    });
    prop_oneof![
        found.prop_map(|found| Ok(Answer::Found(found))),
        written.prop_map(|written| Ok(Answer::Written(written))),
        failure().prop_map(Err),
    ]
}

fn result<T: Clone + std::fmt::Debug>(done: impl Strategy<Value = T>) -> impl Strategy<Value = Result<T, Refusal>> {
    let refusal = prop_oneof![
        Just(Refusal::Storage),
        Just(Refusal::Damaged),
        Just(Refusal::Overloaded),
        Just(Refusal::NotOwner),
        Just(Refusal::Expired),
    ];
    prop_oneof![done.prop_map(Ok), refusal.prop_map(Err)]
}

/// What is said of data.
fn data() -> impl Strategy<Value = Message> {
    let known = prop_oneof![Just(Known::Same), object().prop_map(Known::Object)];
    prop_oneof![
        (number(), instant(), durability(), option::of(node()), delta()).prop_map(
            |(request, deadline, durability, hint_for, delta)| Message::Write {
                request,
                deadline,
                durability,
                hint_for,
                delta
            }
        ),
        (number(), result(Just(()))).prop_map(|(request, result)| Message::WriteDone { request, result }),
        (number(), instant(), wire_key(), option::of(number()), any::<bool>()).prop_map(
            |(request, deadline, at, digest, hints)| Message::Read {
                request,
                deadline,
                at,
                digest,
                hints
            }
        ),
        (number(), result(known)).prop_map(|(request, result)| Message::ReadDone { request, result }),
        vec(hint_offer(), 0..3).prop_map(|offers| Message::HintsWait { offers }),
        vec(number(), 0..5).prop_map(|sequences| Message::HintsWanted { sequences }),
        (number(), delta()).prop_map(|(sequence, delta)| Message::Hint { sequence, delta }),
        number().prop_map(|sequence| Message::HintTaken { sequence }),
        (witnessed(), number(), vec(clock_range(), 0..3)).prop_map(|(durable, wall_millis, ranges)| {
            Message::ClockHashes {
                durable,
                wall_millis,
                ranges,
            }
        }),
        (any::<bool>(), vec(partition_clock(), 0..3)).prop_map(|(answer, clocks)| Message::Clocks { answer, clocks }),
        (number(), vec(want(), 0..3)).prop_map(|(request, wants)| Message::CatchUp { request, wants }),
        (number(), vec(caught(), 0..3)).prop_map(|(request, caught)| Message::CaughtUp { request, caught }),
        (number(), number(), closing_step()).prop_map(|(below, ballot, step)| Message::Closing { below, ballot, step }),
    ]
}

fn identity() -> impl Strategy<Value = WriteIdentity> {
    (any::<u8>(), dot(), timestamp(), option::of(number()), context()).prop_map(
        |(n, dot, modified, expires, voided)| WriteIdentity {
            n,
            dot,
            modified,
            expires,
            voided,
        },
    )
}

/// What is said of clients' requests.
fn requests() -> impl Strategy<Value = Message> {
    let id = (node(), number(), number()).prop_map(|(origin, incarnation, number)| RequestId {
        origin,
        incarnation,
        number,
    });
    prop_oneof![
        (
            id,
            any::<u32>(),
            instant(),
            instant(),
            option::of(identity().prop_map(Box::new)),
            key_request()
        )
            .prop_map(
                |(id, attempt, start_by, deadline, identity, request)| Message::Forward {
                    id,
                    attempt,
                    start_by,
                    deadline,
                    identity,
                    request
                }
            ),
        (number(), any::<u32>(), option::of(reply())).prop_map(|(number, attempt, reply)| Message::Forwarded {
            number,
            attempt,
            reply
        }),
        (number(), instant(), bucket(), bytes(8), bytes(8), any::<u32>()).prop_map(
            |(request, deadline, bucket, prefix, start, limit)| Message::List {
                request,
                deadline,
                bucket,
                prefix,
                start,
                limit
            }
        ),
        (number(), result((vec(key(), 0..4), option::of(bytes(8)))))
            .prop_map(|(request, result)| Message::Listed { request, result }),
    ]
}

fn member_record() -> impl Strategy<Value = MemberRecord> {
    let name = "[a-z0-9]{1,64}".prop_map(|name| NodeName::parse(&name).unwrap());
    let capacity = (1..=100_000u32).prop_map(|hundredths| Capacity::parse(f64::from(hundredths) / 100.0).unwrap());
    let member = (name, text(), text(), capacity).prop_map(|(name, region, zone, capacity)| Member {
        name,
        region,
        zone,
        capacity,
    });
    (member, text(), text(), text(), number()).prop_map(|(member, http, peer, version, incarnation)| MemberRecord {
        member,
        http,
        peer,
        version,
        incarnation,
    })
}

fn cluster_id() -> impl Strategy<Value = ClusterId> {
    any::<[u8; 16]>().prop_map(ClusterId)
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let digest = || any::<[u8; 32]>().prop_map(Digest);
    let name = "[a-z0-9]{1,8}".prop_map(|name| NodeName::parse(&name).unwrap());
    let vote = (digest(), vec(name, 0..3)).prop_map(|(digest, founders)| ShownVote { digest, founders });
    let partitions = (0..10u32).prop_map(|power| Partitions::new(1 << power).unwrap());
    let secret = any::<[u8; 32]>().prop_map(Secret::new);
    (
        any::<u32>(),
        any::<u8>(),
        partitions,
        secret,
        option::of(digest()),
        option::of(vote),
    )
        .prop_map(|(expect, replicas, partitions, secret, proposal, vote)| Candidate {
            expect,
            replicas,
            partitions,
            secret,
            proposal,
            vote,
        })
}

fn gossip() -> impl Strategy<Value = Gossip> {
    let advertised =
        (number(), any::<u64>(), any::<u64>()).prop_map(|(epoch, ring_fingerprint, buckets_fingerprint)| Advertised {
            epoch,
            ring_fingerprint,
            buckets_fingerprint,
        });
    let formation = prop_oneof![
        candidate().prop_map(Formation::Candidate),
        any::<[u8; 32]>().prop_map(|key| Formation::Welcome { key: Secret::new(key) }),
    ];
    (
        (instant(), number(), option::of(cluster_id()), any::<bool>()),
        (
            advertised,
            any::<u64>(),
            option::of(vec(member_record(), 0..3)),
            option::of(formation),
        ),
    )
        .prop_map(
            |((clock, incarnation, cluster, hears_you), (advertised, members_fingerprint, members, formation))| {
                Gossip {
                    clock,
                    incarnation,
                    cluster,
                    hears_you,
                    advertised,
                    members_fingerprint,
                    members,
                    formation,
                }
            },
        )
}

/// Any hello.
pub(crate) fn hello() -> impl Strategy<Value = Hello> {
    let versions = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    (
        versions,
        option::of(cluster_id()),
        member_record(),
        option::of(1..=u64::MAX),
        option::of((1..=u64::MAX, any::<u64>())),
        instant(),
    )
        .prop_map(
            |((protocol_min, protocol_max), cluster, record, seen, witnessed, clock)| Hello {
                protocol_min,
                protocol_max,
                cluster,
                record,
                seen,
                witnessed: witnessed.map(|(incarnation, batch)| Witnessed { incarnation, batch }),
                clock,
            },
        )
}

/// What is said of the cluster.
fn cluster() -> impl Strategy<Value = Message> {
    prop_oneof![
        gossip().prop_map(Message::Gossip),
        bytes(64).prop_map(Message::Ring),
        vec(record(), 0..4).prop_map(Message::Buckets),
        (number(), record()).prop_map(|(request, record)| Message::Declare { request, record }),
        number().prop_map(|request| Message::Declared { request }),
    ]
}

/// Any message.
fn closing_step() -> impl Strategy<Value = ClosingStep> {
    let dots = || (partition(), any::<u64>()).prop_map(|(partition, hash)| PartitionDots { partition, hash });
    prop_oneof![
        Just(ClosingStep::Freeze),
        Just(ClosingStep::Free),
        number().prop_map(|epoch| ClosingStep::Count { epoch }),
        (vec(dots(), 0..3), any::<bool>()).prop_map(|(dots, more)| ClosingStep::Counted { dots, more }),
        vec(partition(), 0..3).prop_map(|partitions| ClosingStep::Close { partitions }),
    ]
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![data(), requests(), cluster()]
}
