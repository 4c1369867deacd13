//! What buckets are declared to be: a register a bucket, the greatest version holds, and every node has them all.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::ConflictPolicy;
use annulus_coordinator::{
    Answer, BucketConfig, BucketSpec, Durability, Failure, Level, ListRequest, Mode, Options, Outcome, Reply, Request,
};
use annulus_protocol::{BucketRecord, Message};
use annulus_ring::{Bucket, NodeId};
use annulus_storage::Engine;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::durable::Completion;
use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;
use crate::tasks::{Requester, Task, TaskId, Work};

/// Declarations a cluster can hold: every node keeps them all in memory, and sends them whole to one that lacks some.
pub(crate) const MAX_BUCKETS: usize = 4096;
/// The largest `max_siblings` a bucket may declare.
const MAX_SIBLINGS: u16 = 1024;

/// What holds where nothing is declared.
pub(crate) fn default_config(replicas: u8) -> BucketConfig {
    BucketConfig {
        n: replicas,
        r: Level::Quorum,
        w: Level::Quorum,
        mode: Mode::Sloppy,
        durability: Durability::Disk,
        conflicts: ConflictPolicy::Siblings,
        ttl: None,
        max_siblings: 64,
    }
}

/// All declarations this node knows of, removed ones among them: they must win over older ones.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    records: BTreeMap<Bucket, BucketRecord>,
    fingerprint: u64,
}

impl Registry {
    pub(crate) fn config(&self, bucket: &Bucket) -> Option<&BucketConfig> {
        self.records.get(bucket)?.config.as_ref()
    }

    pub(crate) fn declared(&self) -> impl Iterator<Item = (&Bucket, &BucketConfig)> {
        self.records
            .iter()
            .filter_map(|(bucket, record)| Some((bucket, record.config.as_ref()?)))
    }

    pub(crate) fn records(&self) -> Vec<BucketRecord> {
        self.records.values().cloned().collect()
    }

    /// Equal where two nodes know the same; 0 where they know nothing.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Keeps the greater of the two; says whether it is this one.
    pub(crate) fn merge(&mut self, record: BucketRecord) -> bool {
        let known = self.records.get(&record.bucket);
        if known.is_some_and(|known| (known.version, known.by) >= (record.version, record.by)) {
            return false;
        }
        if known.is_none() && self.records.len() >= MAX_BUCKETS {
            return false;
        }
        // A sum does not depend on the order in which the records came.
        self.fingerprint = self
            .fingerprint
            .wrapping_sub(known.map_or(0, fingerprint))
            .wrapping_add(fingerprint(&record));
        self.records.insert(record.bucket.clone(), record);
        true
    }

    fn is_full(&self) -> bool {
        self.records.len() >= MAX_BUCKETS
    }

    fn next_version(&self, bucket: &Bucket, stamp: u64) -> u64 {
        let known = self.records.get(bucket).map_or(0, |record| record.version);
        stamp.max(known + 1)
    }
}

fn fingerprint(record: &BucketRecord) -> u64 {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    xxh3_64(&bytes)
}

/// A declaration on its way to the nodes.
#[derive(Debug)]
pub(crate) struct DeclareWork {
    record: BucketRecord,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The bucket must hold no keys; a listing looks.
    Emptiness,
    /// The record is sent; these have not answered, and so many have.
    Spread { waiting: BTreeSet<NodeId>, stored: usize },
}

impl DeclareWork {
    pub(crate) fn awaits(&self, peer: NodeId) -> bool {
        matches!(&self.stage, Stage::Spread { waiting, .. } if waiting.contains(&peer))
    }
}

impl<E: Engine> Node<E> {
    pub(crate) fn bucket_config(&self, bucket: &Bucket) -> BucketConfig {
        self.buckets
            .config(bucket)
            .cloned()
            .unwrap_or_else(|| default_config(self.replicas()))
    }

    pub(crate) fn declare_bucket(
        &mut self,
        now: Now,
        requester: Requester,
        bucket: Bucket,
        spec: &BucketSpec,
        out: &mut Vec<Effect>,
    ) {
        let current = self.bucket_config(&bucket);
        let config = match self.checked(spec) {
            Ok(config) => config,
            Err(failure) => return self.reply(now, requester, Err(failure), out),
        };
        let changes = config.n != current.n || config.conflicts != current.conflicts;
        self.start_declare(now, requester, (bucket, Some(config)), changes, out);
    }

    pub(crate) fn drop_bucket(&mut self, now: Now, requester: Requester, bucket: Bucket, out: &mut Vec<Effect>) {
        if self.buckets.config(&bucket).is_none() {
            let failure = Failure::NoSuchBucket {
                bucket: bucket.as_str().into(),
            };
            return self.reply(now, requester, Err(failure), out);
        }
        self.start_declare(now, requester, (bucket, None), true, out);
    }

    fn checked(&self, spec: &BucketSpec) -> Result<BucketConfig, Failure> {
        let defaults = default_config(self.replicas());
        let invalid = |parameter, detail| Err(Failure::Invalid { parameter, detail });
        let n = spec.n.unwrap_or(defaults.n);
        if !(1..=self.replicas()).contains(&n) {
            return invalid(
                "n",
                format!(
                    "{n} is not from 1 to {}, the cluster's replication factor",
                    self.replicas()
                ),
            );
        }
        for (parameter, level) in [("r", spec.r), ("w", spec.w)] {
            if level.is_some_and(|level| level.required(n).is_none()) {
                return invalid(
                    parameter,
                    format!("cannot be met: a key of this bucket has {n} owners, so 1 to {n} can be asked for"),
                );
            }
        }
        let max_siblings = spec.max_siblings.unwrap_or(defaults.max_siblings);
        if !(1..=MAX_SIBLINGS).contains(&max_siblings) {
            return invalid(
                "max_siblings",
                format!("{max_siblings} is not from 1 to {MAX_SIBLINGS}"),
            );
        }
        if spec.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return invalid(
                "ttl",
                "zero would expire every value at once; leave it out to keep values".into(),
            );
        }
        let conflicts = spec.conflicts.unwrap_or(defaults.conflicts);
        if conflicts.is_typed() && spec.ttl.is_some() {
            return invalid(
                "ttl",
                "counters, sets and maps do not expire: their contributions would go one by one; leave it out".into(),
            );
        }
        Ok(BucketConfig {
            n,
            r: spec.r.unwrap_or(defaults.r),
            w: spec.w.unwrap_or(defaults.w),
            mode: spec.mode.unwrap_or(defaults.mode),
            durability: spec.durability.unwrap_or(defaults.durability),
            conflicts,
            ttl: spec.ttl,
            max_siblings,
        })
    }

    /// Where the change is one that a bucket with keys cannot take, a listing is asked first.
    fn start_declare(
        &mut self,
        now: Now,
        requester: Requester,
        (bucket, config): (Bucket, Option<BucketConfig>),
        must_be_empty: bool,
        out: &mut Vec<Effect>,
    ) {
        if self.buckets.is_full() && self.buckets.config(&bucket).is_none() && config.is_some() {
            let detail =
                format!("{MAX_BUCKETS} buckets are declared, which is the limit; undeclared buckets need none");
            return self.reply(now, requester, Err(Failure::Overloaded { detail }), out);
        }
        let stamp = self.clock.now(now.wall_millis);
        let version = self
            .buckets
            .next_version(&bucket, (stamp.millis << 16) | u64::from(stamp.logical));
        let record = BucketRecord {
            bucket: bucket.clone(),
            version,
            by: self.me,
            config,
        };
        let id = self.tasks.number();
        let deadline = now.monotonic + self.settings.timeout;
        let work = Box::new(DeclareWork {
            record,
            stage: Stage::Emptiness,
        });
        let task = Task::new(requester, now.monotonic, deadline, Work::Declare(work));
        if !must_be_empty {
            return self.spread(id, task, out);
        }
        self.tasks.keep(id, task, deadline);
        let list = ListRequest {
            bucket,
            prefix: Bytes::new(),
            start: Bytes::new(),
            limit: 1,
            options: Options::default(),
        };
        self.start_list(now, Requester::Task(id, 0), list, out);
    }

    /// The listing says whether the bucket holds keys.
    pub(crate) fn on_declare_list(&mut self, now: Now, id: TaskId, reply: Reply, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.take_if(id, |work| matches!(work, Work::Declare(_))) else {
            return;
        };
        let Work::Declare(work) = &task.work else { return };
        let failure = match reply {
            Ok(Answer::Page(page)) if page.keys.is_empty() && page.next.is_none() => return self.spread(id, task, out),
            Ok(_) => {
                let detail = match work.record.config {
                    Some(_) => {
                        "n and conflicts cannot change while it does; delete the keys first, or declare another bucket"
                    }
                    None => "its declaration cannot go while it does; delete the keys first",
                };
                Failure::BucketHoldsKeys {
                    bucket: work.record.bucket.as_str().into(),
                    detail: detail.into(),
                }
            }
            Err(failure) => failure,
        };
        self.reply(now, task.requester, Err(failure), out);
    }

    /// Stores the record here and sends it to everybody who can be reached.
    fn spread(&mut self, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let Work::Declare(work) = &mut task.work else { return };
        let record = work.record.clone();
        let mut waiting: BTreeSet<NodeId> = self.reachable_peers();
        for &to in &waiting {
            out.push(Effect::Send {
                to,
                message: Message::Declare {
                    request: id,
                    record: record.clone(),
                },
            });
        }
        waiting.insert(self.me);
        work.stage = Stage::Spread { waiting, stored: 0 };
        self.merge_bucket(record);
        self.durable.after_sync(Completion::Declare(id));
        let deadline = task.deadline;
        self.tasks.keep(id, task, deadline);
    }

    pub(crate) fn merge_bucket(&mut self, record: BucketRecord) {
        if self.buckets.merge(record) {
            self.persist_buckets();
            self.advertise();
        }
    }

    /// A node, this one among them, stored the record, or cannot be reached any more.
    pub(crate) fn on_declared(&mut self, now: Now, id: TaskId, from: NodeId, is_stored: Stored, out: &mut Vec<Effect>) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Declare(_))) else {
            return;
        };
        let deadline = task.deadline;
        let Work::Declare(work) = &mut task.work else { return };
        let Stage::Spread { waiting, stored } = &mut work.stage else {
            return self.tasks.keep(id, task, deadline);
        };
        let is_first = waiting.remove(&from);
        *stored += usize::from(is_first && is_stored == Stored::Yes);
        // All who can be reached have it, so that the next request finds it wherever it goes.
        if !waiting.is_empty() {
            return self.tasks.keep(id, task, deadline);
        }
        let reply = self.declared(work);
        self.reply(now, task.requester, reply, out);
    }

    pub(crate) fn on_declare_deadline(&mut self, now: Now, task: &Task, out: &mut Vec<Effect>) {
        let Work::Declare(work) = &task.work else { return };
        let reply = match work.stage {
            Stage::Spread { .. } => self.declared(work),
            Stage::Emptiness => Err(Failure::TimedOut {
                required: 1,
                answered: 0,
                outcome: Outcome::None,
            }),
        };
        self.reply(now, task.requester, reply, out);
    }

    /// What can be said of a declaration now: it holds where a majority has stored it.
    fn declared(&self, work: &DeclareWork) -> Reply {
        match (&work.stage, &work.record.config) {
            (Stage::Spread { stored, .. }, _) if *stored < self.majority() => Err(self.no_majority(*stored)),
            (_, Some(config)) => Ok(Answer::Bucket(work.record.bucket.clone(), config.clone())),
            (_, None) => Ok(Answer::Dropped),
        }
    }

    fn no_majority(&self, stored: usize) -> Failure {
        let count = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        Failure::QuorumUnreachable {
            required: count(self.majority()),
            answered: count(stored),
            n: count(self.members()),
            outcome: Outcome::Unknown,
        }
    }

    pub(crate) fn get_bucket(&self, request: &Request) -> Reply {
        match request {
            Request::GetBucket(bucket) => match self.buckets.config(bucket) {
                Some(config) => Ok(Answer::Bucket(bucket.clone(), config.clone())),
                None => Err(Failure::NoSuchBucket {
                    bucket: bucket.as_str().into(),
                }),
            },
            _ => {
                let declared = self.buckets.declared();
                Ok(Answer::Buckets(
                    declared
                        .map(|(bucket, config)| (bucket.clone(), config.clone()))
                        .collect(),
                ))
            }
        }
    }
}

/// Whether a node has stored a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Yes,
    No,
}
