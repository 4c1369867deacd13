//! Nodes below target take turns, each at the pace of what it lacks, so that neighbours on the ring share no pattern.

use std::collections::BTreeSet;

use super::draft::{Draft, Gap};

/// How many nodes are tried for one slot before it is left to the augmenting paths: bounds the work where the nodes
/// at the front of the queue all stand in a zone that is full.
const TRIES: usize = 64;

/// Gives free slots, then slots of nodes above target, to nodes below target. Leaves over what does not fit in turn.
pub(super) fn hand_out(draft: &mut Draft, epoch: u64) {
    let mut queue = Queue::of(draft);
    for partition in draft.owners.partitions() {
        while let Some(node) = draft
            .gap(partition, None)
            .and_then(|gap| queue.first_fit(draft, partition, &gap))
        {
            draft.add(partition, node);
            queue.took(draft, node);
        }
    }
    if queue.waiting.is_empty() {
        return;
    }
    let order = scattered(draft.owners.partitions(), epoch);
    // One slot a partition and round: a node that joins needs slots of as many distinct partitions.
    for &partition in std::iter::repeat_n(&order, draft.copies).flatten() {
        if queue.waiting.is_empty() {
            return;
        }
        take_over_one(draft, &mut queue, partition);
    }
}

/// A node below target takes over from an owner above its own, the one furthest above where it can.
fn take_over_one(draft: &mut Draft, queue: &mut Queue, partition: u32) {
    let mut above: Vec<u16> = draft
        .owners
        .of(partition)
        .iter()
        .copied()
        .filter(|&node| draft.surplus(node) > 0)
        .collect();
    above.sort_by_key(|&node| std::cmp::Reverse(draft.surplus(node)));
    for leaving in above {
        let fit = draft
            .gap(partition, Some(leaving))
            .and_then(|gap| queue.first_fit(draft, partition, &gap));
        if let Some(node) = fit {
            draft.remove(partition, leaving);
            draft.add(partition, node);
            queue.took(draft, node);
            return;
        }
    }
}

/// All partitions in another order each epoch: nodes that join one after the other must not end up side by side.
fn scattered(partitions: std::ops::Range<u32>, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = partitions.collect();
    order.sort_by_cached_key(|&partition| mix(mix(epoch) ^ u64::from(partition)));
    order
}

/// Nodes below target, the next to take a slot first (stride scheduling, Waldspurger and Weihl 1995).
struct Queue {
    /// When each node's next turn is.
    waiting: BTreeSet<(u64, u16)>,
    /// What each node lacked at the start.
    lacked: Vec<u32>,
}

impl Queue {
    fn of(draft: &Draft) -> Queue {
        let lacked: Vec<u32> = draft
            .targets
            .iter()
            .zip(&draft.loads)
            .map(|(target, load)| target.saturating_sub(*load))
            .collect();
        let mut queue = Queue {
            waiting: BTreeSet::new(),
            lacked,
        };
        for node in (0..draft.targets.len() as u16).filter(|&node| draft.is_below_target(node)) {
            queue.waiting.insert(queue.turn(node, 0));
        }
        queue
    }

    /// A node that lacks d slots has one turn in each d-th part of the time, at a moment that differs from part to
    /// part: nodes of one pace would otherwise follow each other in the same order for ever.
    fn turn(&self, node: u16, taken: u32) -> (u64, u16) {
        let moment = mix(u64::from(taken) << 16 | u64::from(node)) >> 32;
        let due = (u64::from(taken) << 32 | moment) / u64::from(self.lacked[usize::from(node)]);
        (due, node)
    }

    fn first_fit(&self, draft: &Draft, partition: u32, gap: &Gap) -> Option<u16> {
        let owners = draft.owners.of(partition);
        let mut nodes = self.waiting.iter().map(|&(_, node)| node).take(TRIES);
        nodes.find(|&node| gap.admits(draft.zones.of[usize::from(node)]) && !owners.contains(&node))
    }

    /// Takes note of a slot that the draft already counts.
    fn took(&mut self, draft: &Draft, node: u16) {
        let lacks = draft.targets[usize::from(node)] - draft.loads[usize::from(node)];
        let taken = self.lacked[usize::from(node)] - lacks;
        self.waiting.remove(&self.turn(node, taken - 1));
        if lacks > 0 {
            self.waiting.insert(self.turn(node, taken));
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): spreads a small number over 64 bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
