//! Work in progress: every task has a number, a deadline, and at most one timer, kept in order so that no tick scans them.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::Instant;
use annulus_protocol::RequestId;
use annulus_ring::NodeId;

use crate::buckets::DeclareWork;
use crate::forwards::ForwardWork;
use crate::io::ClientId;
use crate::lists::ListWork;
use crate::reads::ReadWork;
use crate::writes::WriteWork;

/// A task's number, which its messages carry as their request number.
pub(crate) type TaskId = u64;

/// 48 random bits: no two lives' numbers in flight meet, and a number still takes no more than seven bytes on the wire.
pub(crate) const FIRST_NUMBER_MASK: u64 = (1 << 48) - 1;

/// Who gets the reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Requester {
    /// A client of this node.
    Client(ClientId),
    /// The node that forwarded the request, by this attempt.
    Peer(RequestId, u32),
    /// Another task of this node, which asked for it under this number of its own.
    Task(TaskId, usize),
}

/// One request in progress.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) requester: Requester,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    pub(crate) work: Work,
    /// The reply was given; what goes on is bookkeeping.
    pub(crate) replied: bool,
    timer: Option<Instant>,
}

impl Task {
    pub(crate) fn new(requester: Requester, started: Instant, deadline: Instant, work: Work) -> Task {
        Task {
            requester,
            started,
            deadline,
            work,
            replied: false,
            timer: None,
        }
    }
}

/// What a task does.
#[derive(Debug)]
pub(crate) enum Work {
    Write(Box<WriteWork>),
    Read(Box<ReadWork>),
    Forward(Box<ForwardWork>),
    List(Box<ListWork>),
    Declare(Box<DeclareWork>),
}

/// All tasks of a node.
#[derive(Debug)]
pub(crate) struct Tasks {
    last: TaskId,
    live: BTreeMap<TaskId, Task>,
    waited_for: usize,
    timers: BTreeSet<(Instant, TaskId)>,
}

impl Tasks {
    /// Numbers begin at random in each life: an answer that a peer still owes to an earlier one must not be taken for one to a
    /// request of this life.
    pub(crate) fn numbered_from(random: u64) -> Tasks {
        Tasks {
            last: random & FIRST_NUMBER_MASK,
            live: BTreeMap::new(),
            waited_for: 0,
            timers: BTreeSet::new(),
        }
    }

    /// A number that no other task has or had.
    pub(crate) fn number(&mut self) -> TaskId {
        self.last += 1;
        self.last
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// How many have not replied: what goes on after the reply holds nobody up.
    pub(crate) fn waited_for(&self) -> usize {
        self.waited_for
    }

    /// Takes a task out to work on it; [`Tasks::keep`] puts it back.
    pub(crate) fn take(&mut self, id: TaskId) -> Option<Task> {
        let mut task = self.live.remove(&id)?;
        if let Some(at) = task.timer.take() {
            self.timers.remove(&(at, id));
        }
        self.waited_for -= usize::from(!task.replied);
        Some(task)
    }

    /// Takes a task out where it is of this kind: an answer of another kind than was asked for is nobody's.
    pub(crate) fn take_if(&mut self, id: TaskId, wanted: impl FnOnce(&Work) -> bool) -> Option<Task> {
        if wanted(self.kind(id)?) { self.take(id) } else { None }
    }

    /// Keeps a task, to be woken at `at` or at its deadline, whichever is earlier.
    pub(crate) fn keep(&mut self, id: TaskId, mut task: Task, at: Instant) {
        let at = at.min(task.deadline);
        task.timer = Some(at);
        self.timers.insert((at, id));
        self.waited_for += usize::from(!task.replied);
        self.live.insert(id, task);
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// A task whose timer has come.
    pub(crate) fn due(&self, now: Instant) -> Option<TaskId> {
        self.timers.first().filter(|&&(at, _)| at <= now).map(|&(_, id)| id)
    }

    /// What kind of task this is.
    pub(crate) fn kind(&self, id: TaskId) -> Option<&Work> {
        self.live.get(&id).map(|task| &task.work)
    }

    /// The tasks that satisfy `wanted`.
    pub(crate) fn matching(&self, wanted: impl Fn(&Work) -> bool) -> Vec<TaskId> {
        self.live
            .iter()
            .filter(|(_, task)| wanted(&task.work))
            .map(|(&id, _)| id)
            .collect()
    }

    /// All tasks that await something of `peer`.
    pub(crate) fn awaiting(&self, peer: NodeId) -> Vec<TaskId> {
        self.matching(|work| match work {
            Work::Write(write) => write.round.quorum().holds(peer),
            Work::Read(read) => read.round.awaits(peer),
            Work::Forward(forward) => forward.awaits(peer),
            Work::List(list) => list.awaits(peer),
            Work::Declare(declare) => declare.awaits(peer),
        })
    }
}
