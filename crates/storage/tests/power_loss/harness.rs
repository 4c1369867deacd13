//! Crashes of one node, again and again on one directory: killed at some moment, then without power, then started again.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use crate::content::Loss;
use crate::disk::Disk;
use crate::journal::Journal;
use crate::writer::Conduct;

/// After at most so many crashes the node begins with an empty disk again.
const CRASHES_OF_ONE_DISK: u64 = 12;

/// A process that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// A sync takes up to so long: writes go on meanwhile.
const SYNC_MICROS: &str = "400";

const KILLED: i32 = 9;

/// What is run, and against which disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// The test that is the process to be killed.
    pub(crate) writer: &'static str,
    pub(crate) conduct: Conduct,
    pub(crate) disk_lies: bool,
    /// More changes of files than it takes to make the engine and to acknowledge a batch.
    pub(crate) changes_to_begin: u64,
}

/// How a process comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// From outside, so long after so many batches were acknowledged.
    Killed { after_batches: u64, micros: u64 },
    /// By itself, when it would make one more change of its files than this: also while it opens them.
    Stops { after_changes: u64 },
    /// When it has found what it should.
    Looks,
}

impl End {
    fn draw(random: &mut StdRng) -> End {
        if random.random_bool(0.5) {
            End::Killed {
                after_batches: random.random_range(0..60),
                micros: random.random_range(0..3000),
            }
        } else {
            // As often within the first tens, where it recovers, as later.
            let magnitude = random.random_range(1..11);
            let after_changes = random.random_range(0..1 << magnitude);
            End::Stops { after_changes }
        }
    }
}

/// How many crashes there were, and how many of them before a process had opened its files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) crashes: u64,
    pub(crate) while_opening: u64,
    pub(crate) power_losses: u64,
    pub(crate) batches: u64,
}

impl Suite {
    /// Crashes so often, on disks with seeds from `seed` on.
    ///
    /// # Errors
    /// What was found wrong, and how to see it again.
    pub(crate) fn crash(self, seed: u64, crashes: u64) -> Result<Tally, String> {
        let mut tally = Tally::default();
        for seed in seed.. {
            let left = crashes - tally.crashes;
            if left == 0 {
                break;
            }
            let mut node = Node::new(self, seed);
            let crashes = node.random.random_range(1..=CRASHES_OF_ONE_DISK);
            let lived = node.live(left.min(crashes), &mut tally);
            lived.map_err(|wrong| node.explain(&wrong))?;
        }
        Ok(tally)
    }

    /// Crashes so often while everything is made for the first time: killed at one of the changes that this takes, started again
    /// with what was not synced still in the page cache, and without power once a few batches are acknowledged.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn crash_at_first(self, seed: u64, crashes: u64) -> Result<(), String> {
        for crash in 0..crashes {
            let stride = self.changes_to_begin.div_ceil(crashes);
            let after_changes = (seed + crash * stride) % self.changes_to_begin;
            let mut node = Node::new(self, seed);
            let lived = node.live_twice(End::Stops { after_changes });
            lived.map_err(|wrong| node.explain(&wrong))?;
        }
        Ok(())
    }
}

struct Node {
    suite: Suite,
    seed: u64,
    place: TempDir,
    random: StdRng,
    disk: Disk,
    /// The last batch that must be there.
    promised: u64,
    /// Whether power was lost since the last process ended, or none has begun yet.
    all_is_synced: bool,
    lives: u64,
    /// What was done, for who has to understand a failure.
    history: Vec<String>,
}

impl Node {
    fn new(suite: Suite, seed: u64) -> Node {
        let place = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::of_empty(&root(&place)).expect("an empty disk");
        Node {
            suite,
            seed,
            place,
            random: StdRng::seed_from_u64(seed),
            disk,
            promised: 0,
            all_is_synced: true,
            lives: 0,
            history: Vec::new(),
        }
    }

    fn live(&mut self, crashes: u64, tally: &mut Tally) -> Result<(), String> {
        for _ in 0..crashes {
            let end = End::draw(&mut self.random);
            let found = self.run(end)?;
            tally.crashes += 1;
            tally.while_opening += u64::from(!found);
            let loss = self.random.random_bool(0.7).then(|| Loss::draw(&mut self.random));
            tally.power_losses += u64::from(self.after_a_crash(loss)?);
        }
        self.run(End::Looks)?;
        tally.batches += self.promised;
        Ok(())
    }

    fn live_twice(&mut self, first: End) -> Result<(), String> {
        self.run(first)?;
        self.after_a_crash(None)?;
        self.run(End::Killed {
            after_batches: 3,
            micros: 0,
        })?;
        self.after_a_crash(Some(Loss::All))?;
        self.run(End::Looks)?;
        Ok(())
    }

    fn explain(&self, wrong: &str) -> String {
        let history = self.history.join("\n  ");
        let errors = fs::read_to_string(self.errors()).unwrap_or_default();
        format!("{wrong}\nseed {}:\n  {history}\n{errors}", self.seed)
    }

    /// One life of the process. Says whether it came to say what it found.
    fn run(&mut self, end: End) -> Result<bool, String> {
        self.lives += 1;
        self.history.push(format!("life {}: {end:?}", self.lives));
        if self.all_is_synced {
            Journal::create(&self.journal()).expect("a journal");
        }
        let (mut process, lines) = self.start(end);
        let listened = self.listen(&lines, end, &mut process);
        if listened.is_err() {
            // It may have ended already.
            let _ = process.kill();
        }
        let status = process.wait().expect("its end is waited for");
        let found = listened?;
        match end {
            End::Looks if status.success() => Ok(found),
            End::Killed { .. } | End::Stops { .. } if status.signal() == Some(KILLED) => Ok(found),
            _ => Err(format!("the process ended by itself: {status}")),
        }
    }

    fn start(&self, end: End) -> (Child, Receiver<String>) {
        let conduct = match end {
            End::Looks => Conduct::OnlyLooks,
            End::Killed { .. } | End::Stops { .. } => self.suite.conduct,
        };
        let mut command = under_the_shim(self.suite.writer, &root(&self.place), &self.journal());
        command
            .envs(conduct.environment(&root(&self.place).join("data"), self.lives))
            .env("FORGET_SYNC_MICROS", SYNC_MICROS)
            .stdout(Stdio::piped())
            .stderr(File::create(self.errors()).expect("a file for errors"));
        if let End::Stops { after_changes } = end {
            command.env("FORGET_STOP_AFTER", after_changes.to_string());
        }
        if self.suite.disk_lies {
            command.env("FORGET_LIES", "1");
        }
        let mut process = command.spawn().expect("the process starts");
        let output = BufReader::new(process.stdout.take().expect("its output is piped"));
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        (process, lines)
    }

    /// Hears what the process says until it ends, and kills it when it is time.
    fn listen(&mut self, lines: &Receiver<String>, end: End, process: &mut Child) -> Result<bool, String> {
        let mut found = false;
        let mut acknowledged = 0;
        loop {
            let line = match lines.recv_timeout(SILENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return Ok(found),
                Err(RecvTimeoutError::Timeout) => return Err(format!("it said nothing for {SILENCE:?}")),
            };
            if let Some(last) = line.strip_prefix("found ").map(number) {
                found = true;
                self.history
                    .push(format!("  found batch {last}; {} was promised", self.promised));
                if last < self.promised {
                    return Err(format!(
                        "batch {} was promised, and {last} is the last there is",
                        self.promised
                    ));
                }
                // What was on the disk when the process began stays: somebody may have read it.
                if self.all_is_synced {
                    self.promised = last;
                }
            } else if let Some(last) = line.strip_prefix("synced ").map(number) {
                self.promised = self.promised.max(last);
                acknowledged += 1;
            }
            if let End::Killed { after_batches, micros } = end
                && found
                && acknowledged == after_batches
            {
                acknowledged += 1;
                let until = Instant::now() + Duration::from_micros(micros);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                process.kill().expect("it is still there, or waited for");
            }
        }
    }

    /// Loses power, or leaves what was not synced in the page cache: the next life then goes on with the same journal.
    /// Says whether power was lost, as it always is where the process died in the middle of a change that it did not record.
    fn after_a_crash(&mut self, loss: Option<Loss>) -> Result<bool, String> {
        let journal = Journal::read(&self.journal()).expect("the journal is read");
        let journal = journal.ok_or("the shim was not loaded: is this a static binary?")?;
        let unrecorded = (!journal.pending.is_empty()).then_some(Loss::All);
        let loss = loss.or(unrecorded);
        self.all_is_synced = loss.is_some();
        if let Some(loss) = loss {
            self.history
                .push(format!("  power is lost, promised is {}: {loss:?}", self.promised));
            let root = root(&self.place);
            self.disk.lose_power(&root, &journal, loss, &mut self.random)?;
        }
        Ok(self.all_is_synced)
    }

    fn journal(&self) -> PathBuf {
        self.place.path().join("journal")
    }

    fn errors(&self) -> PathBuf {
        self.place.path().join("errors")
    }
}

/// One of the tests here as a process, whose changes of a directory go to a journal.
pub(crate) fn under_the_shim(test: &str, root: &Path, journal: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", test, "--nocapture"])
        .env("FORGET_ROOT", root)
        .env("FORGET_JOURNAL", journal)
        .env("LD_PRELOAD", shim());
    command
}

/// The directory that is watched.
fn root(place: &TempDir) -> PathBuf {
    let place = place.path().canonicalize().expect("it is there");
    place.join("disk")
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// The shim, compiled once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("forget.so");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/forget.c");
        let compiled = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-pthread", "-o"])
            .args([&path, &source])
            .output();
        match compiled {
            Ok(output) if output.status.success() => (place, path),
            Ok(output) => panic!(
                "{compiler} cannot compile {}:\n{}",
                source.display(),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => panic!(
                "the crash suite needs a C compiler, and {compiler} cannot be started ({error}); \
                 install one, or name it in CC"
            ),
        }
    });
    path
}
