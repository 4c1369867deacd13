//! A write gets its dot and its context here, once; an owner that misses it gets it from another owner's log, or from a fallback's hint.

use std::collections::VecDeque;
use std::time::Duration;

use annulus_causality::{CausalContext, ConflictPolicy, Object, Timestamp, Version};
use annulus_coordinator::{
    Answer, Durability, Failure, Mode, NewValue, Outcome, Participants, Reply, Verdict, WriteRound, WriteStep, Written,
};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::{Delta, Message, WriteIdentity};
use annulus_ring::{Address, NodeId};
use annulus_storage::{ApplyError, Engine};

use crate::durable::Completion;
use crate::io::Effect;
use crate::node::{Node, wire};
use crate::passed_on::{PassedOn, Replaces};
use crate::sessions;
use crate::settings::Now;
use crate::tasks::{Requester, Task, TaskId, Work};
use crate::terms::Terms;

/// A write that this node coordinates.
#[derive(Debug)]
pub(crate) struct WriteWork {
    pub(crate) round: WriteRound,
    address: Address,
    delta: Delta,
    durability: Durability,
    token: String,
    n: u8,
    /// In a session: what it has seen by this write.
    seen: Option<CausalContext>,
}

impl WriteWork {
    /// The dots that the write brings to whoever takes it.
    pub(crate) fn brings(&self) -> &CausalContext {
        &self.delta.dots
    }
}

/// What is to be written where.
#[derive(Debug)]
pub(crate) struct NewWrite {
    pub(crate) address: Address,
    /// Nothing for a delete.
    pub(crate) value: Option<NewValue>,
    /// What the writer has seen; nothing where it does not say.
    pub(crate) context: Option<CausalContext>,
    /// Where another node passed it on.
    pub(crate) passed_on: Option<Box<PassedOn>>,
    /// What a guard's read found, beside what is stored here.
    pub(crate) found: Object,
    /// In a session: what it has seen.
    pub(crate) seen: Option<CausalContext>,
    pub(crate) terms: Terms,
}

/// Who takes part in a write, and what its round wants done first.
#[derive(Debug)]
pub(crate) struct WritePlan {
    pub(crate) who: Who,
    round: WriteRound,
    steps: Vec<WriteStep>,
}

impl<E: Engine> Node<E> {
    /// Coordinates a write, as an owner or as a fallback.
    pub(crate) fn start_write(&mut self, now: Now, requester: Requester, write: NewWrite, out: &mut Vec<Effect>) {
        if let Err(failure) = self.try_write(now, requester, write, out) {
            self.reply(now, requester, Err(failure), out);
        }
    }

    /// Fails only where nothing was written.
    fn try_write(
        &mut self,
        now: Now,
        requester: Requester,
        write: NewWrite,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        self.check_room()?;
        let NewWrite {
            address,
            value,
            context,
            passed_on,
            found,
            seen,
            terms,
        } = write;
        let plan = self.plan_write(&address, &terms)?;
        let known = self.known(&address, &plan, out)?.join(found);
        let passed_on = passed_on.filter(|_| !planted(Mutant::DotForEachAttempt));
        let in_session = seen.is_some();
        let (delta, seen) = match passed_on.as_deref() {
            Some(PassedOn { identity, .. }) if known.context().contains(identity.dot) => {
                self.same_delta(&address, identity, known, context)
            }
            _ => {
                let known = sessions::known_and_seen(known, context.as_ref(), seen);
                self.new_delta(now, &address, &known, (value, context, passed_on), &terms)?
            }
        };
        let token = self.seal(&address, &seen);
        let seen = in_session.then_some(seen);
        self.carry_out(now, requester, plan, (address, delta, token, seen), &terms, out)
    }

    /// Who takes part; fails where they are too few.
    pub(crate) fn plan_write(&self, address: &Address, terms: &Terms) -> Result<WritePlan, Failure> {
        let who = self.participants(address);
        let mut steps = Vec::new();
        let round = WriteRound::start(&who.as_participants(), terms.w, terms.mode, &mut steps);
        if round.verdict() == Verdict::Unreachable {
            let n = who.n();
            let answered = u8::try_from(who.reachable.iter().filter(|&&reachable| reachable).count()).unwrap_or(n);
            return Err(Failure::QuorumUnreachable {
                required: terms.w,
                answered,
                n,
                outcome: Outcome::None,
            });
        }
        Ok(WritePlan { who, round, steps })
    }

    /// What this node knows of a key: as an owner its object, as a fallback its hints.
    pub(crate) fn known(
        &mut self,
        address: &Address,
        plan: &WritePlan,
        out: &mut Vec<Effect>,
    ) -> Result<Object, Failure> {
        let known = match plan.who.is_owner() {
            true => self.replica.read(address),
            false => self.replica.hinted(address),
        };
        known.map_err(|error| match plan.who.is_owner() {
            true => self.damaged(address.partition, &error, out),
            false => self.damaged_hint(&error, out),
        })
    }

    /// Joins the delta here where this node is an owner, and sends it to the others.
    pub(crate) fn carry_out(
        &mut self,
        now: Now,
        requester: Requester,
        plan: WritePlan,
        (address, delta, token, seen): (Address, Delta, String, Option<CausalContext>),
        terms: &Terms,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let WritePlan { who, round, steps } = plan;
        let id = self.tasks.number();
        if who.is_owner() {
            self.apply(&address, &delta, out)?;
            self.completed(terms.durability, Completion::Write(id));
        }
        let work = WriteWork {
            round,
            address,
            delta,
            durability: terms.durability,
            token,
            n: who.n(),
            seen,
        };
        let mut task = Task::new(requester, now.monotonic, terms.deadline, Work::Write(Box::new(work)));
        let Work::Write(work) = &mut task.work else {
            return Ok(());
        };
        if who.is_owner() && terms.durability == Durability::Memory {
            work.round.on_answer(self.me);
        }
        self.take_write_steps(now, id, work, terms.deadline, steps, out);
        self.counters.writes += 1;
        self.advance_write(now, id, task, out);
        Ok(())
    }

    /// The delta of a write, and what its writer has seen with it: never a write without what that has replaced, as whoever covers
    /// the one is taken to know of the other.
    fn new_delta(
        &mut self,
        now: Now,
        address: &Address,
        known: &Object,
        (value, context, passed_on): (Option<NewValue>, Option<CausalContext>, Option<Box<PassedOn>>),
        terms: &Terms,
    ) -> Result<(Delta, CausalContext), Failure> {
        for (_, version) in known.versions() {
            // A stamp too far ahead was refused where it came in; here it only moves the clock.
            let _ = self.clock.observe(now.wall_millis, version.modified);
        }
        let (modified, expires) = match passed_on.as_deref() {
            Some(PassedOn { identity, .. }) => (self.check_stamp(now, identity.modified)?, identity.expires),
            None => self.stamp(now, terms.ttl),
        };
        let asked = Replaces {
            context,
            policy: terms.policy,
        };
        let Replaces { context, policy } = match passed_on.as_deref() {
            Some(passed_on) => passed_on.replaces(now.wall_millis, known, asked)?,
            None => asked,
        };
        let version = value.map(|new| Version::new(new.value, new.content_type, new.meta, modified, expires));
        if let (Some(version), Some(replaced), ConflictPolicy::Siblings) = (&version, &context, terms.policy) {
            check_siblings(known, version, replaced, terms.max_siblings)?;
        }
        // Last of all, as a dot that is taken and not used leaves a gap in every clock.
        let (dot, voided) = match passed_on {
            Some(passed_on) => (passed_on.identity.dot, passed_on.identity.voided),
            None => (
                self.replica.next_dot(address.partition, self.actor()),
                CausalContext::new(),
            ),
        };
        let object = known.write(dot, version, context.as_ref(), policy);
        let mut seen = context.unwrap_or_else(|| known.context().clone());
        if policy == ConflictPolicy::LastWriteWins {
            seen.extend(known.dots());
        }
        seen.insert(dot);
        let mut dots = voided;
        dots.insert(dot);
        let at = wire(address);
        Ok((Delta { at, dots, object }, seen))
    }

    /// When a write that comes here is made, and when it expires.
    pub(crate) fn stamp(&mut self, now: Now, ttl: Option<Duration>) -> (Timestamp, Option<u64>) {
        let modified = self.clock.now(now.wall_millis);
        let lifetime = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        (modified, ttl.map(|ttl| modified.millis.saturating_add(lifetime(ttl))))
    }

    /// An earlier attempt has written this already, and it may have been replaced since: what is known goes out as it is.
    fn same_delta(
        &self,
        address: &Address,
        identity: &WriteIdentity,
        known: Object,
        context: Option<CausalContext>,
    ) -> (Delta, CausalContext) {
        let mut seen = match context {
            Some(context) => context,
            // What it replaced where it was begun is among what is superseded here.
            None => known.context().difference(&known.dots().collect()),
        };
        seen.insert(identity.dot);
        let mut dots = identity.voided.clone();
        dots.insert(identity.dot);
        let delta = Delta {
            at: wire(address),
            dots,
            object: known,
        };
        (delta, seen)
    }

    /// A stamp of the node that the client reached, which all owners must be able to take.
    fn check_stamp(&mut self, now: Now, stamp: Timestamp) -> Result<Timestamp, Failure> {
        match self.clock.observe(now.wall_millis, stamp) {
            Ok(()) => Ok(stamp),
            Err(error) => Err(Failure::NotReady {
                reason: format!("{error}; check the clocks of this node and of the node that was asked"),
            }),
        }
    }

    /// A replica has done its part, this node among them.
    pub(crate) fn on_write_answer(&mut self, now: Now, id: TaskId, from: NodeId, out: &mut Vec<Effect>) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Write(_))) else {
            return;
        };
        if let Work::Write(work) = &mut task.work {
            work.round.on_answer(from);
            if from != self.me {
                self.latency.observe(from, task.started, now.monotonic);
            }
        }
        self.advance_write(now, id, task, out);
    }

    /// A replica refused, or its link is down.
    pub(crate) fn on_write_failure(&mut self, now: Now, id: TaskId, from: NodeId, out: &mut Vec<Effect>) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Write(_))) else {
            return;
        };
        let deadline = task.deadline;
        if let Work::Write(work) = &mut task.work {
            let mut steps = Vec::new();
            work.round.on_failure(from, &mut steps);
            self.take_write_steps(now, id, work, deadline, steps, out);
        }
        self.advance_write(now, id, task, out);
    }

    /// The deadline: a fallback keeps hints for those that have not answered, and the client is told that the outcome is unknown.
    pub(crate) fn on_write_deadline(&mut self, now: Now, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let deadline = task.deadline;
        let Work::Write(work) = &mut task.work else { return };
        let mut steps = Vec::new();
        work.round.on_deadline(&mut steps);
        self.take_write_steps(now, id, work, deadline, steps, out);
        let (required, answered) = (work.round.quorum().required(), work.round.quorum().answered());
        if !task.replied {
            let failure = Failure::TimedOut {
                required,
                answered,
                outcome: Outcome::Unknown,
            };
            self.reply(now, task.requester, Err(failure), out);
        }
    }

    fn take_write_steps(
        &mut self,
        now: Now,
        id: TaskId,
        work: &mut WriteWork,
        deadline: annulus_causality::Instant,
        steps: Vec<WriteStep>,
        out: &mut Vec<Effect>,
    ) {
        let mut steps = VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                WriteStep::Send { to } => self.send_write(now, id, work, deadline, (to, None), out),
                WriteStep::SendHint { to, owner } => self.send_write(now, id, work, deadline, (to, Some(owner)), out),
                WriteStep::KeepHint { owner } => steps.extend(self.keep_hint(now, id, work, owner, out)),
            }
        }
    }

    fn send_write(
        &mut self,
        now: Now,
        id: TaskId,
        work: &WriteWork,
        deadline: annulus_causality::Instant,
        (to, hint_for): (NodeId, Option<NodeId>),
        out: &mut Vec<Effect>,
    ) {
        let message = Message::Write {
            request: id,
            deadline: self.on_clock_of(to, now, deadline),
            durability: work.durability,
            hint_for,
            delta: work.delta.clone(),
        };
        out.push(Effect::Send { to, message });
    }

    /// Keeps a hint here, which counts where it stands in. Says what is to be done instead where the hint is refused.
    fn keep_hint(
        &mut self,
        now: Now,
        id: TaskId,
        work: &mut WriteWork,
        owner: NodeId,
        out: &mut Vec<Effect>,
    ) -> Vec<WriteStep> {
        let mut instead = Vec::new();
        let counts = work.round.quorum().stands_in(self.me, owner);
        match self.store_hint(now, owner, &work.address, &work.delta.dots, work.delta.object.clone()) {
            Ok(()) if counts => match work.durability {
                Durability::Disk => self.durable.after_sync(Completion::Write(id)),
                Durability::Memory => work.round.on_answer(self.me),
            },
            Ok(()) => {}
            Err(error) => {
                self.hint_refused(owner, &error, out);
                if counts {
                    work.round.on_failure(self.me, &mut instead);
                }
            }
        }
        instead
    }

    fn advance_write(&mut self, now: Now, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let Work::Write(work) = &mut task.work else { return };
        if !task.replied
            && let Some(reply) = write_reply(work)
        {
            task.replied = true;
            self.reply(now, task.requester, reply, out);
        }
        if !work.round.is_over() {
            let deadline = task.deadline;
            self.tasks.keep(id, task, deadline);
        }
    }

    fn completed(&mut self, durability: Durability, completion: Completion) {
        if durability == Durability::Disk {
            self.durable.after_sync(completion);
        }
    }

    /// A peer's write, repair or hint to keep.
    pub(crate) fn on_peer_write(&mut self, now: Now, from: NodeId, write: PeerWrite, out: &mut Vec<Effect>) {
        let PeerWrite {
            request,
            durability,
            hint_for,
            delta,
        } = write;
        self.counters.peer_writes += 1;
        let is_repair = request == 0;
        match self.take_peer_write(now, (hint_for, delta), is_repair, out) {
            Ok(()) if is_repair => {}
            Ok(()) if durability == Durability::Disk => {
                self.durable.after_sync(Completion::PeerWrite { peer: from, request });
            }
            result => out.push(Effect::Send {
                to: from,
                message: Message::WriteDone { request, result },
            }),
        }
    }

    fn take_peer_write(
        &mut self,
        now: Now,
        (hint_for, delta): (Option<NodeId>, Delta),
        is_repair: bool,
        out: &mut Vec<Effect>,
    ) -> Result<(), annulus_protocol::Refusal> {
        use annulus_protocol::Refusal;
        self.check_room().map_err(|_| Refusal::Storage)?;
        let address = self.address_of(&delta.at).ok_or(Refusal::NotOwner)?;
        self.check_stamps(now, &delta, out)?;
        self.check_finished(address.partition, &delta.dots, is_repair && hint_for.is_none())?;
        match hint_for {
            Some(owner) => self
                .store_hint(now, owner, &address, &delta.dots, delta.object)
                .map_err(|error| {
                    self.hint_refused(owner, &error, out);
                    Refusal::Overloaded
                }),
            None if !self.is_owner(&address) => Err(Refusal::NotOwner),
            None => self.apply(&address, &delta, out).map_err(|_| Refusal::Damaged),
        }
    }

    /// A version stamped far ahead of this node's clock would win every later conflict: it is refused.
    pub(crate) fn check_stamps(
        &mut self,
        now: Now,
        delta: &Delta,
        out: &mut Vec<Effect>,
    ) -> Result<(), annulus_protocol::Refusal> {
        for (_, version) in delta.object.versions() {
            if let Err(error) = self.clock.observe(now.wall_millis, version.modified) {
                self.warn_once(
                    "skew",
                    format!("A peer's write was refused: {error}. Check the clocks of this node and its peers."),
                    out,
                );
                return Err(annulus_protocol::Refusal::Expired);
            }
        }
        Ok(())
    }

    /// Joins a delta into this replica; a damaged record puts its partition in doubt.
    pub(crate) fn apply(&mut self, address: &Address, delta: &Delta, out: &mut Vec<Effect>) -> Result<(), Failure> {
        match self.replica.apply(address, delta.object.clone(), &delta.dots) {
            Ok(_) => Ok(()),
            Err(error @ ApplyError::ImplausibleDot { .. }) => Err(Failure::Damaged {
                detail: error.to_string(),
            }),
            Err(error) => Err(self.damaged(address.partition, &error, out)),
        }
    }
}

/// A [`Message::Write`] whose deadline was checked.
#[derive(Debug)]
pub(crate) struct PeerWrite {
    pub(crate) request: u64,
    pub(crate) durability: Durability,
    pub(crate) hint_for: Option<NodeId>,
    pub(crate) delta: Delta,
}

/// Refuses a write that would leave more distinct siblings than the bucket allows; what is there is never dropped.
fn check_siblings(known: &Object, new: &Version, replaced: &CausalContext, limit: u16) -> Result<(), Failure> {
    let left = known.versions().iter().filter(|(dot, _)| !replaced.contains(*dot));
    let mut contents: Vec<u128> = left.map(|(_, version)| version.content_hash()).collect();
    contents.push(new.content_hash());
    contents.sort_unstable();
    contents.dedup();
    if contents.len() > usize::from(limit) {
        return Err(Failure::TooManySiblings {
            siblings: contents.len(),
            limit,
        });
    }
    Ok(())
}

fn write_reply(work: &WriteWork) -> Option<Reply> {
    let quorum = work.round.quorum();
    match work.round.verdict() {
        Verdict::Pending => None,
        Verdict::Met => Some(Ok(Answer::Written(Written {
            token: work.token.clone(),
            answered: quorum.answered(),
            n: work.n,
            fallbacks: quorum.stand_ins(),
            seen: work.seen.clone(),
        }))),
        Verdict::Unreachable => Some(Err(Failure::QuorumUnreachable {
            required: quorum.required(),
            answered: quorum.answered(),
            n: work.n,
            outcome: Outcome::Unknown,
        })),
    }
}

/// Owned lists behind [`Participants`].
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) me: NodeId,
    pub(crate) owners: Vec<NodeId>,
    pub(crate) reachable: Vec<bool>,
    pub(crate) fallbacks: Vec<NodeId>,
}

impl Who {
    pub(crate) fn n(&self) -> u8 {
        u8::try_from(self.owners.len()).expect("a partition has at most 16 owners")
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.owners.contains(&self.me)
    }

    pub(crate) fn as_participants(&self) -> Participants<'_> {
        Participants {
            me: self.me,
            owners: &self.owners,
            reachable: &self.reachable,
            fallbacks: &self.fallbacks,
        }
    }

    /// The owners that can be reached, in order; the node itself among them where it is one.
    pub(crate) fn live_owners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.owners
            .iter()
            .zip(&self.reachable)
            .filter(|&(_, &reachable)| reachable)
            .map(|(&owner, _)| owner)
    }

    /// Who can coordinate a write, in order: the live owners, else, where the write is sloppy, the live fallbacks.
    pub(crate) fn coordinators(&self, mode: Mode, preference: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let owners: Vec<NodeId> = self.live_owners().collect();
        if owners.is_empty() && mode == Mode::Sloppy {
            return preference
                .filter(|node| *node == self.me || self.fallbacks.contains(node))
                .collect();
        }
        owners
    }
}
