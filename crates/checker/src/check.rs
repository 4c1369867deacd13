//! The promises that can be seen from outside, each checked on one key's history: no check reports what a correct store could do.
//!
//! Whatever a client was not told may have been either way. So a write replaces nothing for sure unless it was acknowledged,
//! and may replace something from the moment it was sent; the time of a check is near linear in the length of the history.

mod cover;
mod gone;
mod held;
mod key;
mod promise;
mod seen;
mod session;
mod words;

pub use promise::{Promise, Promises, Violation};

use crate::history::History;
use key::KeyHistory;

/// All broken promises of a history of which every promise is expected to hold: see [`check_with`].
///
/// ```
/// use annulus_checker::{History, Promise, check};
///
/// let lines = r#"
/// {"type":"operation","number":1,"client":1,"node":"n1","key":"b/k","start_us":10,"end_us":20,"deadline_us":90,
///  "action":{"do":"put","replaces":"known","durable":true},"outcome":{"was":"written","answered":2,"fallbacks":0,"n":3}}
/// {"type":"final","key":"b/k","node":"n1","at_us":100,"values":[]}"#;
/// let history = History::read(lines.replace(",\n", ",").as_bytes())?;
/// let violations = check(&history);
/// assert_eq!(violations.len(), 1);
/// assert_eq!((violations[0].promise, violations[0].value), (Promise::Lost, Some(1)));
/// # Ok::<(), annulus_checker::HistoryError>(())
/// ```
pub fn check(history: &History) -> Vec<Violation> {
    check_with(history, &Promises::all())
}

/// The broken ones of these promises, by key; of each promise and value of a key the first time it was seen.
///
/// Numbers of operations are distinct: of several with one number, one counts.
pub fn check_with(history: &History, promises: &Promises) -> Vec<Violation> {
    let mut violations = Vec::new();
    for key in KeyHistory::split(history, promises.skew_us()) {
        let mut found = Found {
            key: &key,
            promises,
            violations: &mut violations,
        };
        seen::check(&mut found);
        held::check(&mut found);
        session::check(&mut found);
    }
    violations
}

/// Where the checks of one key put what they find.
struct Found<'a> {
    key: &'a KeyHistory<'a>,
    promises: &'a Promises,
    violations: &'a mut Vec<Violation>,
}

impl Found<'_> {
    fn holds(&self, promise: Promise) -> bool {
        self.promises.holds(promise)
    }

    /// Reports a broken promise, where it is one that holds. `operations` are those it follows from.
    fn broken(&mut self, promise: Promise, value: Option<u64>, operations: &[Option<u64>], detail: String) {
        if self.holds(promise) {
            self.violations.push(Violation {
                promise,
                key: self.key.key.to_owned(),
                value,
                operations: operations.iter().copied().flatten().collect(),
                detail,
            });
        }
    }
}
