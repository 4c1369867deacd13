//! Clients, a network, nodes and an adversary around replicas of one partition; and the checks of what came of it.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::{Actor, Dot};

use crate::random::Random;
use crate::replica::{KEYS, Key, Replica, Rule, WriteId, is_finished};

type NodeId = usize;
const OWNERS: [NodeId; 3] = [0, 1, 2];
const NODES: [NodeId; 5] = [0, 1, 2, 3, 4];
const FALLBACKS: [NodeId; 2] = [3, 4];
/// Owners whose acknowledgement makes a write safe.
const QUORUM: usize = 2;

/// The writes that a state is built on: the checker's ground truth, which no replica has.
type Past = BTreeSet<WriteId>;

/// A write on its way, or kept as a hint, with its past.
#[derive(Clone)]
struct Sent<R: Replica> {
    key: Key,
    delta: R::Delta,
    dot: Dot,
    past: Past,
}

#[derive(Clone)]
struct Node<R: Replica> {
    replica: R,
    past: BTreeMap<Key, Past>,
    incarnation: u64,
    counter: u64,
    hints: BTreeMap<(NodeId, Dot), Sent<R>>,
}

impl<R: Replica> Node<R> {
    fn new(rule_off: Option<Rule>) -> Self {
        let past = KEYS.into_iter().map(|key| (key, Past::new())).collect();
        Self {
            replica: R::new(rule_off),
            past,
            incarnation: 0,
            counter: 0,
            hints: BTreeMap::new(),
        }
    }

    fn join(&mut self, sent: &Sent<R>) {
        self.replica.join(sent.key, &sent.delta, sent.dot);
        self.past.get_mut(&sent.key).unwrap().extend(&sent.past);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Voter {
    Owner(NodeId),
    HintAt(NodeId),
}

struct Write {
    key: Key,
    dot: Dot,
    replaces: Past,
    votes: BTreeSet<Voter>,
    is_acknowledged: bool,
    is_delete: bool,
    /// A coordinator that restarts has forgotten its requests: nobody acknowledges them.
    coordinator: (NodeId, u64),
}

struct Token<R: Replica> {
    seen: R::Delta,
    past: Past,
}

struct Message<R: Replica> {
    to: NodeId,
    write: WriteId,
    sent: Sent<R>,
}

/// An owner that has lost what it held, and whom it has yet to catch up with: it answers no quorum before.
struct Refill {
    owner: NodeId,
    left: BTreeSet<NodeId>,
}

#[derive(Clone, Copy)]
enum Action {
    Write,
    Read,
    DeliverHint,
    Crash,
    LoseDirectory,
    SaveDirectory,
    CloseFinished,
    Deliver,
    CatchUp,
    Start,
    TruncateLog,
    DropMessage,
}

const ACTIONS: [(Action, usize); 12] = [
    (Action::Write, 30),
    (Action::Read, 15),
    (Action::DeliverHint, 10),
    (Action::Crash, 3),
    (Action::LoseDirectory, 1),
    (Action::SaveDirectory, 1),
    (Action::CloseFinished, 2),
    (Action::Deliver, 35),
    (Action::CatchUp, 12),
    (Action::Start, 5),
    (Action::TruncateLog, 6),
    (Action::DropMessage, 3),
];

pub(crate) struct World<R: Replica> {
    random: Random,
    rule_off: Option<Rule>,
    nodes: [Node<R>; NODES.len()],
    is_up: [bool; NODES.len()],
    boots: [u64; NODES.len()],
    network: Vec<Message<R>>,
    writes: Vec<Write>,
    tokens: BTreeMap<Key, Vec<Token<R>>>,
    refill: Option<Refill>,
    /// Yesterday's directories.
    saved: BTreeMap<NodeId, Node<R>>,
    problems: Vec<String>,
}

impl<R: Replica> World<R> {
    pub(crate) fn new(seed: u64, rule_off: Option<Rule>) -> Self {
        Self {
            random: Random(seed),
            rule_off,
            nodes: NODES.map(|_| Node::new(rule_off)),
            is_up: NODES.map(|_| true),
            boots: NODES.map(|_| 0),
            network: Vec::new(),
            writes: Vec::new(),
            tokens: KEYS.into_iter().map(|key| (key, Vec::new())).collect(),
            refill: None,
            saved: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// Runs the adversary, then heals everything, and says what is wrong with the outcome.
    pub(crate) fn run(mut self, steps: usize) -> Vec<String> {
        for _ in 0..steps {
            match self.random.weighted(&ACTIONS) {
                Action::Write => self.write(),
                Action::Read => self.read(),
                Action::DeliverHint => self.deliver_hint(),
                Action::Crash => self.is_up[self.random.below(NODES.len())] = false,
                Action::LoseDirectory => self.lose_directory(),
                Action::SaveDirectory => self.save_directory(),
                Action::CloseFinished => self.close_finished(),
                Action::Deliver => self.deliver(),
                Action::CatchUp => self.catch_up_any(),
                Action::Start => {
                    let node = self.random.below(NODES.len());
                    self.start(node);
                }
                Action::TruncateLog => self.truncate_log(),
                Action::DropMessage => _ = self.any_message(),
            }
        }
        self.heal();
        self.check();
        self.problems
    }

    fn follows(&self, rule: Rule) -> bool {
        self.rule_off != Some(rule)
    }

    fn is_refilling(&self, node: NodeId) -> bool {
        self.refill.as_ref().is_some_and(|refill| refill.owner == node)
    }

    fn quorum_members(&self) -> Vec<NodeId> {
        OWNERS
            .into_iter()
            .filter(|owner| self.is_up[*owner] && !self.is_refilling(*owner))
            .collect()
    }

    fn actor(&self, node: NodeId) -> Actor {
        Actor {
            node: node as u64,
            incarnation: self.nodes[node].incarnation,
        }
    }

    fn any_message(&mut self) -> Option<Message<R>> {
        let waiting = self.network.len();
        (waiting > 0).then(|| self.network.remove(self.random.below(waiting)))
    }

    // Clients.

    fn write(&mut self) {
        let key = KEYS[self.random.below(KEYS.len())];
        let members = self.quorum_members();
        let reach = self.random.below(members.len() + 1);
        let reach = self.random.sample(&members, reach);
        let fallbacks: Vec<_> = FALLBACKS.into_iter().filter(|node| self.is_up[*node]).collect();
        let Some(coordinator) = reach.first().copied().or_else(|| self.random.pick(&fallbacks)) else {
            return;
        };

        let write = self.writes.len() as WriteId;
        let sent = self.coordinate(coordinator, key, write);
        if OWNERS.contains(&coordinator) {
            self.store_own(coordinator, write, &sent);
        }
        for owner in OWNERS.into_iter().filter(|owner| *owner != coordinator) {
            if reach.contains(&owner) {
                // Lost, once, or twice.
                for _ in 0..self.random.weighted(&[(0, 1), (1, 3), (2, 1)]) {
                    self.network.push(Message {
                        to: owner,
                        write,
                        sent: sent.clone(),
                    });
                }
            } else if let Some(holder) = self.random.pick(&fallbacks) {
                self.nodes[holder].hints.insert((owner, sent.dot), sent.clone());
                self.acknowledge(write, Voter::HintAt(holder));
            }
        }
    }

    fn coordinate(&mut self, coordinator: NodeId, key: Key, write: WriteId) -> Sent<R> {
        let node = &self.nodes[coordinator];
        let (known, known_past) = if OWNERS.contains(&coordinator) {
            (node.replica.read(key), node.past[&key].clone())
        } else {
            (R::nothing(), Past::new())
        };
        let tokens = &self.tokens[&key];
        let token = (!tokens.is_empty() && self.random.percent(60)).then(|| &tokens[self.random.below(tokens.len())]);
        let (seen, seen_past) = token.map_or((&known, &known_past), |token| (&token.seen, &token.past));

        let is_delete = self.random.percent(35);
        let dot = Dot::new(self.actor(coordinator), self.nodes[coordinator].counter + 1);
        let delta = R::write(&known, dot, (!is_delete).then_some(write), seen);
        let mut past = &known_past | seen_past;
        past.insert(write);
        let replaces = seen_past.clone();
        self.nodes[coordinator].counter += 1;
        let coordinator = (coordinator, self.boots[coordinator]);
        let votes = BTreeSet::new();
        self.writes.push(Write {
            key,
            dot,
            replaces,
            votes,
            is_acknowledged: false,
            is_delete,
            coordinator,
        });
        Sent { key, delta, dot, past }
    }

    fn store_own(&mut self, coordinator: NodeId, write: WriteId, sent: &Sent<R>) {
        let is_stored = self.follows(Rule::AckAfterStore) || self.random.percent(70);
        if is_stored {
            self.nodes[coordinator].join(sent);
        }
        self.acknowledge(write, Voter::Owner(coordinator));
    }

    fn acknowledge(&mut self, write: WriteId, voter: Voter) {
        let write = &mut self.writes[write as usize];
        let (coordinator, boot) = write.coordinator;
        if self.is_up[coordinator] && self.boots[coordinator] == boot {
            write.votes.insert(voter);
        }
        write.is_acknowledged |= write.votes.len() >= QUORUM;
    }

    fn read(&mut self) {
        let key = KEYS[self.random.below(KEYS.len())];
        let members = self.quorum_members();
        if members.is_empty() {
            return;
        }
        let count = 1 + self.random.below(members.len());
        let asked = self.random.sample(&members, count);
        let answers = asked.iter().map(|node| self.nodes[*node].replica.read(key));
        let seen = answers.reduce(R::merge).unwrap();
        let past: Past = asked
            .iter()
            .flat_map(|node| self.nodes[*node].past[&key].iter().copied())
            .collect();
        if asked.len() >= QUORUM {
            self.check_strict_read(key, &past);
        }
        let tokens = self.tokens.get_mut(&key).unwrap();
        tokens.push(Token { seen, past });
        if tokens.len() > 4 {
            tokens.remove(0);
        }
    }

    fn check_strict_read(&mut self, key: Key, past: &Past) {
        for (id, write) in self.writes.iter().enumerate() {
            let owners = write
                .votes
                .iter()
                .filter(|voter| matches!(voter, Voter::Owner(_)))
                .count();
            if write.key == key && owners >= QUORUM && !past.contains(&(id as WriteId)) {
                self.problems
                    .push(format!("a strict read missed write {id} ({})", write.dot));
            }
        }
    }

    // What goes on in the background.

    fn deliver(&mut self) {
        let Some(message) = self.any_message() else { return };
        if self.is_up[message.to] {
            self.receive(&message);
        }
    }

    fn receive(&mut self, message: &Message<R>) {
        self.nodes[message.to].join(&message.sent);
        self.acknowledge(message.write, Voter::Owner(message.to));
    }

    fn deliver_hint(&mut self) {
        let holder = FALLBACKS[self.random.below(FALLBACKS.len())];
        let held: Vec<_> = self.nodes[holder].hints.keys().copied().collect();
        let Some(hint) = self.random.pick(&held).filter(|_| self.is_up[holder]) else {
            return;
        };
        let owner = hint.0;
        if self.is_up[owner] {
            let sent = self.nodes[holder].hints[&hint].clone();
            self.nodes[owner].join(&sent);
            // Otherwise the answer was lost, and it is delivered again.
            if self.random.percent(80) {
                self.nodes[holder].hints.remove(&hint);
            }
        }
    }

    fn catch_up_any(&mut self) {
        let pair = self.random.sample(&OWNERS, 2);
        if pair.iter().all(|owner| self.is_up[*owner]) {
            self.catch_up(pair[0], pair[1]);
        }
    }

    fn catch_up(&mut self, source: NodeId, target: NodeId) {
        if self.is_refilling(source) {
            return;
        }
        let [from, to] = self.nodes.get_disjoint_mut([source, target]).unwrap();
        for key in to.replica.catch_up(&from.replica) {
            to.past.get_mut(&key).unwrap().extend(&from.past[&key]);
        }
        if let Some(refill) = self.refill.as_mut().filter(|refill| refill.owner == target) {
            refill.left.remove(&source);
            if refill.left.is_empty() {
                self.refill = None;
            }
        }
    }

    fn truncate_log(&mut self) {
        let owner = OWNERS[self.random.below(OWNERS.len())];
        for dot in self.nodes[owner].replica.logged() {
            let is_everywhere = OWNERS.into_iter().all(|owner| self.nodes[owner].replica.seen(dot));
            if (is_everywhere || !self.follows(Rule::LogUntilAll)) && self.random.percent(50) {
                self.nodes[owner].replica.drop_from_log(dot);
            }
        }
    }

    /// All incarnations of a node before its present one, at every owner at once: the real system agrees on it by an epoch.
    fn close_finished(&mut self) {
        let restarted: Vec<_> = NODES
            .into_iter()
            .map(|node| self.actor(node))
            .filter(|actor| actor.incarnation > 0)
            .collect();
        let Some(current) = self.random.pick(&restarted).filter(|_| self.refill.is_none()) else {
            return;
        };
        let first = &self.nodes[OWNERS[0]].replica;
        let is_same = OWNERS
            .into_iter()
            .all(|owner| first.same_before(&self.nodes[owner].replica, current));
        let is_hinted = self
            .nodes
            .iter()
            .any(|node| node.hints.keys().any(|(_, dot)| is_finished(dot.actor, current)));
        if !is_same || (is_hinted && self.follows(Rule::CloseAsksAll)) {
            return;
        }
        for owner in OWNERS {
            self.nodes[owner].replica.close_before(current);
        }
    }

    // Faults.

    fn start(&mut self, node: NodeId) {
        if !self.is_up[node] {
            self.is_up[node] = true;
            self.boots[node] += 1;
            let incarnation = self.nodes[node].incarnation;
            self.take_incarnation_after(node, incarnation);
        }
    }

    /// The incarnation comes from the cluster, not from the directory, which may be yesterday's.
    fn take_incarnation_after(&mut self, node: NodeId, last: u64) {
        if self.follows(Rule::NewIncarnation) {
            self.nodes[node].incarnation = last + 1;
            self.nodes[node].counter = 0;
        }
    }

    /// An owner loses its directory, or comes back with yesterday's.
    fn lose_directory(&mut self) {
        if self.refill.is_some() || OWNERS.into_iter().any(|owner| !self.is_up[owner]) {
            return;
        }
        let owner = OWNERS[self.random.below(OWNERS.len())];
        let last = self.nodes[owner].incarnation;
        self.boots[owner] += 1;
        let is_rolled_back = self.random.percent(50);
        let saved = self.saved.get(&owner).filter(|_| is_rolled_back).cloned();
        self.nodes[owner] = saved.unwrap_or_else(|| Node::new(self.rule_off));
        self.take_incarnation_after(owner, last);
        let mut left: BTreeSet<_> = OWNERS.into_iter().filter(|other| *other != owner).collect();
        if !self.follows(Rule::RefillFromAll) {
            left.pop_first();
        }
        self.refill = Some(Refill { owner, left });
    }

    fn save_directory(&mut self) {
        let owner = OWNERS[self.random.below(OWNERS.len())];
        if !self.is_refilling(owner) {
            self.saved.insert(owner, self.nodes[owner].clone());
        }
    }

    // The end.

    fn heal(&mut self) {
        NODES.into_iter().for_each(|node| self.start(node));
        for message in std::mem::take(&mut self.network) {
            self.receive(&message);
        }
        for holder in NODES {
            for ((owner, _), sent) in std::mem::take(&mut self.nodes[holder].hints) {
                self.nodes[owner].join(&sent);
            }
        }
        for _ in 0..3 {
            for source in OWNERS {
                OWNERS
                    .into_iter()
                    .filter(|target| *target != source)
                    .for_each(|target| self.catch_up(source, target));
            }
        }
    }

    fn check(&mut self) {
        let states = OWNERS.map(|owner| KEYS.map(|key| self.nodes[owner].replica.live(key)));
        if states.iter().any(|state| *state != states[0]) {
            self.problems.push(format!("owners differ: {states:?}"));
        }
        let live: BTreeSet<WriteId> = states.iter().flatten().flatten().map(|(_, id)| *id).collect();
        let survived = |write: &&Write| {
            OWNERS
                .into_iter()
                .any(|owner| self.nodes[owner].replica.seen(write.dot))
        };
        let all_replaced = |writes: &mut dyn Iterator<Item = &Write>| -> Past {
            writes.flat_map(|write| write.replaces.iter().copied()).collect()
        };
        let replaced = all_replaced(&mut self.writes.iter().filter(survived));
        let ever_replaced = all_replaced(&mut self.writes.iter());
        for (id, write) in self.writes.iter().enumerate() {
            let (id, dot) = (id as WriteId, write.dot);
            if write.is_acknowledged && !write.is_delete && !live.contains(&id) && !ever_replaced.contains(&id) {
                self.problems.push(format!("acknowledged write {id} ({dot}) is lost"));
            }
            if live.contains(&id) && replaced.contains(&id) {
                self.problems.push(format!("write {id} ({dot}) came back"));
            }
        }
    }
}
