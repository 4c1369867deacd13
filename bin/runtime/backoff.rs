//! Nodes that lost each other at one moment do not come back at one moment: exponential back-off with full jitter.
//!
//! Brooker, "Exponential Backoff and Jitter" (2015): a uniform draw below a bound that doubles.

use std::time::Duration;

/// The first bound.
const FIRST: Duration = Duration::from_millis(50);

/// The bound does not grow beyond this: a peer that is back is found again within it.
const LONGEST: Duration = Duration::from_secs(2);

/// How long to wait before the next attempt.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    bound: Duration,
}

impl Backoff {
    /// As after a success.
    pub(crate) fn new() -> Backoff {
        Backoff { bound: FIRST }
    }

    /// Forgets the failures: the last attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.bound = FIRST;
    }

    /// The pause after one more failure. `draw` gives a uniform number from 0 to 1.
    pub(crate) fn pause(&mut self, draw: f64) -> Duration {
        let pause = self.bound.mul_f64(draw.clamp(0.0, 1.0));
        self.bound = (self.bound * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_to_two_seconds_and_a_success_resets_it() {
        let mut backoff = Backoff::new();
        let bounds: Vec<u128> = (0..8).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(bounds, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.pause(1.0), FIRST);
    }

    #[test]
    fn every_pause_below_the_bound_may_be_drawn() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.pause(0.0), Duration::ZERO);
        assert_eq!(backoff.pause(0.5), Duration::from_millis(50));
    }
}
