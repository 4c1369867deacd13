//! A node: every input is dispatched here, and whatever waits is answered when what it waits for has come.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_causality::{CausalContext, HybridClock, Instant};
use annulus_coordinator::{Failure, Outcome, Reply};
use annulus_membership::{Action, Hello, MemberRecord, Membership, Secret, next_incarnation};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::{Message, PROTOCOL_MAX, PROTOCOL_MIN, Refusal, WireKey};
use annulus_ring::{Address, Member, NodeId, PartitionId};
use annulus_storage::{Engine, Replica};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::buckets::{Registry, Stored};
use crate::catch_up::CatchUp;
use crate::closing::Closing;
use crate::durable::{Completion, Durable};
use crate::expiry::Expiry;
use crate::forwards::{RecentForwards, Unsettled};
use crate::handoff::Handoff;
use crate::io::{Effect, Input, Level};
use crate::latency::Latency;
use crate::memory::{self, Cluster, Memory, OpenError};
use crate::metrics::{Counters, Usage};
use crate::reads::PeerRead;
use crate::sessions::Sessions;
use crate::settings::{Now, Settings};
use crate::tasks::{Requester, TaskId, Tasks, Work};
use crate::typed::LastTotals;
use crate::witness::Witness;
use crate::writes::PeerWrite;

/// After a restart a node waits so long for a majority of its peers before it serves by what it knows itself.
const SETTLE: Duration = Duration::from_secs(2);
/// Staged writes above this are applied though a sync is under way, in bytes: memory stays bounded.
const MAX_STAGED_BYTES: usize = 8 << 20;
/// The same warning is not said again before this has passed.
const WARN_AGAIN: Duration = Duration::from_secs(30);

/// A node as a state machine.
#[derive(Debug)]
pub struct Node<E: Engine> {
    pub(crate) settings: Settings,
    pub(crate) me: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) replica: Replica<E>,
    pub(crate) membership: Membership,
    pub(crate) actions: Vec<Action>,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) buckets: Registry,
    pub(crate) clock: HybridClock,
    pub(crate) tasks: Tasks,
    pub(crate) durable: Durable,
    pub(crate) recent: RecentForwards,
    pub(crate) last_totals: LastTotals,
    /// Dots of this node that were given to writes which never were, until a later write has brought them to the owners.
    pub(crate) voided: BTreeMap<PartitionId, CausalContext>,
    /// Forwarded writes whose answers may still come, by their task's number.
    pub(crate) unsettled: BTreeMap<TaskId, Unsettled>,
    pub(crate) sessions: Sessions,
    pub(crate) latency: Latency,
    pub(crate) handoff: Handoff,
    pub(crate) catch_up: CatchUp,
    pub(crate) witness: Witness,
    pub(crate) closing: Closing,
    pub(crate) expiry: Expiry,
    /// Where the scrub goes on; at the beginning where it is through.
    pub(crate) scrub_at: Option<(PartitionId, u8)>,
    pub(crate) counters: Counters,
    pub(crate) rng: StdRng,
    /// Why the disk cannot be used any more.
    pub(crate) failed: Option<String>,
    pub(crate) free_bytes: u64,
    /// Until then a restarted node waits for its peers; nothing where it serves.
    pub(crate) settles_at: Option<Instant>,
    warned: BTreeMap<&'static str, Instant>,
    pub(crate) now: Now,
}

impl<E: Engine> Node<E> {
    /// A node over what its replica holds. `seed` is 32 random bytes of the operating system.
    ///
    /// # Errors
    /// Where the node's own records cannot be read; nothing was changed.
    pub fn open(
        settings: Settings,
        replica: Replica<E>,
        now: Now,
        seed: [u8; 32],
        out: &mut Vec<Effect>,
    ) -> Result<Self, OpenError> {
        let memory = Memory::load(&replica)?;
        let mut rng = StdRng::from_seed(seed);
        let me = NodeId::of(&settings.name);
        let incarnation = match memory.incarnation {
            used if used > 0 && planted(Mutant::IncarnationReused) => used,
            used => next_incarnation(used, rng.random()),
        };
        let secret = memory.secret.unwrap_or_else(|| Secret::new(rng.random()));
        let cluster = memory.known.as_ref().zip(memory.ring).map(|(known, ring)| Cluster {
            id: known.cluster,
            key: annulus_causality::TokenKey::new(*known.key.bytes()),
            ring,
        });
        let witness = Witness::of(memory.witness, replica.last_batch());
        let settles_at = cluster.is_some().then(|| now.monotonic + SETTLE);
        let membership = Membership::new(
            membership_settings(&settings, incarnation),
            memory.known,
            secret,
            memory.vote,
        );
        let mut node = Node {
            me,
            incarnation,
            replica,
            membership,
            actions: Vec::new(),
            cluster,
            buckets: memory.buckets,
            clock: HybridClock::new(),
            tasks: Tasks::numbered_from(rng.random()),
            durable: Durable::default(),
            recent: RecentForwards::default(),
            last_totals: LastTotals::default(),
            voided: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            sessions: Sessions::default(),
            latency: Latency::default(),
            handoff: Handoff::numbered_from(rng.random()),
            catch_up: CatchUp::starting(now, rng.random()),
            witness,
            closing: Closing::starting(now),
            expiry: Expiry::starting(now),
            scrub_at: None,
            counters: Counters::default(),
            rng,
            failed: None,
            free_bytes: u64::MAX,
            settles_at,
            warned: Default::default(),
            now,
            settings,
        };
        memory::put_incarnation(&mut node.replica, incarnation);
        memory::put_secret(&mut node.replica, &secret);
        node.advertise();
        node.handoff.start(now);
        node.settle(now);
        node.on_deadline(now, out);
        Ok(node)
    }

    /// One input; what is to be done is pushed to `out`. A round of steps ends with [`Node::finish`].
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.now = now;
        match input {
            Input::Client { id, request } => self.on_client(now, id, request, out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::LinkUp { hello } => self.on_link_up(now, &hello, out),
            Input::LinkDown { peer } => self.on_link_down(now, peer, out),
            Input::Accepted { hello } => self.on_accepted(now, &hello, out),
            Input::Synced { batch } => self.on_synced(now, batch, out),
            Input::StorageFailed { .. } if planted(Mutant::FailedSyncIgnored) => self.on_synced(now, u64::MAX, out),
            Input::StorageFailed { reason } => self.on_storage_failed(now, reason, out),
            Input::FreeSpace { bytes } => self.free_bytes = bytes,
        }
    }

    /// Ends a round: what was staged becomes one batch, and one sync makes it durable for all that wait.
    pub fn finish(&mut self, now: Now, out: &mut Vec<Effect>) {
        let staged = self.replica.staged_bytes();
        if self.failed.is_some() || (staged == 0 && !self.durable.has_work()) {
            return;
        }
        if !self.durable.is_due(now.monotonic) && staged < MAX_STAGED_BYTES {
            return;
        }
        let has_writes = self.replica.has_writes();
        match self.replica.commit() {
            Ok(batch) => {
                if let Some(batch) = batch.filter(|_| has_writes) {
                    self.durable.on_written(batch);
                }
                if let Some(batch) = self.durable.on_applied(batch) {
                    out.push(Effect::Sync { batch });
                }
                self.say_completed(now, out);
            }
            Err(error) => self.on_storage_failed(now, error.to_string(), out),
        }
    }

    /// When [`Node::on_deadline`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.tasks.next_timer(),
            self.membership.next_deadline(),
            self.handoff.next_deadline(),
            self.durable.deadline(),
            self.settles_at,
            self.catch_up.next_deadline(),
            Some(self.expiry.next_deadline()),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.now = now;
        if self.membership.next_deadline().is_none_or(|at| at <= now.monotonic) {
            self.membership_event(now, out, |membership, now, actions| {
                membership.on_deadline(now, actions)
            });
        }
        self.settle(now);
        self.handoff_round(now, out);
        if self.catch_up.next_deadline().is_some_and(|at| at <= now.monotonic) {
            self.catch_up_round(now, out);
        }
        if self.expiry.next_deadline() <= now.monotonic {
            self.drop_expired(now, out);
        }
        while let Some(id) = self.tasks.due(now.monotonic) {
            let Some(task) = self.tasks.take(id) else { break };
            match &task.work {
                Work::Write(_) => self.on_write_deadline(now, id, task, out),
                Work::Read(_) => self.on_read_timer(now, id, task, out),
                Work::Forward(_) => self.on_forward_timer(now, id, task, out),
                Work::List(_) => self.on_list_deadline(now, &task, out),
                Work::Declare(_) => self.on_declare_deadline(now, &task, out),
            }
        }
    }

    /// What to say to a peer in the handshake.
    pub fn hello(&self, now: Now, to: Option<NodeId>) -> Hello {
        Hello {
            witnessed: to.and_then(|node| self.witness.of_peer(node)),
            ..self.membership.hello(now.monotonic, to)
        }
    }

    /// Whether a link with whoever said this may come to be.
    ///
    /// # Errors
    /// Why not, as a sentence for an operator.
    pub fn check_hello(&self, hello: &Hello) -> Result<(), annulus_membership::HelloError> {
        self.membership.check_hello(hello)
    }

    /// Why the disk cannot be used any more; the node then serves nothing until it is opened anew.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// What this node holds that must stay bounded.
    pub fn usage(&self) -> Usage {
        crate::metrics::usage(self)
    }

    /// The counters and gauges of this node.
    pub fn metrics(&self) -> String {
        crate::metrics::render(self)
    }

    fn on_message(&mut self, now: Now, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Gossip(gossip) => self.on_gossip(now, from, gossip, out),
            Message::Ring(bytes) => self.on_ring(now, &bytes, out),
            Message::Buckets(records) => records.into_iter().for_each(|record| self.merge_bucket(record)),
            Message::Declare { request, record } => {
                self.merge_bucket(record);
                self.durable.after_sync(Completion::PeerDeclare { peer: from, request });
            }
            Message::Declared { request } => self.on_declared(now, request, from, Stored::Yes, out),
            Message::Write {
                request,
                deadline,
                durability,
                hint_for,
                delta,
            } => {
                if self.in_time(now, deadline) {
                    return self.on_peer_write(
                        now,
                        from,
                        PeerWrite {
                            request,
                            durability,
                            hint_for,
                            delta,
                        },
                        out,
                    );
                }
                out.push(Effect::Send {
                    to: from,
                    message: Message::WriteDone {
                        request,
                        result: Err(Refusal::Expired),
                    },
                });
            }
            Message::WriteDone {
                request,
                result: Ok(()),
            } => self.on_write_answer(now, request, from, out),
            Message::WriteDone {
                request,
                result: Err(_),
            } => self.on_write_failure(now, request, from, out),
            Message::Read {
                request,
                deadline,
                at,
                digest,
                hints,
            } => {
                let result = match self.in_time(now, deadline) {
                    true => self.on_peer_read(&PeerRead { at, digest, hints }, out),
                    false => Err(Refusal::Expired),
                };
                out.push(Effect::Send {
                    to: from,
                    message: Message::ReadDone { request, result },
                });
            }
            Message::ReadDone { request, result } => self.on_read_done(now, request, from, result, out),
            Message::Forward {
                id,
                attempt,
                start_by,
                deadline,
                identity,
                request,
            } => self.on_forward(now, from, (id, attempt), (start_by, deadline), (request, identity), out),
            Message::Forwarded { number, attempt, reply } => {
                self.on_forwarded(now, number, (from, attempt), reply, out)
            }
            Message::List {
                request,
                deadline,
                bucket,
                prefix,
                start,
                limit,
            } => {
                let result = match self.in_time(now, deadline) {
                    true if self.replica.has_doubts() => Err(Refusal::InDoubt),
                    true => self
                        .local_part(now, &bucket, &prefix, &start, (limit as usize).min(MAX_PART), out)
                        .map_err(|_| Refusal::Damaged),
                    false => Err(Refusal::Expired),
                };
                out.push(Effect::Send {
                    to: from,
                    message: Message::Listed { request, result },
                });
            }
            Message::Listed { request, result } => self.on_listed(now, request, from, result, out),
            Message::HintsWait { offers } => self.on_hints_wait(from, offers, out),
            Message::HintsWanted { sequences } => self.on_hints_wanted(now, from, &sequences, out),
            Message::Hint { sequence, delta } => self.on_hint(now, from, sequence, &delta, out),
            Message::HintTaken { sequence } => self.on_hint_taken(now, from, sequence, out),
            Message::ClockHashes {
                durable,
                wall_millis,
                ranges,
            } => {
                self.expiry.is_told(from, wall_millis);
                self.on_clock_hashes(now, from, (durable, ranges), out);
            }
            Message::Clocks { answer, clocks } => self.on_clocks(now, from, (answer, clocks), out),
            Message::CatchUp { request, wants } => self.on_catch_up(now, from, (request, wants), out),
            Message::CaughtUp { request, caught } => self.on_caught_up(now, from, request, caught, out),
            Message::Closing { below, ballot, step } => self.on_closing(from, (below, ballot), step, out),
        }
    }

    /// Work whose time has passed is dropped, not done.
    fn in_time(&mut self, now: Now, deadline: Instant) -> bool {
        self.catch_up.is_busy_at(now);
        let in_time = now.monotonic <= deadline;
        self.counters.expired += u64::from(!in_time);
        in_time
    }

    fn on_synced(&mut self, now: Now, batch: u64, out: &mut Vec<Effect>) {
        self.durable.on_synced(batch);
        self.counters.syncs += 1;
        self.say_completed(now, out);
    }

    fn say_completed(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(completion) = self.durable.next() {
            match completion {
                Completion::Write(id) => self.on_write_answer(now, id, self.me, out),
                Completion::PeerWrite { peer, request } => {
                    out.push(Effect::Send {
                        to: peer,
                        message: Message::WriteDone {
                            request,
                            result: Ok(()),
                        },
                    });
                }
                Completion::Hint { peer, sequence } => {
                    out.push(Effect::Send {
                        to: peer,
                        message: Message::HintTaken { sequence },
                    });
                }
                Completion::CaughtUp { peer, request } => self.on_caught_up_durable(now, peer, request, out),
                Completion::Counted { peer } => self.say_counted(peer, out),
                Completion::Declare(id) => self.on_declared(now, id, self.me, Stored::Yes, out),
                Completion::PeerDeclare { peer, request } => {
                    out.push(Effect::Send {
                        to: peer,
                        message: Message::Declared { request },
                    });
                }
                Completion::Vote => {
                    self.membership_event(now, out, |membership, now, actions| {
                        membership.on_vote_stored(now, actions)
                    });
                }
            }
        }
    }

    /// Nothing can be acknowledged any more: what is in progress ends, its outcome unknown.
    fn on_storage_failed(&mut self, now: Now, reason: String, out: &mut Vec<Effect>) {
        let text = format!(
            "The disk failed: {reason}. The node stays up, answers 503, and opens its directory again when it can."
        );
        out.push(Effect::Log {
            level: Level::Error,
            text,
        });
        self.failed = Some(reason);
        for id in self.tasks.matching(|_| true) {
            let Some(task) = self.tasks.take(id) else { continue };
            let failure = match task.work {
                Work::Read(_) | Work::List(_) => self.readiness().err(),
                _ => Some(Failure::QuorumUnreachable {
                    required: 1,
                    answered: 0,
                    n: 1,
                    outcome: Outcome::Unknown,
                }),
            };
            if let (false, Some(failure)) = (task.replied, failure) {
                self.reply(now, task.requester, Err(failure), out);
            }
        }
    }

    /// Gives a reply to whoever asked.
    pub(crate) fn reply(&mut self, now: Now, requester: Requester, reply: Reply, out: &mut Vec<Effect>) {
        self.counters.count_reply(&reply);
        match requester {
            Requester::Client(id) => {
                let reply = self.in_session(id, reply);
                out.push(Effect::Reply { id, reply });
            }
            Requester::Peer(id, attempt) => {
                self.recent.finish(id, &reply);
                out.push(Effect::Send {
                    to: id.origin,
                    message: Message::Forwarded {
                        number: id.number,
                        attempt,
                        reply: Some(reply),
                    },
                });
            }
            Requester::Task(parent, place) => match self.tasks.kind(parent) {
                Some(Work::Forward(_)) => self.on_forwarded(now, parent, (self.me, place as u32), Some(reply), out),
                Some(Work::List(_)) => self.on_list_read(now, parent, place, reply, out),
                Some(Work::Declare(_)) => self.on_declare_list(now, parent, reply, out),
                _ => {}
            },
        }
    }

    /// Says something now and then, however often it happens.
    pub(crate) fn warn_once(&mut self, kind: &'static str, text: String, out: &mut Vec<Effect>) {
        let now = self.now.monotonic;
        if self.warned.get(kind).is_none_or(|&last| last + WARN_AGAIN <= now) {
            self.warned.insert(kind, now);
            out.push(Effect::Log {
                level: Level::Warn,
                text,
            });
        }
    }
}

/// Keys in one part of a listing, at most.
const MAX_PART: usize = annulus_coordinator::MAX_PAGE + 1;

/// What seals a context to its key.
pub(crate) fn scope(address: &Address) -> Vec<u8> {
    match planted(Mutant::ForeignContextAccepted) {
        true => Vec::new(),
        false => address.scope(),
    }
}

/// An address as it travels.
pub(crate) fn wire(address: &Address) -> WireKey {
    WireKey {
        n: address.partition.n,
        bucket: address.bucket.clone(),
        key: address.key.clone(),
    }
}

fn membership_settings(settings: &Settings, incarnation: u64) -> annulus_membership::Settings {
    let member = Member {
        name: settings.name.clone(),
        region: settings.region.clone(),
        zone: settings.zone.clone(),
        capacity: settings.capacity,
    };
    annulus_membership::Settings {
        me: MemberRecord {
            member,
            http: settings.http.clone(),
            peer: settings.peer.clone(),
            version: settings.version.clone(),
            incarnation,
        },
        join: settings.join.clone(),
        bootstrap_expect: settings.bootstrap_expect,
        heartbeat: settings.heartbeat,
        replicas: settings.replicas,
        partitions: settings.partitions,
        protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
    }
}
