//! How far owners are apart is told of each peer and of each partition, from what they last said of their clocks.

use std::collections::BTreeMap;

use annulus_causality::CausalContext;
use annulus_coordinator::{PartitionLag, PeerLag, ReplicationView};
use annulus_ring::PartitionId;
use annulus_storage::Engine;

use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;

impl<E: Engine> Node<E> {
    /// Compares clocks with everybody and looks at all that is stored, now and not in the next rounds.
    pub(crate) fn repair_now(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.catch_up.next_round = now.monotonic;
        self.scrub_at = None;
        self.catch_up_round(now, out);
    }

    /// Takes note of the partitions whose log is needed.
    pub(super) fn note_needed(&mut self, now: Now) {
        let mut before = std::mem::take(&mut self.catch_up.needed_since);
        let needed = self.replica.logged_partitions();
        self.catch_up.needed_since = needed
            .map(|partition| (partition, before.remove(&partition).unwrap_or(now.monotonic)))
            .collect();
    }

    pub(crate) fn replication_view(&self) -> ReplicationView {
        let mut partitions = BTreeMap::<PartitionId, PartitionLag>::new();
        for partition in self.replica.logged_partitions() {
            let since = self.catch_up.needed_since.get(&partition);
            let age = since.map(|since| self.now.monotonic.saturating_duration_since(*since));
            let lag = lag_of(&mut partitions, partition);
            lag.log_entries = self.replica.log_length(partition).entries;
            lag.log_age_seconds = age.unwrap_or_default().as_secs();
        }
        let doubtful = self.doubtful();
        for partition in &doubtful {
            lag_of(&mut partitions, *partition).in_doubt = true;
        }
        let mut peers = Vec::new();
        for (peer, co_owner) in &self.catch_up.peers {
            let mut sum = PeerLag {
                name: self.name_of(*peer),
                ..PeerLag::default()
            };
            for (partition, told) in &co_owner.told {
                let clock = self.replica.clock(*partition);
                let (behind, ahead) = (dots(&clock.difference(told)), dots(&told.difference(clock)));
                if behind + ahead > 0 {
                    sum.behind += behind;
                    sum.ahead += ahead;
                    sum.partitions += 1;
                    let lag = lag_of(&mut partitions, *partition);
                    lag.behind = lag.behind.max(behind);
                    lag.ahead = lag.ahead.max(ahead);
                }
            }
            peers.push(sum);
        }
        peers.sort_by(|one, other| one.name.cmp(&other.name));
        ReplicationView {
            node: self.settings.name.as_str().to_owned(),
            log_entries: self.replica.log_entries(),
            partitions_in_doubt: doubtful.len(),
            peers,
            partitions: partitions.into_values().collect(),
        }
    }
}

fn lag_of(partitions: &mut BTreeMap<PartitionId, PartitionLag>, partition: PartitionId) -> &mut PartitionLag {
    partitions.entry(partition).or_insert_with(|| PartitionLag {
        n: partition.n,
        partition: partition.index,
        ..PartitionLag::default()
    })
}

/// How many dots there are, but for those of closed actors.
fn dots(context: &CausalContext) -> u64 {
    let open = context
        .open_ranges()
        .map(|(_, counters)| counters.end() - counters.start());
    open.fold(0, |sum, more| sum.saturating_add(more).saturating_add(1))
}
