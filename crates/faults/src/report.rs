//! The verdict: how requests fared with and without each kind of fault, and what was broken.

use std::collections::BTreeMap;
use std::fmt;

use annulus_checker::{Fault, Violation};
use hdrhistogram::Histogram;

use crate::record::{Class, Kept, Sample};

/// Requests that no fault overlaps.
const NO_FAULT: &str = "no fault";
/// Of one promise so many broken ones are shown; all are counted.
const SHOWN: usize = 20;

/// How the requests of one kind of time fared.
struct Row {
    times: usize,
    counts: [usize; 4],
    /// Those that did not ask for all owners: sent, and gone well.
    easy: [usize; 2],
    latency: Histogram<u64>,
}

/// What a run came to.
pub(crate) struct Report {
    rows: Vec<(String, Row)>,
    operations: usize,
    odd: Vec<String>,
    notes: Vec<String>,
    unsettled: Vec<String>,
    violations: Vec<Violation>,
}

impl Row {
    fn new(times: usize) -> Row {
        let latency = Histogram::new(3).expect("three significant digits are within the bounds of a histogram");
        Row {
            times,
            counts: [0; 4],
            easy: [0; 2],
            latency,
        }
    }

    fn add(&mut self, sample: &Sample) {
        self.counts[sample.class as usize] += 1;
        if !sample.asks_all && sample.class != Class::Refused {
            self.easy[0] += 1;
            self.easy[1] += usize::from(sample.class == Class::Ok);
        }
        if sample.class == Class::Ok {
            // It grows by itself, so that every latency fits.
            let _ = self.latency.record(sample.end_us.saturating_sub(sample.start_us));
        }
    }
}

impl Report {
    /// Of what was kept, what happened that nobody asked for, what did not come to rest, and what the checker says.
    pub(crate) fn new(kept: &Kept, notes: Vec<String>, unsettled: Vec<String>, violations: Vec<Violation>) -> Report {
        let faults = &kept.history.faults;
        let mut kinds: BTreeMap<&str, Row> = BTreeMap::new();
        for fault in faults {
            kinds.entry(&fault.name).or_insert_with(|| Row::new(0)).times += 1;
        }
        let mut none = Row::new(0);
        for sample in &kept.samples {
            let mut over = faults.iter().filter(|fault| overlap(fault, sample)).peekable();
            if over.peek().is_none() {
                none.add(sample);
            }
            let names: std::collections::BTreeSet<&str> = over.map(|fault| fault.name.as_str()).collect();
            names
                .iter()
                .filter_map(|name| kinds.get_mut(name).map(|row| row.add(sample)))
                .for_each(drop);
        }
        let kinds = kinds.into_iter().map(|(name, row)| (name.to_owned(), row));
        Report {
            rows: std::iter::once((NO_FAULT.to_owned(), none)).chain(kinds).collect(),
            operations: kept.history.operations.len(),
            odd: grouped(&kept.odd),
            notes,
            unsettled,
            violations,
        }
    }

    /// Whether every promise was kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.unsettled.is_empty()
    }
}

fn overlap(fault: &Fault, sample: &Sample) -> bool {
    sample.start_us < fault.end_us && sample.end_us > fault.start_us
}

/// Alike but for numbers, they are one line with a count.
fn grouped(lines: &[String]) -> Vec<String> {
    let mut groups: BTreeMap<String, (&String, usize)> = BTreeMap::new();
    for line in lines {
        let without_numbers = line.chars().filter(|character| !character.is_ascii_digit()).collect();
        groups.entry(without_numbers).or_insert((line, 0)).1 += 1;
    }
    groups
        .into_values()
        .map(|(line, count)| format!("{count} × {line}"))
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<10} {:>5} {:>8} {:>7} {:>10} {:>7} {:>8} {:>8} {:>9} {:>9}",
            "during", "times", "ops", "ok %", "not all %", "failed", "unknown", "refused", "p50 ms", "p99 ms"
        )?;
        for (name, row) in &self.rows {
            let [ok, failed, unknown, refused] = row.counts;
            let sent = ok + failed + unknown;
            let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
            let (share, easy) = (percent(ok, sent), percent(row.easy[1], row.easy[0]));
            let times = if name == NO_FAULT {
                String::new()
            } else {
                row.times.to_string()
            };
            let quantile = |q| row.latency.value_at_quantile(q) as f64 / 1e3;
            writeln!(
                f,
                "{name:<10} {times:>5} {sent:>8} {share:>7.2} {easy:>10.2} {failed:>7} {unknown:>8} {refused:>8} {:>9.2} {:>9.2}",
                quantile(0.5),
                quantile(0.99)
            )?;
        }
        writeln!(
            f,
            "ok % is of what was sent, and not all % of that which did not ask for all owners; refused: no node \
             listened there; latencies are of what went well"
        )?;
        list(f, "happened unasked:", self.notes.iter())?;
        list(f, "answers that the contract does not have:", self.odd.iter())?;
        list(f, "does not come to rest:", self.unsettled.iter())?;
        let violation =
            |violation: &Violation| format!("{}: {}: {}", violation.promise, violation.key, violation.detail);
        list(f, "violations:", self.violations.iter().take(SHOWN).map(violation))?;
        if self.violations.len() > SHOWN {
            writeln!(f, "  and {} more", self.violations.len() - SHOWN)?;
        }
        writeln!(
            f,
            "{} operations, {} violations\nverdict: {}",
            self.operations,
            self.violations.len() + self.unsettled.len(),
            if self.is_clean() { "clean" } else { "violated" }
        )
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, lines: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(f, "{title}")?;
    }
    lines.try_for_each(|line| writeln!(f, "  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(start_us: u64, class: Class) -> Sample {
        Sample {
            start_us,
            end_us: start_us + 1000,
            class,
            asks_all: false,
        }
    }

    fn kept() -> Kept {
        let mut kept = Kept::default();
        kept.samples = vec![
            sample(0, Class::Ok),
            sample(5_000, Class::Ok),
            sample(5_500, Class::Unknown),
            sample(5_500, Class::Refused),
        ];
        kept.odd = vec!["status 500 of 1".to_owned(), "status 500 of 2".to_owned()];
        kept.history.faults.push(Fault {
            name: "kill".to_owned(),
            detail: "n1".to_owned(),
            start_us: 5_000,
            end_us: 6_000,
        });
        kept
    }

    #[test]
    fn requests_count_for_the_faults_that_they_overlap_or_for_none() {
        let report = Report::new(&kept(), Vec::new(), Vec::new(), Vec::new());
        let counts: Vec<_> = report
            .rows
            .iter()
            .map(|(name, row)| (name.as_str(), row.counts))
            .collect();
        assert_eq!(counts, [("no fault", [1, 0, 0, 0]), ("kill", [1, 0, 1, 1])]);
        assert_eq!(report.odd, ["2 × status 500 of 1"]);
        assert!(report.to_string().ends_with("verdict: clean\n"));
    }

    #[test]
    fn what_does_not_come_to_rest_is_a_violation() {
        let report = Report::new(&kept(), Vec::new(), vec!["n1 is not ready".to_owned()], Vec::new());
        assert!(!report.is_clean());
        assert!(report.to_string().ends_with("1 violations\nverdict: violated\n"));
    }
}
