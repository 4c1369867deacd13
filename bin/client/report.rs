//! What became of many files: progress while it runs, the failures as they come, and a summary that adds up.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{failure::Failure, output};

/// Failures shown as they come; after that they are counted (and all of them are in the JSON document).
const SHOWN_FAILURES: usize = 20;

pub(crate) enum Outcome {
    /// Written and verified.
    Done,
    /// Written; there was no stored hash to verify it by.
    Unverified,
    /// It was there already.
    Unchanged,
    /// It went away meanwhile: nothing to do.
    Gone,
    /// Why not.
    Failed(String),
}

#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    command: &'static str,
    #[serde(skip)]
    verb: &'static str,
    #[serde(skip)]
    bar: ProgressBar,
    done: u64,
    /// Bytes of those that were done.
    bytes: u64,
    unverified: u64,
    unchanged: u64,
    gone: u64,
    skipped: Vec<(&'static str, u64)>,
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    name: String,
    why: String,
}

impl Report {
    /// With the number of bytes to expect, where it is known. The bar shows only on a terminal.
    pub(crate) fn new(command: &'static str, verb: &'static str, expected: Option<u64>) -> Self {
        let (bar, template) = match expected {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {msg}, {eta} to go",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {bytes} {bytes_per_sec}, {msg}, {elapsed}",
            ),
        };
        // The template is ours and a test reads it: it parses.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            command,
            verb,
            bar,
            done: 0,
            bytes: 0,
            unverified: 0,
            unchanged: 0,
            gone: 0,
            skipped: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Files that are left out by design.
    pub(crate) fn skipped(&mut self, what: &'static str, count: u64) {
        self.skipped.push((what, count));
    }

    pub(crate) fn add(&mut self, name: String, size: u64, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.written(size),
            Outcome::Unverified => {
                self.written(size);
                self.unverified += 1;
            }
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Gone => self.gone += 1,
            Outcome::Failed(why) => self.failure(name, why),
        }
        self.bar.inc(size);
        self.bar.set_message(format!(
            "{} files, {} failed",
            self.done + self.unchanged,
            self.failed.len()
        ));
    }

    fn written(&mut self, size: u64) {
        self.done += 1;
        self.bytes += size;
    }

    fn failure(&mut self, name: String, why: String) {
        let command = self.command;
        match self.failed.len() {
            0..SHOWN_FAILURES => self.bar.suspend(|| eprintln!("annulus: {command}: {name}: {why}")),
            SHOWN_FAILURES => self
                .bar
                .suspend(|| eprintln!("annulus: {command}: further failures are only counted")),
            _ => {}
        }
        self.failed.push(Failed { name, why });
    }

    /// Prints the summary; a failure if anything failed.
    pub(crate) fn finish(self, json: bool) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        if json {
            output::json(&self)?
        } else {
            output::line(self.summary())?
        }
        match self.failed.len() {
            0 => Ok(()),
            failed => Err(Failure::Failed {
                message: format!("{}: {failed} failed", self.command),
                advice: Some("The same command again goes on from here: what is done already is skipped."),
            }),
        }
    }

    fn summary(&self) -> String {
        let mut parts = vec![format!("{} {} ({})", self.verb, self.done, output::bytes(self.bytes))];
        let mut counted = |count: u64, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        counted(self.unchanged, "unchanged");
        counted(self.unverified, "without a stored hash to verify");
        counted(self.gone, "deleted meanwhile");
        for (what, count) in &self.skipped {
            counted(*count, &format!("{what} skipped"));
        }
        counted(self.failed.len() as u64, "failed");
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_adds_up_and_leaves_out_what_did_not_happen() {
        let mut report = Report::new("import", "stored", Some(30));
        report.skipped("symbolic links", 2);
        report.skipped("special files", 0);
        report.add("a".into(), 10, Outcome::Done);
        report.add("b".into(), 10, Outcome::Unchanged);
        report.add("c".into(), 10, Outcome::Failed("test".into()));
        assert_eq!(
            report.summary(),
            "stored 1 (10 B), 1 unchanged, 2 symbolic links skipped, 1 failed"
        );
        assert!(report.finish(false).is_err());
    }

    #[test]
    fn nothing_failed_means_success() {
        assert!(Report::new("export", "written", None).finish(false).is_ok());
    }
}
