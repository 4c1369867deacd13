//! What went wrong in an engine, in the classes that a node acts on.

use std::fmt;
use std::io;

use bytes::Bytes;

use super::Space;

/// Why an engine could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The disk or the quota is exhausted. Make room; until then reads go on where [`EngineError::usable`] says so.
    Full {
        /// What was being done.
        doing: &'static str,
        /// Whether the engine noticed before it began, so that it serves on as if it had not been asked.
        before_writing: bool,
        /// What the system said.
        detail: String,
    },
    /// The operating system refused a read or a write.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The class of the error.
        kind: io::ErrorKind,
        /// What the system said.
        detail: String,
    },
    /// A record is not what was written. It counts as unknown, never as absent.
    Damaged {
        /// The space of the record.
        space: Space,
        /// Its key.
        key: Bytes,
        /// How it was noticed.
        detail: String,
    },
    /// The engine's own files do not hold together.
    Corrupt {
        /// What the engine said.
        detail: String,
    },
    /// A key above [`super::MAX_ENGINE_KEY_BYTES`]; nothing was written.
    KeyTooLong {
        /// The space of the record.
        space: Space,
        /// Its length.
        bytes: usize,
    },
    /// An earlier error has made the engine useless: it has to be reopened.
    Failed {
        /// The earlier error.
        detail: String,
    },
}

impl EngineError {
    /// Whether the engine serves on after this error, its contents as if the call had not been made.
    pub fn usable(&self) -> bool {
        match self {
            EngineError::Full { before_writing, .. } => *before_writing,
            EngineError::Damaged { .. } | EngineError::KeyTooLong { .. } => true,
            EngineError::Io { .. } | EngineError::Corrupt { .. } | EngineError::Failed { .. } => false,
        }
    }

    /// Classifies what the operating system said.
    pub fn from_io(doing: &'static str, error: &io::Error) -> EngineError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::Full {
                doing,
                before_writing: false,
                detail: error.to_string(),
            },
            kind => EngineError::Io {
                doing,
                kind,
                detail: error.to_string(),
            },
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Full {
                doing,
                before_writing: true,
                detail,
            } => {
                write!(
                    f,
                    "no room on the disk for {doing} ({detail}); writes are refused until there is room"
                )
            }
            EngineError::Full {
                doing,
                before_writing: false,
                detail,
            } => {
                write!(
                    f,
                    "the disk filled up while {doing} ({detail}); make room, then the engine is reopened"
                )
            }
            EngineError::Io { doing, detail, .. } => {
                write!(f, "{doing} failed: {detail}; check the disk, then restart the node")
            }
            EngineError::Damaged { space, key, detail } => write!(
                f,
                "the {} record \"{}\" is damaged: {detail}; it is refilled from the other owners",
                space.name(),
                key.escape_ascii()
            ),
            EngineError::Corrupt { detail } => write!(
                f,
                "the engine's files are damaged: {detail}; move the data directory away and let the node refill from its peers"
            ),
            EngineError::KeyTooLong { space, bytes } => {
                write!(
                    f,
                    "a key of {bytes} bytes in the {} space is above the limit",
                    space.name()
                )
            }
            EngineError::Failed { detail } => {
                write!(
                    f,
                    "the engine stopped after an earlier error ({detail}) and has to be reopened"
                )
            }
        }
    }
}

impl std::error::Error for EngineError {}
