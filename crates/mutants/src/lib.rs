//! A planted bug exists only in a build with the feature `planted`, and there only in the thread that planted it.
//!
//! An oracle that catches nothing is not an oracle: `cargo xtask sim --mutants` plants each of these, and fails unless the simulator
//! finds it. Each is an error that a system of this kind has really had. In all other builds [`planted`] is a constant, and what it
//! guards is not compiled in.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A write is acknowledged before the sync that covers it.
    AcknowledgeBeforeSync,
    /// A sync that failed is taken for one that succeeded.
    FailedSyncIgnored,
    /// A fallback's hints count for `r`.
    HintCountsForRead,
    /// A node that answers twice counts twice.
    SameNodeTwice,
    /// A quorum is met with one answer less.
    QuorumOffByOne,
    /// Fallbacks count though only owners may.
    StrictCountsFallbacks,
    /// An equal digest is taken for all that an owner knows.
    SameMeansNothingSeen,
    /// A restart goes on with the incarnation it had, and so with dots that were given out.
    IncarnationReused,
    /// A forwarded write gets a new dot from each node that begins it.
    DotForEachAttempt,
    /// The clock takes in what a delta's writer had seen, not only what the delta brings.
    ClockBeforeObjects,
    /// A delete's record goes before the clock covers all that it deleted.
    DeleteDroppedEarly,
    /// What goes out of a replica lacks its clock.
    NotFilled,
    /// Joining keeps one of two concurrent versions.
    JoinDropsSibling,
    /// A context counts for every key.
    ForeignContextAccepted,
    /// A write whose coordinator went away is said to have written nothing.
    LostAttemptForgotten,
    /// An attempt that came too late is taken for another one of the same node.
    LateAnswerEndsAnotherAttempt,
    /// A condition is not looked at.
    GuardIgnored,
    /// A hint is forgotten when it is sent, not when it is stored.
    HintForgottenWhenSent,
    /// A hint whose owner stays away is dropped.
    OverdueHintDropped,
    /// Requests are taken without bound.
    UnboundedRequests,
    /// A version is shown after its time.
    ExpiredShown,
    /// An expired version takes along all others of its key.
    WholeKeyExpires,
    /// An object that is written again is not looked at any more for what has expired.
    ExpiryForgotten,
    /// A read does not look at what its session has seen.
    SessionIgnored,
    /// A counter's coordinator adds to what others have added, as if it were its own.
    CounterFoldsOthers,
    /// A fallback adds to whatever total of its own it still has a hint of.
    OldTotalAddedTo,
    /// A partition in doubt answers like any other.
    DoubtIgnored,
    /// A partition in doubt is trusted when it has caught up with one of its other owners.
    TrustedAfterOne,
    /// Finished incarnations are closed while a fallback still has a hint with one of their dots.
    ClosedUnheard,
    /// Finished incarnations are closed though their owners have not got the same of them.
    ClosedUnequal,
    /// An operation whose coordinator is lost or slow is begun by the next one, too.
    OperationTakenOver,
    /// A directory that peers have seen further on is taken for what it was.
    OldDiskTrusted,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 32] = [
        Mutant::AcknowledgeBeforeSync,
        Mutant::FailedSyncIgnored,
        Mutant::HintCountsForRead,
        Mutant::SameNodeTwice,
        Mutant::QuorumOffByOne,
        Mutant::StrictCountsFallbacks,
        Mutant::SameMeansNothingSeen,
        Mutant::IncarnationReused,
        Mutant::DotForEachAttempt,
        Mutant::ClockBeforeObjects,
        Mutant::DeleteDroppedEarly,
        Mutant::NotFilled,
        Mutant::JoinDropsSibling,
        Mutant::ForeignContextAccepted,
        Mutant::LostAttemptForgotten,
        Mutant::LateAnswerEndsAnotherAttempt,
        Mutant::GuardIgnored,
        Mutant::HintForgottenWhenSent,
        Mutant::OverdueHintDropped,
        Mutant::UnboundedRequests,
        Mutant::ExpiredShown,
        Mutant::WholeKeyExpires,
        Mutant::ExpiryForgotten,
        Mutant::SessionIgnored,
        Mutant::CounterFoldsOthers,
        Mutant::OldTotalAddedTo,
        Mutant::OperationTakenOver,
        Mutant::DoubtIgnored,
        Mutant::TrustedAfterOne,
        Mutant::ClosedUnheard,
        Mutant::ClosedUnequal,
        Mutant::OldDiskTrusted,
    ];
}

impl Mutant {
    /// The one of this name, as `Debug` writes it.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name)
    }
}

#[cfg(feature = "planted")]
mod planting {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants a bug in this thread, or removes the one that is there.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    /// Whether this bug is planted here.
    pub fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(feature = "planted")]
pub use planting::{plant, planted};

/// Plants nothing: in this build no bug can be planted.
#[cfg(not(feature = "planted"))]
pub const fn plant(_mutant: Option<Mutant>) {}

/// Whether this bug is planted here: in this build none ever is.
#[cfg(not(feature = "planted"))]
pub const fn planted(_mutant: Mutant) -> bool {
    false
}
