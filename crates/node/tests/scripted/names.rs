//! What is random or a hash has a name here that a reader can follow: nodes, their lives, requests and hints, each in order of
//! appearance.

use std::collections::BTreeMap;

use annulus_causality::{Actor, CausalContext, Dot};
use annulus_ring::{NodeId, NodeName};

/// The names that were given so far.
#[derive(Default)]
pub(crate) struct Names {
    nodes: BTreeMap<NodeId, String>,
    /// The incarnations of each node, the first first.
    lives: BTreeMap<u64, Vec<u64>>,
    requests: BTreeMap<(NodeId, u64), usize>,
    hints: BTreeMap<(NodeId, u64), usize>,
    /// The cluster's id, which nobody need read.
    cluster: Option<String>,
}

impl Names {
    pub(crate) fn add_node(&mut self, name: &NodeName) -> NodeId {
        let id = NodeId::of(name);
        self.nodes.insert(id, name.as_str().to_owned());
        id
    }

    pub(crate) fn find(&self, name: &str) -> Result<NodeId, String> {
        let found = self.nodes.iter().find(|(_, known)| *known == name);
        let known = || self.nodes().join(" ");
        found
            .map(|(&id, _)| id)
            .ok_or_else(|| format!("there is no node {name:?}; there are: {}", known()))
    }

    /// All names, in order.
    pub(crate) fn nodes(&self) -> Vec<&str> {
        let mut nodes: Vec<&str> = self.nodes.values().map(String::as_str).collect();
        nodes.sort_unstable();
        nodes
    }

    pub(crate) fn node(&self, id: NodeId) -> String {
        self.nodes.get(&id).cloned().unwrap_or_else(|| "a stranger".to_owned())
    }

    /// `#1` is the first request that was seen on the wire; the number is the asker's.
    pub(crate) fn request(&mut self, asker: NodeId, number: u64) -> String {
        let next = self.requests.len() + 1;
        format!("#{}", self.requests.entry((asker, number)).or_insert(next))
    }

    /// 1 is the first hint that was delivered; the number is its keeper's.
    pub(crate) fn hint(&mut self, keeper: NodeId, sequence: u64) -> usize {
        let next = self.hints.len() + 1;
        *self.hints.entry((keeper, sequence)).or_insert(next)
    }

    pub(crate) fn begin_life(&mut self, node: NodeId, incarnation: u64) {
        self.actor(Actor {
            node: node.0,
            incarnation,
        });
    }

    /// `n1` in its first life, `n1.2` in its second.
    fn actor(&mut self, actor: Actor) -> String {
        let lives = self.lives.entry(actor.node).or_default();
        if !lives.contains(&actor.incarnation) {
            lives.push(actor.incarnation);
        }
        let life = lives
            .iter()
            .position(|&life| life == actor.incarnation)
            .unwrap_or_default();
        let node = self.node(NodeId(actor.node));
        match life {
            0 => node,
            life => format!("{node}.{}", life + 1),
        }
    }

    pub(crate) fn dot(&mut self, dot: Dot) -> String {
        format!("{}:{}", self.actor(dot.actor), dot.counter)
    }

    /// The ranges, by name; of closed spans, the lives that were seen.
    pub(crate) fn context(&mut self, context: &CausalContext) -> String {
        let mut ranges = Vec::new();
        for (actor, range) in context.open_ranges() {
            let actor = self.actor(actor);
            ranges.push(match (*range.start(), *range.end()) {
                (start, end) if start == end => format!("{actor}:{start}"),
                (start, u64::MAX) => format!("{actor}:{start}-"),
                (start, end) => format!("{actor}:{start}-{end}"),
            });
        }
        for (&node, lives) in &self.lives.clone() {
            let closed = lives.iter().map(|&incarnation| Actor { node, incarnation });
            let closed = closed.filter(|&actor| context.is_closed(actor));
            ranges.extend(closed.map(|actor| format!("{}:closed", self.actor(actor))));
        }
        ranges.sort();
        match ranges.is_empty() {
            true => "nothing".to_owned(),
            false => ranges.join(" "),
        }
    }

    pub(crate) fn formed(&mut self, cluster: String) {
        self.cluster = Some(cluster);
    }

    /// What a node says to people, without what differs from cluster to cluster.
    pub(crate) fn said(&self, text: &str) -> String {
        match &self.cluster {
            Some(id) => text.replace(id.as_str(), "C"),
            None => text.to_owned(),
        }
    }
}
