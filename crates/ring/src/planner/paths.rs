//! What the greedy pass left over is settled along augmenting paths, those first that move the least data.
//!
//! A path hands one replica on from node to node: the first is above its target (or a partition has a free slot), each
//! takes over in one partition and gives up another, the last is below its target. Where the targets can be met at
//! all, there is such a path for whatever is left over.

use std::collections::VecDeque;

use super::draft::Draft;

/// Moves replicas until every partition is full and no node is above its target.
pub(super) fn settle(draft: &mut Draft) {
    let copies = draft.copies;
    let free: Vec<u32> = draft
        .owners
        .partitions()
        .filter(|&p| draft.owners.of(p).len() < copies)
        .collect();
    let above: Vec<u16> = (0..draft.targets.len() as u16)
        .filter(|&node| draft.surplus(node) > 0)
        .collect();
    if free.is_empty() && above.is_empty() {
        return;
    }
    let mut holdings = Holdings::of(draft);
    for partition in free {
        while draft.owners.of(partition).len() < copies && augment(draft, &mut holdings, Start::FreeSlot(partition)) {}
    }
    for node in above {
        while draft.surplus(node) > 0 && augment(draft, &mut holdings, Start::Surplus(node)) {}
    }
}

#[derive(Clone, Copy)]
enum Start {
    FreeSlot(u32),
    Surplus(u16),
}

/// One replica goes from one node, or from nobody, to another.
struct Hop {
    partition: u32,
    from: Option<u16>,
    to: u16,
}

/// Cheap paths are looked for first, each search among those that copy up to so many replicas at any point; the last
/// search takes any path. One copy is the least that a left-over costs, and nearly always enough.
const COPIES_ALLOWED: [Option<usize>; 4] = [Some(1), Some(2), Some(4), None];

fn augment(draft: &mut Draft, holdings: &mut Holdings, start: Start) -> bool {
    let Some(path) = COPIES_ALLOWED
        .iter()
        .find_map(|&allowed| Search::run(draft, holdings, start, allowed))
    else {
        return false;
    };
    for Hop { partition, from, to } in path {
        if let Some(from) = from {
            draft.remove(partition, from);
            holdings.remove(from, partition);
        }
        draft.add(partition, to);
        holdings.add(to, partition);
    }
    true
}

/// Each node's partitions, sorted.
struct Holdings(Vec<Vec<u32>>);

impl Holdings {
    fn of(draft: &Draft) -> Holdings {
        let mut holdings = vec![Vec::new(); draft.targets.len()];
        for partition in draft.owners.partitions() {
            for &node in draft.owners.of(partition) {
                holdings[usize::from(node)].push(partition);
            }
        }
        Holdings(holdings)
    }

    fn add(&mut self, node: u16, partition: u32) {
        let held = &mut self.0[usize::from(node)];
        held.insert(held.partition_point(|&other| other < partition), partition);
    }

    fn remove(&mut self, node: u16, partition: u32) {
        let held = &mut self.0[usize::from(node)];
        held.remove(held.partition_point(|&other| other < partition));
    }
}

/// A breadth-first search over pairs of a node that has one replica too many, and a level: the replicas that the path
/// has cost so far.
struct Search<'a> {
    draft: &'a Draft,
    /// Without a limit on copies there is one level for all costs.
    levels: usize,
    limited: bool,
    /// How each state was reached.
    reached: Vec<Option<Step>>,
    /// Nodes not yet reached by level and zone, and the zones of a level that have such: each is looked at once more
    /// only by the few partitions that cannot take it.
    unreached: Vec<Vec<u16>>,
    open_zones: Vec<Vec<u16>>,
    queue: VecDeque<(usize, u16)>,
    found: Option<(usize, u16)>,
}

#[derive(Clone, Copy)]
struct Step {
    /// None for the node that the search starts from.
    partition: Option<u32>,
    /// None where the partition had a free slot.
    from: Option<(usize, u16)>,
}

impl<'a> Search<'a> {
    fn run(draft: &'a Draft, holdings: &Holdings, start: Start, copies_allowed: Option<usize>) -> Option<Vec<Hop>> {
        let levels = copies_allowed.map_or(1, |copies| copies + 1);
        let zones = draft.zones.members.len();
        let mut search = Search {
            draft,
            levels,
            limited: copies_allowed.is_some(),
            reached: vec![None; levels * draft.targets.len()],
            unreached: draft
                .zones
                .members
                .iter()
                .cycle()
                .take(levels * zones)
                .cloned()
                .collect(),
            open_zones: vec![(0..zones as u16).collect(); levels],
            queue: VecDeque::new(),
            found: None,
        };
        match start {
            Start::FreeSlot(partition) => search.spread(partition, None),
            Start::Surplus(node) => search.reach(
                (0, node),
                Step {
                    partition: None,
                    from: None,
                },
            ),
        }
        while search.found.is_none() {
            let (level, node) = search.queue.pop_front()?;
            for &partition in &holdings.0[usize::from(node)] {
                search.spread(partition, Some((level, node)));
            }
        }
        search.path()
    }

    /// Reaches every node that may take over in the partition.
    fn spread(&mut self, partition: u32, from: Option<(usize, u16)>) {
        let draft = self.draft;
        let leaving = from.map(|(_, node)| node);
        let Some(gap) = draft.gap(partition, leaving) else {
            return;
        };
        let (owners, before) = (draft.owners.of(partition), draft.before.of(partition));
        let step = Step {
            partition: Some(partition),
            from,
        };
        // A replica that was to be copied, and now is not, makes up for one that is.
        let spared = leaving.is_some_and(|node| !before.contains(&node));
        let level = from.map_or(0, |(level, _)| level);

        for &node in before.iter().filter(|node| !owners.contains(node)) {
            if gap.admits(draft.zones.of[usize::from(node)]) {
                self.reach((level.saturating_sub(usize::from(spared)), node), step);
            }
        }
        let level = if self.limited { level + usize::from(!spared) } else { 0 };
        if level >= self.levels {
            return;
        }
        let mut zones = std::mem::take(&mut self.open_zones[level]);
        zones.retain(|&zone| {
            if !gap.admits(zone) {
                return true;
            }
            let slot = level * draft.zones.members.len() + usize::from(zone);
            let mut nodes = std::mem::take(&mut self.unreached[slot]);
            nodes.retain(|&node| {
                if owners.contains(&node) || before.contains(&node) {
                    return !self.is_reached((level, node));
                }
                self.reach((level, node), step);
                false
            });
            self.unreached[slot] = nodes;
            !self.unreached[slot].is_empty()
        });
        self.open_zones[level] = zones;
    }

    fn index(&self, (level, node): (usize, u16)) -> usize {
        level * self.draft.targets.len() + usize::from(node)
    }

    fn is_reached(&self, state: (usize, u16)) -> bool {
        self.reached[self.index(state)].is_some()
    }

    fn reach(&mut self, state: (usize, u16), step: Step) {
        if self.is_reached(state) || self.found.is_some() {
            return;
        }
        let index = self.index(state);
        self.reached[index] = Some(step);
        self.queue.push_back(state);
        if self.draft.is_below_target(state.1) {
            self.found = Some(state);
        }
    }

    /// The hops to the node that was found. A path that passes a partition twice is refused while there are levels:
    /// its hops were judged one by one, and may not be possible together. On one level they are: a node that the
    /// second could reach beyond its own zone, the first would have.
    fn path(&self) -> Option<Vec<Hop>> {
        let mut hops: Vec<Hop> = Vec::new();
        let mut state = self.found;
        while let Some(to) = state {
            let step = self.reached[self.index(to)]?;
            let Some(partition) = step.partition else { break };
            if self.limited && hops.iter().any(|hop| hop.partition == partition) {
                return None;
            }
            hops.push(Hop {
                partition,
                from: step.from.map(|(_, node)| node),
                to: to.1,
            });
            state = step.from;
        }
        hops.reverse();
        Some(hops)
    }
}
