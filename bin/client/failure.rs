//! A command that fails says what failed and why, and what to do about it.

use std::{io, process::ExitCode};

use annulus_client::{Cause, Error, Outcome};

pub(crate) enum Failure {
    /// Something failed: status 1.
    Failed {
        /// What, which and why.
        message: String,
        /// What to do, where that is known.
        advice: Option<&'static str>,
    },
    /// The arguments make no sense together: status 2.
    Usage(String),
    /// Whoever read our output has seen enough; nothing is wrong.
    NobodyReads,
    /// The output has said it already: status 1.
    Reported,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            advice: None,
        }
    }

    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Failed { message, advice } => {
                eprintln!("annulus: {message}");
                if let Some(advice) = advice {
                    eprintln!("  {advice}");
                }
                ExitCode::FAILURE
            }
            Self::Usage(message) => {
                eprintln!("annulus: {message}\n  --help tells how it is used.");
                ExitCode::from(2)
            }
            Self::NobodyReads => ExitCode::SUCCESS,
            Self::Reported => ExitCode::FAILURE,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if let (Cause::Invalid(_), 0) = (error.cause(), error.attempts()) {
            return Self::Usage(error.to_string());
        }
        Self::Failed {
            message: error.to_string(),
            advice: advice(&error),
        }
    }
}

impl From<io::Error> for Failure {
    /// For errors of our own output; whoever reads or writes files says which.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::new(format!("cannot write to stdout: {error}")),
        }
    }
}

fn advice(error: &Error) -> Option<&'static str> {
    if error.outcome() == Some(Outcome::Unknown) {
        return Some("Read the key to see which it is; writing the same value again does no harm.");
    }
    match (error.cause(), error.status()) {
        (Cause::Unreachable(_), _) => Some(
            "Is the node up (`scripts/cluster status`)? --url, or ANNULUS_URL, names other nodes; several with commas.",
        ),
        (Cause::TimedOut(_), _) => {
            Some("The node hangs or is overloaded; `annulus status` with another --url tells how others see it.")
        }
        (_, Some(409)) => {
            Some("Read the key, merge what it holds, and write the result with the --context of that read.")
        }
        (_, Some(412)) => Some("Somebody else was faster: read the key again, and decide anew."),
        (_, Some(413)) => {
            Some("Nodes take values up to their max_value_bytes; split the value, or raise it on every node.")
        }
        (_, Some(503)) => {
            Some("`annulus status` shows which nodes are down; a smaller --r or --w, or --sloppy true, needs fewer.")
        }
        _ => None,
    }
}
