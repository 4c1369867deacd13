//! A process is a node over its disk, with a clock of its own: it can stop, be frozen, and come back as another life.

use annulus_causality::Instant;
use annulus_node::{Input, Node, Now, Settings};
use annulus_ring::NodeId;

use crate::disk::Disk;
use crate::queue::{MILLISECOND, Nanos};

/// 2027-01-15, where all wall clocks begin.
const START_MILLIS: u64 = 1_800_000_000_000;

/// A node's process and its machine.
pub(crate) struct Process {
    pub(crate) id: NodeId,
    pub(crate) settings: Settings,
    pub(crate) node: Option<Node<Disk>>,
    pub(crate) disk: Disk,
    /// An older copy of it, to be put back, and when it was made.
    pub(crate) backup: Option<(Nanos, Disk)>,
    /// How often it was started.
    pub(crate) life: u32,
    /// When it was started last: its monotonic clock counts from there.
    pub(crate) started: Nanos,
    /// Freezes that are on; what arrives is held.
    pub(crate) paused: u32,
    pub(crate) held: Vec<Input>,
    /// Faults that keep it from being started.
    pub(crate) kept_down: u32,
    /// The timer event that is on its way, if any.
    pub(crate) timer_at: Option<Nanos>,
    pub(crate) clock: Clock,
    /// Added to each sync by slow-disk faults.
    pub(crate) extra_sync: Nanos,
}

/// How a machine's clocks go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Its monotonic clock runs fast by so many millionths.
    pub(crate) drift_ppm: i64,
    /// Its wall clock is ahead by so many milliseconds.
    pub(crate) ahead_millis: i64,
}

impl Process {
    pub(crate) fn now(&self, now: Nanos) -> Now {
        let since = (now - self.started) as i128;
        let monotonic = since + since * i128::from(self.clock.drift_ppm) / 1_000_000;
        let wall = (START_MILLIS + now / MILLISECOND).saturating_add_signed(self.clock.ahead_millis);
        Now {
            monotonic: Instant::from_nanos(monotonic as u64),
            wall_millis: wall,
        }
    }

    /// When the process's monotonic clock shows `instant`, on the world's.
    pub(crate) fn world_time(&self, instant: Instant) -> Nanos {
        let nanos = i128::from(instant.nanos());
        let since = nanos * 1_000_000 / i128::from(1_000_000 + self.clock.drift_ppm);
        // Rounded up, so that the deadline has surely come.
        self.started
            .saturating_add(u64::try_from(since + 1).unwrap_or(u64::MAX / 2))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.node.is_some() && self.paused == 0
    }

    /// The seed of a life's randomness.
    pub(crate) fn seed(&self, world: u64) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&world.to_le_bytes());
        seed[8..16].copy_from_slice(&self.id.0.to_le_bytes());
        seed[16..20].copy_from_slice(&self.life.to_le_bytes());
        seed
    }
}
