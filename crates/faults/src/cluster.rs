//! Nodes are processes of the binary, started on loopback addresses that nobody else uses, and ended by their id alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::trouble::Trouble;

/// The ids of the nodes' processes, by index; 0 for one that is down. Whoever has to know who connects shares them.
pub(crate) type Pids = Arc<Vec<AtomicU32>>;

/// How the nodes are set up.
pub(crate) struct Plan<'a> {
    /// The binary.
    pub(crate) binary: &'a Path,
    /// Where data and logs go.
    pub(crate) directory: &'a Path,
    /// How many nodes.
    pub(crate) nodes: usize,
    /// Addresses that lead to the nodes' peer ports, where it is not those themselves.
    pub(crate) advertised: Option<&'a [SocketAddr]>,
    /// The peer ports and the HTTP ports.
    pub(crate) ports: &'a Ports,
    /// Each node's data on a file system of its own, of so many bytes.
    pub(crate) disk_bytes: Option<u64>,
    /// Each node in a network namespace of its own.
    pub(crate) in_namespaces: bool,
    /// A library that the nodes preload: their clocks can be set then.
    pub(crate) clock_shim: Option<&'a Path>,
}

/// Where the nodes listen, by index.
pub(crate) struct Ports {
    /// For peers.
    pub(crate) peer: Vec<SocketAddr>,
    /// For clients.
    pub(crate) http: Vec<SocketAddr>,
}

impl Ports {
    /// Ports that are free now, on an address of this process's own.
    pub(crate) fn free(nodes: usize) -> io::Result<Ports> {
        let host = loopback();
        let listeners = (0..nodes * 2)
            .map(|_| TcpListener::bind((host.as_str(), 0)))
            .collect::<io::Result<Vec<_>>>()?;
        let mut peer = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()?;
        let http = peer.split_off(nodes);
        Ok(Ports { peer, http })
    }
}

/// A loopback address that belongs to this process: ports on it are nobody else's.
pub(crate) fn loopback() -> String {
    let process = std::process::id();
    format!("127.{}.{}.1", 16 + (process >> 8) % 200, process % 256)
}

/// A node's process.
struct Node {
    name: String,
    http: SocketAddr,
    arguments: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    home: PathBuf,
    log: PathBuf,
    /// Where its clock's offset stands, if that can be set.
    clock: Option<PathBuf>,
    child: Option<Child>,
    paused_since: Option<Instant>,
}

/// A time in which a node did not run, though its process lived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspension {
    /// The node.
    pub(crate) node: usize,
    /// When it began.
    pub(crate) from: Instant,
    /// When it ended.
    pub(crate) until: Instant,
}

/// All nodes; their processes end with it.
pub(crate) struct Cluster {
    binary: PathBuf,
    in_namespaces: bool,
    nodes: Vec<Node>,
    pids: Pids,
    /// When which node was suspended.
    pub(crate) suspensions: Vec<Suspension>,
    /// What happened that nobody asked for.
    pub(crate) notes: Vec<String>,
    mounts: Vec<PathBuf>,
}

impl Cluster {
    /// Nodes on this machine's loopback, with nothing between them, none of which runs.
    pub(crate) fn plain(binary: &Path, directory: &Path, nodes: usize) -> Result<Cluster, Trouble> {
        Cluster::new(&Plan {
            binary,
            directory,
            nodes,
            advertised: None,
            ports: &Ports::free(nodes)?,
            disk_bytes: None,
            in_namespaces: false,
            clock_shim: None,
        })
    }

    /// Nodes that are set up, none of which runs.
    pub(crate) fn new(plan: &Plan<'_>) -> Result<Cluster, Trouble> {
        let addresses = plan.advertised.unwrap_or(&plan.ports.peer);
        let join: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        let mut cluster = Cluster {
            binary: plan.binary.to_owned(),
            in_namespaces: plan.in_namespaces,
            nodes: Vec::new(),
            pids: Arc::new((0..plan.nodes).map(|_| AtomicU32::new(0)).collect()),
            suspensions: Vec::new(),
            notes: Vec::new(),
            mounts: Vec::new(),
        };
        for index in 0..plan.nodes {
            let name = name(index);
            let home = plan.directory.join(&name);
            fs::create_dir_all(&home).map_err(|error| Trouble::file(&home, error))?;
            let mut arguments = vec![
                format!("--name={name}"),
                format!("--data-dir={}", home.join("data").display()),
                format!("--http={}", plan.ports.http[index]),
                format!("--peer={}", plan.ports.peer[index]),
                format!("--join={}", join.join(",")),
                format!("--bootstrap-expect={}", plan.nodes),
            ];
            if plan.advertised.is_some() {
                arguments.push(format!("--advertise-peer={}", join[index]));
            }
            if let Some(bytes) = plan.disk_bytes {
                crate::disk::mount(&home, bytes)?;
                cluster.mounts.push(home.clone());
                arguments.push(format!("--min-free-bytes={}", crate::disk::min_free_bytes(index)));
            }
            let mut environment = Vec::new();
            let clock = plan.clock_shim.map(|_| plan.directory.join(format!("{name}.clock")));
            if let (Some(shim), Some(clock)) = (plan.clock_shim, &clock) {
                fs::write(clock, 0_i64.to_ne_bytes()).map_err(|error| Trouble::file(clock, error))?;
                environment.push(("LD_PRELOAD".to_owned(), shim.to_owned()));
                environment.push(("ANNULUS_FAULTS_CLOCK".to_owned(), clock.clone()));
            }
            cluster.nodes.push(Node {
                log: plan.directory.join(format!("{name}.log")),
                http: plan.ports.http[index],
                name,
                arguments,
                environment,
                home,
                clock,
                child: None,
                paused_since: None,
            });
        }
        Ok(cluster)
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// See [`Pids`].
    pub(crate) fn pids(&self) -> Pids {
        Arc::clone(&self.pids)
    }

    /// Where each node serves clients.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("http://{}", node.http)).collect()
    }

    /// The directory of a node; its data is in `data` below it.
    pub(crate) fn home(&self, index: usize) -> &Path {
        &self.nodes[index].home
    }

    /// Starts a node unless it runs.
    pub(crate) fn start(&mut self, index: usize) -> Result<(), Trouble> {
        if self.runs(index) {
            return Ok(());
        }
        let node = &mut self.nodes[index];
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&node.log)
            .map_err(|error| Trouble::file(&node.log, error))?;
        let errors = log.try_clone().map_err(|error| Trouble::file(&node.log, error))?;
        let mut command = match self.in_namespaces {
            true => {
                let [enter, space] = crate::netns::inside(index);
                let mut command = Command::new(enter);
                command.arg(space).arg("--").arg(&self.binary);
                command
            }
            false => Command::new(&self.binary),
        };
        let child = command
            .arg("serve")
            .args(&node.arguments)
            .envs(node.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C at the terminal is for us alone: we end the nodes.
            .process_group(0)
            .spawn()
            .map_err(|error| Trouble::file(&self.binary, error))?;
        self.pids[index].store(child.id(), Ordering::Relaxed);
        node.child = Some(child);
        Ok(())
    }

    /// Whether a node's process lives. One that ended by itself is noted.
    pub(crate) fn runs(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        let Some(child) = &mut node.child else { return false };
        let Ok(Some(status)) = child.try_wait() else {
            return true;
        };
        self.notes.push(format!(
            "{} ended by itself: {status}; the end of its log: {}",
            node.name,
            last_line(&node.log)
        ));
        self.forget(index);
        false
    }

    fn forget(&mut self, index: usize) {
        self.end_pause(index);
        self.nodes[index].child = None;
        self.pids[index].store(0, Ordering::Relaxed);
    }

    /// SIGKILL, unless it is down.
    pub(crate) fn kill(&mut self, index: usize) {
        if self.runs(index) {
            self.finish(index);
        }
    }

    /// SIGKILL to all of them before any is waited for.
    pub(crate) fn kill_at_once(&mut self, indexes: &[usize]) {
        indexes.iter().for_each(|&index| self.signal(index, Signal::KILL));
        indexes.iter().for_each(|&index| self.finish(index));
    }

    fn finish(&mut self, index: usize) {
        if let Some(child) = &mut self.nodes[index].child {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.forget(index);
    }

    /// SIGTERM, and SIGKILL for one that has not ended in time, which is noted.
    pub(crate) fn stop(&mut self, index: usize, patience: Duration) {
        if !self.runs(index) {
            return;
        }
        self.signal(index, Signal::TERM);
        self.resume(index);
        let end = Instant::now() + patience;
        while let Some(child) = &mut self.nodes[index].child {
            match child.try_wait() {
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(status)) => {
                    if !status.success() {
                        let name = &self.nodes[index].name;
                        self.notes
                            .push(format!("{name} was asked to stop, and ended with {status}"));
                    }
                    self.forget(index);
                }
                _ => {
                    let name = &self.nodes[index].name;
                    self.notes
                        .push(format!("{name} has not stopped within {patience:?} of a SIGTERM"));
                    self.finish(index);
                }
            }
        }
    }

    /// SIGSTOP: to the others it hangs.
    pub(crate) fn pause(&mut self, index: usize) {
        if self.runs(index) && self.nodes[index].paused_since.is_none() {
            self.signal(index, Signal::STOP);
            self.nodes[index].paused_since = Some(Instant::now());
        }
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, index: usize) {
        if self.nodes[index].paused_since.is_some() {
            self.signal(index, Signal::CONT);
            self.end_pause(index);
        }
    }

    fn end_pause(&mut self, index: usize) {
        if let Some(from) = self.nodes[index].paused_since.take() {
            self.suspensions.push(Suspension {
                node: index,
                from,
                until: Instant::now(),
            });
        }
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = self.nodes[index].child.as_ref().map(Child::id);
        // The child was not waited for, so its id is nobody else's.
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Sets a node's wall clock off by so many nanoseconds, where it can be set.
    pub(crate) fn set_clock(&self, index: usize, nanoseconds: i64) -> Result<(), Trouble> {
        let Some(path) = &self.nodes[index].clock else {
            return Ok(());
        };
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|file: File| file.write_all_at(&nanoseconds.to_ne_bytes(), 0))
            .map_err(|error| Trouble::file(path, error))
    }

    /// All that runs is let go on, and all that is down is started.
    pub(crate) fn restore(&mut self) -> Result<(), Trouble> {
        for index in 0..self.len() {
            self.resume(index);
            self.start(index)?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            self.finish(index);
        }
        for mount in &self.mounts {
            crate::disk::unmount(mount);
        }
    }
}

/// The name of a node.
pub(crate) fn name(index: usize) -> String {
    format!("n{}", index + 1)
}

/// The names of nodes, for people.
pub(crate) fn names(indexes: &[usize]) -> String {
    let names: Vec<String> = indexes.iter().map(|&index| name(index)).collect();
    names.join(" ")
}

fn last_line(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().last().unwrap_or("it is empty").to_owned()
}
