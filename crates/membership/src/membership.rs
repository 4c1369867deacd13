//! Who is there, as one node sees it: every input is an event with its time, every output an [`Action`].

mod entry;
mod hearing;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_causality::Instant;
use annulus_ring::{NodeId, Partitions};

use crate::action::Action;
use crate::detector::{Liveness, Timing};
use crate::formation::Founding;
use crate::gossip::{Advertised, Candidate, Formation, Gossip};
use crate::hello::{Hello, HelloError};
use crate::peer::{Link, Peer};
use crate::record::{ClusterId, MAX_MEMBERS, MemberRecord};
use crate::secret::Secret;
use crate::vote::Vote;

/// Problems that are remembered as said; beyond, all are forgotten and may be said again.
const MAX_SAID: usize = 256;

/// How a node was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it says of itself.
    pub me: MemberRecord,
    /// Peer addresses to begin with; its own may be among them.
    pub join: Vec<String>,
    /// `--bootstrap-expect`: how many founders form the cluster, this node among them; none for a node that only joins.
    pub bootstrap_expect: Option<usize>,
    /// How often it speaks to every peer.
    pub heartbeat: Duration,
    /// The replication factor of a cluster that it founds.
    pub replicas: u8,
    /// The partitions of a cluster that it founds.
    pub partitions: Partitions,
    /// The oldest and newest protocol version that it speaks.
    pub protocol: (u16, u16),
}

/// The cluster that a node belonged to when it last ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub cluster: ClusterId,
    /// Its key.
    pub key: Secret,
    /// The members that were known: where to look first.
    pub members: Vec<MemberRecord>,
}

/// A member and what this node thinks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberState<'a> {
    /// What it says of itself.
    pub record: &'a MemberRecord,
    /// Whether it lives; this node itself always does.
    pub liveness: Liveness,
}

/// Membership of one node: events go in with their time, [`Action`]s come out in order.
///
/// ```
/// use annulus_causality::Instant;
/// use annulus_membership::{Action, MemberRecord, Membership, Secret, Settings, next_incarnation};
/// use annulus_ring::{Member, NodeName, Partitions};
/// use std::time::Duration;
///
/// let member = Member {
///     name: NodeName::parse("n1")?,
///     region: String::new(),
///     zone: String::new(),
///     capacity: Default::default(),
/// };
/// let settings = Settings {
///     me: MemberRecord {
///         member,
///         http: "127.0.0.1:8101".into(),
///         peer: "127.0.0.1:7101".into(),
///         version: "0.1.0".into(),
///         incarnation: next_incarnation(0, 7),
///     },
///     join: Vec::new(),
///     bootstrap_expect: Some(1),
///     heartbeat: Duration::from_millis(500),
///     replicas: 3,
///     partitions: Partitions::default(),
///     protocol: (1, 1),
/// };
/// let mut membership = Membership::new(settings, None, Secret::new([7; 32]), None);
/// let mut out = Vec::new();
/// membership.on_deadline(Instant::ZERO, &mut out);
/// assert!(matches!(out[..], [Action::Persist { .. }]));
///
/// out.clear();
/// membership.on_vote_stored(Instant::ZERO, &mut out);
/// assert!(matches!(out[..], [Action::Formed { .. }]));
/// # Ok::<(), annulus_ring::NodeNameError>(())
/// ```
#[derive(Debug)]
pub struct Membership {
    me: MemberRecord,
    join: Vec<String>,
    timing: Timing,
    protocol: (u16, u16),
    advertised: Advertised,
    cluster: Option<(ClusterId, Secret)>,
    founding: Option<Founding>,
    peers: BTreeMap<NodeId, Peer>,
    /// Of this node's record and those of the members.
    table_fingerprint: u64,
    /// The last event's time; none before the first deadline.
    last_event: Option<Instant>,
    next_beat: Instant,
    /// Not later than the first change that silence will bring.
    next_silence: Instant,
    /// Peers that should not wait for the next heartbeat.
    prompt: BTreeSet<NodeId>,
    /// What founders were last told.
    announced: Option<Candidate>,
    /// What stands in the way of formation, as last said.
    problem: Option<String>,
    said: BTreeSet<String>,
    /// Comes out with the next event.
    pending: Vec<Action>,
    /// The greatest incarnation of this node that was reported as seen.
    outlived: u64,
}

// What comes in.
impl Membership {
    /// A node that starts. `known` is what it stored of its cluster, `vote` what [`Action::Persist`] asked it to store;
    /// `secret` is random, and stored before it is first used: it is who this founder is.
    pub fn new(settings: Settings, known: Option<Known>, secret: Secret, vote: Option<Vote>) -> Self {
        let mut membership = Self {
            timing: Timing::of(settings.heartbeat),
            protocol: settings.protocol,
            advertised: Advertised::default(),
            cluster: known.as_ref().map(|known| (known.cluster, known.key)),
            founding: None,
            peers: BTreeMap::new(),
            table_fingerprint: 0,
            last_event: None,
            next_beat: Instant::ZERO,
            next_silence: Instant::FAR_FUTURE,
            prompt: BTreeSet::new(),
            announced: None,
            problem: None,
            said: BTreeSet::new(),
            pending: Vec::new(),
            outlived: 0,
            join: settings
                .join
                .iter()
                .filter(|&address| *address != settings.me.peer)
                .cloned()
                .collect(),
            me: settings.me.clone(),
        };
        match known {
            Some(known) => membership.remember(known.members),
            None => membership.prepare_to_found(&settings, secret, vote),
        }
        membership.refresh_fingerprint();
        membership
    }

    /// The link on which this node sends to a peer is up, and this is what the peer said. There is one such link a
    /// peer: where two addresses lead to one node, keep one of the links and do not report the other; and report that one is
    /// down before its successor is up.
    pub fn on_link_up(&mut self, now: Instant, hello: &Hello, out: &mut Vec<Action>) {
        self.begin(now, out);
        if let Some(id) = self.greet(now, hello, out) {
            self.update(id, out, |peer| peer.link_up(now));
            self.prompt.insert(id);
        }
        self.finish(now, out);
    }

    /// A peer connected to this node, and this is what it said.
    pub fn on_accepted(&mut self, now: Instant, hello: &Hello, out: &mut Vec<Action>) {
        self.begin(now, out);
        self.greet(now, hello, out);
        self.finish(now, out);
    }

    /// The link on which this node sends to a peer is down: the peer is suspected at once, and heard again it is alive
    /// at once.
    pub fn on_link_down(&mut self, now: Instant, peer: NodeId, out: &mut Vec<Action>) {
        self.begin(now, out);
        self.update(peer, out, Peer::link_down);
        self.finish(now, out);
    }

    /// A peer said this, on a link whose hello was accepted.
    pub fn on_gossip(&mut self, now: Instant, from: NodeId, gossip: Gossip, out: &mut Vec<Action>) {
        self.begin(now, out);
        if self.is_credible(from, &gossip, out) {
            self.hear(now, from, &gossip, out);
            let welcome = match gossip.formation {
                Some(Formation::Welcome { key }) => Some(key),
                _ => None,
            };
            self.consider_cluster(from, gossip.cluster, welcome, out);
            // Whoever belongs to another cluster, or to none yet, does not say who belongs to this one.
            if gossip.cluster == self.cluster() {
                self.merge(now, gossip.members.unwrap_or_default(), out);
            }
        }
        self.finish(now, out);
    }

    /// What [`Action::Persist`] asked for survives power loss.
    pub fn on_vote_stored(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.begin(now, out);
        if let Some(founding) = &mut self.founding {
            founding.on_vote_stored();
        }
        self.finish(now, out);
    }

    /// The time of [`Membership::next_deadline`] has come.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.begin(now, out);
        if now >= self.next_silence {
            self.judge_silence(now, out);
        }
        if now >= self.next_beat {
            self.next_beat = now + self.timing.heartbeat;
            self.prompt.extend(self.peers.keys());
        }
        self.finish(now, out);
    }

    /// When [`Membership::on_deadline`] is to be called at the latest. A node that calls it much later was paused, and
    /// then judges nobody by the silence that it slept through.
    pub fn next_deadline(&self) -> Option<Instant> {
        Some(self.next_beat.min(self.next_silence))
    }

    /// This node took a new incarnation, as [`Action::Outlived`] asked.
    pub fn set_incarnation(&mut self, now: Instant, incarnation: u64, out: &mut Vec<Action>) {
        self.begin(now, out);
        self.me.incarnation = incarnation;
        self.refresh_fingerprint();
        self.prompt.extend(self.peers.keys());
        self.finish(now, out);
    }

    /// What this node has of the ring and the buckets: goes out with the next heartbeat.
    pub fn advertise(&mut self, advertised: Advertised) {
        self.advertised = advertised;
    }
}

// What can be asked.
impl Membership {
    /// What this node says first on a link: on one that it opened it may not know `to` whom, on one that it accepted it
    /// does.
    pub fn hello(&self, now: Instant, to: Option<NodeId>) -> Hello {
        Hello {
            protocol_min: self.protocol.0,
            protocol_max: self.protocol.1,
            cluster: self.cluster(),
            record: self.me.clone(),
            seen: to.and_then(|node| self.record(node)).map(|record| record.incarnation),
            witnessed: None,
            clock: now,
        }
    }

    /// Whether the link that this was said on may live. What is refused here is ignored by [`Membership::on_link_up`]
    /// and [`Membership::on_accepted`], too, which also tell people.
    pub fn check_hello(&self, hello: &Hello) -> Result<(), HelloError> {
        let record = &hello.record;
        let (name, address) = (record.member.name.clone(), record.peer.clone());
        let theirs = (hello.protocol_min, hello.protocol_max);
        if record.id() == self.me.id() {
            return Err(if address == self.me.peer {
                HelloError::Myself
            } else {
                HelloError::MyName { name, address }
            });
        }
        if theirs.0 > self.protocol.1 || theirs.1 < self.protocol.0 {
            return Err(HelloError::Protocol {
                name,
                theirs,
                ours: self.protocol,
            });
        }
        self.check_cluster(record, hello.cluster)?;
        match self.peers.get(&record.id()) {
            None if self.peers.len() + 1 >= MAX_MEMBERS => Err(HelloError::TooMany { name }),
            Some(peer) if peer.record().peer != address && peer.is_linked_and_alive() => Err(HelloError::NameTaken {
                name,
                known: peer.record().peer.clone(),
                address,
            }),
            _ => Ok(()),
        }
    }

    /// This node's cluster; none before it is formed or joined.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster.map(|(id, _)| id)
    }

    /// The cluster's key.
    pub fn key(&self) -> Option<Secret> {
        self.cluster.map(|(_, key)| key)
    }

    /// What this node says of itself.
    pub fn me(&self) -> &MemberRecord {
        &self.me
    }

    /// What a node says of itself, this one included.
    pub fn record(&self, node: NodeId) -> Option<&MemberRecord> {
        if node == self.me.id() {
            Some(&self.me)
        } else {
            self.peers.get(&node).map(Peer::record)
        }
    }

    /// What this node thinks of a node: itself is alive, a stranger is down.
    pub fn liveness(&self, node: NodeId) -> Liveness {
        match self.peers.get(&node) {
            Some(peer) => peer.liveness(),
            None if node == self.me.id() => Liveness::Alive,
            None => Liveness::Down,
        }
    }

    /// Whether a request to a node is likely to be answered: the link is up, the node is heard, and says that it hears
    /// this one. This node reaches itself.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        node == self.me.id() || self.peers.get(&node).is_some_and(Peer::is_reachable)
    }

    /// All members, this node among them, sorted by name. Before there is a cluster: all nodes that were heard of.
    pub fn members(&self) -> Vec<MemberState<'_>> {
        let mut members: Vec<_> = self
            .table()
            .map(|peer| MemberState {
                record: peer.record(),
                liveness: peer.liveness(),
            })
            .chain([MemberState {
                record: &self.me,
                liveness: Liveness::Alive,
            }])
            .collect();
        members.sort_by(|a, b| a.record.member.name.cmp(&b.record.member.name));
        members
    }

    /// What a peer last said that it has of the ring and the buckets.
    pub fn advertised_by(&self, node: NodeId) -> Option<Advertised> {
        self.peers.get(&node)?.advertised
    }

    /// A lower bound of what a peer's clock shows now, for deadlines that it is to keep: what it last said, and the time
    /// since that arrived. None before it spoke. It holds as long as the peer lives in the incarnation that is known,
    /// up to the drift of two clocks over a heartbeat.
    pub fn peer_clock(&self, node: NodeId, now: Instant) -> Option<Instant> {
        self.peers.get(&node)?.clock(now)
    }

    /// Why there is no cluster yet, as a sentence for people; none once there is one.
    pub fn formation_status(&self) -> Option<String> {
        if self.cluster.is_some() {
            return None;
        }
        Some(match &self.founding {
            Some(founding) => founding.obstacle(&self.sightings()).into_text(),
            None => "waiting for a member of a cluster to let this node in".to_owned(),
        })
    }

    /// How many founders are still to be found; 0 for a node that only joins.
    pub fn waiting_for(&self) -> usize {
        self.founding
            .as_ref()
            .map_or(0, |founding| founding.missing(&self.sightings()))
    }
}

// What every event begins and ends with.
impl Membership {
    fn begin(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.last_event.replace(now) {
            None => self.start(now, out),
            // Deadlines come at least once a heartbeat, unless this node was paused or starved of processor time.
            Some(last) if now.saturating_duration_since(last) > self.timing.heartbeat * 3 / 2 => {
                self.peers.values_mut().for_each(|peer| peer.forgive_silence(now));
            }
            Some(_) => {}
        }
    }

    fn finish(&mut self, now: Instant, out: &mut Vec<Action>) {
        out.append(&mut self.pending);
        self.advance_formation(out);
        for id in std::mem::take(&mut self.prompt) {
            if let Some(peer) = self.peers.get(&id).filter(|peer| peer.link == Link::Up) {
                out.push(Action::Send {
                    to: id,
                    gossip: self.gossip_to(peer, now),
                });
            }
        }
    }

    fn gossip_to(&self, peer: &Peer, now: Instant) -> Gossip {
        let same_cluster = peer.cluster == self.cluster();
        let differs = peer.shown.is_some_and(|shown| shown != self.table_fingerprint);
        Gossip {
            clock: now,
            incarnation: self.me.incarnation,
            cluster: self.cluster(),
            hears_you: peer.liveness() == Liveness::Alive,
            advertised: self.advertised,
            members_fingerprint: self.table_fingerprint,
            members: (same_cluster && differs).then(|| self.table_records()),
            formation: match (self.cluster, peer.cluster) {
                (Some((_, key)), None) => Some(Formation::Welcome { key }),
                (None, None) => self.announced.clone().map(Formation::Candidate),
                _ => None,
            },
        }
    }

    fn schedule_silence(&mut self) {
        self.next_silence = self
            .peers
            .values()
            .map(Peer::next_change)
            .min()
            .unwrap_or(Instant::FAR_FUTURE);
    }

    fn judge_silence(&mut self, now: Instant, out: &mut Vec<Action>) {
        let due: Vec<_> = self
            .peers
            .values()
            .filter(|peer| peer.next_change() <= now)
            .map(Peer::id)
            .collect();
        due.into_iter()
            .for_each(|id| self.update(id, out, |peer| peer.judge_silence(now)));
        self.schedule_silence();
    }

    /// Changes a peer, and tells of it where that makes a difference.
    fn update(&mut self, id: NodeId, out: &mut Vec<Action>, change: impl FnOnce(&mut Peer)) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let before = peer.state();
        change(peer);
        self.next_silence = self.next_silence.min(peer.next_change());
        if peer.state() != before {
            out.push(Action::Changed {
                node: id,
                liveness: peer.liveness(),
            });
        }
    }

    /// Says something to people, once.
    fn tell(&mut self, text: String, out: &mut Vec<Action>) {
        if self.said.len() >= MAX_SAID {
            self.said.clear();
        }
        if self.said.insert(text.clone()) {
            out.push(Action::Problem { text });
        }
    }
}
