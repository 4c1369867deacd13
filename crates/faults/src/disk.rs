//! A small file system a node, in a mount namespace of this command's own: it is gone with the processes in it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::trouble::Trouble;

/// The size of each node's file system: enough for a run, little enough to be filled at once.
pub(crate) const DISK_BYTES: u64 = 256 << 20;

/// Every second node refuses writes in good time; the others run into the end of the disk.
pub(crate) fn min_free_bytes(index: usize) -> u64 {
    if index.is_multiple_of(2) { 16 << 20 } else { 0 }
}

/// Mounts an empty file system.
pub(crate) fn mount(at: &Path, bytes: u64) -> Result<(), Trouble> {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "annulus-faults"])
        .arg(at)
        .status()
        .map_err(|error| Trouble::Command(format!("mount: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Trouble::Command(format!("mount at {}: {status}", at.display()))),
    }
}

/// Unmounts what [`mount`] has mounted.
pub(crate) fn unmount(at: &Path) {
    let _ = Command::new("umount").arg(at).stderr(Stdio::null()).status();
}

/// Takes all room of a file system but for so many bytes.
pub(crate) fn fill(home: &Path, leave: u64) -> Result<(), Trouble> {
    let path = home.join("filler");
    let free = || statvfs(home).map(|stat| stat.f_bavail * stat.f_frsize);
    let take = || -> std::io::Result<()> {
        let file = File::create(&path)?;
        let mut size = 0;
        // The node writes meanwhile, so that what was free is not all there any more.
        for _ in 0..8 {
            let more = free()?.saturating_sub(leave);
            if more == 0 || fallocate(&file, FallocateFlags::empty(), size, more).is_err() {
                continue;
            }
            size += more;
        }
        Ok(())
    };
    take().map_err(|error| Trouble::file(&path, error))
}

/// Gives the room back.
pub(crate) fn empty(home: &Path) {
    let _ = fs::remove_file(home.join("filler"));
}
