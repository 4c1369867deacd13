//! A node's time comes from here alone: nanoseconds since the process started, and the wall clock beside them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_causality::Instant;
use annulus_node::Now;

/// Reads the time for the node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock {
            start: tokio::time::Instant::now(),
        }
    }

    /// The time of a round.
    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            monotonic: self.instant(),
            wall_millis: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The monotonic half of it.
    pub(crate) fn instant(self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// When to wake for a deadline; one that is too far away to be represented counts as a year from the start.
    pub(crate) fn wake_at(self, deadline: Instant) -> tokio::time::Instant {
        let after = deadline.saturating_duration_since(Instant::ZERO);
        self.start + after.min(Duration::from_secs(366 * 86_400))
    }
}
