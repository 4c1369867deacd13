//! Time is an argument: a monotonic instant for deadlines, a hybrid logical stamp for what clients see.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, put_varint};

/// How far ahead of the local wall clock a peer's stamp may be before it is refused.
///
/// A peer whose clock runs away would otherwise drag every clock of the cluster with it, and its writes would win
/// every last-write-wins comparison until the others caught up.
pub const MAX_SKEW: Duration = Duration::from_secs(60);

/// Monotonic nanoseconds since the process started.
///
/// Pure code never asks for the time: whoever drives it says what time it is, so a simulator can run years in minutes.
///
/// ```
/// use annulus_causality::Instant;
/// use std::time::Duration;
///
/// let deadline = Instant::ZERO + Duration::from_millis(750);
/// assert_eq!(deadline.saturating_duration_since(Instant::ZERO), Duration::from_millis(750));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment the process started.
    pub const ZERO: Self = Self(0);
    /// Later than every deadline: 584 years after the start.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here, or zero where `earlier` is later.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self + duration`, or `None` where that is past [`Instant::FAR_FUTURE`].
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let nanos = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::FAR_FUTURE`]: a timeout too long to be represented never fires.
    fn add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self::FAR_FUTURE)
    }
}

/// A stamp of a [`HybridClock`]: wall-clock milliseconds since the Unix epoch, and a counter within one millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Milliseconds since the Unix epoch; close to the wall clock, never behind a stamp that was seen.
    pub millis: u64,
    /// Orders the stamps of one millisecond.
    pub logical: u16,
}

impl Timestamp {
    /// Whether it is further ahead of this wall clock, in milliseconds since the Unix epoch, than clocks may follow: [`MAX_SKEW`].
    pub fn is_too_far(self, wall_millis: u64) -> bool {
        u128::from(self.millis) > u128::from(wall_millis) + MAX_SKEW.as_millis()
    }

    /// The next greater stamp; the greatest of all is its own successor.
    fn successor(self) -> Self {
        match self.logical.checked_add(1) {
            Some(logical) => Self { logical, ..self },
            None if self.millis == u64::MAX => self,
            None => Self {
                millis: self.millis + 1,
                logical: 0,
            },
        }
    }

    /// Appends the encoding: two varints.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.millis);
        put_varint(out, u64::from(self.logical));
    }

    /// Reads what [`Timestamp::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let millis = reader.varint("timestamp")?;
        let logical = reader.varint("timestamp")?;
        let logical = u16::try_from(logical).map_err(|_| reader.malformed("timestamp"))?;
        Ok(Self { millis, logical })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis, self.logical)
    }
}

/// A stamp from further in the future than [`MAX_SKEW`]: nothing was changed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stamp {stamp} is {} ms ahead of this node's clock ({wall_millis}), more than the {} ms allowed",
    .stamp.millis.saturating_sub(*.wall_millis), MAX_SKEW.as_millis())]
pub struct SkewError {
    /// The stamp that was refused.
    pub stamp: Timestamp,
    /// What this node's wall clock said.
    pub wall_millis: u64,
}

/// Gives stamps that follow the wall clock and never go backwards (Kulkarni et al., "Logical Physical Clocks", 2014).
///
/// ```
/// use annulus_causality::{HybridClock, Timestamp};
///
/// let mut clock = HybridClock::new();
/// let first = clock.now(1_000);
/// clock.observe(1_000, Timestamp { millis: 1_500, logical: 3 }).expect("half a second ahead is allowed");
/// assert!(clock.now(1_000) > Timestamp { millis: 1_500, logical: 3 });
/// assert_eq!(first, Timestamp { millis: 1_000, logical: 0 });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HybridClock {
    /// The greatest stamp given or observed; `None` before the first.
    last: Option<Timestamp>,
}

impl HybridClock {
    /// A clock that has given and seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stamp strictly greater than any given or observed before, and not before the wall clock (milliseconds since
    /// the Unix epoch).
    ///
    /// Where the wall clock was set back by more than [`MAX_SKEW`], stamps follow it back: peers would refuse all others.
    pub fn now(&mut self, wall_millis: u64) -> Timestamp {
        let wall = Timestamp {
            millis: wall_millis,
            logical: 0,
        };
        let stamp = match self.last {
            Some(last) if last >= wall && !last.is_too_far(wall_millis) => last.successor(),
            _ => wall,
        };
        self.last = Some(stamp);
        stamp
    }

    /// Takes note of a peer's stamp: every later [`HybridClock::now`] is greater.
    ///
    /// # Errors
    /// [`SkewError`] where the stamp is more than [`MAX_SKEW`] ahead of `wall_millis`; the clock is unchanged, and what
    /// carried the stamp is to be refused.
    pub fn observe(&mut self, wall_millis: u64, stamp: Timestamp) -> Result<(), SkewError> {
        if stamp.is_too_far(wall_millis) {
            return Err(SkewError { stamp, wall_millis });
        }
        let last = self.last.filter(|last| !last.is_too_far(wall_millis));
        self.last = last.max(Some(stamp));
        Ok(())
    }
}
