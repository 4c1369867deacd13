//! The process that is killed: it checks what it finds, and then writes batches until it dies, saying which are synced.
//!
//! What a batch does follows from its number alone, so that what must be there follows from the number of the last one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;

use annulus_causality::{Actor, CausalContext, ConflictPolicy, Object, Timestamp, Version};
use annulus_ring::{Address, Bucket, Key, NodeId, Partitions};
use annulus_storage::engine::fjall::{FjallEngine, FjallOptions};
use annulus_storage::engine::sled::{SledEngine, SledOptions};
use annulus_storage::engine::{Batch, EngineSize, Space, Visit};
use annulus_storage::{DataDirectory, Engine, EngineError, Replica, Syncer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DIRECTORY: &str = "ANNULUS_POWER_LOSS_DIRECTORY";
const LIFE: &str = "ANNULUS_POWER_LOSS_LIFE";
const CONDUCT: &str = "ANNULUS_POWER_LOSS_CONDUCT";

const KEYS_PER_BATCH: u64 = 6;
/// Batch 21 writes the keys of batch 1 again.
const DIFFERENT_BATCHES: u64 = 20;
const HINTS_KEPT: u64 = 5;
const OWNER_AWAY: NodeId = NodeId(2);

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// What a node does: a batch is acknowledged when a sync that began after it has returned.
    Honest,
    /// Ends when it has checked what it found.
    OnlyLooks,
    /// Planted: says that a batch is synced before it is.
    AcknowledgesBeforeSyncing,
    /// Planted: writes each batch as two.
    WritesByHalves,
}

impl Conduct {
    const ALL: [Conduct; 4] = [
        Conduct::Honest,
        Conduct::OnlyLooks,
        Conduct::AcknowledgesBeforeSyncing,
        Conduct::WritesByHalves,
    ];

    /// The environment of a process that does this in a directory. Each life of a node has a number of its own.
    pub(crate) fn environment(self, directory: &Path, life: u64) -> [(&'static str, String); 3] {
        [
            (
                DIRECTORY,
                directory.to_str().expect("the paths here are text").to_owned(),
            ),
            (LIFE, life.to_string()),
            (CONDUCT, format!("{self:?}")),
        ]
    }

    fn told() -> Option<Conduct> {
        let told = std::env::var(CONDUCT).ok()?;
        Conduct::ALL.into_iter().find(|conduct| format!("{conduct:?}") == told)
    }
}

/// An engine with files.
pub(crate) trait OnDisk: Engine + Sized + 'static {
    const NAME: &str;

    fn open(directory: &Path) -> Self;
}

impl OnDisk for SledEngine {
    const NAME: &str = "sled";

    fn open(directory: &Path) -> SledEngine {
        let options = SledOptions {
            cache_bytes: 4 << 20,
            reserve_bytes: 0,
        };
        SledEngine::open(directory, options).expect("sled opens what a power loss left")
    }
}

impl OnDisk for FjallEngine {
    const NAME: &str = "fjall";

    fn open(directory: &Path) -> FjallEngine {
        let options = FjallOptions {
            cache_bytes: 4 << 20,
            // So little that tables are written and compacted all the time.
            memtable_bytes: 128 << 10,
            reserve_bytes: 0,
        };
        FjallEngine::open(directory, options).expect("fjall opens what a power loss left")
    }
}

/// Does what it was told by its environment; nothing where it was told nothing.
pub(crate) fn run<E: OnDisk>() {
    let (Some(conduct), Ok(path), Ok(life)) = (Conduct::told(), std::env::var(DIRECTORY), std::env::var(LIFE)) else {
        return;
    };
    let mut directory = DataDirectory::open(Path::new(&path), "n1").expect("the directory opens");
    directory.bind_cluster("c1").expect("the directory is of this cluster");
    directory
        .check_engine(E::NAME)
        .expect("the directory is of this engine");
    let engine = E::open(&directory.engine_path(E::NAME));
    let objects = count(&engine, Space::Object);
    let halves = conduct == Conduct::WritesByHalves;
    let replica = Replica::open(Halves { engine, halves }, Partitions::default()).expect("the replica opens");
    let last = last_batch(&replica);
    check(&replica, last, objects);
    println!("\nfound {last}");
    if conduct != Conduct::OnlyLooks {
        write(replica, last, life.parse().expect("a number"), conduct);
    }
}

/// Writes and syncs on two threads, as a node does: batches go on while a sync is under way, a few of them.
fn write(mut replica: Replica<impl Engine>, last: u64, life: u64, conduct: Conduct) {
    let mut random = StdRng::seed_from_u64(life);
    let (written, to_sync) = mpsc::sync_channel(random.random_range(0..8));
    let mut syncer = replica.syncer();
    std::thread::spawn(move || {
        while let Ok(number) = to_sync.recv() {
            let number = to_sync.try_iter().last().unwrap_or(number);
            if conduct == Conduct::AcknowledgesBeforeSyncing {
                println!("\nsynced {number}");
            }
            if let Err(error) = syncer.sync() {
                eprintln!("{error}");
                std::process::exit(1);
            }
            println!("\nsynced {number}");
        }
    });
    let actor = Actor {
        node: 1,
        incarnation: life,
    };
    for number in last + 1.. {
        write_batch(&mut replica, number, actor);
        written
            .send(number)
            .expect("the other thread lives as long as the process");
    }
}

fn write_batch(replica: &mut Replica<impl Engine>, number: u64, actor: Actor) {
    for key in 0..KEYS_PER_BATCH {
        let address = address(number, key);
        let dot = replica.next_dot(address.partition, actor);
        let version =
            value(number, key).map(|value| Version::new(value.into(), None, Vec::new(), Timestamp::default(), None));
        let before = replica.read(&address).expect("it is read");
        let delta = before.write(dot, version, None, ConflictPolicy::Siblings);
        let dots = CausalContext::from_iter([dot]);
        if key == 0 {
            let hinted = replica.hint(OWNER_AWAY, &address, &dots, delta.clone(), number);
            hinted.expect("the hint is taken");
        }
        replica.apply(&address, delta, &dots).expect("it is applied");
    }
    let hints = replica.hints(OWNER_AWAY, 0, usize::MAX).expect("hints are read");
    if hints.len() as u64 > HINTS_KEPT {
        replica.forget_hint(OWNER_AWAY, hints[0].sequence);
    }
    replica.put_meta("last", &number.to_be_bytes());
    assert_eq!(replica.commit().expect("it is committed"), Some(number));
}

fn bucket() -> Bucket {
    Bucket::parse("b").expect("a name")
}

fn name(batch: u64, key: u64) -> String {
    format!("{:02}/{key}", batch % DIFFERENT_BATCHES)
}

fn address(batch: u64, key: u64) -> Address {
    let key = Key::parse(name(batch, key)).expect("a key");
    Address::new(bucket(), key, 3, Partitions::default())
}

/// What a batch writes to one of its keys, or none where it deletes it. Some are larger than a page, and than what sled cuts up.
fn value(batch: u64, key: u64) -> Option<Vec<u8>> {
    if (batch / DIFFERENT_BATCHES + key) % 4 == 3 {
        return None;
    }
    let mut random = StdRng::seed_from_u64(batch * KEYS_PER_BATCH + key);
    let length = match random.random_range(0..40) {
        0 => 150_000,
        1..3 => 64 << 10,
        3..20 => random.random_range(0..5000),
        _ => random.random_range(0..200),
    };
    let mut value = batch.to_be_bytes().to_vec();
    value.extend((0..length).map(|_| random.random::<u8>()));
    Some(value)
}

fn last_batch(replica: &Replica<impl Engine>) -> u64 {
    let last = replica.get_meta("last").expect("it is read");
    last.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().expect("a number")))
}

fn count(engine: &impl Engine, space: Space) -> u64 {
    let mut count = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        count += 1;
        ControlFlow::Continue(())
    };
    engine.scan(space, &[], None, visit).expect("it is scanned");
    count
}

/// Everything is as after batch `last`: all of that one and of those before, nothing of any later one.
fn check(replica: &Replica<impl Engine>, last: u64, objects: u64) {
    let mut live = BTreeSet::new();
    for batch in 0..DIFFERENT_BATCHES {
        let wrote = last.checked_sub((last + DIFFERENT_BATCHES - batch) % DIFFERENT_BATCHES);
        for key in 0..KEYS_PER_BATCH {
            let expected = wrote.filter(|batch| *batch > 0).and_then(|batch| value(batch, key));
            let object = replica.read(&address(batch, key)).expect("it is read");
            let what = format!("after batch {last}, the key {} of batch {wrote:?}", name(batch, key));
            assert_value(&what, &object, expected.as_deref());
            if expected.is_some() {
                live.insert(name(batch, key));
            }
        }
    }
    assert_eq!(objects, live.len() as u64, "after batch {last}, so many objects");
    let page = replica.list(&bucket(), b"", b"", 1000, 0).expect("it is listed");
    let listed = page
        .keys
        .iter()
        .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned())
        .collect::<BTreeSet<_>>();
    assert_eq!(listed, live, "after batch {last}, the listing");
    check_log(replica, last);
    check_hints(replica, last);
}

fn assert_value(what: &str, object: &Object, expected: Option<&[u8]>) {
    let found = object
        .versions()
        .iter()
        .map(|(_, version)| &version.value[..])
        .collect::<Vec<_>>();
    if found != Vec::from_iter(expected) {
        let numbers = found
            .iter()
            .map(|value| value.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)));
        panic!(
            "{what}: {} bytes expected, and found are values of batches {:?}",
            expected.map_or(0, <[u8]>::len),
            numbers.collect::<Vec<_>>()
        );
    }
}

fn check_log(replica: &Replica<impl Engine>, last: u64) {
    let mut next = 1;
    let visit = &mut |batch: annulus_storage::LogBatch| {
        assert_eq!(batch.number, next, "the log has every batch");
        let keys = batch.entries.iter().map(|entry| entry.scope.to_vec());
        let expected = (0..KEYS_PER_BATCH).map(|key| format!("b\0{}", name(next, key)).into_bytes());
        assert_eq!(
            keys.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "the log of batch {next}"
        );
        next += 1;
        ControlFlow::Continue(())
    };
    replica.log_since(0, visit).expect("the log is read");
    assert_eq!(next, last + 1, "the log ends with batch {last}");
}

fn check_hints(replica: &Replica<impl Engine>, last: u64) {
    let hints = replica.hints(OWNER_AWAY, 0, usize::MAX).expect("hints are read");
    let batches = hints.iter().map(|hint| hint.expires_wall_ms).collect::<Vec<_>>();
    let expected = last.saturating_sub(HINTS_KEPT) + 1..=last;
    assert_eq!(batches, expected.collect::<Vec<_>>(), "the hints after batch {last}");
    for (hint, batch) in hints.iter().zip(batches) {
        assert_value(
            &format!("the hint of batch {batch}"),
            &hint.object,
            value(batch, 0).as_deref(),
        );
    }
}

/// An engine, or a broken one that applies each batch in two halves.
struct Halves<E> {
    engine: E,
    halves: bool,
}

impl<E: Engine> Engine for Halves<E> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<bytes::Bytes>, EngineError> {
        self.engine.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], until: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        self.engine.scan(space, from, until, visit)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), EngineError> {
        if !self.halves {
            return self.engine.apply(batch);
        }
        let half = batch.len() / 2;
        let (mut first, mut second) = (Batch::new(), Batch::new());
        for (at, operation) in batch.into_iter().enumerate() {
            let half = if at < half { &mut first } else { &mut second };
            match operation.value {
                Some(value) => half.put(operation.space, operation.key, value),
                None => half.delete(operation.space, operation.key),
            }
        }
        self.engine.apply(first)?;
        self.engine.apply(second)
    }

    fn syncer(&self) -> Box<dyn Syncer> {
        self.engine.syncer()
    }

    fn size(&self) -> EngineSize {
        self.engine.size()
    }
}
