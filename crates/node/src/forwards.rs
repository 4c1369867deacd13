//! One coordinator a key while it lives: a request is handed to it once, under a number that makes a second try the same request.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use annulus_causality::{CausalContext, Dot, Instant, Timestamp};
use annulus_coordinator::{Answer, Failure, KeyRequest, Operation, Outcome, Reply};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::{Message, RequestId, WriteIdentity};
use annulus_ring::{NodeId, PartitionId};
use annulus_storage::{Engine, MAX_COUNTER};

use crate::io::Effect;
use crate::node::Node;
use crate::passed_on::PassedOn;
use crate::settings::Now;
use crate::tasks::{Requester, Task, TaskId, Work};

/// A request that other nodes are asked to coordinate, one after the other.
#[derive(Debug)]
pub(crate) struct ForwardWork {
    request: KeyRequest,
    /// What a write is in every attempt, and the partition it is for.
    identity: Option<Box<WriteIdentity>>,
    partition: PartitionId,
    /// Who could coordinate it, the next one last.
    candidates: Vec<NodeId>,
    attempts: Attempts,
    /// When the next candidate takes over.
    take_over_at: Instant,
    /// Of this node, when the request came: the number is the same in every attempt.
    incarnation: u64,
    /// The number of owners, and how many of them must answer, for the failure.
    n: u8,
    required: u8,
}

/// One time that somebody was asked.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    node: NodeId,
    number: u32,
    /// Attempts that one connection carried have one number here; 0 while it is up.
    connection: u32,
}

/// Who was asked, and has not answered yet.
#[derive(Debug, Default)]
struct Attempts {
    /// The last one last; this node itself may be among those asked.
    asked: Vec<Attempt>,
    /// Their link went down: whether they were begun is not known until they are answered nonetheless.
    lost: Vec<Attempt>,
    last: u32,
}

impl Attempts {
    /// Asks `node`, by this number.
    fn ask(&mut self, node: NodeId) -> u32 {
        self.last += 1;
        self.asked.push(Attempt {
            node,
            number: self.last,
            connection: 0,
        });
        self.last
    }

    fn await_any(&self) -> bool {
        !self.asked.is_empty()
    }

    fn awaits(&self, peer: NodeId) -> bool {
        self.asked.iter().any(|attempt| attempt.node == peer)
    }

    fn have_lost(&self, peer: NodeId) -> bool {
        self.lost.iter().any(|attempt| attempt.node == peer)
    }

    fn last_asked(&self) -> Option<NodeId> {
        self.asked.last().map(|attempt| attempt.node)
    }

    /// Nobody can have begun it but those who said how it ended.
    fn are_settled(&self) -> bool {
        self.asked.is_empty() && self.lost.is_empty()
    }

    /// An attempt was answered. A reply ends all that one connection carried: they have one number, and came to one process, which
    /// remembers it. That one could not serve, or came too late, ends that attempt alone.
    fn settle(&mut self, (node, number): (NodeId, u32), reply: &Option<Reply>) {
        let ends_all = reply.as_ref().is_some_and(|reply| !is_elsewhere(reply));
        for attempts in [&mut self.asked, &mut self.lost] {
            let is_it = |attempt: &Attempt| attempt.number == number || planted(Mutant::LateAnswerEndsAnotherAttempt);
            let answered = attempts.iter().find(|attempt| attempt.node == node && is_it(attempt));
            let Some(answered) = answered.copied() else { continue };
            attempts.retain(|attempt| match ends_all {
                true => (attempt.node, attempt.connection) != (node, answered.connection),
                false => attempt.number != answered.number,
            });
        }
    }

    /// The link to `node` is down.
    fn lose(&mut self, node: NodeId) {
        self.last += 1;
        let connection = self.last;
        let lost = self.asked.iter().filter(|attempt| attempt.node == node);
        let lost = lost.filter(|_| !planted(Mutant::LostAttemptForgotten));
        self.lost.extend(lost.map(|&attempt| Attempt { connection, ..attempt }));
        self.asked.retain(|attempt| attempt.node != node);
    }
}

/// A forwarded write that ended without an answer: one that comes late still says whether its dot is void.
#[derive(Debug)]
pub(crate) struct Unsettled {
    partition: PartitionId,
    dot: Dot,
    attempts: Attempts,
}

/// So many of them are kept; the dots of others stay gaps.
const UNSETTLED: usize = 1024;

impl ForwardWork {
    /// The dot of a write.
    pub(crate) fn brings(&self) -> Option<Dot> {
        self.identity.as_deref().map(|identity| identity.dot)
    }

    pub(crate) fn awaits(&self, peer: NodeId) -> bool {
        self.attempts.awaits(peer)
    }

    /// The link to `node` is down.
    fn lose(&mut self, node: NodeId) {
        self.attempts.lose(node);
        // Asked again, should it come back and nobody else be there: the number makes it the same request.
        self.candidates.insert(0, node);
    }

    /// Whether a reply that says that nothing was written may be wrong: another may have written it nonetheless.
    fn is_in_doubt(&self, reply: &Reply) -> bool {
        self.outcome() == Outcome::Unknown && wrote_nothing(reply)
    }

    /// Whoever begins it begins something of its own: another one may be asked only where nobody can have begun it.
    fn is_exclusive(&self) -> bool {
        matches!(self.request.operation, Operation::Change { .. }) && !planted(Mutant::OperationTakenOver)
    }

    /// It may have been begun already. Who was asked is then only asked what became of it, and nobody else is.
    fn may_only_ask_again(&self) -> bool {
        self.is_exclusive() && !self.attempts.are_settled()
    }

    /// Who was asked does not know of it, and nobody else may be asked: no answer will come.
    fn is_forgotten(&self) -> bool {
        let may_be_back = |node: &NodeId| self.attempts.have_lost(*node);
        self.may_only_ask_again() && !self.attempts.await_any() && !self.candidates.iter().any(may_be_back)
    }

    /// The next one to ask: its place among the candidates.
    fn next(&self, is_reachable: impl Fn(NodeId) -> bool) -> Option<usize> {
        let may_be_asked = |node| !self.may_only_ask_again() || self.attempts.have_lost(node);
        self.candidates
            .iter()
            .rposition(|&node| is_reachable(node) && may_be_asked(node))
    }

    fn outcome(&self) -> Outcome {
        match self.attempts.are_settled() || !self.request.operation.writes() {
            true => Outcome::None,
            false => Outcome::Unknown,
        }
    }

    fn unreachable(&self) -> Failure {
        Failure::QuorumUnreachable {
            required: self.required,
            answered: 0,
            n: self.n,
            outcome: self.outcome(),
        }
    }
}

/// What is to be forwarded, and to whom.
#[derive(Debug)]
pub(crate) struct NewForward {
    pub(crate) request: KeyRequest,
    /// Of a write.
    pub(crate) identity: Option<Box<WriteIdentity>>,
    pub(crate) partition: PartitionId,
    /// In order of preference.
    pub(crate) candidates: Vec<NodeId>,
    pub(crate) n: u8,
    pub(crate) required: u8,
    pub(crate) deadline: Instant,
}

impl<E: Engine> Node<E> {
    pub(crate) fn start_forward(&mut self, now: Now, requester: Requester, forward: NewForward, out: &mut Vec<Effect>) {
        let NewForward {
            request,
            identity,
            partition,
            mut candidates,
            n,
            required,
            deadline,
        } = forward;
        candidates.reverse();
        let work = ForwardWork {
            request,
            identity,
            partition,
            candidates,
            attempts: Attempts::default(),
            take_over_at: deadline,
            incarnation: self.incarnation,
            n,
            required,
        };
        let id = self.tasks.number();
        let task = Task::new(requester, now.monotonic, deadline, Work::Forward(Box::new(work)));
        self.counters.forwards += 1;
        self.forward_on(now, id, task, out);
    }

    /// Asks the next candidate that can be reached, else the last that was asked once more, as its answer may be lost; where there is
    /// none and nobody can have begun, the request fails. (An operation: see [`ForwardWork::may_only_ask_again`].)
    fn forward_on(&mut self, now: Now, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let Work::Forward(work) = &mut task.work else { return };
        let deadline = task.deadline;
        work.take_over_at = deadline;
        let place = work.next(|node| self.is_reachable(node));
        let only_asks = work.may_only_ask_again();
        let again = || work.attempts.last_asked().filter(|&node| node != self.me);
        let Some(next) = place.map(|place| work.candidates[place]).or_else(again) else {
            if work.attempts.are_settled() || work.is_forgotten() {
                let failure = work.unreachable();
                return self.end_forward(now, id, task, Err(failure), out);
            }
            // Somebody may still answer, or come back and be asked again under the same number.
            return self.tasks.keep(id, task, deadline);
        };
        place.map(|place| work.candidates.remove(place));
        let attempt = work.attempts.ask(next);
        if next == self.me {
            let request = (work.request.clone(), passed_on(work.identity.clone(), attempt));
            self.tasks.keep(id, task, deadline);
            let requester = Requester::Task(id, attempt as usize);
            return match self.admits() {
                Ok(()) => self.coordinate(now, requester, request, deadline, out),
                Err(failure) => self.reply(now, requester, Err(failure), out),
            };
        }
        let take_over_at = match work.is_exclusive() {
            true => deadline,
            false => deadline.min(now.monotonic + self.latency.take_over(next)),
        };
        let start_by = match only_asks {
            // Past already: who does not remember the request, for whatever reason, does not begin it.
            true => Instant::ZERO,
            false => self.on_clock_of(next, now, take_over_at),
        };
        work.take_over_at = take_over_at;
        let message = Message::Forward {
            id: RequestId {
                origin: self.me,
                incarnation: work.incarnation,
                number: id,
            },
            attempt,
            start_by,
            deadline: self.on_clock_of(next, now, deadline),
            identity: work.identity.clone(),
            request: work.request.clone(),
        };
        out.push(Effect::Send { to: next, message });
        self.tasks.keep(id, task, take_over_at);
    }

    /// The coordinator answered; or it read the forward too late, and did nothing.
    pub(crate) fn on_forwarded(
        &mut self,
        now: Now,
        id: TaskId,
        (from, attempt): (NodeId, u32),
        reply: Option<Reply>,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Forward(_))) else {
            return self.on_late_answer(id, (from, attempt), &reply);
        };
        let Work::Forward(work) = &mut task.work else { return };
        let was_last = work.attempts.last_asked() == Some(from);
        work.attempts.settle((from, attempt), &reply);
        if let Some(Err(Failure::StampBehind { latest })) = &reply
            && work.attempts.are_settled()
        {
            return self.stamp_anew(now, task, (from, *latest), out);
        }
        let others = !work.candidates.is_empty() || work.attempts.await_any();
        match reply {
            Some(reply) if !(work.is_in_doubt(&reply) || others && is_elsewhere(&reply)) => {
                self.latency.observe(from, task.started, now.monotonic);
                self.end_forward(now, id, task, reply, out);
            }
            Some(reply) if !is_elsewhere(&reply) && !work.attempts.await_any() => {
                let failure = work.unreachable();
                self.end_forward(now, id, task, Err(failure), out);
            }
            Some(reply) if !is_elsewhere(&reply) => {
                // Those that were asked earlier may yet say that they wrote it; another one would know no better.
                work.candidates.clear();
                self.await_others(now, id, task, out);
            }
            _ if was_last && !work.awaits(from) => self.forward_on(now, id, task, out),
            _ => self.await_others(now, id, task, out),
        }
    }

    /// The one that was asked is slow: the next owner takes over. At the deadline the request ends.
    pub(crate) fn on_forward_timer(&mut self, now: Now, id: TaskId, task: Task, out: &mut Vec<Effect>) {
        let Work::Forward(work) = &task.work else { return };
        if now.monotonic < task.deadline {
            self.counters.take_overs += u64::from(!work.candidates.is_empty());
            return self.forward_on(now, id, task, out);
        }
        let failure = Failure::TimedOut {
            required: work.required,
            answered: 0,
            outcome: work.outcome(),
        };
        self.end_forward(now, id, task, Err(failure), out);
    }

    /// A write that is passed on has one dot and one stamp, whoever begins it, and how often: given here, where the client came in.
    pub(crate) fn identity(&mut self, now: Now, partition: PartitionId, ttl: Option<Duration>) -> WriteIdentity {
        let (modified, expires) = self.stamp(now, ttl);
        WriteIdentity {
            n: partition.n,
            dot: self.replica.next_dot(partition, self.actor()),
            modified,
            expires,
            voided: self.voided.get(&partition).cloned().unwrap_or_default(),
        }
    }

    /// The coordinator knows of a write that is later than this one by its stamp, and has not begun it, as nobody has: it becomes another
    /// one, later than that, and begins anew.
    fn stamp_anew(
        &mut self,
        now: Now,
        mut task: Task,
        (coordinator, latest): (NodeId, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        let can_follow = self.clock.observe(now.wall_millis, latest).is_ok();
        let Work::Forward(work) = &mut task.work else { return };
        let partition = work.partition;
        work.candidates.push(coordinator);
        work.attempts = Attempts::default();
        if !can_follow {
            // The clocks are too far apart for it to come after that one: both stay.
            work.attempts.last = FIRST;
        }
        if let Some(identity) = work.identity.as_deref_mut() {
            self.voided.entry(partition).or_default().insert(identity.dot);
            let lifetime = |expires: u64| Duration::from_millis(expires.saturating_sub(identity.modified.millis));
            *identity = self.identity(now, partition, identity.expires.map(lifetime));
        }
        self.counters.stamped_anew += 1;
        let id = self.tasks.number();
        self.forward_on(now, id, task, out);
    }

    /// Replies, and keeps account of the dot: one whose write never was is void, and goes into the clocks with a later write, as a gap
    /// would stay in them for ever.
    fn end_forward(&mut self, now: Now, id: TaskId, task: Task, reply: Reply, out: &mut Vec<Effect>) {
        if let Work::Forward(work) = task.work
            && let Some(WriteIdentity { dot, voided, .. }) = work.identity.as_deref()
        {
            if reply.is_ok() {
                self.unvoid(work.partition, voided);
            } else if !work.attempts.are_settled() {
                let unsettled = Unsettled {
                    partition: work.partition,
                    dot: *dot,
                    attempts: work.attempts,
                };
                self.unsettled.insert(id, unsettled);
                if self.unsettled.len() > UNSETTLED {
                    self.unsettled.pop_first();
                }
            } else if wrote_nothing(&reply) {
                self.voided.entry(work.partition).or_default().insert(*dot);
            }
        }
        self.observe(now, &reply);
        self.reply(now, task.requester, reply, out);
    }

    /// These voids are with the owners.
    fn unvoid(&mut self, partition: PartitionId, brought: &CausalContext) {
        if let Some(void) = self.voided.get_mut(&partition) {
            *void = void.difference(brought);
            if void.is_empty() {
                self.voided.remove(&partition);
            }
        }
    }

    /// A late answer to a write whose client has gone: once all have said that they did not write it, its dot is void.
    fn on_late_answer(&mut self, id: TaskId, from: (NodeId, u32), reply: &Option<Reply>) {
        let Some(unsettled) = self.unsettled.get_mut(&id) else {
            return;
        };
        unsettled.attempts.settle(from, reply);
        let is_written = reply.as_ref().is_some_and(|reply| !wrote_nothing(reply));
        if !is_written && !unsettled.attempts.are_settled() {
            return;
        }
        let (partition, dot) = (unsettled.partition, unsettled.dot);
        self.unsettled.remove(&id);
        if !is_written {
            self.voided.entry(partition).or_default().insert(dot);
        }
    }

    /// What is shown to a client is earlier than what that client writes next through this node.
    fn observe(&mut self, now: Now, reply: &Reply) {
        if let Ok(Answer::Found(found)) = reply {
            for version in &found.versions {
                // A stamp too far ahead was refused where it came in; here it only moves the clock.
                let _ = self.clock.observe(now.wall_millis, version.modified);
            }
        }
    }

    /// The link to the one that was asked is down: whether it began is unknown.
    pub(crate) fn on_forward_failure(&mut self, now: Now, id: TaskId, from: NodeId, out: &mut Vec<Effect>) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Forward(_))) else {
            return;
        };
        let Work::Forward(work) = &mut task.work else { return };
        let was_last = work.attempts.last_asked() == Some(from);
        work.lose(from);
        match was_last {
            true => self.forward_on(now, id, task, out),
            false => self.await_others(now, id, task, out),
        }
    }

    /// One that was asked earlier is out: whoever was asked after it goes on, and is taken over when its own time has come.
    fn await_others(&mut self, now: Now, id: TaskId, task: Task, out: &mut Vec<Effect>) {
        match &task.work {
            Work::Forward(work) if work.attempts.await_any() => {
                let at = work.take_over_at;
                self.tasks.keep(id, task, at);
            }
            _ => self.forward_on(now, id, task, out),
        }
    }

    /// A peer is back: requests that wait for somebody to ask, ask it.
    pub(crate) fn on_forward_link_up(&mut self, now: Now, peer: NodeId, out: &mut Vec<Effect>) {
        let waiting = self.tasks.matching(|work| {
            matches!(work, Work::Forward(forward) if !forward.attempts.await_any() && forward.candidates.contains(&peer))
        });
        for id in waiting {
            if let Some(task) = self.tasks.take(id) {
                self.forward_on(now, id, task, out);
            }
        }
    }

    /// A peer asks this node to coordinate.
    pub(crate) fn on_forward(
        &mut self,
        now: Now,
        from: NodeId,
        (id, attempt): (RequestId, u32),
        (start_by, deadline): (Instant, Instant),
        (request, identity): (KeyRequest, Option<Box<WriteIdentity>>),
        out: &mut Vec<Effect>,
    ) {
        let is_write = matches!(request.operation, Operation::Write { .. });
        if from != id.origin
            || is_write != identity.is_some()
            || identity.as_deref().is_some_and(|given| !is_of(given, from))
        {
            let name = self.name_of(from);
            let text =
                format!("{name} passed on a write under an identity that is not its own to give: {name} is broken.");
            return self.warn_once("identity", text, out);
        }
        let mut answer = |reply| {
            out.push(Effect::Send {
                to: from,
                message: Message::Forwarded {
                    number: id.number,
                    attempt,
                    reply,
                },
            });
        };
        if identity.as_deref().is_some_and(|given| self.is_of_finished(given)) {
            return;
        }
        match self.recent.reply(id) {
            Some(Recent::Running) => return,
            Some(Recent::Done(reply)) => return answer(Some(reply.clone())),
            None => {}
        }
        if now.monotonic >= start_by {
            // The sender asks another owner by now.
            self.counters.expired += 1;
            return answer(None);
        }
        if matches!(request.operation, Operation::Change { .. }) {
            self.recent.begin(id);
        }
        // What is refused at the door was not begun. Of a write that is not remembered, as it may be begun later; of an operation it
        // is: its sender goes on to another one.
        if let Err(failure) = self.admits() {
            return self.reply(now, Requester::Peer(id, attempt), Err(failure), out);
        }
        if is_write {
            self.recent.begin(id);
        }
        let request = (request, passed_on(identity, attempt));
        self.coordinate(now, Requester::Peer(id, attempt), request, deadline, out);
    }
}

/// The first attempt of a write has this number, in whatever life of its request.
const FIRST: u32 = 1;

fn passed_on(identity: Option<Box<WriteIdentity>>, attempt: u32) -> Option<Box<PassedOn>> {
    identity.map(|identity| {
        Box::new(PassedOn {
            identity: *identity,
            is_first: attempt == FIRST,
        })
    })
}

/// Whether an identity is this node's to give.
fn is_of(identity: &WriteIdentity, node: NodeId) -> bool {
    let is_mine = |owner: u64| owner == node.0;
    is_mine(identity.dot.actor.node)
        && identity.voided.nodes().all(is_mine)
        && !identity.voided.contains(identity.dot)
        && (1..=MAX_COUNTER).contains(&identity.dot.counter)
}

/// The node could not serve and did nothing: another one may.
fn is_elsewhere(reply: &Reply) -> bool {
    matches!(
        reply,
        Err(Failure::NotReady { .. }
            | Failure::StorageUnavailable { .. }
            | Failure::Overloaded { .. }
            | Failure::Damaged { .. }
            | Failure::StampBehind { .. })
    )
}

/// The reply says that the request wrote nothing, and never will.
fn wrote_nothing(reply: &Reply) -> bool {
    reply.as_ref().is_err_and(|failure| failure.outcome() == Outcome::None)
}

/// Forwarded writes that are remembered, so that one sent again is answered and not done again.
const REMEMBERED: usize = 65_536;

/// What became of a forwarded write.
#[derive(Debug)]
pub(crate) enum Recent {
    Running,
    Done(Reply),
}

/// Forwarded writes that are running (no more than there are tasks), and the last [`REMEMBERED`] that are done.
#[derive(Debug, Default)]
pub(crate) struct RecentForwards {
    replies: BTreeMap<RequestId, Recent>,
    done: VecDeque<RequestId>,
}

impl RecentForwards {
    fn begin(&mut self, id: RequestId) {
        self.replies.insert(id, Recent::Running);
    }

    pub(crate) fn finish(&mut self, id: RequestId, reply: &Reply) {
        if let Some(recent) = self.replies.get_mut(&id) {
            *recent = Recent::Done(reply.clone());
            self.done.push_back(id);
        }
        if self.done.len() > REMEMBERED
            && let Some(oldest) = self.done.pop_front()
        {
            self.replies.remove(&oldest);
        }
    }

    fn reply(&self, id: RequestId) -> Option<&Recent> {
        self.replies.get(&id)
    }
}
