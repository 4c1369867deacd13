//! A cluster in one thread: nodes over memory engines, links that can be cut, time that moves when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use annulus_causality::Instant;
use annulus_coordinator::{
    Answer, Failure, Found, KeyRequest, ListRequest, NewValue, Operation, Options, Page, Reply, Request, Written,
};
use annulus_node::{ClientId, Effect, Input, Level, Node, Now, Settings};
use annulus_protocol::Message;
use annulus_ring::{Bucket, Key, NodeId, NodeName, Partitions};
use annulus_storage::engine::memory::MemoryEngine;
use annulus_storage::{Engine, Replica, Syncer};

const START_MILLIS: u64 = 1_800_000_000_000;

/// One process.
struct Process {
    node: Option<Node<MemoryEngine>>,
    engine: MemoryEngine,
    settings: Settings,
    /// Time at which it was last started, on the world's clock: its own clock counts from there.
    started: Duration,
    paused: bool,
    syncer: Box<dyn Syncer>,
    starts: u64,
}

/// A message under way.
struct Flight {
    from: NodeId,
    to: NodeId,
    message: Message,
}

/// A sync under way.
struct Sync {
    node: NodeId,
    batch: u64,
    due: Duration,
}

/// All processes and what is under way between them.
pub(crate) struct World {
    processes: BTreeMap<NodeId, Process>,
    names: Vec<NodeId>,
    now: Duration,
    /// Directed pairs that do not reach each other.
    cut: Vec<(NodeId, NodeId)>,
    up: Vec<(NodeId, NodeId)>,
    wanted: Vec<(NodeId, String)>,
    wire: VecDeque<Flight>,
    syncs: Vec<Sync>,
    /// Syncs take so long; they are instant where there is none.
    pub(crate) slow_syncs: Option<Duration>,
    replies: BTreeMap<u64, Reply>,
    next_client: u64,
    /// Wall clocks that are behind, in milliseconds.
    pub(crate) behind: BTreeMap<NodeId, u64>,
    /// Messages of this kind do not reach this node.
    pub(crate) deaf: Vec<(NodeId, &'static str)>,
    /// Messages of these kinds are lost.
    pub(crate) lose: Vec<&'static str>,
    pub(crate) sent: BTreeMap<&'static str, usize>,
    /// The numbers of writes and forwards that were sent, by kind.
    pub(crate) requests: Vec<(&'static str, u64)>,
    pub(crate) log: Vec<String>,
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::of(&NodeName::parse(name).unwrap())
}

impl World {
    /// `count` founders, formed and ready.
    pub(crate) fn formed(count: usize) -> World {
        World::with(count, |_| {})
    }

    pub(crate) fn with(count: usize, adjust: impl Fn(&mut Settings)) -> World {
        let mut world = World {
            processes: BTreeMap::new(),
            names: Vec::new(),
            now: Duration::ZERO,
            cut: Vec::new(),
            up: Vec::new(),
            wanted: Vec::new(),
            wire: VecDeque::new(),
            syncs: Vec::new(),
            slow_syncs: None,
            replies: BTreeMap::new(),
            next_client: 0,
            behind: BTreeMap::new(),
            deaf: Vec::new(),
            lose: Vec::new(),
            sent: BTreeMap::new(),
            requests: Vec::new(),
            log: Vec::new(),
        };
        let join: Vec<String> = (1..=count).map(|number| format!("n{number}:7")).collect();
        for number in 1..=count {
            let name = NodeName::parse(&format!("n{number}")).unwrap();
            let mut settings = Settings::new(name, format!("n{number}:8"), format!("n{number}:7"));
            settings.join = join.clone();
            settings.bootstrap_expect = Some(count);
            settings.partitions = Partitions::new(64).unwrap();
            adjust(&mut settings);
            world.add(settings);
        }
        for _ in 0..200 {
            if world.names.clone().into_iter().all(|node| world.ready(node)) {
                return world;
            }
            world.advance(Duration::from_millis(50));
        }
        panic!("the cluster does not form: {:#?}", world.log);
    }

    fn add(&mut self, settings: Settings) {
        let node = NodeId::of(&settings.name);
        let engine = MemoryEngine::new();
        let syncer = engine.syncer();
        self.names.push(node);
        self.processes.insert(
            node,
            Process {
                node: None,
                engine,
                settings,
                started: self.now,
                paused: false,
                syncer,
                starts: 0,
            },
        );
        self.start(node);
    }

    pub(crate) fn start(&mut self, node: NodeId) {
        let now = self.now;
        let process = self.processes.get_mut(&node).unwrap();
        process.started = now;
        process.starts += 1;
        let mut replica = Replica::open(process.engine.clone(), process.settings.partitions).unwrap();
        replica.set_hint_limit_bytes(process.settings.hint_bytes_per_peer);
        let mut out = Vec::new();
        let time = Self::time_of(now, process.started);
        let mut seed = [node.0 as u8; 32];
        seed[..8].copy_from_slice(&process.starts.to_le_bytes());
        process.node = Some(Node::open(process.settings.clone(), replica, time, seed, &mut out).unwrap());
        self.interpret(node, out);
        self.settle();
    }

    /// Kill -9: what was not synced is gone.
    pub(crate) fn kill(&mut self, node: NodeId) {
        let process = self.processes.get_mut(&node).unwrap();
        process.node = None;
        process.engine.crash();
        self.syncs.retain(|sync| sync.node != node);
        self.wire.retain(|flight| flight.to != node);
        self.wanted.retain(|&(from, _)| from != node);
        let broken: Vec<_> = self
            .up
            .iter()
            .copied()
            .filter(|&(from, to)| from == node || to == node)
            .collect();
        for (from, to) in broken {
            self.link_down(from, to);
        }
        self.settle();
    }

    /// Nodes whose disks failed end this life, and begin another.
    fn reopen_failed(&mut self) {
        for node in self.names.clone() {
            if self.has_failed(node) {
                self.kill(node);
                self.start(node);
            }
        }
    }

    fn has_failed(&self, node: NodeId) -> bool {
        let state = self.processes[&node].node.as_ref();
        state.is_some_and(|node| node.failure().is_some())
    }

    /// SIGSTOP: its links stay, and it hears and says nothing.
    pub(crate) fn pause(&mut self, node: NodeId) {
        self.processes.get_mut(&node).unwrap().paused = true;
    }

    pub(crate) fn resume(&mut self, node: NodeId) {
        self.processes.get_mut(&node).unwrap().paused = false;
        self.settle();
    }

    /// Cuts both directions between two nodes.
    pub(crate) fn cut(&mut self, a: NodeId, b: NodeId) {
        for pair in [(a, b), (b, a)] {
            self.cut.push(pair);
            self.link_down(pair.0, pair.1);
        }
        self.settle();
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    fn link_down(&mut self, from: NodeId, to: NodeId) {
        if let Some(place) = self.up.iter().position(|&pair| pair == (from, to)) {
            self.up.swap_remove(place);
            self.wire.retain(|flight| (flight.from, flight.to) != (from, to));
            self.step(from, Input::LinkDown { peer: to });
        }
    }

    fn time_of(now: Duration, started: Duration) -> Now {
        let monotonic = Instant::from_nanos((now - started).as_nanos() as u64);
        Now {
            monotonic,
            wall_millis: START_MILLIS + now.as_millis() as u64,
        }
    }

    fn time(&self, node: NodeId) -> Now {
        let mut time = Self::time_of(self.now, self.processes[&node].started);
        time.wall_millis -= self.behind.get(&node).copied().unwrap_or(0);
        time
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let now = self.time(node);
        let mut out = Vec::new();
        if let Some(state) = &mut self.processes.get_mut(&node).unwrap().node {
            state.step(now, input, &mut out);
            state.finish(now, &mut out);
        }
        self.interpret(node, out);
    }

    fn interpret(&mut self, node: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { id, reply } => {
                    assert!(self.replies.insert(id.0, reply).is_none(), "a client got two replies");
                }
                Effect::Send { to, message } => {
                    *self.sent.entry(message.kind()).or_default() += 1;
                    match &message {
                        Message::Write { request, .. } => self.requests.push((message.kind(), *request)),
                        Message::Forward { id, .. } => self.requests.push((message.kind(), id.number)),
                        _ => {}
                    }
                    let kind = message.kind();
                    if self.up.contains(&(node, to)) && !self.lose.contains(&kind) && !self.deaf.contains(&(to, kind)) {
                        self.dispatch(node, to, message);
                    }
                }
                Effect::Connect { address } => {
                    if !self.wanted.contains(&(node, address.clone())) {
                        self.wanted.push((node, address));
                    }
                }
                Effect::Sync { batch } => self.sync(node, batch),
                Effect::Log { level, text } => {
                    assert!(level != Level::Error || self.has_failed(node), "{text}");
                    self.log.push(format!("{node}: {text}"));
                }
                Effect::Formed { .. } => {}
            }
        }
    }

    fn dispatch(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.wire.push_back(Flight { from, to, message });
    }

    fn sync(&mut self, node: NodeId, batch: u64) {
        let due = self.now + self.slow_syncs.unwrap_or_default();
        self.syncs.push(Sync { node, batch, due });
        if self.slow_syncs.is_none() {
            self.end_syncs();
        }
    }

    fn hit_disk(&mut self, node: NodeId) -> Result<(), String> {
        let syncer = &mut self.processes.get_mut(&node).unwrap().syncer;
        syncer.sync().map_err(|error| error.to_string())
    }

    fn end_syncs(&mut self) {
        loop {
            let is_due = |sync: &Sync| sync.due <= self.now && !self.processes[&sync.node].paused;
            let Some(place) = self.syncs.iter().position(is_due) else {
                return;
            };
            let sync = self.syncs.remove(place);
            let input = match self.hit_disk(sync.node) {
                Ok(()) => Input::Synced { batch: sync.batch },
                Err(reason) => Input::StorageFailed { reason },
            };
            self.step(sync.node, input);
        }
    }

    /// Connects what wants to be connected, and delivers until nothing is due.
    pub(crate) fn settle(&mut self) {
        self.connect();
        for _ in 0..100_000 {
            let is_due = |flight: &Flight| !self.processes[&flight.to].paused;
            let Some(flight) = self
                .wire
                .iter()
                .position(is_due)
                .and_then(|place| self.wire.remove(place))
            else {
                return;
            };
            let Flight { from, to, message, .. } = flight;
            if self.up.contains(&(from, to)) {
                self.step(to, Input::Message { from, message });
            }
        }
        panic!("messages go on for ever");
    }

    fn connect(&mut self) {
        for (from, address) in self.wanted.clone() {
            let Some(to) = self
                .names
                .iter()
                .copied()
                .find(|to| self.processes[to].settings.peer == address)
            else {
                continue;
            };
            let alive = |node: NodeId| self.processes[&node].node.is_some() && !self.processes[&node].paused;
            if from == to
                || self.up.contains(&(from, to))
                || self.cut.contains(&(from, to))
                || !alive(from)
                || !alive(to)
            {
                continue;
            }
            let said = self.hello(from, to);
            let heard = self.hello(to, from);
            let check = |node: NodeId, hello| {
                self.processes[&node]
                    .node
                    .as_ref()
                    .is_none_or(|node| node.check_hello(hello).is_err())
            };
            if check(to, &said) || check(from, &heard) {
                continue;
            }
            self.up.push((from, to));
            self.step(to, Input::Accepted { hello: said });
            self.step(from, Input::LinkUp { hello: heard });
        }
    }

    fn hello(&self, node: NodeId, to: NodeId) -> annulus_membership::Hello {
        self.processes[&node]
            .node
            .as_ref()
            .unwrap()
            .hello(self.time(node), Some(to))
    }

    /// Time passes, in steps small enough for every timer.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now += Duration::from_millis(10);
            self.end_syncs();
            self.reopen_failed();
            for node in self.names.clone() {
                let now = self.time(node);
                let process = self.processes.get_mut(&node).unwrap();
                let mut out = Vec::new();
                if let (Some(state), false) = (&mut process.node, process.paused)
                    && state.next_deadline().is_some_and(|at| at <= now.monotonic)
                {
                    state.on_deadline(now, &mut out);
                    state.finish(now, &mut out);
                }
                self.interpret(node, out);
            }
            self.settle();
        }
    }

    /// Asks a node, and lets time pass until it has answered.
    pub(crate) fn ask(&mut self, node: NodeId, request: Request) -> Reply {
        let client = self.send(node, request);
        for _ in 0..1000 {
            if let Some(reply) = self.replies.remove(&client) {
                return reply;
            }
            self.advance(Duration::from_millis(10));
        }
        panic!("no reply to a client: {:?}", self.log);
    }

    /// Asks a node, and does not wait.
    pub(crate) fn send(&mut self, node: NodeId, request: Request) -> u64 {
        self.next_client += 1;
        let client = self.next_client;
        self.step(
            node,
            Input::Client {
                id: ClientId(client),
                request,
            },
        );
        self.settle();
        client
    }

    pub(crate) fn reply(&mut self, client: u64) -> Option<Reply> {
        self.replies.remove(&client)
    }

    pub(crate) fn ready(&mut self, node: NodeId) -> bool {
        self.ask(node, Request::Ready).is_ok()
    }

    pub(crate) fn put(
        &mut self,
        node: NodeId,
        key: &str,
        value: &str,
        token: Option<&str>,
        options: Options,
    ) -> Result<Written, Failure> {
        match self.ask(node, put("b", key, value, token, options))? {
            Answer::Written(written) => Ok(written),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, node: NodeId, key: &str, options: Options) -> Result<Written, Failure> {
        let operation = Operation::Write {
            value: None,
            token: None,
            condition: None,
        };
        match self.ask(node, on_key("b", key, operation, options))? {
            Answer::Written(written) => Ok(written),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&mut self, node: NodeId, key: &str, options: Options) -> Result<Found, Failure> {
        match self.ask(node, on_key("b", key, Operation::Get, options))? {
            Answer::Found(found) => Ok(found),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn list(&mut self, node: NodeId, start: &str, limit: usize) -> Result<Page, Failure> {
        let bucket = Bucket::parse("b").unwrap();
        let list = ListRequest {
            bucket,
            prefix: Default::default(),
            start: start.as_bytes().to_vec().into(),
            limit,
            options: Options::default(),
        };
        match self.ask(node, Request::List(list))? {
            Answer::Page(page) => Ok(page),
            other => panic!("{other:?}"),
        }
    }

    /// The key's owners, then its fallbacks, as `node` sees them.
    pub(crate) fn preference(&mut self, key: &str) -> (Vec<NodeId>, Vec<NodeId>) {
        let node = self
            .names
            .iter()
            .copied()
            .find(|node| self.processes[node].node.is_some())
            .unwrap();
        let request = Request::Locate(
            Bucket::parse("b").unwrap(),
            Key::parse(key.as_bytes().to_vec()).unwrap(),
        );
        let Ok(Answer::Located(located)) = self.ask(node, request) else {
            panic!("no preference list")
        };
        let ids = |names: Vec<String>| names.iter().map(|name| id(name)).collect();
        (ids(located.owners), ids(located.fallbacks))
    }

    /// A counter of a node.
    pub(crate) fn metric(&self, node: NodeId, name: &str) -> u64 {
        let text = self.processes[&node].node.as_ref().unwrap().metrics();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("annulus_{name} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }

    /// A message that a peer sent once and that arrives now.
    pub(crate) fn inject(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.step(to, Input::Message { from, message });
        self.settle();
    }

    /// What a node has stored, to be damaged.
    pub(crate) fn engine(&self, node: NodeId) -> MemoryEngine {
        self.processes[&node].engine.clone()
    }

    pub(crate) fn free_space(&mut self, node: NodeId, bytes: u64) {
        self.step(node, Input::FreeSpace { bytes });
    }
}

pub(crate) fn on_key(bucket: &str, key: &str, operation: Operation, options: Options) -> Request {
    let bucket = Bucket::parse(bucket).unwrap();
    Request::Key(KeyRequest {
        bucket,
        key: Key::parse(key.as_bytes().to_vec()).unwrap(),
        operation,
        options,
        seen: None,
    })
}

pub(crate) fn put(bucket: &str, key: &str, value: &str, token: Option<&str>, options: Options) -> Request {
    let value = NewValue {
        value: value.as_bytes().to_vec().into(),
        content_type: None,
        meta: Vec::new(),
    };
    let operation = Operation::Write {
        value: Some(value),
        token: token.map(str::to_owned),
        condition: None,
    };
    on_key(bucket, key, operation, options)
}
