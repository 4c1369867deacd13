//! A disk that loses power: what was synced stays, and of the rest a seed decides, by the rules of file systems and no worse.
//!
//! The rules, which are what ext4, XFS and btrfs all promise, and less than what any one of them does:
//! - An fsync or fdatasync of a file that has returned keeps the file's bytes and its length as they were when it began.
//! - Of what was not synced, each sector of 512 bytes holds what it held after one of the writes to it, and a file's length may be
//!   there before its bytes: a write is kept, lost, torn, or leaves zeros. A truncation is there if anything later in the file is.
//! - The names in one directory change in order: a prefix of the changes is kept, a rename never by half. Two directories know
//!   nothing of each other. The fsync of a directory keeps its names.
//! - The fsync of a file that is new also keeps the name that it was made under. POSIX does not promise it, but these file systems
//!   do, and the engine fjall counts on it for its files of large values. It keeps neither the directory's own name nor a later
//!   rename of the file.
//! - `sync_file_range` keeps nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::content::{Content, Loss, Step};
use crate::journal::{Change, Journal};

/// Files and directories as they are on the disk, all of it synced.
#[derive(Debug)]
pub(crate) struct Disk {
    nodes: Vec<Node>,
    /// What open files are called by.
    by_inode: HashMap<u64, usize>,
}

/// The directory that is watched is the first node.
const ROOT: usize = 0;

#[derive(Debug)]
enum Node {
    File(Content),
    Directory(BTreeMap<String, usize>),
}

/// What happened to one node since power was last lost.
#[derive(Default)]
struct History<'a> {
    steps: Vec<Step<'a>>,
    names: Vec<NameChange>,
    /// So many of the steps, or of the changes of names, were synced.
    synced: usize,
    /// Where its name was made, and as the how manyth change there.
    made: Option<(usize, usize)>,
}

enum NameChange {
    Put { name: String, node: usize },
    Move { from: String, to: String },
    Remove { name: String },
}

impl NameChange {
    fn make(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Put { name, node } => {
                names.insert(name.clone(), *node);
            }
            NameChange::Move { from, to } => {
                let node = names.remove(from).expect("what was renamed was there");
                names.insert(to.clone(), node);
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

impl Disk {
    /// The disk of an empty directory.
    pub(crate) fn of_empty(directory: &Path) -> io::Result<Disk> {
        let mut disk = Disk {
            nodes: vec![Node::Directory(BTreeMap::new())],
            by_inode: HashMap::new(),
        };
        disk.write_out(directory)?;
        Ok(disk)
    }

    /// Makes the directory what it is after a power loss at the end of the journal.
    ///
    /// # Errors
    /// Where the journal does not explain what the directory holds: then something went past the shim.
    pub(crate) fn lose_power(
        &mut self,
        directory: &Path,
        journal: &Journal,
        loss: Loss,
        random: &mut StdRng,
    ) -> Result<(), String> {
        let histories = self.replay(journal)?;
        let mut kept = Vec::new();
        for (node, history) in self.nodes.iter_mut().zip(&histories) {
            kept.push(match node {
                Node::File(content) => Node::File(content.play(&history.steps, history.synced, loss, random)),
                Node::Directory(names) => {
                    let mut kept = names.clone();
                    let prefix = kept_names(history, loss, random);
                    history.names[..prefix].iter().for_each(|change| change.make(&mut kept));
                    history.names.iter().for_each(|change| change.make(names));
                    Node::Directory(kept)
                }
            });
        }
        self.check(ROOT, directory, "", &journal.pending)?;
        self.nodes = kept;
        self.write_out(directory).map_err(|error| error.to_string())
    }

    /// Sorts the journal by nodes, new ones included.
    fn replay<'a>(&mut self, journal: &'a Journal) -> Result<Vec<History<'a>>, String> {
        let names = |node: &Node| match node {
            Node::File(_) => BTreeMap::new(),
            Node::Directory(names) => names.clone(),
        };
        let mut replay = Replay {
            histories: self.nodes.iter().map(|_| History::default()).collect(),
            names: self.nodes.iter().map(names).collect(),
            syncs: HashMap::new(),
            disk: self,
        };
        for change in journal.changes() {
            replay
                .take(change)
                .ok_or_else(|| format!("the journal says {change:?}, of what is not there"))?;
        }
        Ok(replay.histories)
    }

    /// Compares with what processes see.
    fn check(&self, node: usize, path: &Path, below: &str, pending: &[String]) -> Result<(), String> {
        let differs = |how: &str| match pending.iter().any(|pending| pending == below) {
            true => Ok(()),
            false => Err(format!("{} {how}: something went past the shim", path.display())),
        };
        match &self.nodes[node] {
            Node::File(content) => match fs::read(path) {
                Ok(bytes) if content.is(&bytes) => Ok(()),
                Ok(bytes) => differs(&format!("({} bytes, not {}) is another", bytes.len(), content.length())),
                Err(error) => differs(&error.to_string()),
            },
            Node::Directory(names) => {
                let Ok(entries) = fs::read_dir(path) else {
                    return differs("is no directory");
                };
                let pending_here = |name: &str| pending.contains(&joined(below, name));
                for entry in entries {
                    let name = entry.map_err(|error| error.to_string())?.file_name();
                    let name = name.to_str().expect("the names here are text");
                    if !names.contains_key(name) && !pending_here(name) {
                        return Err(format!("{}/{name} went past the shim", path.display()));
                    }
                }
                for (name, node) in names {
                    self.check(*node, &path.join(name), &joined(below, name), pending)?;
                }
                Ok(())
            }
        }
    }

    /// Writes all that has a name to the directory, and forgets the rest.
    fn write_out(&mut self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        let nodes = std::mem::take(&mut self.nodes);
        self.by_inode.clear();
        self.write_node(&nodes, ROOT, directory)?;
        Ok(())
    }

    fn write_node(&mut self, nodes: &[Node], node: usize, path: &Path) -> io::Result<usize> {
        let number = self.nodes.len();
        match &nodes[node] {
            Node::File(content) => {
                let file = File::create_new(path)?;
                for (offset, bytes) in content.stretches() {
                    file.write_all_at(&bytes, offset)?;
                }
                file.set_len(content.length())?;
                self.nodes.push(Node::File(content.clone()));
            }
            Node::Directory(names) => {
                fs::create_dir(path)?;
                self.nodes.push(Node::Directory(BTreeMap::new()));
                let mut written = BTreeMap::new();
                for (name, node) in names {
                    written.insert(name.clone(), self.write_node(nodes, *node, &path.join(name))?);
                }
                self.nodes[number] = Node::Directory(written);
            }
        }
        self.by_inode.insert(fs::metadata(path)?.ino(), number);
        Ok(number)
    }
}

/// How many changes of a directory's names are on the disk.
fn kept_names(history: &History<'_>, loss: Loss, random: &mut StdRng) -> usize {
    match loss {
        _ if !loss.keeps(random) => history.synced,
        _ => random.random_range(history.synced..=history.names.len()),
    }
}

fn joined(below: &str, name: &str) -> String {
    match below {
        "" => name.to_owned(),
        below => format!("{below}/{name}"),
    }
}

struct Replay<'d, 'a> {
    disk: &'d mut Disk,
    histories: Vec<History<'a>>,
    /// The names as processes see them, as far as the journal was read; none for files.
    names: Vec<BTreeMap<String, usize>>,
    /// Syncs that began: of what, and how much of its history there was.
    syncs: HashMap<u64, (usize, usize)>,
}

impl<'a> Replay<'_, 'a> {
    fn take(&mut self, change: Change<'a>) -> Option<()> {
        match change {
            Change::Write { inode, offset, bytes } => self.step(inode, Step::Write { offset, bytes }),
            Change::Truncate { inode, length } => self.step(inode, Step::Truncate { length }),
            Change::Create { inode, path } => self.make(inode, path, Node::File(Content::default())),
            Change::MakeDirectory { inode, path } => self.make(inode, path, Node::Directory(BTreeMap::new())),
            Change::Rename { from, to } => {
                let (directory, from_name) = self.parent(from)?;
                let (to_directory, to_name) = self.parent(to)?;
                assert_eq!(
                    directory, to_directory,
                    "renames from one directory to another are not modelled"
                );
                let (from, to) = (from_name.to_owned(), to_name.to_owned());
                self.change_name(directory, NameChange::Move { from, to });
                Some(())
            }
            Change::Remove { path } => {
                let (directory, name) = self.parent(path)?;
                let name = name.to_owned();
                self.change_name(directory, NameChange::Remove { name });
                Some(())
            }
            Change::SyncBegins { inode, number } => {
                let node = *self.disk.by_inode.get(&inode)?;
                let history = &self.histories[node];
                self.syncs
                    .insert(number, (node, history.steps.len() + history.names.len()));
                Some(())
            }
            Change::SyncEnds { number } => {
                let (node, until) = self.syncs.remove(&number)?;
                let history = &mut self.histories[node];
                history.synced = history.synced.max(until);
                if let (Node::File(_), Some((directory, name))) = (&self.disk.nodes[node], history.made) {
                    let directory = &mut self.histories[directory];
                    directory.synced = directory.synced.max(name);
                }
                Some(())
            }
        }
    }

    fn step(&mut self, inode: u64, step: Step<'a>) -> Option<()> {
        let node = *self.disk.by_inode.get(&inode)?;
        self.histories[node].steps.push(step);
        Some(())
    }

    fn make(&mut self, inode: u64, path: &str, node: Node) -> Option<()> {
        let (directory, name) = self.parent(path)?;
        let name = name.to_owned();
        let number = self.disk.nodes.len();
        self.disk.nodes.push(node);
        self.disk.by_inode.insert(inode, number);
        self.names.push(BTreeMap::new());
        self.change_name(directory, NameChange::Put { name, node: number });
        let made = self.histories[directory].names.len();
        self.histories.push(History {
            made: Some((directory, made)),
            ..History::default()
        });
        Some(())
    }

    fn change_name(&mut self, directory: usize, change: NameChange) {
        change.make(&mut self.names[directory]);
        self.histories[directory].names.push(change);
    }

    /// The directory of a path, and the name in it.
    fn parent<'p>(&self, path: &'p str) -> Option<(usize, &'p str)> {
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = ROOT;
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            directory = *self.names[directory].get(parent)?;
        }
        Some((directory, name))
    }
}
