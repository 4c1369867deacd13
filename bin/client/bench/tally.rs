//! Latencies as HDR histograms (three digits, in microseconds), each kind of request apart, failed ones too.

use std::{collections::BTreeMap, time::Duration};

use annulus_client::{Cause, Error};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::{failure::Failure, output, table::Table};

/// What a request was that was answered.
pub(super) enum Kind {
    Put,
    Get,
    /// A GET that found nothing.
    Miss,
}

pub(super) struct Tally {
    put: Histogram<u64>,
    get: Histogram<u64>,
    failed: Histogram<u64>,
    misses: u64,
    /// How many failed for which reason.
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three significant digits are within 0 to 5");
        Self {
            put: histogram(),
            get: histogram(),
            failed: histogram(),
            misses: 0,
            reasons: BTreeMap::new(),
        }
    }

    pub(super) fn record(&mut self, latency: Duration, result: Result<Kind, Error>) {
        let histogram = match result {
            Ok(Kind::Put) => &mut self.put,
            Ok(Kind::Get) => &mut self.get,
            Ok(Kind::Miss) => {
                self.misses += 1;
                &mut self.get
            }
            Err(error) => {
                *self.reasons.entry(reason(&error)).or_default() += 1;
                &mut self.failed
            }
        };
        // It grows as it needs to, so any value has its place.
        *histogram += latency.as_micros() as u64;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, others) in [
            (&mut self.put, &other.put),
            (&mut self.get, &other.get),
            (&mut self.failed, &other.failed),
        ] {
            *mine += others;
        }
        self.misses += other.misses;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed.len()
    }
}

fn reason(error: &Error) -> String {
    match error.cause() {
        Cause::Unreachable(_) => "no connection".to_owned(),
        Cause::Lost(_) => "connection lost".to_owned(),
        Cause::TimedOut(_) => "no answer in time".to_owned(),
        Cause::Answered(problem) => format!("{} {}", problem.status, problem.title),
        _ => error.to_string(),
    }
}

/// What a run measured. Times are in milliseconds.
#[derive(Serialize)]
pub(super) struct Summary {
    #[serde(rename = "loop")]
    kind: &'static str,
    clients: u32,
    /// Requests a second that were due, in the open loop.
    rate: Option<f64>,
    seconds: f64,
    operations: u64,
    operations_per_second: f64,
    put: Latencies,
    get: Latencies,
    failed: Latencies,
    misses: u64,
    failures: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Latencies {
    count: u64,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

impl Latencies {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            mean_ms: histogram.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

impl Summary {
    pub(super) fn new(tally: &Tally, elapsed: Duration, clients: u32, rate: Option<f64>) -> Self {
        let operations = tally.put.len() + tally.get.len() + tally.failed.len();
        Self {
            kind: if rate.is_some() { "open" } else { "closed" },
            clients,
            rate,
            seconds: elapsed.as_secs_f64(),
            operations,
            operations_per_second: operations as f64 / elapsed.as_secs_f64(),
            put: Latencies::of(&tally.put),
            get: Latencies::of(&tally.get),
            failed: Latencies::of(&tally.failed),
            misses: tally.misses,
            failures: tally.reasons.clone(),
        }
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        let rate = self.rate.map(|rate| format!(" at {rate}/s")).unwrap_or_default();
        output::line(format!(
            "{} loop{rate}, {} clients: {} operations in {:.1} s, {:.0}/s, {} failed\n",
            self.kind, self.clients, self.operations, self.seconds, self.operations_per_second, self.failed.count,
        ))?;
        let mut table = Table::new(["MS", "COUNT", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"]);
        for (name, latencies) in [("put", &self.put), ("get", &self.get), ("failed", &self.failed)] {
            if latencies.count > 0 {
                table.row(latencies.row(name));
            }
        }
        table.print()?;
        if self.misses > 0 {
            output::line(format!("\n{} GETs found nothing", self.misses))?;
        }
        for (reason, count) in &self.failures {
            output::line(format!("\n{count} failed: {reason}"))?;
        }
        Ok(())
    }
}

impl Latencies {
    fn row(&self, name: &str) -> [String; 8] {
        let times = [
            self.mean_ms,
            self.p50_ms,
            self.p90_ms,
            self.p99_ms,
            self.p999_ms,
            self.max_ms,
        ];
        let [mean, p50, p90, p99, p999, max] = times.map(|time| format!("{time:.2}"));
        [name.to_owned(), self.count.to_string(), mean, p50, p90, p99, p999, max]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_to_one_summary() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        one.record(Duration::from_millis(1), Ok(Kind::Put));
        one.record(Duration::from_millis(2), Ok(Kind::Miss));
        other.record(Duration::from_millis(3), Ok(Kind::Put));
        one.add(&other);
        let summary = Summary::new(&one, Duration::from_secs(1), 2, None);
        assert_eq!(
            (summary.operations, summary.put.count, summary.get.count, summary.misses),
            (3, 2, 1, 1)
        );
        assert!((summary.put.mean_ms - 2.0).abs() < 0.01);
        assert_eq!((one.failures(), summary.kind), (0, "closed"));
    }
}
