//! A peer is suspected when its silence is improbable given how regular it was before.

use std::collections::VecDeque;
use std::time::Duration;

use annulus_causality::Instant;

/// What a node thinks of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// It was heard lately.
    Alive,
    /// It has been silent for improbably long, or its link broke.
    Suspect,
    /// It has been silent for so long that nobody should wait for it.
    Down,
}

impl Liveness {
    /// `alive`, `suspect` or `down`.
    pub fn as_str(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Down => "down",
        }
    }
}

impl std::fmt::Display for Liveness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How patient a detector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a peer speaks.
    pub heartbeat: Duration,
    /// A shorter silence suspects nobody, however regular the peer was.
    pub suspect_floor: Duration,
    /// A shorter silence takes nobody for down.
    pub down_floor: Duration,
}

impl Timing {
    /// Three heartbeats to be suspected (1.5 s at 500 ms), twenty to be down (10 s).
    pub fn of(heartbeat: Duration) -> Timing {
        Timing {
            heartbeat,
            suspect_floor: heartbeat * 3,
            down_floor: heartbeat * 20,
        }
    }
}

/// Arrivals that are remembered: 32 s at the default heartbeat, long enough for a mean, short enough to adapt.
const WINDOW: usize = 64;
/// Standard deviations beyond the mean where phi is 8: one false suspicion in 10⁸ silences, were they normal.
const PHI_8: f64 = 5.612_001_243_305_505;
/// The same for phi 16.
const PHI_16: f64 = 8.222_082_216_130_437;

/// Phi accrual (Hayashibara et al., "The φ accrual failure detector", SRDS 2004) of one peer.
///
/// Phi is the negative decimal logarithm of the probability that a silence as long as this one comes from a peer that
/// lives. Thresholds on it are turned around into the instants at which they will be crossed, so that nothing is
/// computed while time passes.
#[derive(Clone, Debug)]
pub struct Detector {
    timing: Timing,
    last: Instant,
    intervals: VecDeque<u64>,
    sum: u64,
    sum_of_squares: u128,
}

impl Detector {
    /// A peer that is expected to speak from now on.
    pub fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            last: now,
            intervals: VecDeque::new(),
            sum: 0,
            sum_of_squares: 0,
        }
    }

    /// The peer spoke.
    pub fn heard(&mut self, now: Instant) {
        let interval = now.saturating_duration_since(self.last);
        self.last = self.last.max(now);
        // Frames between heartbeats say that the peer lives, not how regular it is.
        if interval < self.timing.heartbeat / 2 {
            return;
        }
        // A silence that raised suspicion was a fault: taken whole, one would make the detector slow for half a minute.
        self.remember(nanos(interval.min(self.timing.suspect_floor * 2)));
    }

    /// Forgets how regular the peer was, and counts its silence from now: what came before says nothing, because this
    /// node was paused, or because the peer began a new life.
    pub fn restart(&mut self, now: Instant) {
        *self = Self::new(self.timing, now);
    }

    /// When the silence will raise suspicion: at phi 8, and not before the floor.
    pub fn suspect_at(&self) -> Instant {
        self.last + self.silence(PHI_8).max(self.timing.suspect_floor)
    }

    /// When the silence will be taken for down: at phi 16, and not before the floor.
    pub fn down_at(&self) -> Instant {
        self.last + self.silence(PHI_16).max(self.timing.down_floor)
    }

    /// What the silence alone says.
    pub fn liveness(&self, now: Instant) -> Liveness {
        match now {
            now if now >= self.down_at() => Liveness::Down,
            now if now >= self.suspect_at() => Liveness::Suspect,
            _ => Liveness::Alive,
        }
    }

    fn remember(&mut self, interval: u64) {
        if self.intervals.len() == WINDOW
            && let Some(oldest) = self.intervals.pop_front()
        {
            self.sum -= oldest;
            self.sum_of_squares -= square(oldest);
        }
        self.intervals.push_back(interval);
        self.sum += interval;
        self.sum_of_squares += square(interval);
    }

    /// The mean interval and so many standard deviations more.
    fn silence(&self, deviations: f64) -> Duration {
        let heartbeat = nanos(self.timing.heartbeat);
        let (mean, deviation) = match self.intervals.len() as u64 {
            0 => (heartbeat, 0.0),
            count => {
                let mean = self.sum / count;
                let variance = (self.sum_of_squares / u128::from(count)).saturating_sub(square(mean));
                (mean, (variance as f64).sqrt())
            }
        };
        // A peer that was perfectly regular may still be a little late.
        let deviation = deviation.max(heartbeat as f64 / 4.0);
        Duration::from_nanos(mean.saturating_add((deviation * deviations) as u64))
    }
}

fn square(value: u64) -> u128 {
    u128::from(value) * u128::from(value)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
