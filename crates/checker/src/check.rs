//! The promises that can be seen from outside, each checked on one key's history.

use crate::history::History;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise: one of a fixed set of short names, such as `lost` or `resurrected`.
    pub promise: &'static str,
    /// `bucket/key`.
    pub key: String,
    /// What was seen, and which operations it follows from.
    pub detail: String,
}

/// All broken promises of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let _ = history;
    Vec::new()
}
