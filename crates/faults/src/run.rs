//! One run: nodes start, clients work, faults come and go, all comes to rest, and the history is checked.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use annulus_checker::{Bucket, Conflicts, Fault, Promises, Record, check_with};
use annulus_client::Client;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::arguments::{Ask, Run};
use crate::cluster::{Cluster, Plan, Ports, loopback};
use crate::nemesis::{Needs, Nemesis};
use crate::netns::Namespaces;
use crate::network::{self, Means, Network};
use crate::proxy::Proxy;
use crate::record::Recorder;
use crate::report::Report;
use crate::say::say;
use crate::schedule::{self, Step};
use crate::settle::{self, Observer};
use crate::trouble::Trouble;
use crate::workload::{self, LONGEST_TIMEOUT, LWW, SIBLINGS, Workload};
use crate::world::World;

/// Nodes that are not ready so long after their start will not be.
const START: Duration = Duration::from_secs(60);
/// Everything comes to rest within this after the last fault.
const REST: Duration = Duration::from_secs(60);

/// What came of it.
pub(crate) enum Ended {
    /// The verdict.
    Told(Box<Report>),
    /// Somebody stopped it.
    Stopped,
}

/// Runs; everything that was started has ended when it returns.
pub(crate) async fn run(arguments: &Run, seed: u64) -> Result<Ended, Trouble> {
    let mut interrupts = Interrupts::new()?;
    let home = Home::new(arguments)?;
    let recorder = Arc::new(Recorder::new());
    let mut stage = Stage::set(arguments, home.path()).await?;
    let ended = tokio::select! {
        ended = play(arguments, seed, &mut stage, &recorder) => Some(ended),
        () = interrupts.come() => None,
    };
    stage.close();
    let path = history_path(arguments, seed);
    write_history(&recorder, &path)?;
    let Some(unsettled) = ended.transpose()? else {
        return Ok(Ended::Stopped);
    };
    let notes = stage.notes();
    say(format_args!(
        "checking {} operations",
        recorder.kept().history.operations.len()
    ));
    let violations = check_with(&recorder.kept().history, &promises(&arguments.nemesis));
    let report = Report::new(&recorder.kept(), notes, unsettled, violations);
    home.end(report.is_clean(), &stage)?;
    say(format_args!("{report}history: {}", path.display()));
    Ok(Ended::Told(Box::new(report)))
}

/// SIGINT and SIGTERM: from its making on they no longer end this process by themselves.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(crate) fn new() -> Result<Interrupts, Trouble> {
        Ok(Interrupts {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// One of them came.
    pub(crate) async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The directory of a run: one that is given stays, one of our own goes unless there is something to see in it.
struct Home {
    given: Option<PathBuf>,
    own: Option<TempDir>,
    keep: bool,
}

impl Home {
    fn new(arguments: &Run) -> Result<Home, Trouble> {
        let own = match &arguments.dir {
            Some(given) => {
                fs::create_dir_all(given).map_err(|error| Trouble::file(given, error))?;
                if fs::read_dir(given).is_ok_and(|mut entries| entries.next().is_some()) {
                    let why = std::io::Error::other("the directory is not empty");
                    return Err(Trouble::file(given, why));
                }
                None
            }
            None => Some(TempDir::with_prefix("annulus-faults-")?),
        };
        let given = match &arguments.dir {
            Some(given) => Some(given.canonicalize().map_err(|error| Trouble::file(given, error))?),
            None => None,
        };
        let keep = arguments.keep;
        Ok(Home { given, own, keep })
    }

    fn path(&self) -> &Path {
        let own = self.own.as_ref().map(TempDir::path);
        self.given.as_deref().or(own).unwrap_or(Path::new("."))
    }

    fn end(mut self, is_clean: bool, stage: &Stage) -> Result<(), Trouble> {
        if self.keep || !is_clean {
            let path = match self.own.take() {
                Some(own) => own.keep(),
                None => self.path().to_owned(),
            };
            say(format_args!("data and logs: {}{}", path.display(), stage.remark()));
        }
        Ok(())
    }
}

/// All that runs.
struct Stage {
    world: Option<World>,
    workload: Workload,
    observer: Observer,
    proxies: Vec<AbortHandle>,
    nemesis: Option<(mpsc::Sender<()>, thread::JoinHandle<World>)>,
    disks: bool,
    notes: Vec<String>,
}

impl Stage {
    /// Nodes that are ready.
    async fn set(arguments: &Run, home: &Path) -> Result<Stage, Trouble> {
        let needs = |needs| arguments.nemesis.iter().any(|nemesis| nemesis.needs == needs);
        let spaces = match arguments.network {
            Means::Namespaces => Some(Namespaces::make(arguments.nodes)?),
            Means::Proxy => None,
        };
        let ports = spaces.map_or_else(|| Ports::free(arguments.nodes), |spaces| Ok(spaces.ports()))?;
        let mut listeners = Vec::new();
        if spaces.is_none() && (needs(Needs::Proxy) || needs(Needs::Cuts)) {
            for _ in 0..arguments.nodes {
                listeners.push(TcpListener::bind((loopback().as_str(), 0)).await?);
            }
        }
        let advertised = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<Vec<_>, _>>()?;
        let shim = match needs(Needs::ClockShim) {
            true => Some(crate::shim::build(home)?),
            false => None,
        };
        let cluster = Cluster::new(&Plan {
            binary: &arguments.tested.annulus,
            directory: home,
            nodes: arguments.nodes,
            advertised: (!advertised.is_empty()).then_some(&advertised),
            ports: &ports,
            disk_bytes: needs(Needs::SmallDisks).then_some(crate::disk::DISK_BYTES),
            in_namespaces: spaces.is_some(),
            clock_shim: shim.as_deref(),
        })?;
        let proxy = Proxy::new(arguments.nodes);
        let network = match spaces {
            Some(spaces) => Some(Network::Namespaces(
                spaces,
                Arc::new(Mutex::new(network::open(arguments.nodes))),
            )),
            None => (!listeners.is_empty()).then(|| Network::Proxy(proxy.clone())),
        };
        let mut proxies = Vec::new();
        for (to, listener) in listeners.into_iter().enumerate() {
            let (proxy, pids, target) = (proxy.clone(), cluster.pids(), ports.peer[to]);
            let serving = async move { proxy.serve(to, target, listener, pids).await };
            proxies.push(tokio::spawn(serving).abort_handle());
        }
        let keys = workload::keys(arguments.keys);
        let observer = Observer::new(cluster.urls(), keys.clone());
        let workload = Workload {
            keys,
            asked: Vec::new(),
            urls: cluster.urls(),
            seed: 0,
            clients: arguments.clients,
            rate: arguments.rate,
            single_copies: arguments.nemesis.iter().all(|nemesis| nemesis.name != "wipe"),
        };
        let world = World {
            cluster,
            network,
            observer: observer.clone(),
            is_whole: Arc::new(AtomicBool::new(true)),
        };
        Ok(Stage {
            world: Some(world),
            workload,
            observer,
            proxies,
            nemesis: None,
            disks: needs(Needs::SmallDisks),
            notes: Vec::new(),
        })
    }

    /// Ends whatever runs. Safe to repeat.
    fn close(&mut self) {
        if let Some((stop, thread)) = self.nemesis.take() {
            drop(stop);
            self.world = thread.join().ok();
        }
        if let Some(world) = self.world.take() {
            self.notes.extend(world.cluster.notes.iter().cloned());
        }
        self.proxies.iter().for_each(AbortHandle::abort);
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn remark(&self) -> &'static str {
        if self.disks {
            " (data was on file systems that are gone)"
        } else {
            ""
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.close();
    }
}

/// From the start of the nodes to their rest; says what does not come to rest.
async fn play(arguments: &Run, seed: u64, stage: &mut Stage, recorder: &Arc<Recorder>) -> Result<Vec<String>, Trouble> {
    let length = Duration::from_secs(arguments.seconds.into());
    let steps = schedule::draw(seed, &arguments.nemesis, length, arguments.nodes);
    say(format_args!(
        "seed {seed}: {} nodes, {} clients, {} keys, {} faults in {} s",
        arguments.nodes,
        arguments.clients,
        arguments.keys,
        steps.len(),
        arguments.seconds
    ));
    let world = stage
        .world
        .as_mut()
        .ok_or_else(|| Trouble::NotReady("the nodes are gone".to_owned()))?;
    world.cluster.restore()?;
    await_ready(&stage.observer, &mut world.cluster).await?;
    declare(&world.cluster.urls(), recorder).await?;
    stage.workload.seed = seed;
    if arguments.ask == Ask::First {
        stage.workload.asked = stage.observer.first_owners().await.map_err(Trouble::NotReady)?;
    }

    let (stopped, stop) = watch::channel(false);
    let (ended, mut over) = watch::channel(false);
    let (interrupt, interrupted) = mpsc::channel();
    let world = stage
        .world
        .take()
        .ok_or_else(|| Trouble::NotReady("the nodes are gone".to_owned()))?;
    let recording = Arc::clone(recorder);
    let thread = thread::spawn(move || {
        let world = strike(world, steps, length, &recording, &interrupted);
        ended.send_replace(true);
        world
    });
    stage.nemesis = Some((interrupt, thread));
    let faults = async {
        // The sender is gone only with the thread, and then it is over too.
        let _ = over.wait_for(|&over| over).await;
        stopped.send_replace(true);
    };
    let (worked, ()) = tokio::join!(stage.workload.run(recorder, stop), faults);
    worked?;
    let Some((_, thread)) = stage.nemesis.take() else {
        return Ok(Vec::new());
    };
    let world = thread
        .join()
        .map_err(|_| Trouble::NotReady("the nemesis panicked".to_owned()))?;
    let longest = u64::try_from(LONGEST_TIMEOUT.as_micros()).unwrap_or(u64::MAX);
    recorder.extend_deadlines(&world.cluster.suspensions, longest);
    stage.world = Some(world);
    say("all is healed; waiting for rest");
    settle::stragglers(recorder).await;
    let since = Instant::now();
    let unsettled = stage.observer.settle(recorder, REST).await;
    say(format_args!("at rest after {:.1} s", since.elapsed().as_secs_f64()));
    Ok(unsettled)
}

/// Waits until all nodes serve, or one has ended.
pub(crate) async fn await_ready(observer: &Observer, cluster: &mut Cluster) -> Result<(), Trouble> {
    let ended = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let gone = (0..cluster.len()).find(|&index| !cluster.runs(index));
            if gone.is_some() {
                return cluster.notes.join("; ");
            }
        }
    };
    let why = tokio::select! {
        ready = observer.ready(START) => match ready {
            Ok(()) => return Ok(()),
            Err(why) => why,
        },
        ended = ended => ended,
    };
    Err(Trouble::NotReady(format!("the nodes do not start: {why}")))
}

/// Declares the buckets, at the nodes and in the history.
async fn declare(urls: &[String], recorder: &Recorder) -> Result<(), Trouble> {
    let client = Client::new(urls).map_err(|error| Trouble::NotReady(error.to_string()))?;
    let lww = annulus_client::Bucket {
        conflicts: Some(annulus_client::Conflicts::Lww),
        ..annulus_client::Bucket::default()
    };
    let declared = client.declare_bucket(LWW, &lww).await;
    declared.map_err(|error| Trouble::NotReady(error.to_string()))?;
    // All nodes know a declaration within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (name, conflicts) in [(SIBLINGS, Conflicts::Siblings), (LWW, Conflicts::Lww)] {
        let bucket = Bucket {
            name: name.to_owned(),
            conflicts,
            ttl_ms: None,
        };
        recorder.kept().history.push(Record::Bucket(bucket));
    }
    Ok(())
}

/// An event of the schedule.
#[derive(Clone, Copy)]
enum Event {
    Strike(usize),
    Heal(usize),
}

/// Lets the faults come and go, on a thread of its own: signals, mounts and waits are no work for the clients' thread.
fn strike(
    mut world: World,
    mut steps: Vec<Step>,
    length: Duration,
    recorder: &Recorder,
    stop: &mpsc::Receiver<()>,
) -> World {
    let start = Instant::now();
    let both = |(index, step): (usize, &Step)| [(step.at, Event::Strike(index)), (step.until, Event::Heal(index))];
    let mut events: Vec<(Duration, Event)> = steps.iter().enumerate().flat_map(both).collect();
    events.sort_by_key(|&(at, _)| at);
    let mut struck_us = vec![None; steps.len()];
    for (at, event) in events {
        if is_stopped(stop, start + at) {
            return world;
        }
        let now = start.elapsed().as_secs_f64();
        match event {
            Event::Strike(index) => {
                let step = &mut steps[index];
                let begins_us = recorder.now_us();
                let done = step.fault.strike(&mut world);
                let outcome = done.as_ref().err().map(|why| format!(": {why}")).unwrap_or_default();
                say(format_args!(
                    "{now:6.1} s  {} {}{outcome}",
                    step.nemesis.name,
                    step.fault.detail()
                ));
                struck_us[index] = done.is_ok().then_some(begins_us);
            }
            Event::Heal(index) => {
                let step = &mut steps[index];
                if let Err(why) = step.fault.heal(&mut world) {
                    say(format_args!("{now:6.1} s  {} is not healed: {why}", step.nemesis.name));
                }
                if let Some(start_us) = struck_us[index] {
                    say(format_args!("{now:6.1} s  {} healed", step.nemesis.name));
                    recorder.fault(Fault {
                        name: step.nemesis.name.to_owned(),
                        detail: step.fault.detail(),
                        start_us,
                        end_us: recorder.now_us(),
                    });
                }
            }
        }
    }
    if !is_stopped(stop, start + length)
        && let Err(why) = world.restore()
    {
        world.cluster.notes.push(why.to_string());
    }
    world
}

/// Waits for the time; says whether it was stopped before.
fn is_stopped(stop: &mpsc::Receiver<()>, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    matches!(stop.recv_timeout(left), Err(RecvTimeoutError::Disconnected))
}

fn history_path(arguments: &Run, seed: u64) -> PathBuf {
    let default = || std::env::temp_dir().join(format!("annulus-faults-{seed}.jsonl"));
    arguments.history.clone().unwrap_or_else(default)
}

fn write_history(recorder: &Recorder, path: &Path) -> Result<(), Trouble> {
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        recorder.kept().history.write(&mut out)?;
        std::io::Write::flush(&mut out)
    };
    write().map_err(|error| Trouble::file(path, error))
}

/// The promises that hold under these faults.
fn promises(kinds: &[&Nemesis]) -> Promises {
    let meets = |name| kinds.iter().any(|nemesis| nemesis.name == name);
    let mut promises = Promises::all();
    if meets("clock") {
        promises = promises.with_skew_us(u64::MAX);
    }
    promises
}
