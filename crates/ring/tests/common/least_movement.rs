//! The naive twin of the planner's movement: minimum-cost flow by Bellman and Ford, on the whole network, from nothing.

use annulus_ring::Ring;

struct Edge {
    to: usize,
    room: i64,
    cost: i64,
}

#[derive(Default)]
struct Network {
    edges: Vec<Edge>,
    of: Vec<Vec<usize>>,
}

impl Network {
    fn node(&mut self) -> usize {
        self.of.push(Vec::new());
        self.of.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, room: i64, cost: i64) {
        for (from, to, room, cost) in [(from, to, room, cost), (to, from, 0, -cost)] {
            self.of[from].push(self.edges.len());
            self.edges.push(Edge { to, room, cost });
        }
    }

    /// The cheapest path with room, as the edge into each of its nodes.
    fn cheapest(&self, source: usize) -> (Vec<i64>, Vec<usize>) {
        let (mut costs, mut into) = (vec![i64::MAX; self.of.len()], vec![usize::MAX; self.of.len()]);
        costs[source] = 0;
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for from in (0..self.of.len())
                .filter(|&node| costs[node] < i64::MAX)
                .collect::<Vec<_>>()
            {
                for &edge in &self.of[from] {
                    let Edge { to, room, cost } = self.edges[edge];
                    if room > 0 && costs[from] + cost < costs[to] {
                        (costs[to], into[to], changed) = (costs[from] + cost, edge, true);
                    }
                }
            }
        }
        (costs, into)
    }

    /// Flow and its cost.
    fn run(&mut self, source: usize, sink: usize) -> (i64, i64) {
        let mut total = (0, 0);
        loop {
            let (costs, into) = self.cheapest(source);
            if costs[sink] == i64::MAX {
                return total;
            }
            let mut at = sink;
            while at != source {
                self.edges[into[at]].room -= 1;
                self.edges[into[at] ^ 1].room += 1;
                at = self.edges[into[at] ^ 1].to;
            }
            total = (total.0 + 1, total.1 + costs[sink]);
        }
    }
}

/// The fewest copies with which the partitions of `before` can be given as many replicas a node, and as many zones a
/// partition, as in `after`.
pub(crate) fn least_movement(before: &Ring, after: &Ring) -> usize {
    /// Outweighs all movement: zones come first.
    const ZONE: i64 = 1 << 20;
    let mut zones: Vec<&str> = after.members().iter().map(|member| member.zone.as_str()).collect();
    zones.sort_unstable();
    zones.dedup();
    let copies = after.copies();
    let spread = copies.min(zones.len());
    let mut network = Network::default();
    let (source, sink) = (network.node(), network.node());
    let nodes: Vec<_> = after.members().iter().map(|member| (member, network.node())).collect();
    for &(member, node) in &nodes {
        network.edge(node, sink, after.load(member.id()) as i64, 0);
    }
    for partition in 0..after.partitions().count() {
        let slots = network.node();
        network.edge(source, slots, copies as i64, 0);
        for zone in &zones {
            let passed = network.node();
            network.edge(slots, passed, 1, -ZONE);
            network.edge(slots, passed, (copies - spread) as i64, 0);
            for &(member, node) in nodes.iter().filter(|(member, _)| member.zone == **zone) {
                network.edge(
                    passed,
                    node,
                    1,
                    i64::from(!before.owners(partition).contains(&member.id())),
                );
            }
        }
    }
    let (flow, cost) = network.run(source, sink);
    let slots = i64::from(after.partitions().count()) * copies as i64;
    assert_eq!(flow, slots, "the planner's loads are possible");
    (cost + ZONE * i64::from(after.partitions().count()) * spread as i64) as usize
}
