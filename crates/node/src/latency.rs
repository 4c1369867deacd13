//! How long a peer usually takes to answer, and from when on it counts as slow (Jacobson, SIGCOMM'88: mean and deviation).

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_causality::Instant;
use annulus_ring::NodeId;

/// Faster than this, a spare is never asked: it would cost more than it wins.
const LEAST_READ_TAIL: Duration = Duration::from_millis(50);
/// Faster than this, no other owner takes over: two coordinators of one key make siblings.
const LEAST_TAKE_OVER: Duration = Duration::from_millis(250);
/// Slower than this is slow, whatever is usual.
const LARGEST_TAIL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    mean: u64,
    deviation: u64,
}

/// The usual latencies of all peers.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    peers: BTreeMap<NodeId, Estimate>,
}

impl Latency {
    /// `peer` answered what it was sent at `sent`.
    pub(crate) fn observe(&mut self, peer: NodeId, sent: Instant, now: Instant) {
        let sample = u64::try_from(now.saturating_duration_since(sent).as_nanos()).unwrap_or(u64::MAX / 16);
        let estimate = self.peers.entry(peer).or_default();
        let error = sample.abs_diff(estimate.mean);
        estimate.mean = estimate.mean - estimate.mean / 8 + sample / 8;
        estimate.deviation = estimate.deviation - estimate.deviation / 4 + error / 4;
    }

    /// A read that takes longer asks a spare.
    pub(crate) fn read_tail(&self, peer: NodeId) -> Duration {
        self.tail(peer).clamp(LEAST_READ_TAIL, LARGEST_TAIL)
    }

    /// A forward that takes longer is taken over by the next owner.
    pub(crate) fn take_over(&self, peer: NodeId) -> Duration {
        (self.tail(peer) * 2).clamp(LEAST_TAKE_OVER, LARGEST_TAIL)
    }

    fn tail(&self, peer: NodeId) -> Duration {
        let estimate = self.peers.get(&peer).copied().unwrap_or_default();
        Duration::from_nanos(estimate.mean.saturating_add(estimate.deviation.saturating_mul(4)))
    }
}
