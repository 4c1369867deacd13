//! An engine that was dropped lets go of its files a moment later: the next one to open them waits for that.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// A dropped engine's threads finish what they are at; longer than this, another process has the file.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until nobody holds the file's lock.
///
/// # Errors
/// Where somebody still does after [`RELEASE_TIMEOUT`].
pub(super) fn wait_for_release(file: &File) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return file.unlock(),
            Err(TryLockError::WouldBlock) if begun.elapsed() < RELEASE_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
