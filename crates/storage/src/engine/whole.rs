//! An engine's directory has its name only once it is whole and durable: neither engine opens one that was half made.

use std::fs;
use std::io;
use std::path::Path;

use super::EngineError;
use crate::directory::{UNFINISHED, sync_directory, sync_name};

/// Makes the directory by `make`, which is told where and leaves all in it durable, unless it is there and not empty.
///
/// It is made under another name, which a crash may leave behind and the next call uses again.
pub(super) fn make_whole(path: &Path, make: impl FnOnce(&Path) -> Result<(), EngineError>) -> Result<(), EngineError> {
    let io = |error: io::Error| EngineError::from_io("making the engine", &error);
    if is_empty(path).map_err(io)? {
        let unfinished = path.with_extension(UNFINISHED);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(io)?;
        }
        fs::create_dir_all(&unfinished).map_err(io)?;
        make(&unfinished)?;
        sync_directory(&unfinished)
            .and_then(|()| fs::rename(&unfinished, path))
            .map_err(io)?;
    }
    // Also of one that was there: whoever made it may have been killed before this.
    sync_name(path).map_err(io)
}

fn is_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        entries => Ok(entries?.next().is_none()),
    }
}
