//! A read is answered from what enough owners know, and leaves those that knew less repaired.

use annulus_causality::{CausalContext, Dot, Object, Version};
use annulus_coordinator::{
    Answer, Condition, Failure, Found, NewValue, Outcome, ReadRound, ReadStep, ReadVerdict, Reply,
};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::{Delta, Known, Message, Refusal};
use annulus_ring::{Address, NodeId};
use annulus_storage::Engine;

use crate::io::Effect;
use crate::node::{Node, wire};
use crate::passed_on::PassedOn;
use crate::sessions::Pause;
use crate::settings::Now;
use crate::tasks::{Requester, Task, TaskId, Work};
use crate::terms::Terms;
use crate::typed::NewChange;
use crate::writes::{NewWrite, Who};

/// A read that this node coordinates.
#[derive(Debug)]
pub(crate) struct ReadWork {
    pub(crate) round: ReadRound,
    address: Address,
    terms: Terms,
    n: u8,
    then: Then,
    slow_asked: bool,
    /// In a session: what it has seen.
    seen: Option<CausalContext>,
    /// Until everybody is asked again, as the session has seen more than they knew.
    pause: Option<Pause>,
}

/// What is to be read where.
#[derive(Debug)]
pub(crate) struct NewRead {
    pub(crate) address: Address,
    pub(crate) terms: Terms,
    /// In a session: what it has seen.
    pub(crate) seen: Option<CausalContext>,
    pub(crate) then: Then,
}

/// What the read is for.
#[derive(Debug)]
pub(crate) enum Then {
    /// A GET.
    Reply,
    /// A guarded write, which goes on where the condition holds.
    Write(Option<Box<Guarded>>),
    /// A change whose client has seen more than its coordinator.
    Change(Option<Box<NewChange>>),
}

/// A write behind a condition.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) value: Option<NewValue>,
    pub(crate) context: Option<CausalContext>,
    pub(crate) condition: Condition,
    pub(crate) passed_on: Option<Box<PassedOn>>,
}

impl ReadWork {
    /// The dot of a guarded write that was passed on.
    pub(crate) fn brings(&self) -> Option<Dot> {
        match &self.then {
            Then::Write(Some(guarded)) => guarded.passed_on.as_deref().map(|passed_on| passed_on.identity.dot),
            _ => None,
        }
    }

    /// Enough owners have answered, and not what the session has seen.
    fn session_behind(&self) -> Option<Failure> {
        self.pause.as_ref()?;
        let missing = self.round.missing();
        (!missing.is_empty()).then(|| Failure::SessionBehind {
            partition: self.address.partition.index,
            missing: missing.count(),
            answered: self.round.quorum().answered(),
            n: self.n,
        })
    }
}

impl<E: Engine> Node<E> {
    /// Coordinates a read; this node is an owner.
    pub(crate) fn start_read(&mut self, now: Now, requester: Requester, read: NewRead, out: &mut Vec<Effect>) {
        let NewRead {
            address,
            terms,
            seen,
            then,
        } = read;
        let who = self.participants(&address);
        let local = self.known_here(&address, &who, out);
        let mut steps = Vec::new();
        let round = ReadRound::start(
            &who.as_participants(),
            terms.r,
            terms.mode,
            terms.policy,
            local,
            seen.clone().unwrap_or_default(),
            &mut steps,
        );
        let work = ReadWork {
            round,
            address,
            terms,
            n: who.n(),
            then,
            slow_asked: false,
            seen,
            pause: None,
        };
        let id = self.tasks.number();
        let task = Task::new(requester, now.monotonic, terms.deadline, Work::Read(Box::new(work)));
        self.counters.reads += 1;
        self.take_read_steps(now, id, &task, steps, out);
        self.advance_read(now, id, task, out);
    }

    /// What this node knows of the key as an owner; nothing where it is none, or the record is damaged.
    fn known_here(&mut self, address: &Address, who: &Who, out: &mut Vec<Effect>) -> Option<Object> {
        match self.replica.read(address) {
            Ok(object) if who.is_owner() && !self.is_in_doubt(address.partition) => Some(object),
            Ok(_) => None,
            Err(error) => {
                self.damaged(address.partition, &error, out);
                None
            }
        }
    }

    fn take_read_steps(&mut self, now: Now, id: TaskId, task: &Task, steps: Vec<ReadStep>, out: &mut Vec<Effect>) {
        let Work::Read(work) = &task.work else { return };
        for step in steps {
            let (to, digest, hints) = match step {
                ReadStep::Ask { owner } => (owner, work.round.digest(), false),
                ReadStep::AskWhole { owner } => (owner, None, false),
                ReadStep::AskHints { fallback } => (fallback, None, true),
            };
            let message = Message::Read {
                request: id,
                deadline: self.on_clock_of(to, now, task.deadline),
                at: wire(&work.address),
                digest,
                hints,
            };
            out.push(Effect::Send { to, message });
        }
    }

    /// A peer said what it knows, or refused.
    pub(crate) fn on_read_done(
        &mut self,
        now: Now,
        id: TaskId,
        from: NodeId,
        result: Result<Known, Refusal>,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Read(_))) else {
            return;
        };
        self.latency.observe(from, task.started, now.monotonic);
        let mut steps = Vec::new();
        if let Work::Read(work) = &mut task.work {
            match result {
                Ok(Known::Same) => work.round.on_same(from, &mut steps),
                Ok(Known::Object(object)) if work.round.awaits_hints(from) => {
                    work.round.on_hints(from, object, &mut steps)
                }
                Ok(Known::Object(object)) => work.round.on_object(from, object, &mut steps),
                Err(_) => work.round.on_failure(from, &mut steps),
            }
        }
        self.take_read_steps(now, id, &task, steps, out);
        self.advance_read(now, id, task, out);
    }

    /// The link to somebody that was asked is down.
    pub(crate) fn on_read_failure(&mut self, now: Now, id: TaskId, from: NodeId, out: &mut Vec<Effect>) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Read(_))) else {
            return;
        };
        let mut steps = Vec::new();
        if let Work::Read(work) = &mut task.work {
            work.round.on_failure(from, &mut steps);
        }
        self.take_read_steps(now, id, &task, steps, out);
        self.advance_read(now, id, task, out);
    }

    /// Slower than usual: a spare is asked. At the deadline the read ends.
    pub(crate) fn on_read_timer(&mut self, now: Now, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let Work::Read(work) = &mut task.work else { return };
        let pause = work.pause.as_mut().filter(|_| !task.replied);
        let gives_up = pause.as_ref().is_some_and(|pause| pause.gives_up(now.monotonic));
        let overdue = now.monotonic >= task.deadline || gives_up;
        if overdue {
            let (required, answered) = (work.terms.r, work.round.quorum().answered());
            let (address, merged, stale) = (work.address.clone(), work.round.merged().clone(), work.round.stale());
            if !task.replied {
                let failure = work.session_behind().unwrap_or(Failure::TimedOut {
                    required,
                    answered,
                    outcome: Outcome::None,
                });
                self.reply(now, task.requester, Err(failure), out);
            }
            return self.repair(now, &address, merged, stale, out);
        }
        let mut steps = Vec::new();
        match pause.is_some_and(|pause| pause.is_over(now.monotonic)) {
            true => {
                let who = self.participants(&work.address);
                let local = self.known_here(&work.address, &who, out);
                work.round.ask_again(&who.as_participants(), local, &mut steps);
                self.counters.session_rounds += 1;
            }
            false => work.round.on_slow(&mut steps),
        }
        work.slow_asked = true;
        self.take_read_steps(now, id, &task, steps, out);
        self.advance_read(now, id, task, out);
    }

    fn advance_read(&mut self, now: Now, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let Work::Read(work) = &mut task.work else { return };
        let verdict = work.round.verdict(now.wall_millis);
        match verdict {
            ReadVerdict::Behind if work.pause.is_none() => {
                work.pause = Some(Pause::first(now.monotonic, task.deadline));
                self.counters.session_reads_behind += 1;
            }
            ReadVerdict::Pending | ReadVerdict::Behind => {}
            _ if task.replied => {}
            _ => {
                task.replied = true;
                self.finish_read(now, task.requester, work, verdict, out);
            }
        }
        if work.round.is_over() && verdict != ReadVerdict::Behind {
            let stale = work.round.stale();
            if !stale.is_empty() {
                let (address, merged) = (work.address.clone(), work.round.merged().clone());
                self.repair(now, &address, merged, stale, out);
            }
            return;
        }
        let mut wake = self.read_wake(now, work, task.deadline);
        if let (Some(pause), false) = (&work.pause, task.replied) {
            wake = wake.min(pause.wake());
        }
        self.tasks.keep(id, task, wake);
    }

    fn read_wake(&self, now: Now, work: &ReadWork, deadline: annulus_causality::Instant) -> annulus_causality::Instant {
        if work.slow_asked {
            return deadline;
        }
        let tail = work.round.awaited().map(|peer| self.latency.read_tail(peer)).max();
        tail.map_or(deadline, |tail| now.monotonic + tail)
    }

    fn finish_read(
        &mut self,
        now: Now,
        requester: Requester,
        work: &mut ReadWork,
        verdict: ReadVerdict,
        out: &mut Vec<Effect>,
    ) {
        let answered = work.round.quorum().answered();
        let failure = Failure::QuorumUnreachable {
            required: work.terms.r,
            answered,
            n: work.n,
            outcome: Outcome::None,
        };
        match &mut work.then {
            Then::Reply if verdict == ReadVerdict::Unreachable => self.reply(now, requester, Err(failure), out),
            Then::Reply => {
                let reply = self.found(now, work, answered);
                self.reply(now, requester, reply, out);
            }
            // A guard is only as good as what it knows: it takes a whole quorum.
            Then::Write(_) | Then::Change(_) if verdict != ReadVerdict::Met => {
                self.reply(now, requester, Err(failure), out)
            }
            Then::Write(guarded) => {
                let guarded = guarded.take();
                let (address, merged, terms) = (work.address.clone(), work.round.merged().clone(), work.terms);
                let seen = work.seen.clone();
                if let Some(guarded) = guarded {
                    self.guarded_write(now, requester, (*guarded, seen), (address, merged, terms), out);
                }
            }
            Then::Change(change) => {
                if let Some(change) = change.take() {
                    let found = Some(work.round.merged().clone());
                    self.start_change(now, requester, NewChange { found, ..*change }, out);
                }
            }
        }
    }

    fn found(&self, now: Now, work: &ReadWork, answered: u8) -> Reply {
        let merged = work.round.merged();
        let versions = merged.shown(now.wall_millis, work.terms.policy);
        Ok(Answer::Found(Found {
            etag: etag(&versions),
            versions,
            token: self.seal(&work.address, merged.context()),
            answered,
            n: work.n,
            seen: work.seen.as_ref().map(|_| merged.context().clone()),
        }))
    }

    /// Writes where the condition holds, with the context of what it matched: a race that the guard could not see leaves siblings.
    fn guarded_write(
        &mut self,
        now: Now,
        requester: Requester,
        (guarded, seen): (Guarded, Option<CausalContext>),
        (address, merged, terms): (Address, Object, Terms),
        out: &mut Vec<Effect>,
    ) {
        // Writes may have come by since the read began: the coordinator's own object is looked at once more.
        let current = match self.replica.read(&address) {
            Ok(local) => local.join(merged.clone()),
            Err(_) => merged.clone(),
        };
        let shown = current.shown(now.wall_millis, terms.policy);
        let etag = (!shown.is_empty()).then(|| etag(&shown));
        let is_written = |passed_on: &PassedOn| current.context().contains(passed_on.identity.dot);
        let context = match guarded.context {
            // What an earlier attempt has written was guarded then; what came after it the writer has not seen.
            sent if guarded.passed_on.as_deref().is_some_and(is_written) => sent,
            _ if !holds(&guarded.condition, etag) && !planted(Mutant::GuardIgnored) => {
                return self.reply(now, requester, Err(Failure::ConditionFailed { etag }), out);
            }
            sent => {
                // What its client named by an entity tag, that client has seen; what is there by chance it has not.
                let names_it = matches!(guarded.condition, Condition::Match(_));
                let passed_on = guarded.passed_on.as_deref();
                let taken_over = passed_on.filter(|passed_on| !passed_on.is_first && !names_it);
                let later = taken_over.map(|passed_on| passed_on.later(now.wall_millis, &current));
                let mut context = current.context().difference(&later.unwrap_or_default());
                context.union(&sent.unwrap_or_default());
                Some(context)
            }
        };
        let write = NewWrite {
            address,
            value: guarded.value,
            context,
            passed_on: guarded.passed_on,
            found: merged,
            seen,
            terms,
        };
        self.start_write(now, requester, write, out);
    }

    /// Brings owners that know less, or nothing, up to what was merged.
    fn repair(&mut self, now: Now, address: &Address, merged: Object, stale: Vec<NodeId>, out: &mut Vec<Effect>) {
        let dots = merged.dots().collect();
        let delta = Delta {
            at: wire(address),
            dots,
            object: merged,
        };
        for owner in stale {
            self.counters.read_repairs += 1;
            if owner == self.me {
                // A record that is damaged here has put its partition in doubt.
                let _ = self.apply(address, &delta, out);
                continue;
            }
            self.send_unasked(now, owner, delta.clone(), out);
        }
    }

    /// Sends another owner a delta that nobody waits for.
    pub(crate) fn send_unasked(&mut self, now: Now, owner: NodeId, delta: Delta, out: &mut Vec<Effect>) {
        let message = Message::Write {
            request: 0,
            deadline: self.on_clock_of(owner, now, now.monotonic + self.settings.timeout),
            durability: annulus_coordinator::Durability::Memory,
            hint_for: None,
            delta,
        };
        out.push(Effect::Send { to: owner, message });
    }

    /// A peer asks what is known here.
    pub(crate) fn on_peer_read(&mut self, request: &PeerRead, out: &mut Vec<Effect>) -> Result<Known, Refusal> {
        let address = self.address_of(&request.at).ok_or(Refusal::NotOwner)?;
        if request.hints {
            return self.replica.hinted(&address).map(Known::Object).map_err(|error| {
                self.damaged_hint(&error, out);
                Refusal::Damaged
            });
        }
        if !self.is_owner(&address) {
            return Err(Refusal::NotOwner);
        }
        if self.is_in_doubt(address.partition) {
            return Err(Refusal::InDoubt);
        }
        match self.replica.read(&address) {
            Ok(object) if request.digest == Some(object.digest()) => Ok(Known::Same),
            Ok(object) => Ok(Known::Object(object)),
            Err(error) => {
                self.damaged(address.partition, &error, out);
                Err(Refusal::Damaged)
            }
        }
    }
}

/// A [`Message::Read`] whose deadline was checked.
#[derive(Debug)]
pub(crate) struct PeerRead {
    pub(crate) at: annulus_protocol::WireKey,
    pub(crate) digest: Option<u64>,
    pub(crate) hints: bool,
}

fn etag(shown: &[Version]) -> u128 {
    annulus_causality::etag(&shown.iter().collect::<Vec<_>>())
}

fn holds(condition: &Condition, etag: Option<u128>) -> bool {
    match condition {
        Condition::Absent => etag.is_none(),
        Condition::Exists => etag.is_some(),
        Condition::Match(tags) => etag.is_some_and(|etag| tags.contains(&etag)),
    }
}
