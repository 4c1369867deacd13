//! Three replicas of one partition beside a naive twin: however they catch up with each other, whatever comes between, and though a record
//! is lost, in the end each holds what was written and not replaced.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};
use annulus_ring::{Address, Bucket, Key, PartitionId, Partitions};
use annulus_storage::engine::memory::MemoryEngine;
use annulus_storage::engine::{Batch, Space};
use annulus_storage::{Engine, Replica, SUB_RANGES, Streamed, StreamedPart, Supplied, Supply};
use bytes::Bytes;
use proptest::prelude::*;

const REPLICAS: usize = 3;
const KEYS: usize = 10;
const PARTITION: PartitionId = PartitionId { n: 3, index: 0 };
/// So few entries of a log are kept that streams are needed.
const LOG_LIMIT: usize = 6;
/// No pull takes more answers.
const ENOUGH: usize = 1000;

fn partitions() -> Partitions {
    Partitions::new(4).unwrap()
}

/// The first keys that fall into the partition.
fn addresses() -> Vec<Address> {
    let all = (0..).map(|number: u32| {
        let key = Key::parse(number.to_string().into_bytes()).unwrap();
        Address::new(Bucket::parse("b").unwrap(), key, PARTITION.n, partitions())
    });
    all.filter(|address| address.partition == PARTITION)
        .take(KEYS)
        .collect()
}

/// A write as one of its coordinators began it.
#[derive(Clone, Debug)]
struct Sent {
    key: usize,
    dot: Dot,
    delta: Object,
}

/// What was ever written: a version lives if no other write replaced it.
#[derive(Debug, Default)]
struct Twin {
    sent: Vec<Sent>,
}

impl Twin {
    fn live(&self, key: usize) -> BTreeMap<Dot, Bytes> {
        let of_key = || self.sent.iter().filter(|sent| sent.key == key);
        let puts = of_key().flat_map(|sent| sent.delta.versions().iter());
        let replaces =
            |sent: &Sent, dot| sent.delta.context().contains(dot) && !sent.delta.dots().any(|own| own == dot);
        let is_replaced = |dot: Dot| of_key().any(|sent| replaces(sent, dot));
        puts.filter(|(dot, _)| !is_replaced(*dot))
            .map(|(dot, version)| (*dot, version.value.clone()))
            .collect()
    }
}

/// What was asked of another replica, and is not taken yet.
enum Answer {
    Supply(CausalContext, Vec<Supplied>),
    Stream([u64; SUB_RANGES], Streamed),
}

struct Side {
    engine: MemoryEngine,
    replica: Replica<MemoryEngine>,
    actor: Actor,
    answer: Option<Answer>,
    /// From whom a stream is under way.
    streams_from: Option<usize>,
    /// What that one knew to be gone when the stream began.
    gone: Vec<(usize, Dot)>,
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        key: usize,
        seen: Option<usize>,
        delete: bool,
        /// Another coordinator begins it, too.
        twice: bool,
    },
    WasteADot,
    Deliver(usize),
    AskLog(usize),
    AskStream(usize),
    Take,
    Pull,
    Reopen,
    NewLife,
    Close,
    Damage(usize, bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = || 1..200_usize;
    prop_oneof![
        20 => (0..KEYS, prop::option::of(any::<usize>()), prop::bool::weighted(0.3), prop::bool::weighted(0.2))
            .prop_map(|(key, seen, delete, twice)| Step::Write { key, seen, delete, twice }),
        1 => Just(Step::WasteADot),
        14 => any::<usize>().prop_map(Step::Deliver),
        6 => bytes().prop_map(Step::AskLog),
        8 => bytes().prop_map(Step::AskStream),
        14 => Just(Step::Take),
        2 => Just(Step::Pull),
        1 => Just(Step::Reopen),
        2 => Just(Step::NewLife),
        2 => Just(Step::Close),
        1 => (0..KEYS, any::<bool>()).prop_map(|(key, rots)| Step::Damage(key, rots)),
    ]
}

impl Side {
    fn new(node: u64) -> Side {
        let engine = MemoryEngine::new();
        let mut replica = Replica::open(engine.clone(), partitions()).unwrap();
        replica.set_log_limit(LOG_LIMIT);
        Side {
            engine,
            replica,
            actor: Actor { node, incarnation: 1 },
            answer: None,
            streams_from: None,
            gone: Vec::new(),
        }
    }

    fn clock(&self) -> &CausalContext {
        self.replica.clock(PARTITION)
    }

    /// As a restart or a partition that comes into doubt does.
    fn forget_stream(&mut self) {
        self.answer = None;
        self.streams_from = None;
        self.replica.abandon_stream(PARTITION);
    }

    fn reopen(&mut self) {
        self.replica.commit().unwrap();
        self.forget_stream();
        self.replica = Replica::open(self.engine.clone(), partitions()).unwrap();
        self.replica.set_log_limit(LOG_LIMIT);
        self.actor.incarnation += 1;
    }

    /// Takes the answer; says how, where it was a piece of a stream.
    fn take(&mut self) -> Option<StreamedPart> {
        let taken = match self.answer.take()? {
            Answer::Supply(clock, objects) => self.replica.take_supply(PARTITION, &clock, objects).map(|()| None),
            Answer::Stream(sent, part) => self.replica.take_streamed(PARTITION, &sent, part).map(Some),
        };
        let Ok(part) = taken else {
            self.doubt_again();
            return None;
        };
        match part {
            Some(StreamedPart::Stale) => self.forget_stream(),
            Some(StreamedPart::Done) => self.streams_from = None,
            Some(StreamedPart::Next(_)) | None => {}
        }
        part
    }

    fn read(&mut self, address: &Address) -> Object {
        self.replica.read(address).unwrap_or_else(|_| {
            self.doubt_again();
            self.replica.read(address).unwrap()
        })
    }

    /// Only who is touched finds out that a record is lost that the index names; a doubt mends the index of what was found.
    fn doubt_again(&mut self) {
        assert!(
            self.replica.is_in_doubt(PARTITION),
            "nothing is damaged but what was found"
        );
        self.forget_stream();
        self.replica.doubt(PARTITION).unwrap();
    }

    /// The record of an object in the engine.
    fn record(&self, address: &Address) -> Option<(Bytes, Bytes)> {
        let mut found = None;
        let visit = &mut |key: &[u8], frame: &[u8]| {
            if key.ends_with(&address.scope()) {
                found = Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(frame)));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        self.engine.scan(Space::Object, &[], None, visit).unwrap();
        found
    }
}

struct World {
    addresses: Vec<Address>,
    sides: Vec<Side>,
    twin: Twin,
    given: BTreeSet<Dot>,
    /// Decided by a ballot, and told to all.
    closed: CausalContext,
}

impl World {
    fn new() -> World {
        World {
            addresses: addresses(),
            sides: (0..REPLICAS).map(|node| Side::new(node as u64 + 1)).collect(),
            twin: Twin::default(),
            given: BTreeSet::new(),
            closed: CausalContext::new(),
        }
    }

    fn doubted(&self) -> Option<usize> {
        (0..REPLICAS).find(|&at| self.sides[at].replica.is_in_doubt(PARTITION))
    }

    fn run(&mut self, at: usize, other: usize, step: Step) {
        match step {
            // Who is in doubt coordinates nothing.
            Step::Write { .. } | Step::WasteADot if self.doubted() == Some(at) => {}
            Step::Write {
                key,
                seen,
                delete,
                twice,
            } => {
                let dot = self.next_dot(at);
                let of_key = self.twin.sent.iter().filter(|sent| sent.key == key);
                let contexts: Vec<_> = of_key.map(|sent| sent.delta.context().clone()).collect();
                let seen = seen
                    .filter(|_| !contexts.is_empty())
                    .map(|seen| contexts[seen % contexts.len()].clone());
                let version = Version::new(dot.to_string().into(), None, Vec::new(), Timestamp::default(), None);
                let version = (!delete).then_some(version);
                self.write(at, (key, dot), version.clone(), seen.as_ref());
                if twice && self.doubted() != Some(other) {
                    self.write(other, (key, dot), version, seen.as_ref());
                }
            }
            Step::WasteADot => drop(self.next_dot(at)),
            Step::Deliver(number) if !self.twin.sent.is_empty() => {
                let sent = self.twin.sent[number % self.twin.sent.len()].clone();
                self.apply(at, &sent);
            }
            Step::Deliver(_) => {}
            Step::AskLog(max_bytes) => _ = self.ask_log(at, other, max_bytes),
            Step::AskStream(max_bytes) => self.ask_stream(at, other, max_bytes),
            Step::Take => self.take(at),
            Step::Pull => self.pull(at, other),
            Step::Reopen => self.sides[at].reopen(),
            Step::NewLife => self.sides[at].actor.incarnation += 1,
            Step::Close => self.close(at),
            Step::Damage(key, rots) => self.damage(at, key, rots),
        }
    }

    fn next_dot(&mut self, at: usize) -> Dot {
        let side = &mut self.sides[at];
        let dot = side.replica.next_dot(PARTITION, side.actor);
        assert!(self.given.insert(dot), "{dot} was given out twice");
        dot
    }

    fn write(&mut self, at: usize, (key, dot): (usize, Dot), version: Option<Version>, seen: Option<&CausalContext>) {
        let known = self.sides[at].read(&self.addresses[key]);
        let delta = known.write(dot, version, seen, ConflictPolicy::Siblings);
        let sent = Sent { key, dot, delta };
        self.apply(at, &sent);
        self.twin.sent.push(sent);
    }

    fn apply(&mut self, at: usize, sent: &Sent) {
        let (side, address) = (&mut self.sides[at], &self.addresses[sent.key]);
        // As the node does with what is of a closed incarnation.
        if !side.clock().is_closed(sent.dot.actor) {
            let dots = CausalContext::from_iter([sent.dot]);
            // What is lost there is found by a look.
            side.read(address);
            side.replica.apply(address, sent.delta.clone(), &dots).unwrap();
        }
    }

    /// Asks for what the log names; says whether it names all that is missing.
    fn ask_log(&mut self, at: usize, from: usize, max_bytes: usize) -> bool {
        self.adopt_closed(at, from);
        let theirs = self.sides[at].clock().clone();
        match self.sides[from].replica.supply(PARTITION, &theirs, max_bytes).unwrap() {
            Supply::LogShort => false,
            Supply::Objects { clock, objects, .. } => {
                self.sides[at].answer = Some(Answer::Supply(clock, objects));
                true
            }
        }
    }

    /// Asks for a piece of the partition; from one replica at a time.
    fn ask_stream(&mut self, at: usize, from: usize, max_bytes: usize) {
        self.adopt_closed(at, from);
        if self.sides[at].streams_from.is_some_and(|other| other != from) {
            self.sides[at].forget_stream();
        }
        let cursor = self.sides[at].replica.stream_cursor(PARTITION);
        if cursor.is_none() {
            self.sides[at].gone = self.gone(from);
        }
        let sent = self.sides[at].replica.fingerprints(PARTITION);
        let part = self.sides[from]
            .replica
            .stream(PARTITION, cursor.as_ref(), &sent, max_bytes)
            .unwrap();
        self.sides[at].answer = Some(Answer::Stream(sent, part));
        self.sides[at].streams_from = Some(from);
    }

    /// The dots that are in a replica's clock, and of which it has no version.
    fn gone(&mut self, at: usize) -> Vec<(usize, Dot)> {
        let mut gone = Vec::new();
        for (key, address) in self.addresses.iter().enumerate() {
            let object = self.sides[at].read(address);
            let clock = self.sides[at].clock();
            let dots = self
                .twin
                .sent
                .iter()
                .filter(|sent| sent.key == key)
                .map(|sent| sent.dot);
            let is_gone = |dot: &Dot| clock.contains(*dot) && !object.dots().any(|live| live == *dot);
            gone.extend(dots.filter(is_gone).map(|dot| (key, dot)));
        }
        gone
    }

    fn take(&mut self, at: usize) {
        if self.sides[at].take() == Some(StreamedPart::Done) {
            let back = self.gone(at);
            let shown = self.sides[at].gone.iter().find(|gone| !back.contains(gone));
            assert_eq!(shown, None, "what was gone is back when the stream has ended");
        }
    }

    /// Until nothing that the other has is missing; where the clocks are equal and the contents are not, by a whole stream.
    fn pull(&mut self, at: usize, from: usize) {
        self.sides[at].forget_stream();
        let mut is_joined = false;
        for _ in 0..ENOUGH {
            let (here, there) = (&self.sides[at], &self.sides[from]);
            let has_all = there.clock().is_subset(here.clock());
            let is_same = here.replica.contents(PARTITION) == there.replica.contents(PARTITION);
            if has_all && (is_same || is_joined || here.clock() != there.clock()) {
                return self.sides[at].forget_stream();
            }
            let streams = here.streams_from.is_some();
            if streams || has_all || !self.ask_log(at, from, 100) {
                self.ask_stream(at, from, 100);
            }
            let asked = self.sides[at].streams_from.is_some();
            self.take(at);
            is_joined = asked && self.sides[at].streams_from.is_none();
        }
        panic!("catching up does not come to an end");
    }

    /// An owner adopts what it sees closed at another, unless it is in doubt.
    fn adopt_closed(&mut self, at: usize, from: usize) {
        let is_known = self.closed.is_subset(self.sides[from].clock());
        if is_known && self.doubted() != Some(at) {
            self.sides[at].replica.close(PARTITION, &self.closed);
        }
    }

    /// The ballot about a node's earlier incarnations: all have the same of them, and nobody is in doubt.
    fn close(&mut self, at: usize) {
        let Actor { node, incarnation } = self.sides[at].actor;
        let before = |side: &Side| side.clock().before(node, incarnation);
        let first = before(&self.sides[0]);
        let is_in_no_clock = |sent: &&Sent| {
            let Actor {
                node: of,
                incarnation: life,
            } = sent.dot.actor;
            (of == node && life < incarnation) && !first.contains(sent.dot)
        };
        let is_same = self.sides.iter().all(|side| before(side) == first);
        if self.doubted().is_none() && is_same && !self.twin.sent.iter().any(|sent| is_in_no_clock(&sent)) {
            self.closed.close_below(node, incarnation);
            // The others see it.
            let mut own = CausalContext::new();
            own.close_below(node, incarnation);
            self.sides
                .iter_mut()
                .for_each(|side| side.replica.close(PARTITION, &own));
        }
    }

    /// A record is lost or rots. The others have it, and know what it replaced: what one alone had would be gone for good.
    fn damage(&mut self, at: usize, key: usize, rots: bool) {
        if self.doubted().is_some() {
            return;
        }
        self.catch_up();
        let address = self.addresses[key].clone();
        let side = &mut self.sides[at];
        side.reopen();
        if side.replica.read(&address).unwrap().versions().is_empty() {
            return;
        }
        side.reopen();
        let (record, frame) = side.record(&address).unwrap();
        let mut batch = Batch::new();
        match rots {
            false => batch.delete(Space::Object, record),
            true => {
                let mut frame = frame.to_vec();
                *frame.last_mut().unwrap() ^= 1;
                batch.put(Space::Object, record, frame);
            }
        }
        side.engine.apply(batch).unwrap();
        let damaged = side.replica.scrub(None, usize::MAX).unwrap().damaged;
        assert_eq!(damaged, BTreeSet::from([PARTITION]), "a scrub finds it");
        let before = side.clock().clone();
        side.replica.doubt(PARTITION).unwrap();
        assert!(side.clock().is_subset(&before));
        // Who streams from it begins anew, as its clock is smaller now.
        self.check_scrub(at);
    }

    fn check_scrub(&self, at: usize) {
        let scrubbed = self.sides[at].replica.scrub(None, usize::MAX).unwrap();
        assert_eq!((scrubbed.damaged, scrubbed.next), (BTreeSet::new(), None));
    }

    /// What is shown has been written, and nobody has seen it replaced there; and the disk holds what the fingerprints say.
    fn check(&mut self, at: usize) {
        for (key, address) in self.addresses.iter().enumerate() {
            let shown = self.sides[at].read(address);
            let of_key = || self.twin.sent.iter().filter(|sent| sent.key == key);
            for (dot, version) in shown.versions() {
                let is_written = of_key().any(|sent| sent.dot == *dot);
                assert!(is_written && version.value == dot.to_string());
            }
        }
        self.check_scrub(at);
    }

    /// All catch up with all; who was in doubt is trusted then.
    fn catch_up(&mut self) {
        for _ in 0..3 {
            for at in 0..REPLICAS {
                (0..REPLICAS)
                    .filter(|&other| other != at)
                    .for_each(|other| self.pull(at, other));
                self.sides[at].replica.trust(PARTITION);
            }
        }
    }

    fn settle(&mut self) {
        self.catch_up();
        for at in 0..REPLICAS {
            self.sides[at].reopen();
            assert_eq!(self.sides[at].clock(), self.sides[0].clock());
            for (key, address) in self.addresses.iter().enumerate() {
                let shown = self.sides[at].read(address);
                let shown = shown
                    .versions()
                    .iter()
                    .map(|(dot, version)| (*dot, version.value.clone()));
                assert_eq!(
                    shown.collect::<BTreeMap<_, _>>(),
                    self.twin.live(key),
                    "key {key} at {at}"
                );
            }
            self.check_scrub(at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_whatever_way_replicas_catch_up_they_end_as_the_naive_twin(
        steps in prop::collection::vec((0..REPLICAS, 1..REPLICAS, any_step()), 1..120),
    ) {
        let mut world = World::new();
        for (at, further, step) in steps {
            world.run(at, (at + further) % REPLICAS, step);
            world.check(at);
        }
        world.settle();
    }
}
