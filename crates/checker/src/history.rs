//! A history is what clients did and what they were told, one JSON object a line, in whatever order it became known.
//!
//! Every value is written at most once, so a value names its write: it is the [`Operation::number`] of the write.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// What holds for the keys of a bucket; keys of buckets that are not named have the rules by default.
    Bucket(Bucket),
    /// What a client asked, with the answer.
    Operation(Operation),
    /// A fault, for people and for tables by fault: no check looks at it.
    Fault(Fault),
    /// What one owner holds when all is quiet again, read from it alone.
    Final(Final),
}

/// The rules of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its name: the part of [`Operation::key`] before the first `/`.
    pub name: String,
    /// Which of several values is shown.
    pub conflicts: Conflicts,
    /// Values are hidden so long after they were written, in milliseconds.
    pub ttl_ms: Option<u64>,
}

/// Which of several concurrent values a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflicts {
    /// All of them.
    #[default]
    Siblings,
    /// The last one.
    Lww,
}

/// One request of one client. Times are microseconds since the history began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its own in the history, 1 or more; of a write, the value that it writes.
    pub number: u64,
    /// The client.
    pub client: u32,
    /// The session, by a number of its own, whose newest token was sent along; each of its requests was sent when the one before
    /// had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The node that was asked.
    pub node: String,
    /// `bucket/key`.
    pub key: String,
    /// When the request was sent.
    pub start_us: u64,
    /// When the answer came; nothing where none did.
    pub end_us: Option<u64>,
    /// After this the cluster does not begin it.
    pub deadline_us: u64,
    /// What was asked.
    pub action: Action,
    /// What was answered.
    pub outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// A GET.
    Get {
        /// Whether only owners counted: such a read sees what strict quorums wrote.
        strict: bool,
    },
    /// A PUT of the operation's number.
    Put {
        /// What it replaces.
        replaces: Replaces,
        /// Whether an answer says that it is on disk; where not, a crash may lose it.
        durable: bool,
    },
    /// A DELETE.
    Delete {
        /// What it removes.
        replaces: Replaces,
        /// As for a PUT.
        durable: bool,
    },
}

/// What a write says of what it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replaces {
    /// Nothing was said: whatever its coordinator knows when it begins.
    Known,
    /// What the read or write showed whose context was sent along (a write shows its own value), or what its condition names.
    Shown(Vec<u64>),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "was", rename_all = "snake_case")]
pub enum Outcome {
    /// To a GET.
    Read {
        /// The values; 0 stands for one that is no number of this history.
        values: Vec<u64>,
        /// Owners that answered, and the owners there are.
        answered: u8,
        /// The owners there are.
        n: u8,
    },
    /// To a write that succeeded.
    Written {
        /// Replicas that have it, fallbacks among them.
        answered: u8,
        /// Fallbacks of them.
        fallbacks: u8,
        /// The owners there are.
        n: u8,
    },
    /// A failure that says that nothing was written, and never will be; of a GET any failure.
    Nothing,
    /// A failure that says that it may have been written, or no answer at all.
    Unknown,
}

/// What was broken, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its kind.
    pub name: String,
    /// What it hit.
    pub detail: String,
    /// When it began.
    pub start_us: u64,
    /// When it ended.
    pub end_us: u64,
}

/// What one owner holds at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {
    /// `bucket/key`.
    pub key: String,
    /// The owner.
    pub node: String,
    /// When it was read.
    pub at_us: u64,
    /// What it shows.
    pub values: Vec<u64>,
}

/// A whole history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// By name.
    pub buckets: BTreeMap<String, Bucket>,
    /// In any order.
    pub operations: Vec<Operation>,
    /// In any order.
    pub faults: Vec<Fault>,
    /// In any order.
    pub finals: Vec<Final>,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("the history cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line.
    #[error("line {line} is no record of a history: {source}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl History {
    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Bucket(bucket) => {
                self.buckets.insert(bucket.name.clone(), bucket);
            }
            Record::Operation(operation) => self.operations.push(operation),
            Record::Fault(fault) => self.faults.push(fault),
            Record::Final(last) => self.finals.push(last),
        }
    }

    /// The rules of the bucket of a key.
    pub fn bucket(&self, key: &str) -> Bucket {
        let name = key.split('/').next().unwrap_or_default();
        self.buckets.get(name).cloned().unwrap_or_default()
    }

    /// Reads one JSON object a line; empty lines are skipped.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub fn read(input: impl BufRead) -> Result<History, HistoryError> {
        let mut history = History::default();
        for (index, line) in input.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let record = serde_json::from_str(&line).map_err(|source| HistoryError::Line {
                line: index + 1,
                source,
            })?;
            history.push(record);
        }
        Ok(history)
    }

    /// Writes what [`History::read`] reads.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let buckets = self.buckets.values().cloned().map(Record::Bucket);
        let operations = self.operations.iter().cloned().map(Record::Operation);
        let faults = self.faults.iter().cloned().map(Record::Fault);
        let finals = self.finals.iter().cloned().map(Record::Final);
        for record in buckets.chain(operations).chain(faults).chain(finals) {
            serde_json::to_writer(&mut out, &record)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}
