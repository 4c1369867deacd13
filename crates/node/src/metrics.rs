//! What a node has done and holds, as Prometheus text: counted where it happens, named here.

use std::fmt::Write as _;

use annulus_coordinator::{Failure, PeerLag, Reply};
use annulus_membership::Liveness;
use annulus_storage::Engine;

use crate::node::Node;

/// Counts since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) lists: u64,
    pub(crate) forwards: u64,
    pub(crate) take_overs: u64,
    pub(crate) stamped_anew: u64,
    pub(crate) apart: u64,
    pub(crate) closed: u64,
    pub(crate) expired: u64,
    pub(crate) read_repairs: u64,
    pub(crate) hints_stored: u64,
    pub(crate) hints_delivered: u64,
    pub(crate) hints_taken: u64,
    pub(crate) hints_had: u64,
    pub(crate) hints_refused: u64,
    pub(crate) hints_passed_on: u64,
    pub(crate) hints_lost: u64,
    pub(crate) versions_expired: u64,
    pub(crate) damaged: u64,
    pub(crate) doubts: u64,
    pub(crate) scrubs: u64,
    pub(crate) scrubbed_bytes: u64,
    pub(crate) peer_writes: u64,
    pub(crate) caught_objects: u64,
    pub(crate) supplied_objects: u64,
    pub(crate) supplied_bytes: u64,
    pub(crate) syncs: u64,
    pub(crate) session_reads_behind: u64,
    pub(crate) session_rounds: u64,
    pub(crate) session_partitions_dropped: u64,
    session_failed: u64,
    unreachable: u64,
    timed_out: u64,
    shed: u64,
}

impl Counters {
    pub(crate) fn count_reply(&mut self, reply: &Reply) {
        match reply {
            Err(Failure::QuorumUnreachable { .. }) => self.unreachable += 1,
            Err(Failure::TimedOut { .. }) => self.timed_out += 1,
            Err(Failure::SessionBehind { .. }) => self.session_failed += 1,
            Err(Failure::Overloaded { .. }) => self.shed += 1,
            _ => {}
        }
    }
}

/// What a node holds that must stay bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests being worked on, also those that only keep books after their reply.
    pub requests: usize,
    /// Those that somebody waits for; bounded by [`crate::Settings::max_tasks`].
    pub waited_for: usize,
    /// Bytes staged for the next batch.
    pub staged_bytes: usize,
    /// Hints of all owners.
    pub hints: u64,
    /// Bytes of the hints for the owner that has most; bounded by [`crate::Settings::hint_bytes_per_peer`].
    pub largest_hint_bytes: u64,
    /// Partitions of this node that it cannot prove to hold whole.
    pub partitions_in_doubt: usize,
    /// Entries of the log that some owner may still lack.
    pub log_entries: usize,
}

pub(crate) fn usage<E: Engine>(node: &Node<E>) -> Usage {
    let waiting = node.replica.hint_summary();
    Usage {
        requests: node.tasks.len(),
        waited_for: node.tasks.waited_for(),
        staged_bytes: node.replica.staged_bytes(),
        hints: waiting.values().map(|waiting| waiting.hints).sum(),
        largest_hint_bytes: waiting.values().map(|waiting| waiting.bytes).max().unwrap_or(0),
        partitions_in_doubt: node.doubtful().len(),
        log_entries: node.replica.log_entries(),
    }
}

pub(crate) fn render<E: Engine>(node: &Node<E>) -> String {
    let counters = &node.counters;
    let mut text = String::new();
    let mut counter = |name: &str, help: &str, value: u64| {
        let _ = write!(
            text,
            "# HELP annulus_{name} {help}\n# TYPE annulus_{name} counter\nannulus_{name} {value}\n"
        );
    };
    counter("reads_total", "Reads that this node coordinated.", counters.reads);
    counter("writes_total", "Writes that this node coordinated.", counters.writes);
    counter(
        "lists_total",
        "Pages of keys that this node put together.",
        counters.lists,
    );
    counter(
        "forwards_total",
        "Requests that were handed to another coordinator.",
        counters.forwards,
    );
    counter(
        "take_overs_total",
        "Forwards taken over by another owner, as the first was slow.",
        counters.take_overs,
    );
    counter(
        "closed_total",
        "Times that finished incarnations of a node were closed in a partition here.",
        counters.closed,
    );
    counter(
        "contents_apart_total",
        "Partitions with a co-owner's clock and other contents, whose contents were joined.",
        counters.apart,
    );
    counter(
        "stamped_anew_total",
        "Writes whose coordinator knew of later ones, which were stamped anew here.",
        counters.stamped_anew,
    );
    counter(
        "expired_total",
        "Requests of peers dropped as their deadline had passed.",
        counters.expired,
    );
    counter(
        "read_repairs_total",
        "Replicas that a read found stale and repaired.",
        counters.read_repairs,
    );
    counter(
        "hints_stored_total",
        "Hints kept for owners that did not answer.",
        counters.hints_stored,
    );
    counter(
        "hints_delivered_total",
        "Hints that their owners have stored.",
        counters.hints_delivered,
    );
    counter(
        "hints_taken_total",
        "Hints of peers that this node stored as an owner.",
        counters.hints_taken,
    );
    counter(
        "hints_had_total",
        "Hints that peers offered and did not send, as this node had them already.",
        counters.hints_had,
    );
    counter(
        "hints_refused_total",
        "Hints that were not kept, as the bound was reached or the disk failed.",
        counters.hints_refused,
    );
    counter(
        "hints_passed_on_total",
        "Hints given to another owner, as their own stayed away for longer than their lifetime.",
        counters.hints_passed_on,
    );
    counter(
        "hints_lost_total",
        "Hints that were found to be damaged, and dropped.",
        counters.hints_lost,
    );
    counter(
        "expired_versions_dropped_total",
        "Versions whose time was over, that this node has dropped everywhere.",
        counters.versions_expired,
    );
    counter(
        "damaged_records_total",
        "Records that were found to be damaged or gone.",
        counters.damaged,
    );
    counter(
        "catch_up_objects_taken_total",
        "Objects that co-owners sent to catch up with them.",
        counters.caught_objects,
    );
    counter(
        "catch_up_objects_sent_total",
        "Objects sent to co-owners that lacked them.",
        counters.supplied_objects,
    );
    counter(
        "catch_up_bytes_sent_total",
        "Bytes of those objects.",
        counters.supplied_bytes,
    );
    counter(
        "doubts_total",
        "Times that stored data could not be proved and was put in doubt.",
        counters.doubts,
    );
    counter(
        "scrubs_total",
        "Times that all stored data was checked.",
        counters.scrubs,
    );
    counter(
        "scrubbed_bytes_total",
        "Bytes of stored records that were checked.",
        counters.scrubbed_bytes,
    );
    counter(
        "session_reads_behind_total",
        "Reads whose first answers lacked what their session has seen: all owners were asked.",
        counters.session_reads_behind,
    );
    counter(
        "session_rounds_total",
        "Times that all owners were asked once more after a pause, as none knew what a session has seen.",
        counters.session_rounds,
    );
    counter(
        "session_reads_failed_total",
        "Reads that failed as nobody knew what their session has seen until the deadline.",
        counters.session_failed,
    );
    counter(
        "session_partitions_dropped_total",
        "Partitions that a session's token had no room for.",
        counters.session_partitions_dropped,
    );
    counter("syncs_total", "Syncs of the engine that completed.", counters.syncs);
    counter(
        "quorum_unreachable_total",
        "Requests that failed as too few replicas could answer.",
        counters.unreachable,
    );
    counter("timed_out_total", "Requests whose deadline passed.", counters.timed_out);
    counter(
        "shed_total",
        "Requests refused as the node was overloaded.",
        counters.shed,
    );
    gauges(node, &mut text);
    text
}

fn gauges<E: Engine>(node: &Node<E>, text: &mut String) {
    let mut gauge = |name: &str, help: &str, value: u64| {
        let _ = write!(
            text,
            "# HELP annulus_{name} {help}\n# TYPE annulus_{name} gauge\nannulus_{name} {value}\n"
        );
    };
    gauge("ready", "1 where the node serves.", u64::from(node.readiness().is_ok()));
    gauge(
        "epoch",
        "The ring's epoch; 0 before there is one.",
        node.advertised().epoch,
    );
    let usage = usage(node);
    gauge(
        "requests_in_progress",
        "Requests being worked on.",
        usage.requests as u64,
    );
    let waiting = node.replica.hint_summary();
    gauge("hints_waiting", "Hints kept here.", usage.hints);
    gauge(
        "hints_waiting_bytes",
        "Bytes of the hints kept here.",
        waiting.values().map(|waiting| waiting.bytes).sum(),
    );
    gauge(
        "partitions_in_doubt",
        "Partitions that are being refilled and answer for nothing.",
        usage.partitions_in_doubt as u64,
    );
    gauge(
        "incarnations_open",
        "1 while finished incarnations of this node are not known to be closed everywhere.",
        u64::from(!node.closing.is_over()),
    );
    gauge(
        "log_entries",
        "Entries of the log that some owner may still lack.",
        usage.log_entries as u64,
    );
    let members = node.membership.members();
    for (state, liveness) in [
        ("alive", Liveness::Alive),
        ("suspect", Liveness::Suspect),
        ("down", Liveness::Down),
    ] {
        let count = members.iter().filter(|member| member.liveness == liveness).count();
        gauge(
            &format!("members_{state}"),
            "Members as this node sees them.",
            count as u64,
        );
    }
    lags(node, text);
}

/// How far each co-owner is behind this node, and this node behind it.
fn lags<E: Engine>(node: &Node<E>, text: &mut String) {
    let peers = node.replication_view().peers;
    let mut gauge = |name: &str, help: &str, value: fn(&PeerLag) -> u64| {
        let _ = write!(text, "# HELP annulus_{name} {help}\n# TYPE annulus_{name} gauge\n");
        for lag in &peers {
            let _ = writeln!(text, "annulus_{name}{{peer=\"{}\"}} {}", lag.name, value(lag));
        }
    };
    let behind = "Writes that this node has and the peer has not told of.";
    gauge("replication_behind_writes", behind, |lag| lag.behind);
    let ahead = "Writes that the peer has and this node has not.";
    gauge("replication_ahead_writes", ahead, |lag| lag.ahead);
    let apart = "Partitions whose clocks differ from the peer's.";
    gauge("replication_partitions_apart", apart, |lag| lag.partitions);
}
