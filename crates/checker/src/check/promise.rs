//! Promises have names, and a run says which of them it expects to hold.

use std::fmt;

/// What a store promises to whoever looks at it from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// What is shown was written: by a write of this key, that had been sent by then.
    MadeUp,
    /// What was said to be never written is never shown, before or after.
    Never,
    /// A value is hidden once its time is over.
    Expired,
    /// A value is not shown beside one that replaced it; `lww` shows one value at most.
    Together,
    /// What an acknowledged write with its context has replaced does not come back: not at the end, nor, where
    /// [`Promise::Stale`] holds, in a strict read that meets the write's quorum.
    Resurrected,
    /// The same of what every owner had, and a later write without a context must have replaced. A node that has lost its disk
    /// or has an old one may coordinate such a write without knowing what it had: then this does not hold.
    Outlived,
    /// What was acknowledged is there at the end, or was replaced.
    Lost,
    /// A strict read sees every acknowledged write whose quorum it meets.
    Stale,
    /// At the end all owners show the same.
    Diverged,
    /// A session is shown each of its acknowledged writes, or what may have replaced it, and nothing that it has seen replaced.
    Session,
}

impl Promise {
    /// All of them.
    pub const ALL: [Promise; 10] = [
        Promise::MadeUp,
        Promise::Never,
        Promise::Expired,
        Promise::Together,
        Promise::Resurrected,
        Promise::Outlived,
        Promise::Lost,
        Promise::Stale,
        Promise::Diverged,
        Promise::Session,
    ];

    /// Its short name: of what is seen where it is broken.
    pub fn name(self) -> &'static str {
        match self {
            Promise::MadeUp => "made_up",
            Promise::Never => "never",
            Promise::Expired => "expired",
            Promise::Together => "together",
            Promise::Resurrected => "resurrected",
            Promise::Outlived => "outlived",
            Promise::Lost => "lost",
            Promise::Stale => "stale",
            Promise::Diverged => "diverged",
            Promise::Session => "session",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How far two clocks of the cluster may be apart where nobody says otherwise, in microseconds.
const SKEW_US: u64 = 2_000_000;

/// The promises that hold in a run, and how well its clocks agree.
///
/// ```
/// use annulus_checker::{Promise, Promises};
///
/// let after_a_lost_disk = Promises::all().without(Promise::Stale).without(Promise::Outlived);
/// assert!(!after_a_lost_disk.holds(Promise::Stale) && after_a_lost_disk.holds(Promise::Lost));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    held: u16,
    skew_us: u64,
}

impl Promises {
    /// All promises, and clocks at most two seconds apart.
    pub fn all() -> Promises {
        Promises {
            held: Promise::ALL.into_iter().fold(0, |held, promise| held | promise.bit()),
            skew_us: SKEW_US,
        }
    }

    /// Only this one, with clocks as for [`Promises::all`].
    pub fn only(promise: Promise) -> Promises {
        Promises {
            held: promise.bit(),
            ..Promises::all()
        }
    }

    /// These without one.
    #[must_use]
    pub fn without(mut self, promise: Promise) -> Promises {
        self.held &= !promise.bit();
        self
    }

    /// These where any two wall clocks of the cluster, jumps included, are at most so many microseconds apart: `lww` orders by
    /// such clocks, and they say when a value expires. With `u64::MAX` nothing is concluded from either.
    #[must_use]
    pub fn with_skew_us(mut self, skew_us: u64) -> Promises {
        self.skew_us = skew_us;
        self
    }

    /// Whether this one holds.
    pub fn holds(&self, promise: Promise) -> bool {
        self.held & promise.bit() != 0
    }

    pub(super) fn skew_us(&self) -> u64 {
        self.skew_us
    }
}

impl Default for Promises {
    fn default() -> Promises {
        Promises::all()
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: Promise,
    /// `bucket/key`.
    pub key: String,
    /// The value that it is about; nothing where it is about all that is shown.
    pub value: Option<u64>,
    /// The numbers of the operations that it follows from, for a trace of these alone.
    pub operations: Vec<u64>,
    /// What was seen, and why it must not be.
    pub detail: String,
}
