//! The first owner coordinates writes: no node is first in more partitions than its share, rounded up.
//!
//! Owners keep their previous order where they can: what a node does for a partition then changes least.

use std::collections::VecDeque;

use super::draft::Draft;

/// The finished table: each partition's owners, the first by share, then those in zones not yet named, then the rest.
pub(super) fn ordered_table(draft: &Draft) -> Vec<u16> {
    let first = Firsts::choose(draft);
    let zone = |node: u16| draft.zones.of[usize::from(node)];
    let mut table: Vec<u16> = Vec::with_capacity(first.of.len() * draft.copies);
    let mut rest = Vec::new();
    for partition in draft.owners.partitions() {
        let start = table.len();
        let head = first.of[partition as usize];
        table.push(head);
        rest.clear();
        rest.extend(draft.owners.of(partition).iter().copied().filter(|&node| node != head));
        // A bucket with a smaller n has the first n owners: they should be in distinct zones too.
        while !rest.is_empty() {
            let named = &table[start..];
            let at = rest
                .iter()
                .position(|&node| named.iter().all(|&other| zone(other) != zone(node)))
                .unwrap_or(0);
            table.push(rest.remove(at));
        }
    }
    table
}

struct Firsts<'a> {
    draft: &'a Draft,
    /// The first owner of each partition.
    of: Vec<u16>,
    /// The partitions that each node is first in.
    led: Vec<Vec<u32>>,
}

impl<'a> Firsts<'a> {
    fn choose(draft: &'a Draft) -> Firsts<'a> {
        let mut firsts = Firsts {
            draft,
            of: Vec::new(),
            led: vec![Vec::new(); draft.loads.len()],
        };
        // The previous first owners have their place; the others are chosen in view of them.
        let kept = |partition| {
            let then = draft.before.of(partition).first().copied()?;
            draft.owners.of(partition).contains(&then).then_some(then)
        };
        for partition in draft.owners.partitions() {
            if let Some(node) = kept(partition) {
                firsts.led[usize::from(node)].push(partition);
            }
        }
        for partition in draft.owners.partitions() {
            let node = kept(partition).unwrap_or_else(|| {
                let node = firsts.least_burdened(draft.owners.of(partition));
                firsts.led[usize::from(node)].push(partition);
                node
            });
            firsts.of.push(node);
        }
        for node in 0..draft.loads.len() as u16 {
            while firsts.led[usize::from(node)].len() > firsts.share(node) && firsts.hand_on(node) {}
        }
        firsts
    }

    fn share(&self, node: u16) -> usize {
        (self.draft.loads[usize::from(node)] as usize).div_ceil(self.draft.copies)
    }

    fn least_burdened(&self, owners: &[u16]) -> u16 {
        let burden = |node: u16| {
            let led = self.led[usize::from(node)].len() as u64 + 1;
            (led << 32) / u64::from(self.draft.loads[usize::from(node)])
        };
        owners
            .iter()
            .copied()
            .min_by_key(|&node| burden(node))
            .expect("every partition has an owner")
    }

    /// One partition fewer for this node, by an augmenting path to a node that leads fewer than its share. There is
    /// one: leading each partition by one part in N each would be a solution.
    fn hand_on(&mut self, node: u16) -> bool {
        let mut reached: Vec<Option<(u16, u32)>> = vec![None; self.led.len()];
        let mut queue = VecDeque::from([node]);
        while let Some(from) = queue.pop_front() {
            // The latest come first, where `apply` finds them at once.
            for &partition in self.led[usize::from(from)].iter().rev() {
                for &to in self.draft.owners.of(partition) {
                    if to == node || reached[usize::from(to)].is_some() {
                        continue;
                    }
                    reached[usize::from(to)] = Some((from, partition));
                    if self.led[usize::from(to)].len() < self.share(to) {
                        self.apply(&reached, to);
                        return true;
                    }
                    queue.push_back(to);
                }
            }
        }
        false
    }

    fn apply(&mut self, reached: &[Option<(u16, u32)>], last: u16) {
        let mut to = last;
        while let Some((from, partition)) = reached[usize::from(to)] {
            let led = &mut self.led[usize::from(from)];
            let at = led
                .iter()
                .rposition(|&other| other == partition)
                .expect("a node leads what it hands on");
            led.swap_remove(at);
            self.led[usize::from(to)].push(partition);
            self.of[partition as usize] = to;
            to = from;
        }
    }
}
