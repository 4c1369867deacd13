//! A write that was passed on replaces only what is earlier than it, wherever it is begun: two that replaced each other would both be gone.
//!
//! Two clients write a key without a context, through two nodes, and the key's coordinator begins `a`, then `b`: `b` replaces `a`. Its
//! answers are late, and both are begun again by the next owner, where `b` comes first: there `a` replaces `b`. The join of the two would
//! be empty, and both writes were acknowledged. So there is one order that all coordinators keep, that of the stamps.

use annulus_causality::{CausalContext, ConflictPolicy, Dot, Object, Version};
use annulus_coordinator::Failure;
use annulus_protocol::WriteIdentity;

/// A write that another node passed on.
#[derive(Clone, Debug)]
pub(crate) struct PassedOn {
    /// What it is in every attempt.
    pub(crate) identity: WriteIdentity,
    /// Nobody was asked to begin it before.
    pub(crate) is_first: bool,
}

/// What a write replaces of what its coordinator knows.
#[derive(Debug)]
pub(crate) struct Replaces {
    /// This, or all that is known.
    pub(crate) context: Option<CausalContext>,
    /// Under last-write-wins all that is known, whatever the context.
    pub(crate) policy: ConflictPolicy,
}

impl PassedOn {
    /// The dots of the known versions that are later than this write. One from so far ahead that no clock may follow is later than nothing.
    pub(crate) fn later(&self, wall_millis: u64, known: &Object) -> CausalContext {
        self.later_versions(wall_millis, known).map(|(dot, _)| *dot).collect()
    }

    fn later_versions<'a>(&'a self, wall_millis: u64, known: &'a Object) -> impl Iterator<Item = &'a (Dot, Version)> {
        let own = (self.identity.modified, self.identity.dot);
        known
            .versions()
            .iter()
            .filter(move |(dot, version)| (version.modified, *dot) > own && !version.modified.is_too_far(wall_millis))
    }

    /// What this write replaces here: what its client has seen; without that what is known here and is earlier than it, so that where it is
    /// taken over a later one stays beside it.
    ///
    /// # Errors
    /// In the first attempt it comes after all that is known here, whatever the clock of the node that the client reached says: that node is
    /// told to stamp it anew. Nothing was begun.
    pub(crate) fn replaces(&self, wall_millis: u64, known: &Object, asked: Replaces) -> Result<Replaces, Failure> {
        let Replaces { context, policy } = asked;
        let seen = context.as_ref().filter(|_| policy != ConflictPolicy::LastWriteWins);
        if self.is_first {
            let replaced = self
                .later_versions(wall_millis, known)
                .filter(|(dot, _)| seen.is_none_or(|seen| seen.contains(*dot)));
            return match replaced.map(|(_, version)| version.modified).max() {
                Some(latest) => Err(Failure::StampBehind { latest }),
                None => Ok(Replaces { context, policy }),
            };
        }
        let later = self.later(wall_millis, known);
        if seen.is_some() || later.is_empty() {
            return Ok(Replaces { context, policy });
        }
        let mut earlier = known.context().difference(&later);
        earlier.union(&context.unwrap_or_default());
        Ok(Replaces {
            context: Some(earlier),
            policy: ConflictPolicy::Siblings,
        })
    }
}
