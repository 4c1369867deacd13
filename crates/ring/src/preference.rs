//! A preference list names each node once: the owners, then the fallbacks in ring order, other zones first.

use crate::member::NodeId;
use crate::zones::Zones;

/// Who answers for a partition, in order of preference (Dynamo, SOSP'07, section 4.6). Borrowed from the ring: a
/// look-up allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferenceList<'ring> {
    /// The owners; the first one alive coordinates.
    pub owners: &'ring [NodeId],
    /// Who stands in for owners that are down, nearest first: every other member in clusters of up to `3·N + 2` nodes,
    /// the nearest `2·N + 2` in larger ones.
    pub fallbacks: &'ring [NodeId],
}

impl<'ring> PreferenceList<'ring> {
    /// Owners and fallbacks, in order.
    pub fn nodes(self) -> impl Iterator<Item = NodeId> + 'ring {
        self.owners.iter().chain(self.fallbacks).copied()
    }

    /// Whether the node is one of the owners.
    pub fn is_owner(self, node: NodeId) -> bool {
        self.owners.contains(&node)
    }
}

/// How many nodes a list names at most: N owners and twice as many fallbacks, so that even all owners down at once
/// leave spares, while the lists of a large cluster stay small.
pub(crate) fn width(members: usize, replicas: u8) -> usize {
    members.min(3 * usize::from(replicas) + 2)
}

/// The lists of all partitions, each `width` member indexes, one after the other. `table` holds `copies` owners a
/// partition.
///
/// Ring order from partition p is the order of each member's next occurrence in the owners of p, p+1, … around the
/// ring. Walking backwards, the owners of p move to the front of that order: linear work, however rare a member is.
pub(crate) fn lists(zones: &Zones, table: &[u16], copies: usize, width: usize) -> Vec<u16> {
    let mut order = RingOrder::new(zones.of.len());
    let mut same_zone = Vec::new();
    for owners in table.chunks_exact(copies).rev() {
        order.bring_forward(owners);
    }
    let mut lists = vec![0; table.len() / copies * width];
    for (list, owners) in lists.chunks_exact_mut(width).zip(table.chunks_exact(copies)).rev() {
        order.bring_forward(owners);
        let (head, fallbacks) = list.split_at_mut(copies);
        head.copy_from_slice(owners);
        let zone = |node: u16| zones.of[usize::from(node)];
        let nearest = order.iter().skip(copies).take(fallbacks.len());
        let mut filled = 0;
        for node in nearest {
            if owners.iter().any(|&owner| zone(owner) == zone(node)) {
                same_zone.push(node);
            } else {
                fallbacks[filled] = node;
                filled += 1;
            }
        }
        fallbacks[filled..].copy_from_slice(&same_zone);
        same_zone.clear();
    }
    lists
}

/// All members as a doubly linked list through arrays, so that moving one to the front is constant work.
struct RingOrder {
    /// Neighbours of each member; the last element is the list's head and tail.
    next: Vec<u16>,
    previous: Vec<u16>,
}

impl RingOrder {
    fn new(members: usize) -> RingOrder {
        let cycle = members + 1;
        RingOrder {
            next: (0..cycle).map(|i| ((i + 1) % cycle) as u16).collect(),
            previous: (0..cycle).map(|i| ((i + members) % cycle) as u16).collect(),
        }
    }

    fn bring_forward(&mut self, owners: &[u16]) {
        let head = (self.next.len() - 1) as u16;
        for &member in owners.iter().rev() {
            let (before, after) = (self.previous[usize::from(member)], self.next[usize::from(member)]);
            self.link(before, after);
            let first = self.next[usize::from(head)];
            self.link(head, member);
            self.link(member, first);
        }
    }

    fn link(&mut self, left: u16, right: u16) {
        self.next[usize::from(left)] = right;
        self.previous[usize::from(right)] = left;
    }

    fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let head = (self.next.len() - 1) as u16;
        std::iter::successors(Some(self.next[usize::from(head)]), |&at| {
            Some(self.next[usize::from(at)])
        })
        .take_while(move |&at| at != head)
    }
}
