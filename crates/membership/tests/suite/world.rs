//! A world of nodes that exchange encoded frames: one thread, one seed, same seed same run.
//!
//! Frames are delayed, reordered and lost; nodes crash between asking for a write and having it, restart, lose their
//! directory, pause. After every step the promises that hold at all times are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_causality::{Instant, Reader};
use annulus_membership::{
    Action, ClusterId, Founder, Gossip, Hello, HelloError, Known, Liveness, MemberRecord, Membership, Secret, Settings,
    Vote, next_incarnation,
};
use annulus_ring::{Capacity, Member, NodeId, NodeName, Partitions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(10);
/// A broken link is dialled again after so many steps at most.
const REDIAL: u64 = 20;

pub(crate) fn member(name: &str) -> Member {
    Member {
        name: NodeName::parse(name).unwrap(),
        region: "eu".into(),
        zone: format!("zone-{name}"),
        capacity: Capacity::default(),
    }
}

pub(crate) fn record(name: &str, address: &str, incarnation: u64) -> MemberRecord {
    MemberRecord {
        member: member(name),
        http: format!("http-{address}"),
        peer: address.into(),
        version: "0.1.0".into(),
        incarnation,
    }
}

/// How a node is started each time.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) join: Vec<usize>,
    pub(crate) expect: Option<usize>,
    pub(crate) replicas: u8,
    pub(crate) partitions: u32,
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) secret: Secret,
    vote: Option<Vote>,
    pub(crate) known: Option<Known>,
    incarnation: u64,
}

#[derive(Debug)]
struct Life {
    number: u64,
    membership: Membership,
    born: Instant,
    wanted: BTreeSet<String>,
    /// Address to the node and the life that it leads to.
    links: BTreeMap<String, (usize, u64)>,
    asleep_until: Instant,
}

#[derive(Debug)]
struct Node {
    start: Start,
    disk: Disk,
    life: Option<Life>,
}

#[derive(Debug)]
enum Event {
    Frame { from: NodeId, bytes: Vec<u8> },
    LinkDown { peer: NodeId },
    VoteStored { vote: Vote },
    KnownStored { known: Known },
}

/// What a formed cluster is: all who form it must say the same.
type Founded = (Vec<Founder>, u8, u32);

pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) now: Instant,
    nodes: Vec<Node>,
    /// By time and number: (node, its life, what).
    events: BTreeMap<(Instant, u64), (usize, u64, Event)>,
    number: u64,
    /// Pairs (from, to) whose frames are lost.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Of a thousand frames, so many are lost.
    pub(crate) loss: u32,
    pub(crate) longest_delay: Duration,
    pub(crate) problems: Vec<(usize, String)>,
    pub(crate) changes: Vec<(usize, NodeId, Liveness)>,
    pub(crate) frames: Vec<usize>,
    founded: BTreeMap<ClusterId, Founded>,
    entered: BTreeMap<(String, Secret), ClusterId>,
}

impl World {
    pub(crate) fn new(seed: u64, starts: Vec<Start>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = starts
            .into_iter()
            .map(|start| Node {
                start,
                disk: empty_disk(&mut rng),
                life: None,
            })
            .collect::<Vec<_>>();
        Self {
            rng,
            now: Instant::from_nanos(1_000_000_000),
            nodes,
            events: BTreeMap::new(),
            number: 0,
            cut: BTreeSet::new(),
            loss: 0,
            longest_delay: Duration::from_millis(5),
            problems: Vec::new(),
            changes: Vec::new(),
            frames: Vec::new(),
            founded: BTreeMap::new(),
            entered: BTreeMap::new(),
        }
    }

    /// `count` founders n0, n1, … that all list all.
    pub(crate) fn founders(seed: u64, count: usize) -> Self {
        let mut world = Self::new(
            seed,
            (0..count)
                .map(|i| start(i, (0..count).collect(), Some(count)))
                .collect(),
        );
        (0..count).for_each(|node| world.boot(node));
        world
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn start_mut(&mut self, node: usize) -> &mut Start {
        &mut self.nodes[node].start
    }

    pub(crate) fn disk_mut(&mut self, node: usize) -> &mut Disk {
        &mut self.nodes[node].disk
    }

    pub(crate) fn add(&mut self, start: Start) -> usize {
        let disk = empty_disk(&mut self.rng);
        self.nodes.push(Node {
            start,
            disk,
            life: None,
        });
        self.nodes.len() - 1
    }

    pub(crate) fn id(&self, node: usize) -> NodeId {
        member(&self.nodes[node].start.name).id()
    }

    pub(crate) fn at(&self, node: usize) -> &Membership {
        &self.nodes[node].life.as_ref().expect("the node runs").membership
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.nodes[node].life.is_some()
    }

    pub(crate) fn boot(&mut self, node: usize) {
        if self.runs(node) {
            return;
        }
        let join = self.nodes[node]
            .start
            .join
            .iter()
            .map(|&to| self.nodes[to].start.address.clone())
            .collect();
        self.number += 1;
        let Node { start, disk, life } = &mut self.nodes[node];
        disk.incarnation = next_incarnation(disk.incarnation, self.rng.random());
        let settings = Settings {
            me: record(&start.name, &start.address, disk.incarnation),
            join,
            bootstrap_expect: start.expect,
            heartbeat: HEARTBEAT,
            replicas: start.replicas,
            partitions: Partitions::new(start.partitions).unwrap(),
            protocol: (1, 1),
        };
        *life = Some(Life {
            number: self.number,
            membership: Membership::new(settings, disk.known.clone(), disk.secret, disk.vote.clone()),
            born: self.now,
            wanted: BTreeSet::new(),
            links: BTreeMap::new(),
            asleep_until: Instant::ZERO,
        });
    }

    /// kill -9: what was on its way to the disk is lost, and everybody's links to it break.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].life = None;
        let peer = self.id(node);
        for other in 0..self.len() {
            let Some(life) = &mut self.nodes[other].life else {
                continue;
            };
            let before = life.links.len();
            life.links.retain(|_, (to, _)| *to != node);
            if life.links.len() != before {
                let number = life.number;
                self.schedule(
                    self.now + Duration::from_millis(1),
                    other,
                    number,
                    Event::LinkDown { peer },
                );
            }
        }
    }

    pub(crate) fn wipe(&mut self, node: usize) {
        assert!(!self.runs(node), "a running node's directory is not lost");
        self.nodes[node].disk = empty_disk(&mut self.rng);
    }

    pub(crate) fn has_voted(&self, node: usize) -> bool {
        self.nodes[node].disk.vote.is_some()
    }

    pub(crate) fn disk(&self, node: usize) -> Disk {
        self.nodes[node].disk.clone()
    }

    pub(crate) fn pause(&mut self, node: usize, duration: Duration) {
        let until = self.now + duration;
        if let Some(life) = &mut self.nodes[node].life {
            life.asleep_until = until;
        }
    }

    pub(crate) fn isolate(&mut self, node: usize) {
        for other in (0..self.len()).filter(|&other| other != node) {
            self.cut.insert((node, other));
            self.cut.insert((other, node));
        }
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step();
        }
    }

    /// Runs until the condition holds, and says how long that took; panics with what nodes think where it never does.
    pub(crate) fn run_until(&mut self, most: Duration, condition: impl Fn(&World) -> bool) -> Duration {
        let begin = self.now;
        while !condition(self) {
            assert!(
                self.now < begin + most,
                "not within {most:?}: {:#?}\n{:?}",
                self.describe(),
                self.problems
            );
            self.step();
        }
        self.now.saturating_duration_since(begin)
    }

    fn describe(&self) -> Vec<String> {
        let describe = |node: usize| match self.runs(node) {
            false => "dead".to_owned(),
            true => {
                let at = self.at(node);
                let members: Vec<_> = at
                    .members()
                    .iter()
                    .map(|m| format!("{} {}", m.record.member.name, m.liveness))
                    .collect();
                format!(
                    "{:?} {:?} {members:?}",
                    at.cluster().map(|id| id.to_string()),
                    at.formation_status()
                )
            }
        };
        (0..self.len()).map(describe).collect()
    }

    /// All running nodes belong to one cluster, have one table, and reach each other.
    pub(crate) fn is_settled(&self) -> bool {
        let running: Vec<_> = (0..self.len()).filter(|&node| self.runs(node)).collect();
        let clusters: BTreeSet<_> = running.iter().map(|&node| self.at(node).cluster()).collect();
        let tables: Vec<Vec<_>> = running
            .iter()
            .map(|&node| {
                self.at(node)
                    .members()
                    .iter()
                    .map(|member| member.record.clone())
                    .collect()
            })
            .collect();
        let reach = |a: usize| running.iter().all(|&b| self.at(a).is_reachable(self.id(b)));
        clusters.len() == 1
            && !clusters.contains(&None)
            && tables.windows(2).all(|pair| pair[0] == pair[1])
            && running.iter().all(|&node| reach(node))
    }

    fn schedule(&mut self, at: Instant, node: usize, life: u64, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), (node, life, event));
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (node, life, event) = entry.remove();
            self.deliver(node, life, event);
        }
        for node in 0..self.len() {
            self.tick(node);
            self.dial(node);
        }
        self.check();
    }

    fn deliver(&mut self, node: usize, number: u64, event: Event) {
        let now = self.now;
        let Some(life) = self.nodes[node].life.as_mut().filter(|life| life.number == number) else {
            return;
        };
        if life.asleep_until > now {
            // A node that wakes sees that its deadline has passed before it reads what came meanwhile.
            let at = life.asleep_until + STEP;
            return self.schedule(at, node, number, event);
        }
        let mut out = Vec::new();
        let clock = local(life, now);
        match event {
            Event::Frame { from, bytes } => {
                let mut reader = Reader::new(bytes.into());
                let gossip = Gossip::decode(&mut reader).unwrap();
                reader.finish("gossip").unwrap();
                life.membership.on_gossip(clock, from, gossip, &mut out);
            }
            Event::LinkDown { peer } => life.membership.on_link_down(clock, peer, &mut out),
            Event::VoteStored { vote } => {
                let mut bytes = Vec::new();
                vote.encode(&mut bytes);
                self.nodes[node].disk.vote = Some(Vote::decode(&mut Reader::new(bytes.into())).unwrap());
                let life = self.nodes[node].life.as_mut().unwrap();
                life.membership.on_vote_stored(clock, &mut out);
            }
            Event::KnownStored { known } => {
                self.note_entry(node, known.cluster);
                self.nodes[node].disk.known = Some(known);
            }
        }
        self.act(node, out);
    }

    fn tick(&mut self, node: usize) {
        let now = self.now;
        let Some(life) = self.nodes[node].life.as_mut().filter(|life| life.asleep_until <= now) else {
            return;
        };
        let clock = local(life, now);
        let mut out = Vec::new();
        if life.membership.next_deadline().unwrap() <= clock {
            life.membership.on_deadline(clock, &mut out);
        }
        self.act(node, out);
    }

    fn dial(&mut self, node: usize) {
        let now = self.now;
        let Some(life) = self.nodes[node].life.as_ref().filter(|life| is_awake(life, now)) else {
            return;
        };
        let open: Vec<_> = life
            .wanted
            .iter()
            .filter(|address| !life.links.contains_key(*address))
            .cloned()
            .collect();
        for address in open {
            if self.rng.random_range(0..REDIAL) == 0 {
                self.connect(node, address);
            }
        }
    }

    /// Opens a link, if the other end lives and both accept what the other says.
    fn connect(&mut self, node: usize, address: String) {
        let now = self.now;
        let awake = |other: &Node| other.life.as_ref().is_some_and(|life| is_awake(life, now));
        let found = self
            .nodes
            .iter()
            .position(|other| other.start.address == address && awake(other));
        let Some(to) = found.filter(|&to| !self.cut.contains(&(node, to)) && !self.cut.contains(&(to, node))) else {
            return;
        };
        let here = self.nodes[node].life.as_ref().unwrap();
        let there = self.nodes[to].life.as_ref().unwrap();
        if here.links.values().any(|link| *link == (to, there.number)) {
            return;
        }
        let hello = over_the_wire(&here.membership.hello(local(here, now), None));
        let answer = over_the_wire(&there.membership.hello(local(there, now), Some(hello.record.id())));
        let accepted = there.membership.check_hello(&hello);
        let opened = here.membership.check_hello(&answer);
        let mut out = Vec::new();
        let there = self.nodes[to].life.as_mut().unwrap();
        // What is refused is handed in, too: that is how people hear of it.
        there.membership.on_accepted(local(there, now), &hello, &mut out);
        self.act(to, out);
        let mut out = Vec::new();
        let number = self.nodes[to].life.as_ref().unwrap().number;
        let here = self.nodes[node].life.as_mut().unwrap();
        match (accepted, opened) {
            (Ok(()), Ok(())) => {
                here.links.insert(address, (to, number));
                here.membership.on_link_up(local(here, now), &answer, &mut out);
            }
            (_, Err(error)) if error != HelloError::Myself => {
                here.membership.on_link_up(local(here, now), &answer, &mut out);
            }
            _ => {}
        }
        self.act(node, out);
    }

    fn act(&mut self, node: usize, actions: Vec<Action>) {
        let number = self.nodes[node].life.as_ref().map_or(0, |life| life.number);
        for action in actions {
            match action {
                Action::Send { to, gossip } => self.send(node, to, &gossip),
                Action::Connect { address } => {
                    self.nodes[node].life.as_mut().unwrap().wanted.insert(address);
                }
                Action::Changed { node: peer, liveness } => self.changes.push((node, peer, liveness)),
                Action::MemberAdded { .. } => {}
                Action::Persist { vote } => {
                    let at = self.some_time();
                    self.schedule(at, node, number, Event::VoteStored { vote });
                }
                Action::Formed {
                    cluster,
                    key,
                    members,
                    replicas,
                    partitions,
                } => {
                    let vote = self.nodes[node].disk.vote.clone().expect("who forms has stored a vote");
                    assert_eq!(members, vote.members());
                    let founded = (vote.founders().to_vec(), replicas, partitions.count());
                    assert_eq!(*self.founded.entry(cluster).or_insert(founded.clone()), founded);
                    self.note_entry(node, cluster);
                    self.enter(node, cluster, key);
                }
                Action::Joined { cluster, key } => self.enter(node, cluster, key),
                Action::Outlived { seen } => self.take_incarnation(node, seen),
                Action::Problem { text } => self.problems.push((node, text)),
            }
        }
    }

    fn some_time(&mut self) -> Instant {
        let most = self.longest_delay.as_nanos() as u64;
        self.now + Duration::from_nanos(self.rng.random_range(0..=most))
    }

    fn send(&mut self, node: usize, to: NodeId, gossip: &Gossip) {
        let from = self.id(node);
        let life = self.nodes[node].life.as_ref().unwrap();
        let link = life.links.values().find(|(peer, _)| self.id(*peer) == to).copied();
        let mut bytes = Vec::new();
        gossip.encode(&mut bytes);
        self.frames.push(bytes.len());
        let Some((peer, number)) = link else { return };
        let lost = self.rng.random_range(0..1000) < self.loss;
        if !lost && !self.cut.contains(&(node, peer)) {
            let at = self.some_time();
            self.schedule(at, peer, number, Event::Frame { from, bytes });
        }
    }

    /// A founder, by name and secret, enters one cluster ever; who only joined, from when it has that on its disk.
    fn note_entry(&mut self, node: usize, cluster: ClusterId) {
        let Node { start, disk, .. } = &self.nodes[node];
        let entered = *self.entered.entry((start.name.clone(), disk.secret)).or_insert(cluster);
        assert_eq!(entered, cluster, "{} entered two clusters", start.name);
    }

    fn enter(&mut self, node: usize, cluster: ClusterId, key: Secret) {
        let life = &self.nodes[node].life;
        let members = life
            .as_ref()
            .unwrap()
            .membership
            .members()
            .iter()
            .map(|member| member.record.clone())
            .collect();
        let number = life.as_ref().unwrap().number;
        let at = self.some_time();
        self.schedule(
            at,
            node,
            number,
            Event::KnownStored {
                known: Known { cluster, key, members },
            },
        );
    }

    fn take_incarnation(&mut self, node: usize, seen: u64) {
        let now = self.now;
        let Node { disk, life, .. } = &mut self.nodes[node];
        let life = life.as_mut().unwrap();
        disk.incarnation = next_incarnation(seen, self.rng.random());
        let mut out = Vec::new();
        life.membership
            .set_incarnation(local(life, now), disk.incarnation, &mut out);
        self.act(node, out);
    }

    /// What holds at all times: clusters do not share founders, and a peer's clock is never overestimated.
    fn check(&self) {
        let mut founders: Vec<_> = self.founded.values().flat_map(|(founders, ..)| founders).collect();
        let all = founders.len();
        founders.sort_by_key(|founder| (founder.member.name.clone(), founder.secret));
        founders.dedup();
        assert_eq!(founders.len(), all, "two clusters share a founder: {:?}", self.founded);
        for a in (0..self.len()).filter(|&node| self.runs(node)) {
            for b in (0..self.len()).filter(|&node| self.runs(node) && node != a) {
                self.check_clock(a, b);
            }
        }
    }

    fn check_clock(&self, a: usize, b: usize) {
        let (here, there) = (
            self.nodes[a].life.as_ref().unwrap(),
            self.nodes[b].life.as_ref().unwrap(),
        );
        if here.membership.record(self.id(b)) == Some(there.membership.me()) {
            let bound = here.membership.peer_clock(self.id(b), local(here, self.now));
            assert!(
                bound <= Some(local(there, self.now)),
                "the clock of {b} at {a} is ahead"
            );
        }
    }
}

pub(crate) fn start(node: usize, join: Vec<usize>, expect: Option<usize>) -> Start {
    Start {
        name: format!("n{node}"),
        address: format!("127.0.0.1:{}", 7100 + node),
        join,
        expect,
        replicas: 3,
        partitions: 64,
    }
}

/// Whether a node has read what came while it slept: a link that broke then is known to be down before it is dialled again.
fn is_awake(life: &Life, now: Instant) -> bool {
    life.asleep_until + STEP * 2 <= now
}

/// Clocks of no two lives agree: each counts from its start.
fn local(life: &Life, now: Instant) -> Instant {
    Instant::from_nanos(now.nanos() - life.born.nanos())
}

fn over_the_wire(hello: &Hello) -> Hello {
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    Hello::decode(&mut Reader::new(bytes.into())).unwrap()
}

fn empty_disk(rng: &mut StdRng) -> Disk {
    Disk {
        secret: Secret::new(rng.random()),
        vote: None,
        known: None,
        incarnation: 0,
    }
}
