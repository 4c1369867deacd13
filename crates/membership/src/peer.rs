//! A peer is what it says of itself, what its silence says of it, and what it showed last.

use annulus_causality::Instant;
use annulus_ring::NodeId;

use crate::detector::{Detector, Liveness, Timing};
use crate::formation::Sighting;
use crate::gossip::{Advertised, Candidate};
use crate::record::{ClusterId, MemberRecord};

/// The link on which this node sends to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    Down,
}

/// Whether a peer belongs to this node's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A member of this node's cluster said so, or the peer itself.
    Member,
    /// It has no cluster yet, as far as is known.
    Stranger,
}

/// A moment of a peer's clock, and when it was heard of.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    said: Instant,
    arrived: Instant,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    record: MemberRecord,
    /// Of the record.
    fingerprint: u64,
    pub(crate) standing: Standing,
    liveness: Liveness,
    pub(crate) link: Link,
    /// What the peer last said: whether it hears this node.
    pub(crate) hears_us: bool,
    detector: Detector,
    stamp: Option<Stamp>,
    /// The cluster that the peer last said it belongs to.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) advertised: Option<Advertised>,
    /// The fingerprint of the peer's table, as it last showed it on this link.
    pub(crate) shown: Option<u64>,
    pub(crate) candidate: Option<Candidate>,
}

impl Peer {
    /// A peer that this node has heard of, but not heard.
    pub(crate) fn new(record: MemberRecord, standing: Standing, timing: Timing, now: Instant) -> Self {
        Self {
            fingerprint: record.fingerprint(),
            record,
            standing,
            liveness: Liveness::Suspect,
            link: Link::Down,
            hears_us: false,
            detector: Detector::new(timing, now),
            stamp: None,
            cluster: None,
            advertised: None,
            shown: None,
            candidate: None,
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.record.id()
    }

    pub(crate) fn record(&self) -> &MemberRecord {
        &self.record
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// Certainly there: another process that goes by its name is a second one.
    pub(crate) fn is_linked_and_alive(&self) -> bool {
        self.link == Link::Up && self.liveness == Liveness::Alive
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.is_linked_and_alive() && self.hears_us
    }

    /// The peer as a founder, if it said that it is one.
    pub(crate) fn sighting(&self) -> Option<Sighting<'_>> {
        let in_sight = self.liveness == Liveness::Alive && self.cluster.is_none();
        Some(Sighting {
            member: &self.record.member,
            candidate: self.candidate.as_ref()?,
            in_sight,
        })
    }

    /// What others are told of, when it changes.
    pub(crate) fn state(&self) -> (Liveness, bool) {
        (self.liveness, self.is_reachable())
    }

    pub(crate) fn replace_record(&mut self, record: MemberRecord) {
        if record.incarnation != self.record.incarnation {
            // Another life begins anew, and may have been started otherwise. What it voted for it will say again.
            self.stamp = None;
            self.advertised = None;
            self.candidate = None;
        }
        self.fingerprint = record.fingerprint();
        self.record = record;
    }

    /// The link is up: how regular the peer was on the last one says nothing about this one.
    pub(crate) fn link_up(&mut self, now: Instant) {
        self.link = Link::Up;
        self.hears_us = true;
        self.shown = None;
        self.detector.restart(now);
    }

    pub(crate) fn link_down(&mut self) {
        self.link = Link::Down;
        self.liveness = self.liveness.max(Liveness::Suspect);
    }

    /// The peer spoke, and said what time it is there.
    pub(crate) fn heard(&mut self, now: Instant, said: Instant) {
        self.detector.heard(now);
        self.liveness = Liveness::Alive;
        self.stamp = Some(Stamp { said, arrived: now });
    }

    /// This node was paused: silence that it slept through is nobody's.
    pub(crate) fn forgive_silence(&mut self, now: Instant) {
        self.detector.restart(now);
    }

    /// Silence never makes a peer look better: only being heard does.
    pub(crate) fn judge_silence(&mut self, now: Instant) {
        self.liveness = self.liveness.max(self.detector.liveness(now));
    }

    /// When silence will say something new.
    pub(crate) fn next_change(&self) -> Instant {
        match self.liveness {
            Liveness::Alive => self.detector.suspect_at(),
            Liveness::Suspect => self.detector.down_at(),
            Liveness::Down => Instant::FAR_FUTURE,
        }
    }

    /// The peer's clock is not earlier than this now: the stamp was made before it arrived.
    pub(crate) fn clock(&self, now: Instant) -> Option<Instant> {
        self.stamp
            .map(|stamp| stamp.said + now.saturating_duration_since(stamp.arrived))
    }
}
