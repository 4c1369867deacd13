//! What clients did and were told is kept as it becomes known, for the history and for the table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use annulus_checker::{Fault, Final, History, Operation, Record};

use crate::cluster::{Suspension, name};

/// Clocks that are converted between nodes, and threads that wait for a processor: a deadline may be kept this much later.
const SLACK_US: u64 = 500_000;

/// What became of a request, for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Done, or answered that a condition does not hold.
    Ok,
    /// It was not done.
    Failed,
    /// It may have been done.
    Unknown,
    /// Nobody listened.
    Refused,
}

/// A request, for the table. Times as in the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) start_us: u64,
    pub(crate) end_us: u64,
    pub(crate) class: Class,
    /// All owners had to answer: with one that is down it fails, as it should.
    pub(crate) asks_all: bool,
}

/// All that is known so far.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) history: History,
    pub(crate) samples: Vec<Sample>,
    /// Requests without an answer, by their place in the history, with the time at which their client gave up.
    unanswered: Vec<(usize, u64)>,
    /// Answers that the contract does not have.
    pub(crate) odd: Vec<String>,
}

/// See the module.
pub(crate) struct Recorder {
    start: Instant,
    numbers: AtomicU64,
    kept: Mutex<Kept>,
}

impl Recorder {
    /// The history begins now.
    pub(crate) fn new() -> Recorder {
        Recorder {
            start: Instant::now(),
            numbers: AtomicU64::new(1),
            kept: Mutex::default(),
        }
    }

    /// The number of the next operation.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Microseconds since the history began.
    pub(crate) fn now_us(&self) -> u64 {
        self.at_us(Instant::now())
    }

    fn at_us(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// What is known.
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has ended, `timeout_us` being its time limit.
    pub(crate) fn operation(&self, mut operation: Operation, sample: Sample, timeout_us: u64) {
        // Whoever was asked may have passed it on until now, and that one begins it before its own deadline.
        operation.deadline_us = sample.end_us + timeout_us + SLACK_US;
        let mut kept = self.kept();
        if operation.end_us.is_none() {
            let place = kept.history.operations.len();
            kept.unanswered.push((place, sample.end_us));
        }
        kept.history.operations.push(operation);
        kept.samples.push(sample);
    }

    /// Nobody took the request: it is no part of the history.
    pub(crate) fn refused(&self, sample: Sample) {
        self.kept().samples.push(sample);
    }

    /// An answer that the contract does not have.
    pub(crate) fn odd(&self, what: String) {
        let mut kept = self.kept();
        // One of a kind is news, a thousand are not.
        if kept.odd.len() < 100 {
            kept.odd.push(what);
        }
    }

    /// A fault was there.
    pub(crate) fn fault(&self, fault: Fault) {
        self.kept().history.push(Record::Fault(fault));
    }

    /// What an owner holds in the end.
    pub(crate) fn last(&self, last: Final) {
        self.kept().history.push(Record::Final(last));
    }

    /// A request that nobody answered may lie in the socket of a node that did not run, and begin when that goes on.
    pub(crate) fn extend_deadlines(&self, suspensions: &[Suspension], longest_timeout_us: u64) {
        let mut kept = self.kept();
        let Kept {
            history, unanswered, ..
        } = &mut *kept;
        for suspension in suspensions {
            let (from, until) = (self.at_us(suspension.from), self.at_us(suspension.until));
            for &(place, gave_up) in unanswered.iter() {
                let operation = &mut history.operations[place];
                if operation.node == name(suspension.node) && from <= gave_up && operation.start_us <= until {
                    let latest = until + longest_timeout_us + SLACK_US;
                    operation.deadline_us = operation.deadline_us.max(latest);
                }
            }
        }
    }
}
