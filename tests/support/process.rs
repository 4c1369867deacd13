//! Processes of the binary: started on loopback addresses that no other test uses, ended by id and by nothing else.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Connection, Response};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_annulus");
/// A test that waits longer for something is hung; nothing is asserted of this time.
const HUNG: Duration = Duration::from_secs(90);

static CLUSTERS: AtomicU8 = AtomicU8::new(1);

/// Waits until `done` says so.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HUNG, "{what} does not come to be");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One node's process.
struct Process {
    name: String,
    http: String,
    arguments: Vec<String>,
    child: Option<Child>,
    log: PathBuf,
}

/// A cluster of processes; all of them end with it.
pub(crate) struct Cluster {
    directory: TempDir,
    processes: Vec<Process>,
}

impl Cluster {
    /// `count` founders, all of them ready.
    pub(crate) fn start(count: usize) -> Cluster {
        Cluster::start_with(count, &[])
    }

    /// As [`Cluster::start`], with more flags for every node.
    pub(crate) fn start_with(count: usize, flags: &[&str]) -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        // An address of 127/8 that is this process's and this cluster's: ports free on it stay free.
        let process = std::process::id();
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let host = format!("127.{}.{}.{number}", 16 + (process >> 8) % 200, process % 256);
        let ports = free_ports(&host, count * 2);
        let join: Vec<String> = ports[..count].iter().map(|port| format!("{host}:{port}")).collect();
        let mut cluster = Cluster {
            directory,
            processes: Vec::new(),
        };
        for index in 0..count {
            let (name, http) = (format!("n{}", index + 1), format!("{host}:{}", ports[count + index]));
            let data = cluster.directory.path().join(&name).join("data");
            let own = [
                ("--name", name.as_str()),
                ("--data-dir", data.to_str().unwrap()),
                ("--http", &http),
                ("--peer", &join[index]),
                ("--join", &join.join(",")),
                ("--bootstrap-expect", &count.to_string()),
            ];
            let own = own
                .iter()
                .flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]);
            let arguments = own.chain(flags.iter().map(|flag| (*flag).to_owned())).collect();
            let log = cluster.directory.path().join(format!("{name}.log"));
            cluster.processes.push(Process {
                name,
                http,
                arguments,
                child: None,
                log,
            });
            cluster.launch(index);
        }
        (0..count).for_each(|index| cluster.await_ready(index));
        cluster
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where a node serves HTTP.
    pub(crate) fn http(&self, index: usize) -> &str {
        &self.processes[index].http
    }

    /// The value of one of a node's flags.
    pub(crate) fn flag(&self, index: usize, flag: &str) -> String {
        let arguments = &self.processes[index].arguments;
        let place = arguments.iter().position(|argument| argument == flag).unwrap();
        arguments[place + 1].clone()
    }

    /// What a node has logged.
    pub(crate) fn log(&self, index: usize) -> String {
        fs::read_to_string(&self.processes[index].log).unwrap_or_default()
    }

    /// Every node's address, as `--url` takes them.
    pub(crate) fn urls(&self) -> String {
        self.processes
            .iter()
            .map(|process| format!("http://{}", process.http))
            .collect::<Vec<_>>()
            .join(",")
    }

    pub(crate) fn launch(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&process.log)
            .unwrap();
        let mut command = Command::new(BINARY);
        command.arg("serve").args(&process.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        process.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn await_ready(&self, index: usize) {
        let process = &self.processes[index];
        let start = Instant::now();
        while !self
            .try_request(index, "GET", "/ready", &[], b"")
            .is_ok_and(|response| response.status == 200)
        {
            let log = self.log(index);
            assert!(start.elapsed() < HUNG, "{} does not get ready:\n{log}", process.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) {
        let mut child = self.processes[index].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal by its name, as `kill -NAME`.
    pub(crate) fn signal(&self, index: usize, name: &str) {
        let pid = self.pid(index).to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn pid(&self, index: usize) -> u32 {
        self.processes[index].child.as_ref().unwrap().id()
    }

    /// Waits for a node to end by itself, and says its exit status.
    pub(crate) fn await_exit(&mut self, index: usize) -> Option<i32> {
        self.processes[index].child.take().unwrap().wait().unwrap().code()
    }

    pub(crate) fn restart(&mut self, index: usize) {
        self.launch(index);
        self.await_ready(index);
    }

    pub(crate) fn connect(&self, index: usize) -> Connection {
        Connection::open(&self.processes[index].http).unwrap()
    }

    pub(crate) fn try_request(
        &self,
        index: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        Connection::open(&self.processes[index].http)?.request(method, path, headers, body)
    }

    pub(crate) fn request(
        &self,
        index: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let response = self.try_request(index, method, path, headers, body);
        response.unwrap_or_else(|error| panic!("{method} {path} at node {index}: {error}\n{}", self.log(index)))
    }

    pub(crate) fn get(&self, index: usize, path: &str) -> Response {
        self.request(index, "GET", path, &[], b"")
    }

    pub(crate) fn put(&self, index: usize, path: &str, body: &[u8]) -> Response {
        self.request(index, "PUT", path, &[], body)
    }

    /// A metric of a node without labels.
    pub(crate) fn metric(&self, index: usize, name: &str) -> f64 {
        let text = self.get(index, "/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
            .parse()
            .unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Some(child) = &mut process.child {
                let _ = child.kill();
                let _ = child.wait();
            }
            if std::thread::panicking() {
                eprintln!(
                    "--- {}\n{}",
                    process.name,
                    fs::read_to_string(&process.log).unwrap_or_default()
                );
            }
        }
    }
}

/// Ports that are free on an address that nobody else uses.
pub(crate) fn free_ports(host: &str, count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind((host, 0)).unwrap()).collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> std::process::Output {
    Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
