//! Nodes over engines in memory, with links and disks that do nothing by themselves: each message is delivered, and each sync
//! returns, when the script says so, and every event is written down with what the node did about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use annulus_causality::Instant;
use annulus_coordinator::{Reply, Request};
use annulus_membership::Hello;
use annulus_node::{ClientId, Effect, Input, Level, Node, Now, Settings};
use annulus_protocol::Message;
use annulus_ring::NodeId;
use annulus_storage::engine::memory::MemoryEngine;
use annulus_storage::{Engine, Replica, Syncer};

use crate::names::Names;
use crate::render;

/// The wall clock when a story begins.
const START_MILLIS: u64 = 1_800_000_000_000;
/// More events than this without time passing never end.
const MAX_EVENTS: usize = 100_000;
/// The number under which the runner itself asks, which no client has.
const RUNNER: ClientId = ClientId(u64::MAX);

/// One process and its disk.
struct Process {
    node: Option<Node<MemoryEngine>>,
    engine: MemoryEngine,
    syncer: Box<dyn Syncer>,
    /// The batch whose sync is under way.
    syncing: Option<u64>,
    /// The sync that is under way was shown when it began.
    shows_sync: bool,
    settings: Settings,
    started: Duration,
    paused: bool,
    /// How far its wall clock is behind.
    behind: Duration,
    starts: u8,
}

/// A message under way.
struct Flight {
    from: NodeId,
    to: NodeId,
    message: Message,
}

/// An event as it is shown.
enum Event {
    /// In any case.
    Shown(String),
    /// Where the node did something that is shown.
    Quiet(String),
}

/// The cluster of a story.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) names: Names,
    /// Heartbeats are shown, and what nodes say when all is well.
    pub(crate) verbose: bool,
    /// Whether what is said to close incarnations is shown.
    pub(crate) closing: bool,
    processes: BTreeMap<NodeId, Process>,
    /// In the order of their names.
    nodes: Vec<NodeId>,
    now: Duration,
    /// Directed: the sender first.
    up: BTreeSet<(NodeId, NodeId)>,
    cut: BTreeSet<(NodeId, NodeId)>,
    wanted: BTreeSet<(NodeId, NodeId)>,
    wire: VecDeque<Flight>,
    /// The next message on each of these links, of this kind or of any that is shown, is lost.
    losing: Vec<((NodeId, NodeId), Option<String>)>,
    clients: u64,
    /// Answers that nobody has looked at.
    pub(crate) replies: BTreeMap<u64, Reply>,
    lines: Vec<String>,
}

impl World {
    pub(crate) fn add(&mut self, settings: Settings) {
        let id = self.names.add_node(&settings.name);
        let engine = MemoryEngine::new();
        let process = Process {
            node: None,
            syncer: engine.syncer(),
            engine,
            syncing: None,
            shows_sync: false,
            settings,
            started: self.now,
            paused: false,
            behind: Duration::ZERO,
            starts: 0,
        };
        self.processes.insert(id, process);
        self.nodes.push(id);
    }

    /// What was shown since this was last asked.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(crate) fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub(crate) fn is_running(&self, node: NodeId) -> bool {
        self.processes[&node].node.is_some()
    }

    pub(crate) fn start(&mut self, node: NodeId) -> Result<(), String> {
        let name = self.names.node(node);
        let now = self.now;
        let process = self.process(node);
        if process.node.is_some() {
            return Err(format!("{name} is running"));
        }
        process.started = now;
        process.starts += 1;
        let replica = Replica::open(process.engine.clone(), process.settings.partitions).unwrap();
        let seed = [process.starts ^ node.0 as u8; 32];
        let time = process.time(now);
        let mut out = Vec::new();
        let mut opened = Node::open(process.settings.clone(), replica, time, seed, &mut out).unwrap();
        opened.finish(time, &mut out);
        let incarnation = opened.hello(time, None).record.incarnation;
        process.node = Some(opened);
        self.names.begin_life(node, incarnation);
        self.show(node, Event::Shown(format!("{name} starts")), out);
        Ok(())
    }

    /// Kill -9 and power loss: what was not synced is gone, and so is what it was sent.
    pub(crate) fn kill(&mut self, node: NodeId) -> Result<(), String> {
        self.must_run(node)?;
        let name = self.names.node(node);
        let process = self.process(node);
        process.node = None;
        process.paused = false;
        process.syncing = None;
        process.engine.crash();
        self.say(format!("{name} is gone"));
        self.wanted.retain(|&(from, _)| from != node);
        for other in self.nodes.clone() {
            self.link_down((node, other));
            self.link_down((other, node));
        }
        Ok(())
    }

    /// It gets a new disk, with nothing on it.
    pub(crate) fn wipe(&mut self, node: NodeId) -> Result<(), String> {
        let name = self.names.node(node);
        if self.is_running(node) {
            return Err(format!("{name} is running"));
        }
        let process = self.process(node);
        process.engine = MemoryEngine::new();
        process.syncer = process.engine.syncer();
        self.say(format!("{name}'s disk is empty"));
        Ok(())
    }

    /// Sets its wall clock back.
    pub(crate) fn set_behind(&mut self, node: NodeId, behind: Duration) {
        self.process(node).behind = behind;
    }

    /// SIGSTOP: its links stay, it hears and says nothing, and what it is sent waits.
    pub(crate) fn pause(&mut self, node: NodeId, paused: bool) -> Result<(), String> {
        self.must_run(node)?;
        self.process(node).paused = paused;
        Ok(())
    }

    pub(crate) fn must_run(&self, node: NodeId) -> Result<(), String> {
        match self.is_running(node) {
            true => Ok(()),
            false => Err(format!("{} is not running", self.names.node(node))),
        }
    }

    /// What the first sends does not reach the second any more.
    pub(crate) fn cut(&mut self, pair: (NodeId, NodeId)) {
        self.cut.insert(pair);
        self.link_down(pair);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The next message on this link, of this kind or of any that is shown, is lost.
    pub(crate) fn lose_next(&mut self, pair: (NodeId, NodeId), kind: Option<String>) -> Result<(), String> {
        if let Some(kind) = &kind
            && !Message::kinds().iter().any(|(_, known)| known == kind)
        {
            return Err(format!("there is no message of the kind {kind:?}"));
        }
        self.losing.push((pair, kind));
        Ok(())
    }

    fn link_down(&mut self, pair: (NodeId, NodeId)) {
        if !self.up.remove(&pair) {
            return;
        }
        let (lost, kept): (VecDeque<Flight>, _) =
            self.wire.drain(..).partition(|flight| (flight.from, flight.to) == pair);
        self.wire = kept;
        for flight in lost {
            self.say_lost(&flight);
        }
        let (from, to) = pair;
        let event = Event::Quiet(format!(
            "{} loses its link to {}",
            self.names.node(from),
            self.names.node(to)
        ));
        self.step(from, event, Input::LinkDown { peer: to });
    }

    fn say_lost(&mut self, flight: &Flight) {
        let Flight { from, to, message } = flight;
        if self.shows(message) {
            let title = self.names.title(*from, *to, message);
            self.say(format!(
                "{} -> {} {title} is lost",
                self.names.node(*from),
                self.names.node(*to)
            ));
        }
    }

    fn shows(&self, message: &Message) -> bool {
        match message {
            Message::Gossip(_) | Message::ClockHashes { .. } => self.verbose,
            Message::Closing { .. } => self.verbose || self.closing,
            _ => true,
        }
    }

    /// A client asks, and is given a number.
    pub(crate) fn ask(&mut self, node: NodeId, request: Request) -> u64 {
        self.clients += 1;
        let client = self.clients;
        let shown = self.names.request_of_client(&request);
        let event = Event::Shown(format!("{} <- client {client}: {shown}", self.names.node(node)));
        let id = ClientId(client);
        self.step(node, event, Input::Client { id, request });
        client
    }

    /// Asks what a node can answer by itself, and shows nothing.
    pub(crate) fn look(&mut self, node: NodeId, request: Request) -> Reply {
        let input = Input::Client { id: RUNNER, request };
        self.step(node, Event::Quiet(String::new()), input);
        self.replies.remove(&RUNNER.0).expect("a node answers this at once")
    }

    /// What a node says to a message that nobody sent.
    pub(crate) fn probe(&mut self, node: NodeId, message: Message) -> Option<Message> {
        let from = *self.nodes.iter().find(|&&other| other != node)?;
        let time = self.processes[&node].time(self.now);
        let mut out = Vec::new();
        self.process(node)
            .node
            .as_mut()?
            .step(time, Input::Message { from, message }, &mut out);
        out.into_iter().find_map(|effect| match effect {
            Effect::Send { message, .. } => Some(message),
            _ => None,
        })
    }

    /// What is on a node's disk, whether it runs or not.
    pub(crate) fn disk(&self, node: NodeId) -> (MemoryEngine, Replica<MemoryEngine>) {
        let process = &self.processes[&node];
        let replica = Replica::open(process.engine.clone(), process.settings.partitions).unwrap();
        (process.engine.clone(), replica)
    }

    pub(crate) fn settings(&self, node: NodeId) -> &Settings {
        &self.processes[&node].settings
    }

    /// The sync that is under way on a node's disk returns.
    pub(crate) fn sync(&mut self, node: NodeId) -> Result<(), String> {
        let name = self.names.node(node);
        let process = self.process(node);
        let Some(batch) = process.syncing.take() else {
            return Err(format!("{name} has no sync under way"));
        };
        process.syncer.sync().unwrap();
        let event = match process.shows_sync {
            true => Event::Shown(format!("{name}'s sync returns")),
            false => Event::Quiet(format!("{name}'s sync returns")),
        };
        self.step(node, event, Input::Synced { batch });
        Ok(())
    }

    /// Delivers the next message that is shown, on this link or on any; what comes before it and is not shown comes along.
    pub(crate) fn deliver(&mut self, link: Option<(NodeId, NodeId)>) -> Result<(), String> {
        while let Some(flight) = self.next_flight(link) {
            let is_shown = self.shows(&flight.message);
            self.take(flight);
            if is_shown {
                return Ok(());
            }
        }
        Err("no message waits there".to_owned())
    }

    fn next_flight(&mut self, link: Option<(NodeId, NodeId)>) -> Option<Flight> {
        let processes = &self.processes;
        let is_next =
            |flight: &Flight| !processes[&flight.to].paused && link.is_none_or(|link| link == (flight.from, flight.to));
        let place = self.wire.iter().position(is_next)?;
        self.wire.remove(place)
    }

    fn take(&mut self, flight: Flight) {
        let is_lost = |(pair, kind): &((NodeId, NodeId), Option<String>)| {
            let fits = |kind: &String| kind == flight.message.kind();
            *pair == (flight.from, flight.to) && kind.as_ref().map_or(self.shows(&flight.message), fits)
        };
        if let Some(place) = self.losing.iter().position(is_lost) {
            self.losing.remove(place);
            return self.say_lost(&flight);
        }
        let Flight { from, to, message } = flight;
        let title = self.names.title(from, to, &message);
        let event = format!("{} <- {} {title}", self.names.node(to), self.names.node(from));
        let event = match self.shows(&message) {
            true => Event::Shown(event),
            false => Event::Quiet(event),
        };
        self.step(to, event, Input::Message { from, message });
    }

    /// Connects, delivers, and lets syncs return until nothing is left to do, in no time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MAX_EVENTS {
            if self.connect() {
                continue;
            }
            if let Some(flight) = self.next_flight(None) {
                self.take(flight);
                continue;
            }
            let syncing = |node: &NodeId| self.processes[node].syncing.is_some() && !self.processes[node].paused;
            match self.nodes.iter().copied().find(syncing) {
                Some(node) => self.sync(node).unwrap(),
                None => return,
            }
        }
        panic!("messages go on for ever");
    }

    /// Time passes from one deadline to the next, and all that follows from each happens at once.
    pub(crate) fn advance(&mut self, by: Duration) {
        let (begin, end) = (self.now, self.now + by);
        self.settle();
        for _ in 0..MAX_EVENTS {
            let due = self.nodes.iter().filter_map(|&node| Some((self.deadline(node)?, node)));
            let Some((at, node)) = due.min_by_key(|&(at, _)| at).filter(|&(at, _)| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            let after = render::time(self.now - begin);
            let event = Event::Quiet(format!("after {after}, a timer of {}", self.names.node(node)));
            self.with_node(node, event, |node, now, out| node.on_deadline(now, out));
            self.settle();
        }
        panic!("deadlines go on for ever");
    }

    fn deadline(&self, node: NodeId) -> Option<Duration> {
        let process = &self.processes[&node];
        let at = process.node.as_ref().filter(|_| !process.paused)?.next_deadline()?;
        Some(process.started + at.saturating_duration_since(Instant::ZERO))
    }

    /// One link that is wanted and can be; says whether there was one.
    fn connect(&mut self) -> bool {
        let can_be = |&(from, to): &(NodeId, NodeId)| {
            let alive = |node: &NodeId| self.is_running(*node) && !self.processes[node].paused;
            let is_free = !self.up.contains(&(from, to)) && !self.cut.contains(&(from, to));
            from != to && is_free && alive(&from) && alive(&to) && self.welcome(from, to)
        };
        let mut pairs = self
            .nodes
            .iter()
            .flat_map(|&from| self.nodes.iter().map(move |&to| (from, to)));
        let Some((from, to)) = pairs.find(|pair| self.wanted.contains(pair) && can_be(pair)) else {
            return false;
        };
        let (said, heard) = (self.hello(from, to), self.hello(to, from));
        self.up.insert((from, to));
        let (opener, other) = (self.names.node(from), self.names.node(to));
        let accepted = Event::Quiet(format!("{other} hears that {opener} is there"));
        self.step(to, accepted, Input::Accepted { hello: said });
        let linked = Event::Quiet(format!("{opener} has a link to {other}"));
        self.step(from, linked, Input::LinkUp { hello: heard });
        true
    }

    fn welcome(&self, from: NodeId, to: NodeId) -> bool {
        let accepts = |node: NodeId, hello: Hello| {
            let node = self.processes[&node].node.as_ref();
            node.is_some_and(|node| node.check_hello(&hello).is_ok())
        };
        accepts(to, self.hello(from, to)) && accepts(from, self.hello(to, from))
    }

    fn hello(&self, node: NodeId, to: NodeId) -> Hello {
        let process = &self.processes[&node];
        process.node.as_ref().unwrap().hello(process.time(self.now), Some(to))
    }

    fn process(&mut self, node: NodeId) -> &mut Process {
        self.processes.get_mut(&node).unwrap()
    }

    fn step(&mut self, node: NodeId, event: Event, input: Input) {
        self.with_node(node, event, |node, now, out| node.step(now, input, out));
    }

    fn with_node(
        &mut self,
        node: NodeId,
        event: Event,
        happens: impl FnOnce(&mut Node<MemoryEngine>, Now, &mut Vec<Effect>),
    ) {
        let time = self.processes[&node].time(self.now);
        let Some(running) = &mut self.process(node).node else {
            return;
        };
        let mut out = Vec::new();
        happens(running, time, &mut out);
        running.finish(time, &mut out);
        self.show(node, event, out);
    }

    /// Takes the effects, and shows the event with those of them that are shown.
    fn show(&mut self, node: NodeId, event: Event, effects: Vec<Effect>) {
        let (mut shown, mut matters, mut begins_sync) = (Vec::new(), matches!(event, Event::Shown(_)), false);
        for effect in &effects {
            if let Effect::Formed { cluster } = effect {
                self.names.formed(cluster.clone());
            }
        }
        for effect in effects {
            // A node syncs what it knows of its peers, too: a sync alone is nothing to read.
            let is_sync = matches!(effect, Effect::Sync { .. });
            begins_sync |= is_sync;
            if let Some(line) = self.take_effect(node, effect) {
                matters |= !is_sync;
                shown.push(line);
            }
        }
        if begins_sync {
            self.process(node).shows_sync = matters;
        }
        if !matters {
            return;
        }
        let (Event::Shown(event) | Event::Quiet(event)) = event;
        self.lines.push(event);
        self.lines.extend(shown.into_iter().map(|line| format!("  {line}")));
    }

    fn take_effect(&mut self, node: NodeId, effect: Effect) -> Option<String> {
        let name = self.names.node(node);
        match effect {
            Effect::Reply { id, reply } => {
                let shown = (id != RUNNER).then(|| format!("{name} -> client {}: {}", id.0, self.names.reply(&reply)));
                assert!(self.replies.insert(id.0, reply).is_none(), "a client got two answers");
                shown
            }
            Effect::Send { to, message } => {
                if !self.up.contains(&(node, to)) {
                    return None;
                }
                let (title, details) = (self.names.title(node, to, &message), self.names.details(&message));
                let colon = match (&message, details.is_empty()) {
                    (_, true) => "",
                    (Message::Write { .. } | Message::Read { .. } | Message::Forward { .. }, false) => " ",
                    (Message::Declare { .. } | Message::List { .. }, false) => " ",
                    (_, false) => ": ",
                };
                let shown = format!("{name} -> {} {title}{colon}{details}", self.names.node(to));
                let shown = self.shows(&message).then_some(shown);
                self.wire.push_back(Flight {
                    from: node,
                    to,
                    message,
                });
                shown
            }
            Effect::Connect { address } => {
                let to = self
                    .processes
                    .iter()
                    .find(|(_, process)| process.settings.peer == address);
                self.wanted.extend(to.map(|(&to, _)| (node, to)));
                None
            }
            Effect::Sync { batch } => {
                self.process(node).syncing = Some(batch);
                Some(format!("{name} begins a sync"))
            }
            Effect::Log { level, text } => {
                let said = match level {
                    Level::Info if !self.verbose => return None,
                    Level::Info => "says",
                    Level::Warn => "warns",
                    Level::Error => "alarms",
                };
                Some(format!("{name} {said}: {}", self.names.said(&text)))
            }
            Effect::Formed { .. } => None,
        }
    }
}

impl Process {
    /// The time on its own clock, which began with the process.
    fn time(&self, now: Duration) -> Now {
        Now {
            monotonic: Instant::from_nanos((now - self.started).as_nanos() as u64),
            wall_millis: START_MILLIS + now.as_millis() as u64 - self.behind.as_millis() as u64,
        }
    }
}
