//! The journal that `shim/forget.c` keeps: every change of a file or a name, in the order in which they happened.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const PATH_BYTES: usize = 4096;
const HEAD_BYTES: usize = 3 * 8 + 2 * PATH_BYTES;
const RECORD_BYTES: usize = 2 * 4 + 3 * 8;

/// How long it may become; the file is sparse.
const CAPACITY_BYTES: u64 = 1 << 30;

/// One change. Paths are below the watched directory; inodes stand for open files, whatever they are called by now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    Write { inode: u64, offset: u64, bytes: &'a [u8] },
    Truncate { inode: u64, length: u64 },
    Create { inode: u64, path: &'a str },
    MakeDirectory { inode: u64, path: &'a str },
    Rename { from: &'a str, to: &'a str },
    Remove { path: &'a str },
    SyncBegins { inode: u64, number: u64 },
    SyncEnds { number: u64 },
}

/// What a killed process left.
pub(crate) struct Journal {
    bytes: Vec<u8>,
    /// The files that it was changing when it died: what they hold is not known.
    pub(crate) pending: Vec<String>,
}

impl Journal {
    /// An empty one, for the next process.
    pub(crate) fn create(path: &Path) -> io::Result<()> {
        File::create(path)?.set_len(CAPACITY_BYTES)
    }

    /// Reads it, or nothing where no process had the shim loaded.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Journal>> {
        let mut file = File::open(path)?;
        let mut head = vec![0; HEAD_BYTES];
        file.read_exact(&mut head)?;
        if number(&head) == 0 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(number(&head[8..])).read_to_end(&mut bytes)?;
        let mut pending = Vec::new();
        if number(&head[16..]) != 0 {
            for path in head[24..].chunks(PATH_BYTES) {
                let length = path.iter().position(|byte| *byte == 0).expect("it ends with a zero");
                pending.push(text(&path[..length]).to_owned());
            }
        }
        Ok(Some(Journal { bytes, pending }))
    }

    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (head, body) = rest.split_at_checked(RECORD_BYTES)?;
            let kind = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
            let path_bytes = u32::from_le_bytes(head[4..8].try_into().expect("four bytes")) as usize;
            let (inode, offset, length) = (number(&head[8..]), number(&head[16..]), number(&head[24..]) as usize);
            let (path, bytes) = (text(&body[..path_bytes]), &body[path_bytes..path_bytes + length]);
            rest = &body[(path_bytes + length).next_multiple_of(8)..];
            Some(match kind {
                1 => Change::Write { inode, offset, bytes },
                2 => Change::Truncate { inode, length: offset },
                3 => Change::Create { inode, path },
                4 => Change::MakeDirectory { inode, path },
                5 => {
                    let (from, to) = path.split_once('\0').expect("two paths");
                    Change::Rename { from, to }
                }
                6 => Change::Remove { path },
                7 => Change::SyncBegins { inode, number: offset },
                8 => Change::SyncEnds { number: offset },
                _ => panic!("the shim writes no record of kind {kind}"),
            })
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the paths here are text")
}
