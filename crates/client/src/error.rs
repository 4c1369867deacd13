//! Every failure says what was asked, which node, why, after how many attempts, and what became of a write.

use std::{fmt, time::Duration};

use crate::problem::{Outcome, Problem};

/// Why a request failed in the end: the cause of its last attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Refused here, before anything was sent: a malformed URL, bucket, key, header.
    Invalid(String),
    /// No connection: nothing was sent.
    Unreachable(String),
    /// The connection broke after the request was on its way.
    Lost(String),
    /// No answer in this time.
    TimedOut(Duration),
    /// The node answered with a problem.
    Answered(Box<Problem>),
    /// The node answered with what the contract does not have.
    Unreadable(String),
}

/// A request that failed, with all that is known about it.
#[derive(Clone, Debug)]
pub struct Error {
    operation: String,
    node: Option<String>,
    attempts: u32,
    outcome: Option<Outcome>,
    cause: Cause,
}

impl Error {
    pub(crate) fn invalid(operation: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            node: None,
            attempts: 0,
            outcome: None,
            cause: Cause::Invalid(why.into()),
        }
    }

    pub(crate) fn at(operation: &str, node: &str, cause: Cause) -> Self {
        Self {
            operation: operation.to_owned(),
            node: Some(node.to_owned()),
            attempts: 1,
            outcome: None,
            cause,
        }
    }

    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn leaving(mut self, outcome: Option<Outcome>) -> Self {
        self.outcome = outcome;
        self
    }

    /// Why the last attempt failed.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The URL of the node that was asked last.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Of a write: what all its attempts together left behind. `None` for a read, and for what was never sent.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// How often the request was sent.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The node's own account, if it gave one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match &self.cause {
            Cause::Answered(problem) => Some(problem),
            _ => None,
        }
    }

    /// The HTTP status of the last answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_deref().unwrap_or("the node");
        write!(f, "{}: ", self.operation)?;
        match &self.cause {
            Cause::Invalid(why) => write!(f, "{why}")?,
            Cause::Unreachable(why) => write!(f, "cannot connect to {node}: {why}")?,
            Cause::Lost(why) => write!(f, "the connection to {node} broke before it answered: {why}")?,
            Cause::TimedOut(limit) => write!(f, "{node} did not answer within {limit:?}")?,
            Cause::Answered(problem) => write!(f, "{node} answered {problem}")?,
            Cause::Unreadable(why) => write!(f, "{node} answered what is not in the contract: {why}")?,
        }
        if self.attempts > 1 {
            write!(f, " (after {} attempts)", self.attempts)?;
        }
        match self.outcome {
            Some(Outcome::None) => write!(f, "; nothing was written"),
            Some(Outcome::Unknown) => write!(f, "; the write may or may not have taken effect"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
