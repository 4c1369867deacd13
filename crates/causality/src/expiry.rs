//! What has expired is dropped by a delete that covers it and nothing else, so that nothing a reader could see changes.

use crate::context::CausalContext;
use crate::object::{ConflictPolicy, Object};

impl Object {
    /// The dots that a delete may cover at this wall-clock time (milliseconds since the Unix epoch) because their versions have
    /// expired: what [`Object::visible`] shows is the same before and after it, now and ever after. Empty where there is nothing
    /// to drop.
    ///
    /// Under [`ConflictPolicy::LastWriteWins`] an expired winner takes along what it hides: a loser that lives longer would show.
    ///
    /// ```
    /// use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};
    ///
    /// let dot = Dot::new(Actor { node: 7, incarnation: 1 }, 1);
    /// let version = Version::new("value".into(), None, Vec::new(), Timestamp::default(), Some(5_000));
    /// let object = Object::new(vec![(dot, version)], CausalContext::from_iter([dot]));
    /// assert!(object.expired(4_999, ConflictPolicy::Siblings).is_empty());
    /// assert!(object.expired(5_000, ConflictPolicy::Siblings).contains(dot));
    /// ```
    pub fn expired(&self, wall_ms: u64, policy: ConflictPolicy) -> CausalContext {
        let is_won =
            policy == ConflictPolicy::LastWriteWins && self.winner().is_some_and(|winner| winner.is_expired(wall_ms));
        let expired = self.versions().iter();
        let expired = expired.filter(|(_, version)| is_won || version.is_expired(wall_ms));
        expired.map(|(dot, _)| *dot).collect()
    }

    /// When the first version expires, in milliseconds since the Unix epoch; nothing where none ever does.
    pub fn first_expiry(&self) -> Option<u64> {
        self.versions().iter().filter_map(|(_, version)| version.expires).min()
    }
}
