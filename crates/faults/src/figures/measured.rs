//! The figures, each beside what it is to be.

use std::fmt::Write as _;

use crate::arguments::Figures;

/// See the module.
pub(crate) struct Measured {
    counts_only: bool,
    rows: Vec<Row>,
}

/// Of a figure.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Bytes,
    Seconds,
    Milliseconds,
    Number,
}

struct Row {
    what: String,
    value: f64,
    unit: Unit,
    limit: Option<Limit>,
}

/// What a figure is to be.
struct Limit {
    value: f64,
    /// Otherwise at least.
    at_most: bool,
    /// Times say nothing of a moment on a machine that does other things.
    is_time: bool,
}

impl Measured {
    pub(super) fn new(arguments: &Figures) -> Measured {
        Measured {
            counts_only: arguments.counts_only,
            rows: Vec::new(),
        }
    }

    fn row(&mut self, what: String, (value, unit): (f64, Unit), limit: Option<Limit>) {
        let row = Row {
            what,
            value,
            unit,
            limit,
        };
        eprintln!("{}", row.text());
        self.rows.push(row);
    }

    /// At most so many bytes.
    pub(super) fn bytes(&mut self, what: String, value: f64, limit: f64) {
        self.row(what, (value, Unit::Bytes), Some(Limit::at_most(limit, false)));
    }

    /// At most so many.
    pub(super) fn count(&mut self, what: String, value: f64, limit: f64) {
        self.row(what, (value, Unit::Number), Some(Limit::at_most(limit, false)));
    }

    /// At most so many seconds.
    pub(super) fn seconds(&mut self, what: String, value: f64, limit: f64) {
        self.row(what, (value, Unit::Seconds), Some(Limit::at_most(limit, true)));
    }

    /// A ratio of times, that is to be so much at most.
    pub(super) fn slower(&mut self, what: String, value: f64, limit: f64) {
        self.row(what, (value, Unit::Number), Some(Limit::at_most(limit, true)));
    }

    /// A ratio of times, that is to be so much at least.
    pub(super) fn faster(&mut self, what: String, value: f64, limit: f64) {
        let limit = Limit {
            value: limit,
            at_most: false,
            is_time: true,
        };
        self.row(what, (value, Unit::Number), Some(limit));
    }

    /// Nothing that it is to be.
    pub(super) fn plain(&mut self, what: String, value: f64, unit: Unit) {
        self.row(what, (value, unit), None);
    }

    /// Whether a figure is not what it is to be.
    pub(crate) fn misses(&self) -> bool {
        self.rows.iter().any(|row| row.misses(self.counts_only))
    }

    /// A table in Markdown.
    pub(crate) fn show(&self) -> String {
        let mut text = "| what | measured | to be | |\n|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let (limit, verdict) = match (&row.limit, row.misses(self.counts_only)) {
                (None, _) => (String::new(), ""),
                (Some(limit), true) => (limit.text(row.unit), "missed"),
                (Some(limit), false) if limit.is_time && self.counts_only => (limit.text(row.unit), "not judged"),
                (Some(limit), false) => (limit.text(row.unit), "met"),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {limit} | {verdict} |",
                row.what,
                row.unit.text(row.value)
            );
        }
        text
    }
}

impl Limit {
    fn at_most(value: f64, is_time: bool) -> Limit {
        Limit {
            value,
            at_most: true,
            is_time,
        }
    }

    fn text(&self, unit: Unit) -> String {
        let relation = if self.at_most { "≤" } else { "≥" };
        format!("{relation} {}", unit.text(self.value))
    }
}

impl Row {
    fn misses(&self, counts_only: bool) -> bool {
        self.limit.as_ref().is_some_and(|limit| {
            let is_met = match limit.at_most {
                true => self.value <= limit.value,
                false => self.value >= limit.value,
            };
            let is_judged = !(limit.is_time && counts_only);
            is_judged && !is_met
        })
    }

    fn text(&self) -> String {
        let limit = self.limit.as_ref().map(|limit| format!(" ({})", limit.text(self.unit)));
        format!(
            "{}: {}{}",
            self.what,
            self.unit.text(self.value),
            limit.unwrap_or_default()
        )
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Unit::Bytes => format!("{value:.0} B"),
            Unit::Seconds => format!("{value:.2} s"),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::Number if value >= 100.0 => format!("{value:.0}"),
            Unit::Number => format!("{value:.3}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_judged_by_counts_and_not_by_times() {
        let judged = |counts_only, tell: fn(&mut Measured)| {
            let mut measured = Measured {
                counts_only,
                rows: Vec::new(),
            };
            tell(&mut measured);
            assert_eq!(measured.show().lines().count(), 3);
            measured.misses()
        };
        let late: fn(&mut Measured) = |measured| measured.seconds("late".to_owned(), 2.0, 1.0);
        let slow: fn(&mut Measured) = |measured| measured.faster("slow".to_owned(), 0.5, 0.6);
        let large: fn(&mut Measured) = |measured| measured.bytes("large".to_owned(), 2.0, 1.0);
        assert!(judged(false, late) && judged(false, slow) && judged(false, large) && judged(true, large));
        assert!(!judged(true, late) && !judged(true, slow));
    }
}
