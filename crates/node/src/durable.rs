//! Nothing that waits for the disk is told so before a sync that covers it: one batch and one sync serve all that wait.

use std::collections::VecDeque;
use std::time::Duration;

use annulus_causality::Instant;
use annulus_mutants::{Mutant, planted};
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
    /// What a co-owner sent to catch up with it is durable here.
    CaughtUp { peer: NodeId, request: u64 },
    /// What this node has of the finished incarnations of `peer` is durable here.
    Counted { peer: NodeId },
    /// A bucket's declaration that this node takes is durable here.
    Declare(TaskId),
    /// This node's vote for a first formation is durable.
    Vote,
    /// A bucket's declaration that a peer sent is durable here.
    PeerDeclare { peer: NodeId, request: u64 },
}

/// Where writes come in a crowd, a batch gathers for so long before it is applied: fewer, larger batches and syncs.
const GATHER: Duration = Duration::from_millis(1);
/// So many completions are crowd enough: the batch waits for no more.
const CROWD: usize = 32;
/// Below so many completions a batch, of late, a batch does not wait: a lone writer is never held up.
const LONE: usize = 3;

/// Completions in the order of the batches that they wait for.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    /// Of what is staged and not yet applied.
    staged: Vec<Completion>,
    /// Of what is applied, each with its batch.
    applied: VecDeque<(u64, Completion)>,
    last_applied: u64,
    last_synced: u64,
    /// The first batch with writes that is not durable yet, and the last one that is.
    first_written: Option<u64>,
    last_written: u64,
    syncing: bool,
    /// When the first of what is staged was.
    since: Option<Instant>,
    /// Completions a batch of late, smoothed, in eighths.
    usual: usize,
}

impl Durable {
    /// Says `completion` once everything staged so far is durable.
    pub(crate) fn after_sync(&mut self, completion: Completion) {
        self.staged.push(completion);
    }

    /// Whether somebody waits for what is not applied yet, or for a sync that nobody has asked for: what is applied while a sync is
    /// under way is not covered by it.
    pub(crate) fn has_work(&self) -> bool {
        !self.staged.is_empty() || (!self.syncing && self.last_synced < self.last_applied)
    }

    /// Whether what is staged is to be applied now. A batch and a sync go together, so not while one is under way; and a batch that
    /// comes in a crowd waits for a moment for the others.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        self.since.get_or_insert(now);
        !self.syncing && (self.staged.len() >= CROWD || self.gathers_until().is_none_or(|until| until <= now))
    }

    /// When the staged batch is due at the latest; nothing where nothing is staged, or a sync is under way.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.syncing { None } else { self.gathers_until() }
    }

    fn gathers_until(&self) -> Option<Instant> {
        let wait = if self.usual < LONE * 8 { Duration::ZERO } else { GATHER };
        self.since.map(|since| since + wait)
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
        self.since = None;
        self.usual = self.usual - self.usual / 8 + self.staged.len();
        let waits_for = self.last_applied;
        self.applied
            .extend(self.staged.drain(..).map(|completion| (waits_for, completion)));
        let needed = self.last_synced < self.last_applied && !self.syncing;
        self.syncing |= needed;
        needed.then_some(self.last_applied)
    }

    /// A batch with writes was applied.
    pub(crate) fn on_written(&mut self, batch: u64) {
        self.first_written.get_or_insert(batch);
    }

    /// A batch that survives power loss, and all writes before it; another one only after another write.
    pub(crate) fn last_written(&self) -> u64 {
        self.last_written
    }

    /// All batches up to this one are durable.
    pub(crate) fn on_synced(&mut self, batch: u64) {
        self.last_synced = self.last_synced.max(batch);
        self.syncing = false;
        if self.first_written.is_some_and(|first| first <= batch) {
            self.last_written = batch;
            self.first_written = (batch < self.last_applied).then(|| batch + 1);
        }
    }

    /// What can be said now, one after the other.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let &(batch, completion) = self.applied.front()?;
        if batch > self.last_synced && !planted(Mutant::AcknowledgeBeforeSync) {
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
    fn what_was_applied_during_a_sync_is_synced_though_nothing_follows() {
        let mut durable = Durable::default();
        durable.after_sync(Completion::Write(1));
        assert_eq!(durable.on_applied(Some(1)), Some(1));
        durable.after_sync(Completion::Write(2));
        assert_eq!(durable.on_applied(Some(2)), None);
        assert!(!durable.has_work(), "the sync that is under way comes first");
        durable.on_synced(1);
        assert!(durable.has_work() && durable.is_due(Instant::ZERO));
        assert_eq!(durable.on_applied(None), Some(2));
        assert!(!durable.has_work());
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
