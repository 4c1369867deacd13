//! A draft is a table in the making: what it holds so far can always be completed without giving up a zone.

use crate::position::Partitions;
use crate::ring::MAX_REPLICAS;
use crate::zones::Zones;

/// Up to `width` distinct nodes for each partition, in order.
pub(super) struct Slots {
    width: usize,
    nodes: Vec<u16>,
    lengths: Vec<u8>,
}

impl Slots {
    pub(super) fn new(partitions: Partitions, width: usize) -> Slots {
        let count = partitions.count() as usize;
        Slots {
            width,
            nodes: vec![0; count * width],
            lengths: vec![0; count],
        }
    }

    pub(super) fn partitions(&self) -> std::ops::Range<u32> {
        0..self.lengths.len() as u32
    }

    pub(super) fn of(&self, partition: u32) -> &[u16] {
        let start = partition as usize * self.width;
        &self.nodes[start..start + usize::from(self.lengths[partition as usize])]
    }

    pub(super) fn push(&mut self, partition: u32, node: u16) {
        let length = &mut self.lengths[partition as usize];
        self.nodes[partition as usize * self.width + usize::from(*length)] = node;
        *length += 1;
    }

    fn remove(&mut self, partition: u32, node: u16) {
        let start = partition as usize * self.width;
        let slots = &mut self.nodes[start..start + usize::from(self.lengths[partition as usize])];
        let at = slots
            .iter()
            .position(|&slot| slot == node)
            .expect("only owners are removed");
        slots[at..].rotate_left(1);
        self.lengths[partition as usize] -= 1;
    }

    /// How many partitions each node is in.
    pub(super) fn loads(&self, nodes: usize) -> Vec<u32> {
        let mut loads = vec![0; nodes];
        for &node in self.partitions().flat_map(|partition| self.of(partition)) {
            loads[usize::from(node)] += 1;
        }
        loads
    }
}

pub(super) struct Draft {
    /// Owners that a partition has when the draft is complete.
    pub(super) copies: usize,
    /// Zones that it has then.
    spread: usize,
    pub(super) zones: Zones,
    /// The owners of the previous table that are still members: what needs no copying.
    pub(super) before: Slots,
    pub(super) owners: Slots,
    /// How many partitions each node owns so far, and shall own.
    pub(super) loads: Vec<u32>,
    pub(super) targets: Vec<u32>,
}

/// What may be added to one partition, with one of its owners perhaps gone.
pub(super) struct Gap {
    zones: [u16; MAX_REPLICAS as usize],
    length: usize,
    /// Whether another owner in one of these zones still leaves room for the zones that are missing.
    zone_may_repeat: bool,
}

impl Gap {
    pub(super) fn admits(&self, zone: u16) -> bool {
        self.zone_may_repeat || !self.zones[..self.length].contains(&zone)
    }
}

impl Draft {
    /// Starts from the previous owners, without those that stand in the way of spread over zones or of fewer copies.
    pub(super) fn adopt(before: Slots, zones: Zones, targets: Vec<u32>, copies: usize) -> Draft {
        let loads = before.loads(targets.len());
        let spread = copies.min(zones.members.len());
        let owners = Slots {
            width: copies,
            nodes: vec![0; before.lengths.len() * copies],
            lengths: vec![0; before.lengths.len()],
        };
        let mut draft = Draft {
            copies,
            spread,
            zones,
            before,
            owners,
            loads,
            targets,
        };
        let mut kept = Vec::new();
        for partition in draft.owners.partitions() {
            kept.clear();
            kept.extend_from_slice(draft.before.of(partition));
            while draft.slack(&kept) < 0 {
                let at = draft.most_dispensable(&kept);
                let node = kept.remove(at);
                draft.loads[usize::from(node)] -= 1;
            }
            kept.iter().for_each(|&node| draft.owners.push(partition, node));
        }
        draft
    }

    pub(super) fn surplus(&self, node: u16) -> i64 {
        i64::from(self.loads[usize::from(node)]) - i64::from(self.targets[usize::from(node)])
    }

    pub(super) fn is_below_target(&self, node: u16) -> bool {
        self.loads[usize::from(node)] < self.targets[usize::from(node)]
    }

    pub(super) fn add(&mut self, partition: u32, node: u16) {
        self.owners.push(partition, node);
        self.loads[usize::from(node)] += 1;
    }

    pub(super) fn remove(&mut self, partition: u32, node: u16) {
        self.owners.remove(partition, node);
        self.loads[usize::from(node)] -= 1;
    }

    /// What may be added to a partition once `leaving` is gone from it; none if it is full.
    pub(super) fn gap(&self, partition: u32, leaving: Option<u16>) -> Option<Gap> {
        let mut staying = [0; MAX_REPLICAS as usize];
        let mut length = 0;
        for &node in self.owners.of(partition).iter().filter(|&&node| Some(node) != leaving) {
            staying[length] = node;
            length += 1;
        }
        let zone_may_repeat = self.slack(&staying[..length]) > 0;
        let zones = staying.map(|node| self.zones.of[usize::from(node)]);
        (length < self.copies).then_some(Gap {
            zones,
            length,
            zone_may_repeat,
        })
    }

    /// Free slots of a partition beyond those that zones not yet present must get.
    fn slack(&self, owners: &[u16]) -> i64 {
        let zone = |node: u16| self.zones.of[usize::from(node)];
        let distinct = (0..owners.len())
            .filter(|&at| owners[..at].iter().all(|&earlier| zone(earlier) != zone(owners[at])))
            .count();
        self.copies as i64 - owners.len() as i64 - self.spread.saturating_sub(distinct) as i64
    }

    /// Which of the owners to give up: of those whose going makes room, the one furthest above its target.
    fn most_dispensable(&self, owners: &[u16]) -> usize {
        let slack = self.slack(owners);
        let without = |at: usize| [&owners[..at], &owners[at + 1..]].concat();
        (0..owners.len())
            .filter(|&at| self.slack(&without(at)) > slack)
            .max_by_key(|&at| (self.surplus(owners[at]), at))
            .expect("too many owners are either too many in all or several in one zone")
    }
}
