//! A data directory belongs to one process at a time, to one node name and to one cluster, for ever.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The version of everything below the directory. Another one is refused: what a newer one means is not known here, and no older one was
/// ever released.
pub const FORMAT_VERSION: u32 = 3;

const IDENTITY_FILE: &str = "identity";
const ENGINE_PREFIX: &str = "engine-";
/// What an engine's directory is called while it is being made, behind a dot. It holds no data.
pub(crate) const UNFINISHED: &str = "unfinished";
const LOCK_FILE: &str = "LOCK";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error("the data directory {path} is in use by {holder}; stop that process, or use another directory")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// "process 123", or "another process" where its number could not be read.
        holder: String,
    },
    /// It holds another node's data.
    #[error(
        "the data directory {path} belongs to node \"{found}\", not to \"{asked}\"; use that name, or another directory"
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// The name that was asked for.
        asked: String,
    },
    /// It holds another cluster's data.
    #[error("the data directory {path} belongs to cluster {found}, not to {asked}; use another directory")]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// The cluster that was asked for.
        asked: String,
    },
    /// It was written by a newer annulus.
    #[error(
        "the data directory {path} has format {found}, and this annulus knows up to {FORMAT_VERSION}; use a newer annulus"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It was written by an annulus from before the first release.
    #[error(
        "the data directory {path} has format {found}, and this annulus knows {FORMAT_VERSION} only; export the data with the annulus \
         that wrote it, and import it into a new directory"
    )]
    OlderFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The records here were written by another engine.
    #[error(
        "the data directory {path} holds data of the engine {found}, and {asked} was asked for; start with --engine {found}"
    )]
    OtherEngine {
        /// The directory.
        path: PathBuf,
        /// Whose data it holds.
        found: String,
        /// Which engine would be started.
        asked: String,
    },
    /// The identity file does not say what it should.
    #[error("{path} cannot be understood ({detail}); restore it, or use another directory")]
    Unreadable {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system refused.
    #[error("{doing} {path} failed: {error}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// An open data directory: locked until it is dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    node: String,
    cluster: Option<String>,
    _lock: File,
}

impl DataDirectory {
    /// Takes the directory for this process, and makes it if need be.
    ///
    /// # Errors
    /// Where another process has it, or where it belongs to another node or a newer version; see [`DirectoryError`].
    ///
    /// # Panics
    /// If the name is empty or holds a line break: names are checked where they come in.
    pub fn open(path: &Path, node: &str) -> Result<DataDirectory, DirectoryError> {
        assert!(!node.is_empty() && !node.contains('\n'), "a node's name is one line");
        create_durably(path).map_err(io_error("creating", path))?;
        let lock = lock(path)?;
        let mut directory = DataDirectory {
            path: path.to_owned(),
            node: node.to_owned(),
            cluster: None,
            _lock: lock,
        };
        match directory.read_identity()? {
            None => directory.write_identity()?,
            Some(identity) if identity.node != node => {
                return Err(DirectoryError::OtherNode {
                    path: path.to_owned(),
                    found: identity.node,
                    asked: node.to_owned(),
                });
            }
            Some(identity) => directory.cluster = identity.cluster,
        }
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine of this name keeps its files.
    pub fn engine_path(&self, engine: &str) -> PathBuf {
        self.path.join(format!("{ENGINE_PREFIX}{engine}"))
    }

    /// Makes sure that no other engine's files are here: the node would start with nothing beside its own data.
    ///
    /// # Errors
    /// [`DirectoryError::OtherEngine`] where there are.
    pub fn check_engine(&self, engine: &str) -> Result<(), DirectoryError> {
        for entry in fs::read_dir(&self.path).map_err(io_error("listing", &self.path))? {
            let name = entry.map_err(io_error("listing", &self.path))?.file_name();
            let found = name.to_str().and_then(|name| name.strip_prefix(ENGINE_PREFIX));
            let is_whole = |found: &str| Path::new(found).extension() != Some(OsStr::new(UNFINISHED));
            if let Some(found) = found.filter(|found| *found != engine && is_whole(found)) {
                return Err(DirectoryError::OtherEngine {
                    path: self.path.clone(),
                    found: found.to_owned(),
                    asked: engine.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The cluster whose data it holds, once that is known.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Binds the directory to a cluster, durably. The same cluster again is fine.
    ///
    /// # Errors
    /// [`DirectoryError::OtherCluster`] where it is bound to another.
    ///
    /// # Panics
    /// If the id is empty or holds a line break.
    pub fn bind_cluster(&mut self, cluster: &str) -> Result<(), DirectoryError> {
        assert!(
            !cluster.is_empty() && !cluster.contains('\n'),
            "a cluster's id is one line"
        );
        match &self.cluster {
            Some(found) if found == cluster => Ok(()),
            Some(found) => Err(DirectoryError::OtherCluster {
                path: self.path.clone(),
                found: found.clone(),
                asked: cluster.to_owned(),
            }),
            None => {
                self.cluster = Some(cluster.to_owned());
                self.write_identity().inspect_err(|_| self.cluster = None)
            }
        }
    }

    /// Free space for this process on the directory's file system, in bytes.
    pub fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.path)
    }

    fn read_identity(&self) -> Result<Option<Identity>, DirectoryError> {
        let path = self.path.join(IDENTITY_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("reading", &path)(error)),
        };
        let identity = Identity::parse(&text).map_err(|detail| DirectoryError::Unreadable { path, detail })?;
        if identity.format > FORMAT_VERSION {
            return Err(DirectoryError::NewerFormat {
                path: self.path.clone(),
                found: identity.format,
            });
        }
        if identity.format < FORMAT_VERSION {
            return Err(DirectoryError::OlderFormat {
                path: self.path.clone(),
                found: identity.format,
            });
        }
        Ok(Some(identity))
    }

    fn write_identity(&self) -> Result<(), DirectoryError> {
        let mut text = format!("format {FORMAT_VERSION}\nnode {}\n", self.node);
        if let Some(cluster) = &self.cluster {
            text += &format!("cluster {cluster}\n");
        }
        let path = self.path.join(IDENTITY_FILE);
        write_durably(&path, text.as_bytes()).map_err(io_error("writing", &path))
    }
}

/// What the identity file says: one "name value" a line; unknown names are a newer version's.
#[derive(Debug)]
struct Identity {
    format: u32,
    node: String,
    cluster: Option<String>,
}

impl Identity {
    fn parse(text: &str) -> Result<Identity, String> {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines
                .find(|(found, _)| *found == name)
                .map(|(_, value)| value.to_owned())
        };
        let format = field("format").ok_or("it has no line \"format\"")?;
        let format = format.parse().map_err(|_| format!("\"{format}\" is not a format"))?;
        if format > FORMAT_VERSION {
            return Ok(Identity {
                format,
                node: String::new(),
                cluster: None,
            });
        }
        let node = field("node").ok_or("it has no line \"node\"")?;
        Ok(Identity {
            format,
            node,
            cluster: field("cluster"),
        })
    }
}

/// The lock lives in the kernel, so a killed process leaves none behind; the number inside is only for the message.
fn lock(path: &Path) -> Result<File, DirectoryError> {
    let file_path = path.join(LOCK_FILE);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file_path);
    let mut file = file.map_err(io_error("opening", &file_path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let holder = if known {
                format!("process {}", pid.trim())
            } else {
                "another process".to_owned()
            };
            return Err(DirectoryError::InUse {
                path: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("locking", &file_path)(error)),
    }
    let pid = format!("{}\n", std::process::id());
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(pid.as_bytes()));
    written.map_err(io_error("writing", &file_path))?;
    Ok(file)
}

/// Makes a directory, and its name durable with the names of all that it is in.
fn create_durably(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    // Those that were there before, too: an earlier start may have made them, and been killed here.
    for above in path.canonicalize()?.ancestors().skip(1) {
        match sync_directory(above) {
            // It was not made by us, who may not even list it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Replaces a file so that after a crash it is the old one or the new one, whole.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the name of a directory durable. An earlier process may have given it, and been killed before it did this.
pub(crate) fn sync_name(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Free space for this process on the file system of `path`, in bytes.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail * found.f_frsize)
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError::Io { doing, path, error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_by_whom() {
        let place = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(place.path(), "n1").unwrap();
        let error = DataDirectory::open(place.path(), "n1").unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        DataDirectory::open(place.path(), "n1").unwrap();
    }

    #[test]
    fn another_node_or_cluster_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("deep/below");
        let mut directory = DataDirectory::open(&path, "n1").unwrap();
        assert_eq!(directory.cluster(), None);
        directory.bind_cluster("c1").unwrap();
        drop(directory);
        let error = DataDirectory::open(&path, "n2").unwrap_err().to_string();
        assert!(error.contains("belongs to node \"n1\""), "{error}");
        let mut directory = DataDirectory::open(&path, "n1").unwrap();
        assert_eq!(directory.cluster(), Some("c1"));
        directory.bind_cluster("c1").unwrap();
        let error = directory.bind_cluster("c2").unwrap_err().to_string();
        assert!(error.contains("belongs to cluster c1, not to c2"), "{error}");
        assert!(directory.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_newer_format_and_garbage_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let identity = place.path().join("identity");
        fs::write(&identity, "format 4\nsoul n1\n").unwrap();
        let error = DataDirectory::open(place.path(), "n1").unwrap_err();
        assert!(matches!(error, DirectoryError::NewerFormat { found: 4, .. }), "{error}");
        fs::write(&identity, "format 2\nnode n1\n").unwrap();
        let error = DataDirectory::open(place.path(), "n1").unwrap_err();
        assert!(matches!(error, DirectoryError::OlderFormat { found: 2, .. }), "{error}");
        for garbage in ["", "format x\n", "format 1\n", "\u{0}\u{0}"] {
            fs::write(&identity, garbage).unwrap();
            let error = DataDirectory::open(place.path(), "n1").unwrap_err();
            assert!(matches!(error, DirectoryError::Unreadable { .. }), "{error}");
        }
    }

    #[test]
    fn an_engine_that_a_crash_left_half_made_is_not_another_engine() {
        let place = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(place.path(), "n1").unwrap();
        fs::create_dir(place.path().join("engine-fjall.unfinished")).unwrap();
        directory.check_engine("fjall").unwrap();
        fs::create_dir(place.path().join("engine-fjall")).unwrap();
        let error = directory.check_engine("sled").unwrap_err().to_string();
        assert!(error.contains("holds data of the engine fjall"), "{error}");
    }

    #[test]
    fn what_a_crash_left_of_a_write_does_not_matter() {
        let place = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(place.path(), "n1").unwrap());
        fs::write(place.path().join("identity.new"), "form").unwrap();
        let mut directory = DataDirectory::open(place.path(), "n1").unwrap();
        directory.bind_cluster("c1").unwrap();
    }
}
