//! Where a node stands: its cluster, who can be reached, and who takes part in a request about a key.

use std::collections::BTreeSet;

use annulus_causality::{Actor, CausalContext, Instant};
use annulus_coordinator::Failure;
use annulus_mutants::{Mutant, planted};
use annulus_protocol::WireKey;
use annulus_ring::{Address, Bucket, Key, Member, NodeId, PartitionId};
use annulus_storage::Engine;
use rand::seq::SliceRandom;

use crate::memory::Cluster;
use crate::node::{Node, scope};
use crate::settings::Now;
use crate::writes::Who;

impl<E: Engine> Node<E> {
    pub(crate) fn cluster(&self) -> Result<&Cluster, Failure> {
        let reason = || {
            self.membership
                .formation_status()
                .unwrap_or_else(|| "it has joined, and waits for the ring".into())
        };
        self.cluster
            .as_ref()
            .ok_or_else(|| Failure::NotReady { reason: reason() })
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor {
            node: self.me.0,
            incarnation: self.incarnation,
        }
    }

    pub(crate) fn replicas(&self) -> u8 {
        self.cluster
            .as_ref()
            .map_or(self.settings.replicas, |cluster| cluster.ring.replicas())
    }

    /// How many members the ring has.
    pub(crate) fn members(&self) -> usize {
        self.cluster.as_ref().map_or(0, |cluster| cluster.ring.members().len())
    }

    pub(crate) fn majority(&self) -> usize {
        self.members() / 2 + 1
    }

    pub(crate) fn is_reachable(&self, node: NodeId) -> bool {
        node == self.me || self.membership.is_reachable(node)
    }

    /// The ring's other members that can be reached.
    pub(crate) fn reachable_peers(&self) -> BTreeSet<NodeId> {
        let members = self
            .cluster
            .iter()
            .flat_map(|cluster| cluster.ring.members())
            .map(Member::id);
        members
            .filter(|&node| node != self.me && self.membership.is_reachable(node))
            .collect()
    }

    pub(crate) fn name_of(&self, node: NodeId) -> String {
        let named = self
            .membership
            .record(node)
            .map(|record| record.member.name.as_str().to_owned());
        let in_ring = || {
            self.cluster
                .as_ref()?
                .ring
                .member(node)
                .map(|member| member.name.as_str().to_owned())
        };
        named.or_else(in_ring).unwrap_or_else(|| node.to_string())
    }

    /// A deadline of this node on a peer's clock; unbounded where that clock is not known yet.
    pub(crate) fn on_clock_of(&self, peer: NodeId, now: Now, deadline: Instant) -> Instant {
        let left = deadline.saturating_duration_since(now.monotonic);
        let clock = self.membership.peer_clock(peer, now.monotonic);
        clock
            .and_then(|clock| clock.checked_add(left))
            .unwrap_or(Instant::from_nanos(u64::MAX))
    }

    pub(crate) fn address(&self, bucket: &Bucket, key: &Key, n: u8) -> Result<Address, Failure> {
        let partitions = self.cluster()?.ring.partitions();
        Ok(Address::new(bucket.clone(), key.clone(), n, partitions))
    }

    pub(crate) fn address_of(&self, at: &WireKey) -> Option<Address> {
        self.address(&at.bucket, &at.key, at.n).ok()
    }

    /// Whether this node cannot prove what it holds of a partition.
    pub(crate) fn is_in_doubt(&self, partition: PartitionId) -> bool {
        self.replica.is_in_doubt(partition) && !planted(Mutant::DoubtIgnored)
    }

    pub(crate) fn is_owner(&self, address: &Address) -> bool {
        self.owns(address.partition)
    }

    pub(crate) fn owns(&self, partition: PartitionId) -> bool {
        self.cluster
            .as_ref()
            .is_some_and(|cluster| cluster.ring.preference_list(partition).is_owner(self.me))
    }

    /// Who takes part in a request about this key.
    pub(crate) fn participants(&self, address: &Address) -> Who {
        let Some(cluster) = &self.cluster else {
            return Who {
                me: self.me,
                owners: Vec::new(),
                reachable: Vec::new(),
                fallbacks: Vec::new(),
            };
        };
        let list = cluster.ring.preference_list(address.partition);
        let answers = |owner| match owner == self.me {
            true => !self.is_in_doubt(address.partition),
            false => self.is_reachable(owner),
        };
        let reachable = list.owners.iter().map(|&owner| answers(owner)).collect();
        let fallbacks = list
            .fallbacks
            .iter()
            .copied()
            .filter(|&node| node != self.me && self.is_reachable(node));
        Who {
            me: self.me,
            owners: list.owners.to_vec(),
            reachable,
            fallbacks: fallbacks.collect(),
        }
    }

    pub(crate) fn shuffled(&mut self, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
        nodes.shuffle(&mut self.rng);
        nodes
    }

    pub(crate) fn seal(&self, address: &Address, context: &CausalContext) -> String {
        self.cluster
            .as_ref()
            .map(|cluster| cluster.key.seal(&scope(address), context))
            .unwrap_or_default()
    }
}
