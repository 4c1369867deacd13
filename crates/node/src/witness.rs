//! Nodes witness each other's disks: a directory that begins with less than its node once told of was restored, cloned, emptied, or has lost
//! something.
//!
//! An incarnation alone would not show it: a directory restored from the last life of its node counts on to the very next one.

use std::collections::BTreeMap;

use annulus_membership::Witnessed;
use annulus_mutants::{Mutant, planted};
use annulus_ring::NodeId;

/// What peers have seen of each other's disks, and what they have seen of this one.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// What each peer said last of its own disk.
    peers: BTreeMap<NodeId, Witnessed>,
    /// This node's last batch when it was opened, or took the incarnation that it has.
    opened_at: u64,
    /// Something new was said since this was kept.
    is_news: bool,
}

impl Witness {
    pub(crate) fn of(peers: BTreeMap<NodeId, Witnessed>, opened_at: u64) -> Witness {
        Witness {
            peers,
            opened_at,
            is_news: false,
        }
    }

    pub(crate) fn saw(&mut self, peer: NodeId, said: Witnessed) {
        self.is_news |= self.peers.insert(peer, said) != Some(said);
    }

    pub(crate) fn of_peer(&self, peer: NodeId) -> Option<Witnessed> {
        self.peers.get(&peer).copied()
    }

    /// A new incarnation goes on with what is here.
    pub(crate) fn reopen(&mut self, batch: u64) {
        self.opened_at = batch;
    }

    /// Whether this node's directory is older than what it once told of, or another one.
    pub(crate) fn contradicts(&self, incarnation: u64, witnessed: Option<Witnessed>) -> bool {
        let is_later = |said: Witnessed| said.incarnation != incarnation && said.batch > self.opened_at;
        witnessed.is_some_and(is_later) && !planted(Mutant::OldDiskTrusted)
    }

    /// What to keep, where there is news.
    pub(crate) fn news(&mut self) -> Option<&BTreeMap<NodeId, Witnessed>> {
        std::mem::take(&mut self.is_news).then_some(&self.peers)
    }
}
