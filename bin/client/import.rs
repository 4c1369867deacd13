//! `annulus import`: a file counts as stored only once the cluster has given its content back.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use annulus_client::{Cause, Client, Context, Error, Head, Options, Put, Read};
use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking};
use walkdir::{DirEntry, WalkDir};

use super::{
    each::each,
    failure::Failure,
    output,
    patience::{self, Patience, until},
    report::{Outcome, Report},
    target::{AllOptions, Target},
    tree, until_interrupted,
};

/// Files above this, the usual limit of a value, go one at a time: memory stays bounded whatever the tree holds.
const LARGE: u64 = 1 << 20;
/// Attempts to find out whether a file is stored already: not worth waiting for, as it can be written again. Where most owners of
/// a key are down, nobody can tell that it holds nothing, and every further attempt would wait for a second.
const LOOKS: u32 = 1;
/// Between a read that does not show what was written and the next write.
const PAUSE: Duration = Duration::from_millis(100);

/// Store a directory tree, one key a file
///
/// Every regular file below DIR is stored under its relative path, with slashes, as the key.
///
/// The content type is told by the name. A hash of the content goes with it as metadata (Annulus-Meta-Xxh3), and
/// each file is read back and compared before it counts as stored. A run that was interrupted is simply run again: what
/// the cluster already has, by hash and size, is skipped. A key that holds something else is replaced.
///
/// Empty directories are not stored: there is no key for them. Symbolic links are not followed and not stored, nor are
/// pipes, sockets and devices; the report counts them. Permissions and times are not kept.
#[derive(clap::Args)]
pub(crate) struct Import {
    /// The directory
    dir: PathBuf,
    /// The bucket to store it in
    #[arg(long, short)]
    bucket: String,
    /// Files at a time
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How long to try again for one file before it counts as failed
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    deadline: Duration,
    #[command(flatten)]
    options: AllOptions,
    #[command(flatten)]
    target: Target,
}

/// What is found in a directory.
#[derive(Default)]
struct Survey {
    files: Vec<File>,
    symlinks: u64,
    others: u64,
    unreadable: Vec<(String, String)>,
}

struct File {
    path: PathBuf,
    key: Vec<u8>,
    size: u64,
}

struct Importer {
    client: Client,
    bucket: String,
    options: Options,
    patience: Patience,
    /// The size limit of a value, once a node has refused one and told it.
    limit: AtomicU64,
    large: Semaphore,
}

impl Import {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        patience::check(&self.target.client()?, &self.bucket).await?;
        let client = self.target.client_with(Client::builder().attempts(u32::MAX))?;
        let Survey {
            files,
            symlinks,
            others,
            unreadable,
        } = survey(&self.dir)?;
        let total = files.iter().map(|file| file.size).sum();
        let mut report = Report::new("import", "stored", Some(total));
        report.skipped("symbolic links", symlinks);
        report.skipped("special files", others);
        for (path, why) in unreadable {
            report.add(path, 0, Outcome::Failed(why));
        }
        let importer = Arc::new(Importer {
            client,
            bucket: self.bucket,
            options: self.options.options(),
            patience: Patience::new(self.deadline),
            limit: AtomicU64::new(u64::MAX),
            large: Semaphore::new(1),
        });
        let work = |file: File| {
            let importer = Arc::clone(&importer);
            async move {
                let outcome = importer.store(&file).await.unwrap_or_else(Outcome::Failed);
                (file.path.display().to_string(), file.size, outcome)
            }
        };
        let done = |(name, size, outcome)| report.add(name, size, outcome);
        until_interrupted(each(files, self.concurrency.into(), work, done)).await?;
        report.finish(self.target.json)
    }
}

impl Importer {
    async fn store(&self, file: &File) -> Result<Outcome, String> {
        let _turn = match file.size {
            0..=LARGE => None,
            _ => Some(self.large.acquire().await.map_err(|error| error.to_string())?),
        };
        let limit = self.limit.load(Ordering::Relaxed);
        if file.size > limit {
            return Err(too_large(file.size, Some(limit)));
        }
        let end = self.patience.end();
        let path = file.path.clone();
        let read = spawn_blocking(move || fs::read(path).map(|bytes| (tree::hash(&bytes), Bytes::from(bytes))));
        let read = read.await.map_err(|error| error.to_string())?;
        let (hash, bytes) = read.map_err(|error| format!("cannot read it: {error}"))?;

        let head = self.look(file, end).await?;
        if head.as_ref().is_some_and(|head| holds(head, bytes.len(), &hash)) {
            return Ok(Outcome::Unchanged);
        }
        let context = head.map(|head| head.context);
        self.write_until_read_back(file, &bytes, &hash, context, end).await
    }

    /// What the key holds, if a node can tell. With most owners down nobody can tell that a key holds nothing, and yet
    /// it can be written: then it is, without a context.
    async fn look(&self, file: &File, end: Instant) -> Result<Option<Head>, String> {
        let options = Options {
            attempts: Some(LOOKS),
            ..until(end, &self.options)
        };
        match self.client.head(&self.bucket, &file.key, &options).await {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.status().is_some_and(|status| status < 500 && status != 429) => Err(error.to_string()),
            Err(_) => Ok(None),
        }
    }

    /// What the context has seen is replaced. If somebody, an earlier run on the other side of a partition say, wrote
    /// what it has not seen, reading back shows it, and the next write replaces that too.
    async fn write_until_read_back(
        &self,
        file: &File,
        bytes: &Bytes,
        hash: &str,
        mut context: Option<Context>,
        end: Instant,
    ) -> Result<Outcome, String> {
        let content_type = mime_guess::from_path(&file.path).first_or_octet_stream().to_string();
        loop {
            let put = Put {
                context,
                ..Put::new(bytes.clone())
            };
            let put = put.content_type(&content_type).meta(tree::HASH, hash);
            let written = self
                .client
                .put(&self.bucket, &file.key, put, &until(end, &self.options))
                .await;
            self.patience.learn(&written);
            written.map_err(|error| self.refused(file, &error))?;
            let read = self
                .client
                .get(&self.bucket, &file.key, &until(end, &self.options))
                .await;
            self.patience.learn(&read);
            let read = read.map_err(|error| format!("it was written, but cannot be read back: {error}"))?;
            if matches!(&read, Read::One(value) if value.bytes == *bytes) {
                return Ok(Outcome::Done);
            }
            if Instant::now() + PAUSE >= end {
                let found = match &read {
                    Read::One(value) => format!("another value of {}", output::bytes(value.bytes.len() as u64)),
                    Read::Siblings(values) => format!("{} concurrent values", values.len()),
                    Read::None { .. } => "nothing".to_owned(),
                };
                return Err(format!(
                    "it was written, but reading back gives {found}: is somebody else writing key {}?",
                    output::key(&file.key)
                ));
            }
            context = Some(read.context().clone());
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn refused(&self, file: &File, error: &Error) -> String {
        if error.status() == Some(413) {
            let limit = error.problem().and_then(|problem| problem.number("limit"));
            self.limit.fetch_min(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
            return too_large(file.size, limit);
        }
        match error.cause() {
            // A node that refuses a large body by its length may close before we have read the refusal.
            Cause::Lost(_) if file.size > LARGE => format!(
                "{error}; it has {}: is that above the nodes' max_value_bytes?",
                output::bytes(file.size)
            ),
            _ => error.to_string(),
        }
    }
}

/// Whether the key holds this content already, and nothing else.
fn holds(head: &Head, size: usize, hash: &str) -> bool {
    let same_size = head.length.is_none_or(|length| length == size as u64);
    head.siblings == 1 && same_size && head.meta.get(tree::HASH).is_some_and(|stored| stored == hash)
}

fn too_large(size: u64, limit: Option<u64>) -> String {
    let limit = limit.map(|limit| format!(" of {limit} bytes")).unwrap_or_default();
    format!("its {size} bytes are above the nodes' limit{limit} for a value (max_value_bytes)")
}

fn survey(dir: &Path) -> Result<Survey, Failure> {
    if !fs::metadata(dir)
        .map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?
        .is_dir()
    {
        return Err(Failure::new(format!(
            "{} is not a directory; `annulus put --file` stores a file",
            dir.display()
        )));
    }
    let mut survey = Survey::default();
    for entry in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        match entry {
            Ok(entry) => survey.add(dir, &entry),
            Err(error) => {
                let path = error.path().unwrap_or(dir).display().to_string();
                let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                survey.unreadable.push((path, why));
            }
        }
    }
    Ok(survey)
}

impl Survey {
    fn add(&mut self, dir: &Path, entry: &DirEntry) {
        let kind = entry.file_type();
        if kind.is_symlink() {
            self.symlinks += 1;
        } else if kind.is_file() {
            let path = entry.path().to_owned();
            let key = tree::key(path.strip_prefix(dir).unwrap_or(&path));
            // A size that cannot be had is no reason to stop here: reading the file will tell why.
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            self.files.push(File { path, key, size });
        } else if !kind.is_dir() {
            self.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_takes_files_and_counts_what_it_leaves_out() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("a/empty")).expect("created");
        fs::write(at("a/b.txt"), "hello").expect("written");
        fs::write(at("z"), "").expect("written");
        std::os::unix::fs::symlink("z", at("link")).expect("linked");
        let Ok(survey) = survey(root.path()) else {
            panic!("a survey was expected")
        };
        let keys: Vec<_> = survey.files.iter().map(|file| (&file.key[..], file.size)).collect();
        assert_eq!(keys, [(&b"a/b.txt"[..], 5), (b"z", 0)]);
        assert_eq!((survey.symlinks, survey.others, survey.unreadable.len()), (1, 0, 0));
        assert!(super::survey(&at("z")).is_err());
    }
}
