//! Two replicas on the memory engine beside naive twins: whatever is written, delivered, lost and reopened, they hold the same.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};
use annulus_ring::{Address, Bucket, Key, NodeId, PartitionId, Partitions};
use annulus_storage::engine::memory::MemoryEngine;
use annulus_storage::{Brings, EngineError, Expiring, OverdueHint, Replica};
use bytes::Bytes;
use proptest::prelude::*;

type Dots = BTreeSet<Dot>;
/// The values of the versions, with when they expire.
type Versions = BTreeMap<Dot, (Bytes, Option<u64>)>;

fn partitions() -> Partitions {
    Partitions::new(4).unwrap()
}

/// Eight keys in two buckets, one of which has its own number of replicas.
fn address(number: usize) -> Address {
    let (bucket, n) = if number < 5 { ("b", 3) } else { ("b2", 2) };
    let key = [&b"a"[..], b"a/1", b"a/2", b"\xff", b"z", b"a", b"a/1", b"0"][number];
    Address::new(
        Bucket::parse(bucket).unwrap(),
        Key::parse(key).unwrap(),
        n,
        partitions(),
    )
}

fn dots_of(context: &CausalContext) -> Dots {
    context
        .open_ranges()
        .flat_map(|(actor, counters)| counters.map(move |counter| Dot::new(actor, counter)))
        .collect()
}

fn versions_of(object: &Object) -> Versions {
    let versions = object.versions().iter();
    versions
        .map(|(dot, version)| (*dot, (version.value.clone(), version.expires)))
        .collect()
}

#[derive(Clone, Debug)]
struct TwinHint {
    key: usize,
    dots: Dots,
    delta: (Versions, Dots),
    expires: u64,
    /// When it is overdue.
    due: u64,
}

/// What a replica is, in plain sets: the model of `replicate one partition`, for all partitions at once.
#[derive(Clone, Debug, Default)]
struct Twin {
    clocks: BTreeMap<PartitionId, Dots>,
    objects: BTreeMap<usize, (Versions, Dots)>,
    log: BTreeMap<PartitionId, BTreeMap<Dot, usize>>,
    hints: BTreeMap<(NodeId, u64), TwinHint>,
    meta: Option<Vec<u8>>,
}

impl Twin {
    fn clock(&self, key: usize) -> Dots {
        self.clocks.get(&address(key).partition).cloned().unwrap_or_default()
    }

    /// As it is after a start.
    fn read_again(&self) -> Twin {
        let mut read = self.clone();
        read.hints.values_mut().for_each(|hint| hint.due = hint.expires);
        read
    }

    fn filled(&self, key: usize) -> (Versions, Dots) {
        let (versions, context) = self.objects.get(&key).cloned().unwrap_or_default();
        (versions, &context | &self.clock(key))
    }

    fn apply(&mut self, key: usize, (versions, context): (Versions, Dots), dots: &Dots) {
        let (mine, my_context) = self.filled(key);
        let keep = join((mine, my_context.clone()), (versions.clone(), context.clone()));
        let partition = address(key).partition;
        for dot in dots.iter().chain(versions.keys()) {
            if self.clocks.entry(partition).or_default().insert(*dot) {
                self.log.entry(partition).or_default().insert(*dot, key);
            }
        }
        self.objects.insert(key, (keep, &my_context | &context));
    }

    fn is_live(&self, key: usize, wall_ms: u64) -> bool {
        let hinted = self
            .hints
            .values()
            .filter(|hint| hint.key == key)
            .map(|hint| &hint.delta);
        let mut versions = hinted.flat_map(|(versions, _)| versions.values()).chain(
            self.objects
                .get(&key)
                .into_iter()
                .flat_map(|(versions, _)| versions.values()),
        );
        versions.any(|(_, expires)| expires.is_none_or(|expires| wall_ms < expires))
    }
}

fn join((mine, my_context): (Versions, Dots), (theirs, their_context): (Versions, Dots)) -> Versions {
    let mut keep = Versions::new();
    for (dot, value) in &mine {
        if theirs.contains_key(dot) || !their_context.contains(dot) {
            keep.insert(*dot, value.clone());
        }
    }
    for (dot, value) in &theirs {
        if mine.contains_key(dot) || !my_context.contains(dot) {
            keep.insert(*dot, value.clone());
        }
    }
    keep
}

/// A write as it travels.
#[derive(Clone, Debug)]
struct Sent {
    key: usize,
    delta: Object,
    dots: CausalContext,
}

struct Side {
    engine: MemoryEngine,
    replica: Replica<MemoryEngine>,
    actor: Actor,
    given: BTreeSet<(PartitionId, Dot)>,
    twin: Twin,
    committed: Twin,
    synced: Twin,
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        key: usize,
        seen: Option<usize>,
        delete: bool,
        expires: Option<u64>,
    },
    WasteADot(usize),
    Deliver(usize),
    Hint {
        owner: u64,
        sent: usize,
        expires: u64,
    },
    Forget {
        owner: u64,
        sequence: u64,
    },
    Expire(u64),
    Meta(Vec<u8>),
    Commit,
    FailToCommit,
    Sync,
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    let expires = || prop::option::weighted(0.3, 0..20_u64);
    prop_oneof![
        10 => (0..8_usize, prop::option::of(any::<usize>()), prop::bool::weighted(0.3), expires())
            .prop_map(|(key, seen, delete, expires)| Step::Write { key, seen, delete, expires }),
        1 => (0..8_usize).prop_map(Step::WasteADot),
        10 => any::<usize>().prop_map(Step::Deliver),
        3 => (0..3_u64, any::<usize>(), 0..20_u64)
            .prop_map(|(owner, sent, expires)| Step::Hint { owner, sent, expires }),
        1 => (0..3_u64, 0..12_u64).prop_map(|(owner, sequence)| Step::Forget { owner, sequence }),
        1 => (0..10_u64).prop_map(Step::Expire),
        1 => prop::collection::vec(any::<u8>(), 0..9).prop_map(Step::Meta),
        4 => Just(Step::Commit),
        1 => Just(Step::FailToCommit),
        2 => Just(Step::Sync),
        1 => Just(Step::Crash),
    ]
}

impl Side {
    fn new(node: u64) -> Side {
        let engine = MemoryEngine::new();
        let replica = Replica::open(engine.clone(), partitions()).unwrap();
        let (twin, committed, synced) = Default::default();
        Side {
            engine,
            replica,
            actor: Actor { node, incarnation: 1 },
            given: BTreeSet::new(),
            twin,
            committed,
            synced,
        }
    }

    fn next_dot(&mut self, key: usize) -> Dot {
        let partition = address(key).partition;
        let dot = self.replica.next_dot(partition, self.actor);
        assert!(self.given.insert((partition, dot)), "{dot} was given out twice");
        dot
    }

    fn apply(&mut self, sent: &Sent) {
        let delta = (versions_of(&sent.delta), dots_of(sent.delta.context()));
        let live: CausalContext = sent.delta.dots().collect();
        let mut dots = sent.dots.clone();
        dots.union(&live);
        let brings = Brings {
            dots: &dots,
            live: &live,
            context: sent.delta.context(),
        };
        let had = self.replica.has(&address(sent.key), brings).unwrap();
        let applied = self
            .replica
            .apply(&address(sent.key), sent.delta.clone(), &sent.dots)
            .unwrap();
        assert_eq!(
            had,
            !applied.staged(),
            "what is here already is exactly what changes nothing"
        );
        let before = self.twin.clone();
        self.twin.apply(sent.key, delta, &dots_of(&sent.dots));
        assert_eq!(applied.new_dots, before.clocks != self.twin.clocks);
        let staged = self.replica.size().staged_bytes;
        let again = self
            .replica
            .apply(&address(sent.key), sent.delta.clone(), &sent.dots)
            .unwrap();
        assert!(!again.staged(), "delivered again, it changes nothing");
        assert_eq!(self.replica.size().staged_bytes, staged);
    }

    fn run(&mut self, step: Step, sent: &mut Vec<Sent>) {
        match step {
            Step::Write {
                key,
                seen,
                delete,
                expires,
            } => {
                let dot = self.next_dot(key);
                let of_key = sent
                    .iter()
                    .filter(|sent| sent.key == key)
                    .map(|sent| sent.delta.context());
                let of_key = of_key.collect::<Vec<_>>();
                let seen = seen
                    .filter(|_| !of_key.is_empty())
                    .map(|seen| of_key[seen % of_key.len()].clone());
                let value = format!("{dot}").repeat(3).into();
                let version = (!delete).then(|| Version::new(value, None, Vec::new(), Timestamp::default(), expires));
                let known = self.replica.read(&address(key)).unwrap();
                let delta = known.write(dot, version, seen.as_ref(), ConflictPolicy::Siblings);
                let write = Sent {
                    key,
                    delta,
                    dots: CausalContext::from_iter([dot]),
                };
                self.apply(&write);
                sent.push(write);
            }
            Step::WasteADot(key) => drop(self.next_dot(key)),
            Step::Deliver(number) if !sent.is_empty() => {
                let write = sent[number % sent.len()].clone();
                self.apply(&write);
            }
            Step::Hint {
                owner,
                sent: number,
                expires,
            } if !sent.is_empty() => {
                let write = &sent[number % sent.len()];
                let delta = write.delta.clone();
                let kept = (versions_of(&delta), dots_of(delta.context()));
                let owner = NodeId(owner);
                self.replica
                    .hint(owner, &address(write.key), &write.dots, delta, expires)
                    .unwrap();
                let hints = self.replica.hints(owner, 0, usize::MAX).unwrap();
                let hint = TwinHint {
                    key: write.key,
                    dots: dots_of(&write.dots),
                    delta: kept,
                    expires,
                    due: expires,
                };
                self.twin.hints.insert((owner, hints.last().unwrap().sequence), hint);
            }
            Step::Deliver(_) | Step::Hint { .. } => {}
            Step::Forget { owner, sequence } => {
                self.replica.forget_hint(NodeId(owner), sequence);
                self.twin.hints.remove(&(NodeId(owner), sequence));
            }
            Step::Expire(now) => {
                let overdue = self.replica.overdue_hints(now);
                let of_twin = self.twin.hints.iter().filter(|(_, hint)| hint.due <= now);
                let mut of_twin: Vec<_> = of_twin
                    .map(|(&(owner, sequence), hint)| (hint.due, owner, sequence, address(hint.key).partition))
                    .collect();
                of_twin.sort();
                let expected = of_twin.into_iter().map(|(_, owner, sequence, partition)| OverdueHint {
                    owner,
                    sequence,
                    partition,
                });
                assert_eq!(overdue, expected.collect::<Vec<_>>());
                for (number, hint) in overdue.into_iter().enumerate() {
                    let of_twin = (hint.owner, hint.sequence);
                    if number % 2 == 0 {
                        self.replica.forget_hint(hint.owner, hint.sequence);
                        self.twin.hints.remove(&of_twin);
                    } else {
                        self.replica.postpone_hint(hint, now + 1);
                        self.twin.hints.get_mut(&of_twin).unwrap().due = now + 1;
                    }
                }
                assert_eq!(self.replica.overdue_hints(now), Vec::new());
            }
            Step::Meta(bytes) => {
                self.replica.put_meta("clocks", &bytes);
                self.twin.meta = Some(bytes);
            }
            Step::Commit => {
                let staged = self.replica.size().staged_bytes > 0;
                assert_eq!(self.replica.commit().unwrap().is_some(), staged);
                assert_eq!(self.replica.commit(), Ok(None));
                self.committed = self.twin.clone();
            }
            Step::FailToCommit => self.fail_to_commit(),
            Step::Sync => {
                self.replica.syncer().sync().unwrap();
                self.synced = self.committed.clone();
            }
            Step::Crash => {
                self.engine.crash();
                self.replica = Replica::open(self.engine.clone(), partitions()).unwrap();
                self.actor.incarnation += 1;
                (self.twin, self.committed) = (self.synced.read_again(), self.synced.clone());
            }
        }
    }

    fn fail_to_commit(&mut self) {
        if self.replica.size().staged_bytes == 0 {
            return;
        }
        self.engine.fail_next(EngineError::Full {
            doing: "a test",
            before_writing: true,
            detail: String::new(),
        });
        self.replica.commit().unwrap_err();
        let error = self.replica.read(&address(0)).unwrap_err();
        assert!(
            matches!(error, EngineError::Failed { .. }),
            "nothing is answered from clocks that claim too much"
        );
        self.replica.reload().unwrap();
        self.twin = self.committed.read_again();
    }

    fn check(&self) {
        for key in 0..8 {
            let at = address(key);
            let object = self.replica.read(&at).unwrap();
            let (versions, context) = self.twin.filled(key);
            assert_eq!((versions_of(&object), dots_of(object.context())), (versions, context));
            assert_eq!(dots_of(self.replica.clock(at.partition)), self.twin.clock(key));
            self.check_hinted(key);
        }
        for owner in 0..3 {
            self.check_hints_of(NodeId(owner));
        }
        for wall_ms in [0, 10, 30] {
            self.check_listing(wall_ms);
        }
        assert_eq!(
            self.replica.get_meta("clocks").unwrap().as_deref(),
            self.twin.meta.as_deref()
        );
        assert_eq!(self.replica.get_meta("layout"), Ok(None));
    }

    fn check_hints_of(&self, owner: NodeId) {
        let found = self.replica.hints(owner, 0, usize::MAX).unwrap();
        let mut expected = self.twin.hints.range((owner, 0)..=(owner, u64::MAX));
        for hint in &found {
            let ((_, sequence), twin) = expected.next().unwrap();
            assert_eq!((hint.sequence, &hint.address), (*sequence, &address(twin.key)));
            assert_eq!(
                (dots_of(&hint.dots), hint.expires_wall_ms),
                (twin.dots.clone(), twin.expires)
            );
            let object = (versions_of(&hint.object), dots_of(hint.object.context()));
            assert_eq!(object, twin.delta);
        }
        assert_eq!(expected.next().map(|_| "a hint is missing"), None);
        let count = self.replica.hint_summary().get(&owner).map_or(0, |count| count.hints);
        assert_eq!(count, found.len() as u64);
        if let [first, second, ..] = &found[..] {
            let page = self.replica.hints(owner, 0, 0).unwrap();
            assert_eq!(
                page.iter().map(|hint| hint.sequence).collect::<Vec<_>>(),
                [first.sequence]
            );
            assert_eq!(
                self.replica.hints(owner, first.sequence, 0).unwrap()[0].sequence,
                second.sequence
            );
        }
    }

    fn check_hinted(&self, key: usize) {
        let mut expected = (Versions::new(), Dots::new());
        for hint in self.twin.hints.values().filter(|hint| hint.key == key) {
            let context = &expected.1 | &hint.delta.1;
            expected = (join(expected, hint.delta.clone()), context);
        }
        let hinted = self.replica.hinted(&address(key)).unwrap();
        assert_eq!((versions_of(&hinted), dots_of(hinted.context())), expected);
    }

    fn check_listing(&self, wall_ms: u64) {
        for (bucket, keys) in [("b", 0..5), ("b2", 5..8), ("nothing", 0..0)] {
            let bucket = Bucket::parse(bucket).unwrap();
            let live = keys
                .filter(|key| self.twin.is_live(*key, wall_ms))
                .map(|key| address(key).key);
            let live = live.collect::<BTreeSet<_>>();
            for (prefix, start) in [
                (&b""[..], &b""[..]),
                (b"a", b""),
                (b"", b"a/"),
                (b"a/", b"a/2"),
                (b"\xff", b""),
                (b"a", b"b"),
            ] {
                let expected = live
                    .iter()
                    .filter(|key| key.as_bytes().starts_with(prefix) && key.as_bytes() >= start);
                let expected = expected.cloned().collect::<Vec<_>>();
                for limit in [1, 2, 9] {
                    assert_eq!(self.list_all(&bucket, prefix, start, limit, wall_ms), expected);
                }
            }
        }
    }

    fn list_all(&self, bucket: &Bucket, prefix: &[u8], start: &[u8], limit: usize, wall_ms: u64) -> Vec<Key> {
        let mut start = start.to_vec();
        let mut keys = Vec::new();
        loop {
            let page = self.replica.list(bucket, prefix, &start, limit, wall_ms).unwrap();
            assert!(page.keys.len() <= limit);
            assert_eq!(page.more(), page.resume.is_some());
            keys.extend(page.keys);
            match page.resume {
                Some(key) => start = key.as_bytes().to_vec(),
                None => return keys,
            }
        }
    }

    /// What expires is found a piece at a time, in order of time.
    fn check_expiring(&self) {
        for until in [0, 10, u64::MAX] {
            let (mut found, mut last) = (Vec::<Expiring>::new(), None);
            while let [next] = &self.replica.expiring(last.as_ref(), until, 1).unwrap()[..] {
                last = Some(next.clone());
                found.push(next.clone());
            }
            assert_eq!(self.replica.expiring(None, until, 99).unwrap(), found);
            assert!(found.is_sorted_by_key(|expiring| expiring.expires));
            let mut found: Vec<_> = found.into_iter().map(|found| (found.expires, found.address)).collect();
            let expected = (0..8).filter_map(|key| {
                let (versions, _) = self.twin.objects.get(&key)?;
                let first = versions.values().filter_map(|(_, expires)| *expires).min();
                first.filter(|first| *first < until).map(|first| (first, address(key)))
            });
            let mut expected: Vec<_> = expected.collect();
            found.sort_by_key(|(expires, address)| (*expires, address.scope()));
            expected.sort_by_key(|(expires, address)| (*expires, address.scope()));
            assert_eq!(found, expected);
        }
    }

    /// The log holds exactly the dots of the clocks, each with its key.
    fn check_log(&mut self) {
        self.replica.commit().unwrap();
        let mut found = BTreeMap::<PartitionId, BTreeMap<Dot, Bytes>>::new();
        let mut last = 0;
        let visit = &mut |batch: annulus_storage::LogBatch| {
            assert!(batch.number > last);
            last = batch.number;
            for entry in batch.entries {
                for counter in entry.counters {
                    let dot = Dot::new(entry.actor, counter);
                    assert_eq!(
                        found
                            .entry(entry.partition)
                            .or_default()
                            .insert(dot, entry.scope.clone()),
                        None
                    );
                }
            }
            ControlFlow::Continue(())
        };
        self.replica.log_since(0, visit).unwrap();
        let scope = |key: &usize| Bytes::from(address(*key).scope());
        let expected = self.twin.log.iter().map(|(partition, log)| {
            (
                *partition,
                log.iter()
                    .map(|(dot, key)| (*dot, scope(key)))
                    .collect::<BTreeMap<_, _>>(),
            )
        });
        assert_eq!(found, expected.collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_any_history_agrees_with_a_naive_twin(steps in prop::collection::vec((any::<bool>(), any_step()), 1..80)) {
        let mut sides = [Side::new(1), Side::new(2)];
        let mut sent = Vec::new();
        for (side, step) in steps {
            let side = &mut sides[usize::from(side)];
            side.run(step, &mut sent);
            side.check();
        }
        for side in &mut sides {
            side.check_log();
            side.check_expiring();
        }
    }
}
