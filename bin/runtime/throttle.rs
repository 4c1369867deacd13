//! What a stranger can cause is not logged more often than once a while: a log is a resource too.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Lets one event through an interval, and counts the rest.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    last: Cell<Option<Instant>>,
    held_back: Cell<u64>,
}

impl Throttle {
    /// One event every `interval`.
    pub(crate) fn new(interval: Duration) -> Throttle {
        Throttle {
            interval,
            last: Cell::new(None),
            held_back: Cell::new(0),
        }
    }

    /// Whether to tell of an event at `now`; with the number of those not told of since the last.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        if self
            .last
            .get()
            .is_some_and(|last| now.saturating_duration_since(last) < self.interval)
        {
            self.held_back.set(self.held_back.get() + 1);
            return None;
        }
        self.last.set(Some(now));
        Some(self.held_back.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_an_interval_is_told_and_the_rest_are_counted() {
        let throttle = Throttle::new(Duration::from_secs(10));
        let start = Instant::now();
        let told: Vec<_> = (0..25)
            .map(|second| throttle.admit(start + Duration::from_secs(second)))
            .collect();
        assert_eq!((told[0], told[10], told[20]), (Some(0), Some(9), Some(9)));
        assert_eq!(told.iter().flatten().count(), 3);
    }
}
