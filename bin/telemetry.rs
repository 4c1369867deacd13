//! What an operator sees: structured logs on stderr, and the process's own figures beside the node's in `/metrics`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::runtime::{Inbox, Links, NodeView, SyncCounters};

/// Starts logging, and logs panics: one in a connection's task would otherwise pass unnoticed.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // tracing would tell of a log that cannot be written (a file on the full disk) on stderr, and panic there.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let text = panic.payload_as_str().unwrap_or("a panic without words");
        tracing::error!(place, %backtrace, "internal error, please report it: {text}");
    }));
}

/// What is counted outside the node.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Rounds of the node.
    pub(crate) rounds: Cell<u64>,
    /// Inputs stepped in them.
    pub(crate) inputs: Cell<u64>,
    /// How often the node was opened.
    pub(crate) opened: Cell<u64>,
    /// Room on the data directory's file system when it was last looked at, in bytes.
    pub(crate) free_bytes: Cell<u64>,
    /// Bytes that were given to links, by the kind of message.
    pub(crate) sent: RefCell<BTreeMap<&'static str, u64>>,
    /// Of the disk's thread.
    pub(crate) syncs: Arc<SyncCounters>,
}

impl Counters {
    /// Counts a round of so many inputs.
    pub(crate) fn count_round(&self, inputs: usize) {
        self.rounds.set(self.rounds.get() + 1);
        self.inputs.set(self.inputs.get() + inputs as u64);
    }

    /// Counts a message to a peer.
    pub(crate) fn count_sent(&self, kind: &'static str, bytes: usize) {
        *self.sent.borrow_mut().entry(kind).or_default() += bytes as u64;
    }
}

/// The parts of a node that is open.
pub(crate) struct Observed {
    /// The node.
    pub(crate) node: Rc<dyn NodeView>,
    /// What waits for it.
    pub(crate) inbox: Rc<Inbox>,
    /// Its links.
    pub(crate) links: Rc<Links>,
}

/// Where `/metrics` comes from.
#[derive(Default)]
pub(crate) struct Gauges {
    /// Of the process, over all openings of the node.
    pub(crate) counters: Counters,
    /// The node, while it is open.
    pub(crate) observed: RefCell<Option<Observed>>,
}

impl Gauges {
    /// The Prometheus text (exposition format 0.0.4) of the node and of the process.
    pub(crate) fn render(&self) -> String {
        let observed = self.observed.borrow();
        let mut out = observed
            .as_ref()
            .map(|observed| observed.node.metrics())
            .unwrap_or_default();
        let (links, link_bytes) = observed
            .as_ref()
            .map(|observed| observed.links.figures())
            .unwrap_or_default();
        let waiting = observed.as_ref().map_or(0, |observed| observed.inbox.len());
        let Counters {
            rounds,
            inputs,
            opened,
            free_bytes,
            sent,
            syncs,
        } = &self.counters;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let process = Process::look();
        for (name, kind, help, value) in [
            (
                "fdatasync_total",
                "counter",
                "Syncs of the engine that succeeded.",
                load(&syncs.syncs),
            ),
            (
                "fdatasync_batches_total",
                "counter",
                "Engine batches that they made durable.",
                load(&syncs.batches),
            ),
            (
                "fdatasync_seconds_total",
                "counter",
                "Time spent in them.",
                load(&syncs.micros) / 1e6,
            ),
            ("rounds_total", "counter", "Rounds of the node.", rounds.get() as f64),
            (
                "round_inputs_total",
                "counter",
                "Inputs that were stepped in them.",
                inputs.get() as f64,
            ),
            (
                "inbox_length",
                "gauge",
                "Inputs that wait for the next round.",
                waiting as f64,
            ),
            (
                "opened_total",
                "counter",
                "How often the node opened its directory.",
                opened.get() as f64,
            ),
            (
                "disk_free_bytes",
                "gauge",
                "Room on the data directory's file system.",
                free_bytes.get() as f64,
            ),
            ("links_up", "gauge", "Peers that this node can send to.", links as f64),
            (
                "links_waiting_bytes",
                "gauge",
                "Bytes that wait to be sent.",
                link_bytes as f64,
            ),
            (
                "process_resident_bytes",
                "gauge",
                "Resident memory.",
                process.resident_bytes as f64,
            ),
            (
                "process_open_files",
                "gauge",
                "Open file descriptors.",
                process.open_files as f64,
            ),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "# HELP annulus_{name} {help}\n# TYPE annulus_{name} {kind}\nannulus_{name} {value}"
            );
        }
        let name = "annulus_link_bytes_sent_total";
        let _ = writeln!(
            out,
            "# HELP {name} Bytes given to peers' links, by kind of message.\n# TYPE {name} counter"
        );
        for (kind, bytes) in &*sent.borrow() {
            let _ = writeln!(out, "{name}{{kind=\"{kind}\"}} {bytes}");
        }
        out
    }
}

impl std::fmt::Debug for Gauges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gauges")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// What the system says of this process; zero where it does not say.
#[derive(Debug, Default)]
struct Process {
    resident_bytes: u64,
    open_files: usize,
}

impl Process {
    fn look() -> Process {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident_bytes = resident
            .and_then(|kib| kib.parse().ok())
            .map_or(0, |kib: u64| kib << 10);
        let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Process {
            resident_bytes,
            open_files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_node_still_shows_its_own_figures() {
        let gauges = Gauges::default();
        gauges.counters.count_round(3);
        let text = gauges.render();
        assert!(
            text.contains("\nannulus_round_inputs_total 3\n") && text.contains("\nannulus_links_up 0\n"),
            "{text}"
        );
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        assert!(lines.clone().all(|line| line.split(' ').count() == 2), "{text}");
    }
}
