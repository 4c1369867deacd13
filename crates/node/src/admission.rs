//! What is asked is refused at the door, before any work is done, where this node cannot serve, is overloaded, or has no room.

use annulus_coordinator::Failure;
use annulus_mutants::{Mutant, planted};
use annulus_storage::Engine;

use crate::node::Node;
use crate::settings::Now;

/// Requests whose bookkeeping goes on, for a replica that hangs, may be so many times as many as those that are waited for.
const BOOKKEEPING: usize = 4;

impl<E: Engine> Node<E> {
    /// Whether requests about keys can be served.
    pub(crate) fn readiness(&self) -> Result<(), Failure> {
        let reason = match (&self.failed, &self.cluster, self.settles_at) {
            (Some(reason), _, _) => {
                let detail = format!("{reason}; the node opens its directory again by itself when it can");
                return Err(Failure::StorageUnavailable { detail });
            }
            (None, None, _) => self
                .membership
                .formation_status()
                .unwrap_or_else(|| "it has joined, and waits for the ring".into()),
            (None, Some(_), Some(_)) => {
                "it has just started, and waits for its peers to tell it what they last saw of it".into()
            }
            (None, Some(_), None) => return Ok(()),
        };
        Err(Failure::NotReady { reason })
    }

    /// Serves from now on, where a majority of the members is there, or enough time has passed.
    pub(crate) fn settle(&mut self, now: Now) {
        let due = self.settles_at.is_some_and(|at| at <= now.monotonic);
        if due || (self.cluster.is_some() && self.reachable_peers().len() + 1 >= self.majority()) {
            self.settles_at = None;
        }
    }

    /// Whether another request may begin here.
    pub(crate) fn admits(&self) -> Result<(), Failure> {
        self.readiness()?;
        self.check_load()
    }

    fn check_load(&self) -> Result<(), Failure> {
        let limit = self.settings.max_tasks;
        if planted(Mutant::UnboundedRequests) {
            return Ok(());
        }
        if self.tasks.waited_for() < limit && self.tasks.len() < BOOKKEEPING * limit {
            return Ok(());
        }
        Err(Failure::Overloaded {
            detail: format!("{limit} requests are in progress, which is the limit"),
        })
    }

    pub(crate) fn is_short_of_room(&self) -> bool {
        self.free_bytes < self.settings.min_free_bytes
    }

    /// Refuses a write while the disk can still be written.
    pub(crate) fn check_room(&self) -> Result<(), Failure> {
        if let Some(reason) = &self.failed {
            return Err(Failure::StorageUnavailable { detail: reason.clone() });
        }
        if !self.is_short_of_room() {
            return Ok(());
        }
        let detail = format!(
            "{} bytes are free on its file system and --min-free-bytes is {}; free some room, and it goes on by itself",
            self.free_bytes, self.settings.min_free_bytes
        );
        Err(Failure::StorageUnavailable { detail })
    }
}
