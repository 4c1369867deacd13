//! One coordinator a key while it lives: a request is handed to it once, under a number that makes a second try the same request.

use std::collections::{BTreeMap, VecDeque};

use annulus_causality::Instant;
use annulus_coordinator::{Failure, KeyRequest, Operation, Outcome, Reply};
use annulus_protocol::{Message, RequestId};
use annulus_ring::NodeId;
use annulus_storage::Engine;

use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;
use crate::tasks::{Requester, Task, TaskId, Work};

/// A request that other nodes are asked to coordinate, one after the other.
#[derive(Debug)]
pub(crate) struct ForwardWork {
    request: KeyRequest,
    /// Who could coordinate it, the next one last.
    candidates: Vec<NodeId>,
    /// Who was asked and has not answered.
    asked: Vec<NodeId>,
    /// Whether anybody may have begun it.
    begun: bool,
    /// The number of owners, and how many of them must answer, for the failure.
    n: u8,
    required: u8,
}

impl ForwardWork {
    pub(crate) fn awaits(&self, peer: NodeId) -> bool {
        self.asked.contains(&peer)
    }

    fn outcome(&self) -> Outcome {
        if self.begun && self.is_write() {
            Outcome::Unknown
        } else {
            Outcome::None
        }
    }

    fn is_write(&self) -> bool {
        matches!(self.request.operation, Operation::Write { .. })
    }
}

/// What is to be forwarded, and to whom.
#[derive(Debug)]
pub(crate) struct NewForward {
    pub(crate) request: KeyRequest,
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
            mut candidates,
            n,
            required,
            deadline,
        } = forward;
        candidates.reverse();
        let work = ForwardWork {
            request,
            candidates,
            asked: Vec::new(),
            begun: false,
            n,
            required,
        };
        let id = self.tasks.number();
        let task = Task::new(requester, now.monotonic, deadline, Work::Forward(Box::new(work)));
        self.counters.forwards += 1;
        self.forward_on(now, id, task, out);
    }

    /// Asks the next candidate; where none is left and nobody was asked, the request fails.
    fn forward_on(&mut self, now: Now, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let Work::Forward(work) = &mut task.work else { return };
        let deadline = task.deadline;
        let Some(next) = work.candidates.pop() else {
            if work.asked.is_empty() && !work.begun {
                let failure = Failure::QuorumUnreachable {
                    required: work.required,
                    answered: 0,
                    n: work.n,
                    outcome: Outcome::None,
                };
                return self.reply(now, task.requester, Err(failure), out);
            }
            // Somebody may still answer, or come back and be asked again under the same number.
            return self.tasks.keep(id, task, deadline);
        };
        work.begun = true;
        if next == self.me {
            let request = work.request.clone();
            self.tasks.keep(id, task, deadline);
            return self.coordinate(now, Requester::Task(id, 0), request, deadline, out);
        }
        work.asked.push(next);
        let start_by = now.monotonic + self.latency.take_over(next);
        let message = Message::Forward {
            id: RequestId {
                origin: self.me,
                incarnation: self.incarnation,
                number: id,
            },
            start_by: self.on_clock_of(next, now, start_by),
            deadline: self.on_clock_of(next, now, deadline),
            request: work.request.clone(),
        };
        out.push(Effect::Send { to: next, message });
        self.tasks.keep(id, task, start_by);
    }

    /// The coordinator answered; or it read the forward too late, and did nothing.
    pub(crate) fn on_forwarded(
        &mut self,
        now: Now,
        id: TaskId,
        from: NodeId,
        reply: Option<Reply>,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Forward(_))) else {
            return;
        };
        let Work::Forward(work) = &mut task.work else { return };
        work.asked.retain(|&asked| asked != from);
        let others = !work.candidates.is_empty() || !work.asked.is_empty();
        match reply {
            Some(reply) if !(others && is_elsewhere(&reply)) => {
                self.latency.observe(from, task.started, now.monotonic);
                self.reply(now, task.requester, reply, out);
            }
            _ => self.forward_on(now, id, task, out),
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
        self.reply(now, task.requester, Err(failure), out);
    }

    /// The link to the one that was asked is down: whether it began is unknown.
    pub(crate) fn on_forward_failure(&mut self, now: Now, id: TaskId, from: NodeId, out: &mut Vec<Effect>) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::Forward(_))) else {
            return;
        };
        if let Work::Forward(work) = &mut task.work {
            work.asked.retain(|&asked| asked != from);
            // Asked again, should it come back and nobody else be there: the number makes it the same request.
            work.candidates.insert(0, from);
            let next_is_back = work.candidates.last() == Some(&from);
            if next_is_back {
                let deadline = task.deadline;
                return self.tasks.keep(id, task, deadline);
            }
        }
        self.forward_on(now, id, task, out);
    }

    /// A peer is back: requests that wait for somebody to ask, ask it.
    pub(crate) fn on_forward_link_up(&mut self, now: Now, peer: NodeId, out: &mut Vec<Effect>) {
        let waiting = self.tasks.matching(|work| {
            matches!(work, Work::Forward(forward) if forward.asked.is_empty() && forward.candidates.last() == Some(&peer))
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
        id: RequestId,
        (start_by, deadline): (Instant, Instant),
        request: KeyRequest,
        out: &mut Vec<Effect>,
    ) {
        if matches!(request.operation, Operation::Write { .. }) {
            match self.recent.reply(id) {
                Some(Recent::Running) => return,
                Some(Recent::Done(reply)) => {
                    let message = Message::Forwarded {
                        number: id.number,
                        reply: Some(reply.clone()),
                    };
                    return out.push(Effect::Send { to: id.origin, message });
                }
                None => {}
            }
            if now.monotonic <= start_by {
                self.recent.begin(id);
            }
        }
        if now.monotonic > start_by {
            // The sender asks another owner by now: beginning here would be a second write.
            self.counters.expired += 1;
            return out.push(Effect::Send {
                to: id.origin,
                message: Message::Forwarded {
                    number: id.number,
                    reply: None,
                },
            });
        }
        self.coordinate(now, Requester::Peer(id), request, deadline, out);
    }
}

/// The node could not serve and did nothing: another one may.
fn is_elsewhere(reply: &Reply) -> bool {
    matches!(
        reply,
        Err(Failure::NotReady { .. }
            | Failure::StorageUnavailable { .. }
            | Failure::Overloaded { .. }
            | Failure::Damaged { .. })
    )
}

/// Forwarded writes that are remembered, so that one sent again is answered and not done again.
const REMEMBERED: usize = 65_536;

/// What became of a forwarded write.
#[derive(Debug)]
pub(crate) enum Recent {
    Running,
    Done(Reply),
}

/// The last [`REMEMBERED`] forwarded writes.
#[derive(Debug, Default)]
pub(crate) struct RecentForwards {
    replies: BTreeMap<RequestId, Recent>,
    order: VecDeque<RequestId>,
}

impl RecentForwards {
    fn begin(&mut self, id: RequestId) {
        self.replies.insert(id, Recent::Running);
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.replies.remove(&oldest);
        }
    }

    pub(crate) fn finish(&mut self, id: RequestId, reply: &Reply) {
        if let Some(recent) = self.replies.get_mut(&id) {
            *recent = Recent::Done(reply.clone());
        }
    }

    fn reply(&self, id: RequestId) -> Option<&Recent> {
        self.replies.get(&id)
    }
}
