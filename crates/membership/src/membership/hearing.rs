//! What a peer says counts only for its present life, and only within its own cluster.

use annulus_causality::Instant;
use annulus_ring::NodeId;

use super::Membership;
use crate::action::Action;
use crate::detector::Liveness;
use crate::formation::Founding;
use crate::gossip::{Formation, Gossip};
use crate::hello::{Hello, HelloError};
use crate::peer::Standing;
use crate::record::{ClusterId, MemberRecord};
use crate::secret::Secret;
use crate::vote::Vote;

impl Membership {
    /// Takes in a hello; none where it is refused.
    pub(super) fn greet(&mut self, now: Instant, hello: &Hello, out: &mut Vec<Action>) -> Option<NodeId> {
        match self.check_hello(hello) {
            Ok(()) => {}
            Err(HelloError::Myself) => return None,
            Err(error) => {
                self.tell(error.to_string(), out);
                return None;
            }
        }
        let (id, incarnation) = (hello.record.id(), hello.record.incarnation);
        self.learn(now, hello.record.clone(), Standing::Stranger, out);
        self.refresh_fingerprint();
        self.update(id, out, |peer| {
            // An earlier life than is known: it will take a new incarnation when it hears of that.
            if incarnation == peer.record().incarnation {
                peer.heard(now, hello.clock);
            }
        });
        // An equal one is its own, of which the peer has heard.
        if let Some(seen) = hello.seen.filter(|&seen| seen > self.me.incarnation) {
            self.consider_seen(seen);
        }
        self.consider_cluster(id, hello.cluster, None, out);
        Some(id)
    }

    /// Whether a frame is of the peer's present life, and of no other cluster.
    pub(super) fn is_credible(&mut self, from: NodeId, gossip: &Gossip, out: &mut Vec<Action>) -> bool {
        let Some(peer) = self.peers.get(&from) else {
            return false;
        };
        if gossip.incarnation < peer.record().incarnation {
            return false;
        }
        match self.check_cluster(peer.record(), gossip.cluster) {
            Ok(()) => true,
            Err(error) => {
                self.tell(error.to_string(), out);
                false
            }
        }
    }

    pub(super) fn check_cluster(&self, record: &MemberRecord, theirs: Option<ClusterId>) -> Result<(), HelloError> {
        let Some(theirs) = theirs else { return Ok(()) };
        let (name, address) = (record.member.name.clone(), record.peer.clone());
        let voted = self.founding.as_ref().and_then(Founding::vote).map(Vote::cluster);
        match (self.cluster(), voted) {
            (Some(ours), _) if ours != theirs => Err(HelloError::OtherCluster {
                name,
                address,
                theirs,
                ours,
            }),
            (None, Some(ours)) if ours != theirs => Err(HelloError::VotedOtherwise {
                name,
                address,
                theirs,
                ours,
            }),
            _ => Ok(()),
        }
    }

    /// The peer lives, and this is what it showed.
    pub(super) fn hear(&mut self, now: Instant, from: NodeId, gossip: &Gossip, out: &mut Vec<Action>) {
        if self.liveness(from) != Liveness::Alive {
            // It waits to be told that it is heard.
            self.prompt.insert(from);
        }
        self.update(from, out, |peer| {
            peer.heard(now, gossip.clock);
            peer.hears_us = gossip.hears_you;
            peer.advertised = Some(gossip.advertised);
            peer.shown = Some(gossip.members_fingerprint);
            peer.candidate = match &gossip.formation {
                Some(Formation::Candidate(candidate)) => Some(candidate.clone()),
                _ => None,
            };
        });
    }

    /// A peer said which cluster it belongs to: this node may be let in, or the peer be admitted.
    pub(super) fn consider_cluster(
        &mut self,
        from: NodeId,
        theirs: Option<ClusterId>,
        welcome: Option<Secret>,
        out: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.cluster = theirs;
        let Some(theirs) = theirs else { return };
        if self.cluster.is_none() {
            match (self.founding.as_ref().and_then(Founding::vote).cloned(), welcome) {
                // Who belongs to it proves that all founders have voted so.
                (Some(vote), _) if vote.cluster() == theirs => self.form(vote, out),
                (None, Some(key)) => self.join(theirs, key, out),
                _ => return,
            }
        }
        if let Some(peer) = self.peers.get(&from).filter(|peer| peer.standing == Standing::Stranger) {
            // The time is not used: the peer is known.
            self.learn(Instant::ZERO, peer.record().clone(), Standing::Member, out);
            self.refresh_fingerprint();
        }
    }
}
