//! `annulus export`: a file appears whole or not at all, and never outside of its directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use annulus_client::{Client, Options, Page, Read, Value};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{
    each::each,
    failure::Failure,
    output,
    patience::{self, Patience, until},
    report::{Outcome, Report},
    target::{ReadOptions, Target},
    tree,
};

/// Keys a page.
const PAGE: usize = 1000;

/// Write a bucket's keys to a directory tree, one file a key
///
/// Every key of the bucket becomes a file below DIR; the parts of a key between slashes become directories.
///
/// Each file is verified by the hash that an import has stored with it (Annulus-Meta-Xxh3), where there is one, and
/// appears by a rename once it is complete. A run that was interrupted is simply run again: files that are equal are
/// skipped. Files that no key names are left alone. Keys are listed page by page: those written or deleted meanwhile
/// may or may not be part of it.
///
/// A key that names no place below DIR (a part that is empty, . or .., or a NUL byte) is refused and reported.
#[derive(clap::Args)]
pub(crate) struct Export {
    /// The directory; created if it is not there
    dir: PathBuf,
    /// The bucket
    #[arg(long, short)]
    bucket: String,
    /// Only keys that begin so
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: std::ffi::OsString,
    /// Keys with concurrent values: refuse them, or keep all values as KEY.sibling-1, KEY.sibling-2…
    #[arg(long, value_enum, default_value = "refuse")]
    siblings: Siblings,
    /// Keys at a time
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How long to try again for one key before it counts as failed
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    deadline: Duration,
    #[command(flatten)]
    options: ReadOptions,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Siblings {
    Refuse,
    Keep,
}

struct Exporter {
    client: Client,
    bucket: String,
    dir: PathBuf,
    partial: Partial,
    patience: Patience,
    siblings: Siblings,
    options: Options,
}

/// Where files grow until they are complete: in the same file system, so that a rename moves them.
struct Partial {
    dir: PathBuf,
    next: AtomicU64,
}

impl Export {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        use std::os::unix::ffi::OsStringExt as _;
        patience::check(&self.target.client()?, &self.bucket).await?;
        let builder = Client::builder().attempts(u32::MAX).deadline(self.deadline);
        let exporter = Arc::new(Exporter {
            client: self.target.client_with(builder)?,
            bucket: self.bucket,
            partial: Partial::create(&self.dir)?,
            dir: self.dir,
            patience: Patience::new(self.deadline),
            siblings: self.siblings,
            options: self.options.options(),
        });
        let mut report = Report::new("export", "written", None);
        let mut page = Page {
            prefix: self.prefix.into_vec(),
            start: None,
            limit: Some(PAGE),
        };
        super::until_interrupted(async {
            loop {
                let listing = exporter.client.list(&exporter.bucket, &page).await?;
                let work = |key: Vec<u8>| export(Arc::clone(&exporter), key);
                let done = |(key, size, outcome)| report.add(key, size, outcome);
                each(listing.keys, self.concurrency.into(), work, done).await?;
                page.start = listing.next;
                if page.start.is_none() {
                    return Ok(());
                }
            }
        })
        .await?;
        report.finish(self.target.json)
    }
}

async fn export(exporter: Arc<Exporter>, key: Vec<u8>) -> (String, u64, Outcome) {
    let (size, outcome) = match exporter.one(&key).await {
        Ok((size, outcome)) => (size, outcome),
        Err(why) => (0, Outcome::Failed(why)),
    };
    (format!("key {}", output::key(&key)), size, outcome)
}

impl Exporter {
    async fn one(&self, key: &[u8]) -> Result<(u64, Outcome), String> {
        let relative = tree::path(key).map_err(|why| format!("it names no place below the directory: {why}"))?;
        tree::check_parents(&self.dir, &relative)?;
        let present = self.present(&relative).await?;
        let end = self.patience.end();
        if let Some((size, hash)) = &present
            && self.is_stored_as(key, *size, hash, end).await?
        {
            return Ok((*size, Outcome::Unchanged));
        }
        let read = self.client.get(&self.bucket, key, &until(end, &self.options)).await;
        self.patience.learn(&read);
        match read.map_err(|error| error.to_string())? {
            Read::One(value) => {
                let hash = tree::hash(&value.bytes);
                let verified = verify(&value, &hash)?;
                let size = value.bytes.len() as u64;
                if present == Some((size, hash)) {
                    return Ok((size, Outcome::Unchanged));
                }
                self.write(relative, value.bytes).await?;
                Ok((size, if verified { Outcome::Done } else { Outcome::Unverified }))
            }
            Read::Siblings(values) if self.siblings == Siblings::Keep => self.keep(&relative, values).await,
            Read::Siblings(values) => Err(format!(
                "it has {} concurrent values; merge them (`annulus get` tells how), or export with --siblings keep",
                values.len()
            )),
            Read::None { .. } => Ok((0, Outcome::Gone)),
        }
    }

    /// The size and hash of the file that is there, if one is.
    async fn present(&self, relative: &Path) -> Result<Option<(u64, String)>, String> {
        let path = self.dir.join(relative);
        let read = move || match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Err(format!(
                "{} is a directory, and cannot be a file as well",
                path.display()
            )),
            Ok(found) if found.is_file() => {
                let bytes = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                Ok(Some((bytes.len() as u64, tree::hash(&bytes))))
            }
            // Nothing, or a link or such, which the rename will replace.
            _ => Ok(None),
        };
        spawn_blocking(read).await.map_err(|error| error.to_string())?
    }

    async fn is_stored_as(&self, key: &[u8], size: u64, hash: &str, end: Instant) -> Result<bool, String> {
        let head = self.client.head(&self.bucket, key, &until(end, &self.options)).await;
        self.patience.learn(&head);
        let head = head.map_err(|error| error.to_string())?;
        let same_hash = head.meta.get(tree::HASH).is_some_and(|stored| stored == hash);
        Ok(head.siblings == 1 && same_hash && head.length.is_none_or(|length| length == size))
    }

    async fn keep(&self, relative: &Path, values: Vec<Value>) -> Result<(u64, Outcome), String> {
        let mut total = 0;
        for (index, value) in values.into_iter().enumerate() {
            verify(&value, &tree::hash(&value.bytes))?;
            total += value.bytes.len() as u64;
            let mut name = relative.as_os_str().to_owned();
            name.push(format!(".sibling-{}", index + 1));
            self.write(name.into(), value.bytes).await?;
        }
        Ok((total, Outcome::Done))
    }

    async fn write(&self, relative: PathBuf, bytes: Bytes) -> Result<(), String> {
        let (path, partial) = (self.dir.join(relative), self.partial.next());
        let write = move || {
            let parent = path.parent().unwrap_or(&path);
            fs::create_dir_all(parent).map_err(|error| format!("cannot create {}: {error}", parent.display()))?;
            fs::write(&partial, bytes).map_err(|error| format!("cannot write {}: {error}", partial.display()))?;
            fs::rename(&partial, &path).map_err(|error| format!("cannot create {}: {error}", path.display()))
        };
        spawn_blocking(write).await.map_err(|error| error.to_string())?
    }
}

/// Whether the value has a stored hash and it fits; an error where it does not.
fn verify(value: &Value, hash: &str) -> Result<bool, String> {
    match value.meta.get(tree::HASH) {
        None => Ok(false),
        Some(stored) if stored == hash => Ok(true),
        Some(stored) => Err(format!(
            "its content has hash {hash}, but {stored} was stored with it: it is damaged, or carries \
             another's metadata"
        )),
    }
}

impl Partial {
    fn create(dir: &Path) -> Result<Self, Failure> {
        let partial = dir.join(format!(".annulus-partial-{}", std::process::id()));
        fs::create_dir_all(&partial)
            .map_err(|error: io::Error| Failure::new(format!("cannot create {}: {error}", partial.display())))?;
        Ok(Self {
            dir: partial,
            next: AtomicU64::new(0),
        })
    }

    fn next(&self) -> PathBuf {
        self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What is left in it was never complete; if it cannot be removed, it does no harm.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
