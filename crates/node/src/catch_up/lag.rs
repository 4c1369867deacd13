//! How far owners are apart is told of each peer and of each partition, from what they last said of their clocks.

use std::collections::BTreeMap;

use annulus_causality::CausalContext;
use annulus_coordinator::{PartitionLag, PeerLag, ReplicationView};
use annulus_ring::PartitionId;
use annulus_storage::{Engine, MAX_COUNTER};

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
                if behind > 0 || ahead > 0 {
                    sum.behind = sum.behind.saturating_add(behind);
                    sum.ahead = sum.ahead.saturating_add(ahead);
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

/// How many dots there are, but for those that never were: of closed actors, and of what a clock that lacks some of one has not.
fn dots(context: &CausalContext) -> u64 {
    let open = context.open_ranges().map(|(_, counters)| counters);
    let given = open.filter(|counters| *counters.end() <= MAX_COUNTER);
    given.fold(0, |sum, counters| {
        sum.saturating_add(counters.end() - counters.start() + 1)
    })
}

#[cfg(test)]
mod tests {
    use annulus_causality::{Actor, Dot};

    use super::*;

    #[test]
    fn what_a_closed_actor_never_wrote_is_nothing_to_wait_for() {
        let dot = |incarnation, counter| Dot::new(Actor { node: 7, incarnation }, counter);
        let mut closed: CausalContext = [dot(9, 1), dot(9, 2)].into_iter().collect();
        closed.close_below(7, 9);
        let behind: CausalContext = [dot(3, 1), dot(4, 1)].into_iter().collect();
        assert_eq!(dots(&closed.difference(&behind)), 2);
        assert_eq!(dots(&closed.difference(&CausalContext::new())), 2);
    }
}
