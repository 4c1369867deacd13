//! A node that cannot prove what it holds of a partition lets the other owners answer until it has caught up with every one of them.
//!
//! After one of two, a write that was acknowledged by this node and the other would be missed.

use std::collections::BTreeSet;

use annulus_coordinator::Failure;
use annulus_mutants::{Mutant, planted};
use annulus_ring::{Bucket, Key, NodeId, PartitionId};
use annulus_storage::Engine;
use bytes::Bytes;

use crate::io::{Effect, Level};
use crate::node::Node;

impl<E: Engine> Node<E> {
    /// Something that a partition should hold cannot be read: the partition is in doubt from now on.
    pub(crate) fn damaged(
        &mut self,
        partition: PartitionId,
        error: &dyn std::fmt::Display,
        out: &mut Vec<Effect>,
    ) -> Failure {
        self.counters.damaged += 1;
        let text = format!(
            "A stored record is damaged: {error}. Partition {partition} answers for nothing here until it has been refilled from all its \
             other owners, which goes on by itself."
        );
        self.warn_once("damaged", text, out);
        self.doubt(partition, out);
        Failure::Damaged {
            detail: error.to_string(),
        }
    }

    /// What the index says of a key cannot be read: its partition is put in doubt, which writes it anew.
    pub(crate) fn damaged_index(
        &mut self,
        bucket: &Bucket,
        scope: &Bytes,
        error: &dyn std::fmt::Display,
        out: &mut Vec<Effect>,
    ) {
        let key = scope.slice(scope.len().min(bucket.as_str().len() + 1)..);
        let Ok(key) = Key::parse(key) else { return };
        if let Ok(address) = self.address(bucket, &key, self.bucket_config(bucket).n) {
            self.replica.distrust_index(&address);
            self.damaged(address.partition, error, out);
        }
    }

    /// A hint cannot be read, and is dropped.
    pub(crate) fn damaged_hint(&mut self, error: &dyn std::fmt::Display, out: &mut Vec<Effect>) -> Failure {
        self.drop_damaged_hints(out);
        Failure::Damaged {
            detail: error.to_string(),
        }
    }

    /// Drops hints that were found to be damaged. This node owns nothing of them, so that no partition here need be in doubt: who has taken
    /// the write too passes it on, and whether somebody has is not known here.
    pub(crate) fn drop_damaged_hints(&mut self, out: &mut Vec<Effect>) {
        let dropped = self.replica.drop_damaged_hints();
        if dropped.is_empty() {
            return;
        }
        self.counters.damaged += dropped.len() as u64;
        self.counters.hints_lost += dropped.len() as u64;
        let name = |owner: &Option<NodeId>| owner.map_or("who cannot be said".to_owned(), |owner| self.name_of(owner));
        let owners: BTreeSet<String> = dropped.iter().map(name).collect();
        let owners = owners.into_iter().collect::<Vec<_>>().join(", ");
        let text = format!(
            "Damaged hints ({}) that were kept here for {owners} were dropped. An owner that has taken such a write passes it on by \
             itself; a write that no owner has taken is lost, unless another fallback keeps it. If the disk goes on losing records, replace it.",
            dropped.len()
        );
        out.push(Effect::Log {
            level: Level::Warn,
            text,
        });
    }

    /// A partition does not hold what it should: it answers for nothing until it has caught up with every other owner.
    pub(crate) fn doubt(&mut self, partition: PartitionId, out: &mut Vec<Effect>) {
        self.stop_stream(partition);
        self.catch_up.caught.remove(&partition);
        if let Err(error) = self.replica.doubt(partition) {
            return self.warn_once("doubt", format!("A damaged partition cannot be read: {error}."), out);
        }
        self.counters.doubts += 1;
        self.catch_up
            .look_again(partition, self.replica.clock(partition), self.now.monotonic);
    }

    /// Nothing in this directory can be relied on to be the latest: what it holds stays, and is caught up with every other owner.
    pub(crate) fn doubt_all(&mut self) {
        self.catch_up.caught.clear();
        self.replica.doubt_all();
        self.counters.doubts += 1;
    }

    /// A partition that has caught up with all its other owners is in doubt no more.
    pub(crate) fn settle_doubt(&mut self, partition: PartitionId) {
        let caught = self.catch_up.caught.get(&partition);
        let mut others = self.other_owners(partition).into_iter();
        let has_all = match planted(Mutant::TrustedAfterOne) {
            true => caught.is_some(),
            false => others.all(|owner| caught.is_some_and(|caught| caught.contains(&owner))),
        };
        if has_all {
            self.catch_up.caught.remove(&partition);
            self.replica.trust(partition);
        }
    }

    /// Partitions that have no other owner are as they are; once none is in doubt, none need be listed.
    pub(crate) fn settle_doubts(&mut self) {
        if !self.replica.has_doubts() {
            return;
        }
        let doubtful = self.doubtful();
        for partition in &doubtful {
            if self.other_owners(*partition).is_empty() {
                self.replica.trust(*partition);
            }
        }
        if doubtful.is_empty() {
            self.replica.trust_all();
        }
    }

    /// Reads some of what is stored and looks whether it is what should be there, at the set rate.
    pub(crate) fn scrub(&mut self, out: &mut Vec<Effect>) {
        let rate = usize::try_from(self.settings.scrub_bytes_per_second).unwrap_or(usize::MAX);
        if rate == 0 {
            return;
        }
        match self.replica.scrub(self.scrub_at, rate) {
            Ok(scrubbed) => {
                self.scrub_at = scrubbed.next;
                self.counters.scrubbed_bytes += scrubbed.bytes as u64;
                self.counters.scrubs += u64::from(scrubbed.next.is_none());
                for partition in scrubbed.damaged {
                    self.damaged(partition, &"what is stored is not what its fingerprints say", out);
                }
            }
            Err(error) => self.warn_once("scrub", format!("Stored data cannot be checked: {error}."), out),
        }
    }

    /// The partitions of this node that are in doubt.
    pub(crate) fn doubtful(&self) -> Vec<PartitionId> {
        let Some(cluster) = self.cluster.as_ref().filter(|_| self.replica.has_doubts()) else {
            return Vec::new();
        };
        let ring = &cluster.ring;
        let all = (1..=ring.replicas())
            .flat_map(|n| (0..ring.partitions().count()).map(move |index| PartitionId { n, index }));
        let mine = all.filter(|partition| ring.preference_list(*partition).is_owner(self.me));
        mine.filter(|partition| self.replica.is_in_doubt(*partition)).collect()
    }
}
