//! What a store promised is checked on what its clients saw: a violation names the promise, the key and the operations.

mod check;
mod history;

pub use check::{Promise, Promises, Violation, check, check_with};
pub use history::{
    Action, Bucket, Conflicts, Fault, Final, History, HistoryError, Operation, Outcome, Record, Replaces,
};
