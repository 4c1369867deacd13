//! Nothing that waits for the disk is told so before a sync that covers it: one batch and one sync serve all that wait.

use std::collections::VecDeque;

use annulus_ring::NodeId;

use crate::tasks::TaskId;

/// What is to be said once the disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// A write that this node coordinates is durable here.
    Write(TaskId),
    /// A write that a peer sent is durable here.
    PeerWrite { peer: NodeId, request: u64 },
    /// A delivered hint is durable here.
    Hint { peer: NodeId, sequence: u64 },
    /// A bucket's declaration that this node takes is durable here.
    Declare(TaskId),
    /// This node's vote for a first formation is durable.
    Vote,
    /// A bucket's declaration that a peer sent is durable here.
    PeerDeclare { peer: NodeId, request: u64 },
}

/// Completions in the order of the batches that they wait for.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    /// Of what is staged and not yet applied.
    staged: Vec<Completion>,
    /// Of what is applied, each with its batch.
    applied: VecDeque<(u64, Completion)>,
    last_applied: u64,
    last_synced: u64,
    syncing: bool,
}

impl Durable {
    /// Says `completion` once everything staged so far is durable.
    pub(crate) fn after_sync(&mut self, completion: Completion) {
        self.staged.push(completion);
    }

    /// A sync is under way: what comes meanwhile is staged for the next, so that a batch and a sync go together.
    pub(crate) fn is_syncing(&self) -> bool {
        self.syncing
    }

    /// The staged batch was applied under this number; nothing was staged where there is none. Says whether to sync.
    pub(crate) fn on_applied(&mut self, batch: Option<u64>) -> Option<u64> {
        if let Some(batch) = batch {
            assert!(
                batch > self.last_applied,
                "batches are numbered upwards: a completion would come too early"
            );
            self.last_applied = batch;
        }
        let waits_for = self.last_applied;
        self.applied
            .extend(self.staged.drain(..).map(|completion| (waits_for, completion)));
        let needed = self.last_synced < self.last_applied && !self.syncing;
        self.syncing |= needed;
        needed.then_some(self.last_applied)
    }

    /// All batches up to this one are durable.
    pub(crate) fn on_synced(&mut self, batch: u64) {
        self.last_synced = self.last_synced.max(batch);
        self.syncing = false;
    }

    /// What can be said now, one after the other.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let &(batch, completion) = self.applied.front()?;
        if batch > self.last_synced {
            return None;
        }
        self.applied.pop_front();
        Some(completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_before_the_sync_that_covers_it() {
        let mut durable = Durable::default();
        durable.after_sync(Completion::Write(1));
        assert_eq!(durable.on_applied(Some(1)), Some(1));
        durable.after_sync(Completion::Write(2));
        assert_eq!(durable.next(), None);
        assert_eq!(durable.on_applied(Some(2)), None, "one sync at a time");
        durable.on_synced(1);
        assert_eq!(durable.next(), Some(Completion::Write(1)));
        assert_eq!(durable.next(), None);
        assert_eq!(durable.on_applied(None), Some(2));
        durable.on_synced(2);
        assert_eq!(durable.next(), Some(Completion::Write(2)));
    }

    #[test]
    fn what_staged_nothing_waits_for_what_was_applied_before() {
        let mut durable = Durable::default();
        durable.after_sync(Completion::Write(1));
        assert_eq!(durable.on_applied(Some(7)), Some(7));
        durable.after_sync(Completion::Write(2));
        assert_eq!(durable.on_applied(None), None);
        assert_eq!(durable.next(), None);
        durable.on_synced(7);
        assert_eq!(durable.next(), Some(Completion::Write(1)));
        assert_eq!(durable.next(), Some(Completion::Write(2)));
    }
}
