//! What keeps the command from doing its work, as opposed to what it finds out about the nodes.

use std::io;
use std::path::{Path, PathBuf};

/// Why a run, or one fault of it, could not be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// A file, or a program.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A fault that does not go with what other faults have left.
    #[error("left out: {0}")]
    LeftOut(String),
    /// A command of the system.
    #[error("{0}")]
    Command(String),
    /// The nodes.
    #[error("{0}")]
    NotReady(String),
    /// A socket, a runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Trouble {
    pub(crate) fn file(path: &Path, source: io::Error) -> Trouble {
        Trouble::File {
            path: path.to_owned(),
            source,
        }
    }
}
