//! All machines and what is under way between them: one event after the other, each at its simulated time.

use std::time::Duration;

use annulus_coordinator::{Reply, Request};
use annulus_node::{ClientId, Effect, Input, Level, Node, Now, Settings, Usage};
use annulus_protocol::Message;
use annulus_ring::{NodeId, NodeName, Partitions};
use annulus_storage::Replica;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::{Disk, Mark};
use crate::link::{Generation, Link};
use crate::oracles::{Violation, Watch};
use crate::plan::Plan;
use crate::process::{Clock, Process};
use crate::queue::{MICROSECOND, MILLISECOND, Nanos, Queue};
use crate::trace::Trace;

/// What happens at some time.
pub(crate) enum Event {
    Message {
        from: usize,
        to: usize,
        generation: Generation,
        message: Box<Message>,
    },
    Timer {
        node: usize,
        life: u32,
    },
    Synced {
        node: usize,
        life: u32,
        batch: u64,
        mark: Mark,
    },
    Connect {
        from: usize,
        to: usize,
    },
    LinkDown {
        from: usize,
        life: u32,
        to: usize,
    },
    Reopen {
        node: usize,
        life: u32,
    },
    Outside(Outside),
}

/// What whoever runs the world asked to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    /// The planned call of this number.
    Call(usize),
    /// The planned fault of this number begins.
    Begin(usize),
    /// It ends.
    End(usize),
    /// The time that was waited for.
    Wake,
}

/// What a client of a node got.
pub(crate) struct Answered {
    pub(crate) client: u64,
    pub(crate) at: Nanos,
    /// Nothing where the node died.
    pub(crate) reply: Option<Reply>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Kill -9: what was applied is with the operating system, and stays.
    Killed,
    /// The machine loses power: of what was not synced, so many batches stay.
    PowerLoss { kept: usize },
}

/// The clocks of a simulated cluster differ by less, but for faults that the history's checks know of.
pub(crate) const EXPIRY_MARGIN: Duration = Duration::from_secs(2);

/// Owners stay away for longer now and then.
const HINT_LIFETIME: Duration = Duration::from_secs(3);

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events that the world handled.
    pub events: u64,
    /// Messages that were sent.
    pub messages: u64,
    /// Processes that were started, after the first time.
    pub restarts: u64,
    /// Syncs of disks.
    pub syncs: u64,
}

/// See the module.
pub(crate) struct World {
    pub(crate) processes: Vec<Process>,
    pub(crate) links: Vec<Link>,
    pub(crate) queue: Queue<Event>,
    pub(crate) now: Nanos,
    pub(crate) rng: StdRng,
    pub(crate) seed: u64,
    pub(crate) network: crate::plan::Network,
    pub(crate) sync: (Nanos, Nanos),
    pub(crate) partitions: Partitions,
    /// Requests of clients that were not answered, with the node that was asked.
    pub(crate) waiting: Vec<(u64, usize)>,
    pub(crate) answers: Vec<Answered>,
    pub(crate) watch: Watch,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    /// Faults are over: nothing is lost or late any more.
    pub(crate) is_calm: bool,
}

impl World {
    pub(crate) fn new(plan: &Plan, trace: Trace) -> World {
        let count = plan.nodes;
        let partitions = Partitions::new(plan.partitions).expect("a plan's partitions are a power of two");
        let mut world = World {
            processes: Vec::new(),
            links: (0..count * count).map(|_| Link::default()).collect(),
            queue: Queue::new(),
            now: 0,
            rng: StdRng::seed_from_u64(plan.seed ^ 0x5eed),
            seed: plan.seed,
            network: plan.network,
            sync: plan.sync,
            partitions,
            waiting: Vec::new(),
            answers: Vec::new(),
            watch: Watch::new(partitions),
            trace,
            counts: Counts::default(),
            is_calm: true,
        };
        let join: Vec<String> = (1..=count).map(|number| format!("n{number}:7")).collect();
        for index in 0..count {
            let number = index + 1;
            let name = NodeName::parse(&format!("n{number}")).expect("a valid name");
            let id = NodeId::of(&name);
            let mut settings = Settings::new(name, format!("n{number}:8"), format!("n{number}:7"));
            settings.join.clone_from(&join);
            settings.bootstrap_expect = Some(count);
            settings.partitions = partitions;
            settings.replicas = plan.replicas;
            settings.zone = format!("z{}", index % plan.zones);
            settings.max_tasks = plan.max_tasks;
            settings.hint_bytes_per_peer = plan.hint_bytes;
            settings.expiry_margin = EXPIRY_MARGIN;
            settings.hint_lifetime = HINT_LIFETIME;
            world.processes.push(Process {
                id,
                settings,
                node: None,
                disk: Disk::of(id),
                backup: None,
                life: 0,
                started: 0,
                paused: 0,
                held: Vec::new(),
                kept_down: 0,
                timer_at: None,
                clock: Clock {
                    drift_ppm: plan.drift_ppm.get(index).copied().unwrap_or(0),
                    ahead_millis: 0,
                },
                extra_sync: 0,
            });
        }
        for node in 0..count {
            let id = world.processes[node].id;
            world.trace.line(0, || format!("n{} is {id}", node + 1));
        }
        for node in 0..count {
            world.start(node);
        }
        world
    }

    /// The next thing that happens; whatever is not the world's own business is returned.
    pub(crate) fn step(&mut self) -> Option<Outside> {
        let (at, event) = self.queue.pop()?;
        self.now = at;
        self.counts.events += 1;
        match event {
            Event::Outside(outside) => return Some(outside),
            Event::Message {
                from,
                to,
                generation,
                message,
            } => {
                if self.link(from, to).delivers(generation, at) {
                    self.trace.delivered(at, (from, to), &message);
                    self.watch.durable.arrived((from, to), &message, self.partitions);
                    let from = self.processes[from].id;
                    self.input(
                        to,
                        Input::Message {
                            from,
                            message: *message,
                        },
                    );
                }
            }
            Event::Timer { node, life } => self.on_timer(node, life),
            Event::Synced {
                node,
                life,
                batch,
                mark,
            } => self.on_synced(node, life, batch, mark),
            Event::Connect { from, to } => self.connect(from, to),
            Event::LinkDown { from, life, to } => {
                if self.processes[from].life == life {
                    let peer = self.processes[to].id;
                    self.input(from, Input::LinkDown { peer });
                }
            }
            Event::Reopen { node, life } => {
                if self.processes[node].life == life {
                    self.start(node);
                }
            }
        }
        None
    }

    /// Asks to be told at a time.
    pub(crate) fn tell(&mut self, at: Nanos, outside: Outside) {
        self.queue.push(at.max(self.now), Event::Outside(outside));
    }

    pub(crate) fn count(&self) -> usize {
        self.processes.len()
    }

    pub(crate) fn index(&self, id: NodeId) -> Option<usize> {
        self.processes.iter().position(|process| process.id == id)
    }

    /// Whether all nodes run, and what each holds is so.
    pub(crate) fn all_hold(&self, is_so: impl Fn(&Usage) -> bool) -> bool {
        let holds = |process: &Process| process.node.as_ref().is_some_and(|node| is_so(&node.usage()));
        self.processes.iter().all(holds)
    }

    pub(crate) fn named(&self, name: &str) -> Option<NodeId> {
        let process = self
            .processes
            .iter()
            .find(|process| process.settings.name.as_str() == name);
        process.map(|process| process.id)
    }

    pub(crate) fn partitions(&self) -> Partitions {
        self.partitions
    }

    pub(crate) fn violated(&mut self, promise: &'static str, detail: String) {
        self.watch.violations.push(Violation { promise, detail });
    }

    // Processes.

    /// Starts a process on its disk, unless it runs or a fault keeps it down.
    pub(crate) fn start(&mut self, node: usize) {
        let seed = self.seed;
        let now = self.now;
        let process = &mut self.processes[node];
        if process.node.is_some() || process.kept_down > 0 {
            return;
        }
        process.started = now;
        process.life += 1;
        process.held.clear();
        process.timer_at = None;
        self.counts.restarts += u64::from(process.life > 1);
        self.trace
            .note(now, || format!("n{} starts, life {}", node + 1, process.life));
        let mut out = Vec::new();
        let opened = process
            .disk
            .open(process.id)
            .and_then(|disk| Replica::open(disk, process.settings.partitions).map_err(|error| error.to_string()))
            .and_then(|mut replica| {
                replica.set_hint_limit_bytes(process.settings.hint_bytes_per_peer);
                Node::open(
                    process.settings.clone(),
                    replica,
                    process.now(now),
                    process.seed(seed),
                    &mut out,
                )
                .map_err(|error| error.to_string())
            });
        match opened {
            Ok(opened) => process.node = Some(opened),
            Err(error) => {
                // Its supervisor tries again.
                let life = process.life;
                self.trace
                    .note(now, || format!("n{} does not start: {error}", node + 1));
                self.queue.push(now + 500 * MILLISECOND, Event::Reopen { node, life });
            }
        }
        self.interpret(node, out);
        self.drive(node, |_, _, _| {});
    }

    /// Ends a process, if it runs.
    pub(crate) fn kill(&mut self, node: usize, death: Death) {
        let now = self.now;
        self.trace.note(now, || format!("n{} ends: {death:?}", node + 1));
        let process = &mut self.processes[node];
        if let Death::PowerLoss { kept } = death {
            process.disk.lose_power(kept);
        }
        if process.node.take().is_none() {
            return;
        }
        process.held.clear();
        let (answers, waiting) = (&mut self.answers, &mut self.waiting);
        waiting.retain(|&(client, asked)| {
            if asked == node {
                answers.push(Answered {
                    client,
                    at: now,
                    reply: None,
                });
            }
            asked != node
        });
        for other in 0..self.count() {
            // What was on its way to it is gone; what it sent may have arrived.
            let link = self.link_mut(other, node);
            link.generation = link.generation.wrapping_add(1);
            link.buffered_until = 0;
            self.break_link(other, node);
            self.break_link(node, other);
            self.link_mut(node, other).is_wanted = false;
        }
    }

    pub(crate) fn pause(&mut self, node: usize) {
        self.processes[node].paused += 1;
        let now = self.now;
        self.trace.note(now, || format!("n{} is frozen", node + 1));
    }

    pub(crate) fn resume(&mut self, node: usize) {
        let process = &mut self.processes[node];
        process.paused -= 1;
        if process.paused > 0 {
            return;
        }
        let held = std::mem::take(&mut process.held);
        let now = self.now;
        self.trace.note(now, || format!("n{} goes on", node + 1));
        // The timers of a process that wakes are looked at first or last, as the poll has it.
        let first = self.rng.random_bool(0.5);
        if first {
            self.run_timers(node);
        }
        for input in held {
            self.input(node, input);
        }
        self.run_timers(node);
    }

    pub(crate) fn swap_disks(&mut self, one: usize, other: usize) {
        let disk = self.processes[one].disk.clone();
        self.processes[one].disk = std::mem::replace(&mut self.processes[other].disk, disk);
    }

    /// The runtime looks at the file system, and tells the node.
    pub(crate) fn report_free_space(&mut self, node: usize, bytes: u64) {
        self.input(node, Input::FreeSpace { bytes });
    }

    // Nodes.

    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let process = &mut self.processes[node];
        if process.paused > 0 && process.node.is_some() {
            return process.held.push(input);
        }
        self.drive(node, |state, now, out| state.step(now, input, out));
    }

    /// A round of a node that runs: what it does, and what comes of it.
    fn drive(&mut self, node: usize, act: impl FnOnce(&mut Node<Disk>, Now, &mut Vec<Effect>)) {
        let process = &mut self.processes[node];
        let now = process.now(self.now);
        let mut out = Vec::new();
        let Some(state) = &mut process.node else { return };
        act(state, now, &mut out);
        state.finish(now, &mut out);
        self.interpret(node, out);
        self.after(node);
    }

    fn on_timer(&mut self, node: usize, life: u32) {
        let process = &mut self.processes[node];
        if process.life != life || process.timer_at.is_none_or(|at| at > self.now) {
            return;
        }
        process.timer_at = None;
        if process.is_running() {
            self.run_timers(node);
        }
    }

    fn run_timers(&mut self, node: usize) {
        let process = &self.processes[node];
        let now = process.now(self.now).monotonic;
        let Some(state) = &process.node else { return };
        match state.next_deadline().is_some_and(|at| at <= now) {
            true => self.drive(node, |state, now, out| state.on_deadline(now, out)),
            false => self.after(node),
        }
    }

    /// Sees to the next timer, and to a disk that failed.
    fn after(&mut self, node: usize) {
        let now = self.now;
        let process = &mut self.processes[node];
        let Some(state) = &process.node else { return };
        if state.failure().is_some() {
            // As the runtime does: this life is over, and the directory is opened again after a while.
            let life = process.life;
            let pause = self.rng.random_range(10 * MILLISECOND..2000 * MILLISECOND);
            self.kill(node, Death::Killed);
            return self.queue.push(now + pause, Event::Reopen { node, life });
        }
        if let Err(detail) = self.watch.usage(|| state.usage(), &process.settings) {
            let detail = format!("n{}: {detail}", node + 1);
            self.violated("bounded", detail);
            return;
        }
        let Some(deadline) = state.next_deadline() else { return };
        let at = process.world_time(deadline).max(now + MICROSECOND);
        if process.timer_at.is_none_or(|timer| at < timer) {
            process.timer_at = Some(at);
            let life = process.life;
            self.queue.push(at, Event::Timer { node, life });
        }
    }

    fn on_synced(&mut self, node: usize, life: u32, batch: u64, mark: Mark) {
        if self.processes[node].life != life || self.processes[node].node.is_none() {
            return;
        }
        self.counts.syncs += 1;
        let input = match self.processes[node].disk.sync_to(mark) {
            Ok(()) => Input::Synced { batch },
            Err(reason) => Input::StorageFailed { reason },
        };
        self.input(node, input);
    }

    fn interpret(&mut self, node: usize, effects: Vec<Effect>) {
        let now = self.now;
        for effect in effects {
            match effect {
                Effect::Send { to, message } => match self.index(to) {
                    Some(to) => self.send(node, to, message),
                    None => self.violated("known peers", format!("n{} sends to {to}, which is nobody", node + 1)),
                },
                Effect::Reply { id, reply } => self.on_reply(node, id, reply),
                Effect::Sync { batch } => {
                    let process = &self.processes[node];
                    let (least, most) = self.sync;
                    let takes = self.rng.random_range(least..=most) + process.extra_sync;
                    let (life, mark) = (process.life, process.disk.mark());
                    self.queue.push(
                        now + takes,
                        Event::Synced {
                            node,
                            life,
                            batch,
                            mark,
                        },
                    );
                }
                Effect::Connect { address } => {
                    let to = self
                        .processes
                        .iter()
                        .position(|process| process.settings.peer == address);
                    if let Some(to) = to.filter(|&to| to != node) {
                        let link = self.link_mut(node, to);
                        if !std::mem::replace(&mut link.is_wanted, true) {
                            self.try_connect(node, to);
                        }
                    }
                }
                Effect::Formed { .. } => {}
                Effect::Log { level, text } => {
                    self.trace.note(now, || format!("n{} says: {text}", node + 1));
                    let failed = self.processes[node]
                        .node
                        .as_ref()
                        .is_some_and(|node| node.failure().is_some());
                    if level == Level::Error && !failed {
                        self.violated("no errors", format!("n{} says: {text}", node + 1));
                    }
                }
            }
        }
    }

    // Clients.

    /// A client asks a node; where it cannot connect, it is told at once that nothing was done.
    pub(crate) fn ask(&mut self, client: u64, node: usize, request: Request) -> bool {
        if self.processes[node].node.is_none() {
            return false;
        }
        self.waiting.push((client, node));
        let id = ClientId(client);
        self.input(node, Input::Client { id, request });
        true
    }

    fn on_reply(&mut self, node: usize, id: ClientId, reply: Reply) {
        let place = self
            .waiting
            .iter()
            .position(|&(client, asked)| (client, asked) == (id.0, node));
        match place {
            Some(place) => {
                self.waiting.swap_remove(place);
                self.trace.replied(self.now, node, id.0, &reply);
                self.answers.push(Answered {
                    client: id.0,
                    at: self.now,
                    reply: Some(reply),
                });
            }
            None => self.violated("one answer", format!("n{} answers request {} twice", node + 1, id.0)),
        }
    }

    /// Requests that nobody has answered, with the node that was asked.
    pub(crate) fn unanswered(&self) -> &[(u64, usize)] {
        &self.waiting
    }

    // Weather.

    /// From now on messages are lost and doubled as the plan has it.
    pub(crate) fn begin_weather(&mut self) {
        self.is_calm = false;
    }

    /// Nothing is lost any more, no fault waits for its moment, and every process runs.
    pub(crate) fn heal(&mut self) {
        self.is_calm = true;
        for link in &mut self.links {
            link.corrupts = false;
            link.loses = None;
        }
        for node in 0..self.count() {
            // Disks that were swapped, and swapped again, are put where they belong.
            let id = self.processes[node].id;
            let place = (0..self.count()).find(|&other| self.processes[other].disk.open(id).is_ok());
            if let Some(other) = place.filter(|&other| other != node) {
                self.swap_disks(node, other);
            }
        }
        for node in 0..self.count() {
            self.processes[node].disk.mend();
            self.processes[node].disk.set_capacity(None);
            self.start(node);
        }
    }
}
