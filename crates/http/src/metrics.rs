//! What the HTTP side did, counted in cells and written as Prometheus text when it is asked for.

use std::{cell::Cell, fmt::Write as _, time::Duration};

use crate::{activity::Overdue, gate::Gate};

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    ReadKey,
    WriteKey,
    DeleteKey,
    List,
    Batch,
    Buckets,
    Cluster,
    Operations,
    None,
}

const ROUTES: [&str; 9] = [
    "read_key",
    "write_key",
    "delete_key",
    "list",
    "batch",
    "buckets",
    "cluster",
    "operations",
    "none",
];

/// The statuses that are counted by themselves; others share the last place.
const STATUSES: [u16; 19] = [
    200, 204, 300, 304, 400, 404, 405, 409, 412, 413, 414, 415, 417, 429, 431, 500, 501, 503, 504,
];

/// Upper bounds in microseconds.
const BOUNDS: [u64; 13] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
];

const OVERDUE: [&str; 3] = ["idle", "request", "response"];

#[derive(Debug, Default)]
struct Histogram {
    counts: [Cell<u64>; BOUNDS.len() + 1],
    sum_micros: Cell<u64>,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [[Cell<u64>; STATUSES.len() + 1]; ROUTES.len()],
    durations: [Histogram; ROUTES.len()],
    pub(crate) accepted: Cell<u64>,
    pub(crate) refused: Cell<u64>,
    pub(crate) accept_errors: Cell<u64>,
    overdue: [Cell<u64>; OVERDUE.len()],
}

pub(crate) fn increment(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Metrics {
    pub(crate) fn request(&self, route: Route, status: u16, took: Duration) {
        let status_at = STATUSES
            .iter()
            .position(|&known| known == status)
            .unwrap_or(STATUSES.len());
        increment(&self.requests[route as usize][status_at]);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let histogram = &self.durations[route as usize];
        increment(&histogram.counts[BOUNDS.partition_point(|&bound| bound < micros)]);
        histogram
            .sum_micros
            .set(histogram.sum_micros.get().saturating_add(micros));
    }

    pub(crate) fn closed_overdue(&self, overdue: Overdue) {
        increment(&self.overdue[overdue as usize]);
    }

    /// The Prometheus text (exposition format 0.0.4).
    pub(crate) fn render(&self, connections: usize, gate: &Gate) -> String {
        let mut out = String::new();
        self.render_requests(&mut out);
        self.render_durations(&mut out);
        let single = [
            (
                "annulus_http_connections",
                "gauge",
                "Open connections.",
                connections as u64,
            ),
            (
                "annulus_http_requests_in_progress",
                "gauge",
                "Requests in progress.",
                gate.requests() as u64,
            ),
            (
                "annulus_http_body_bytes",
                "gauge",
                "Bytes of request bodies in memory.",
                gate.bytes() as u64,
            ),
            (
                "annulus_http_accepted_total",
                "counter",
                "Connections accepted.",
                self.accepted.get(),
            ),
            (
                "annulus_http_refused_total",
                "counter",
                "Connections refused: too many.",
                self.refused.get(),
            ),
            (
                "annulus_http_accept_errors_total",
                "counter",
                "Failures to accept.",
                self.accept_errors.get(),
            ),
        ];
        for (name, kind, help, value) in single {
            family(&mut out, name, kind, help);
            line(&mut out, format_args!("{name} {value}"));
        }
        family(
            &mut out,
            "annulus_http_overdue_total",
            "counter",
            "Connections closed by a timeout.",
        );
        for (what, count) in OVERDUE.iter().zip(&self.overdue) {
            line(
                &mut out,
                format_args!("annulus_http_overdue_total{{what=\"{what}\"}} {}", count.get()),
            );
        }
        out
    }

    fn render_requests(&self, out: &mut String) {
        family(out, "annulus_http_requests_total", "counter", "Requests answered.");
        let statuses = || STATUSES.iter().map(u16::to_string).chain(["other".to_owned()]);
        for (route, counts) in ROUTES.iter().zip(&self.requests) {
            for (status, count) in statuses().zip(counts).filter(|(_, count)| count.get() > 0) {
                let labels = format_args!("route=\"{route}\",status=\"{status}\"");
                line(
                    out,
                    format_args!("annulus_http_requests_total{{{labels}}} {}", count.get()),
                );
            }
        }
    }

    fn render_durations(&self, out: &mut String) {
        const NAME: &str = "annulus_http_request_duration_seconds";
        family(out, NAME, "histogram", "From the head of a request to its response.");
        for (route, histogram) in ROUTES.iter().zip(&self.durations) {
            let total: u64 = histogram.counts.iter().map(Cell::get).sum();
            if total == 0 {
                continue;
            }
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().zip(&histogram.counts) {
                below += count.get();
                let bound = *bound as f64 / 1e6;
                line(
                    out,
                    format_args!("{NAME}_bucket{{route=\"{route}\",le=\"{bound}\"}} {below}"),
                );
            }
            line(
                out,
                format_args!("{NAME}_bucket{{route=\"{route}\",le=\"+Inf\"}} {total}"),
            );
            let seconds = histogram.sum_micros.get() as f64 / 1e6;
            line(out, format_args!("{NAME}_sum{{route=\"{route}\"}} {seconds}"));
            line(out, format_args!("{NAME}_count{{route=\"{route}\"}} {total}"));
        }
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
