//! Many seeds on a few threads: what was simulated is added up, and each broken promise is shrunk and told once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus_mutants::{Mutant, plant};

use crate::oracles::Violation;
use crate::plan::{Plan, Scope};
use crate::queue::SECOND;
use crate::run::{Readable, Report, run};
use crate::shrink::shrink;

/// Which seeds, and how.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// No seed is begun after this.
    pub within: Option<Duration>,
    /// Threads.
    pub jobs: usize,
    /// What plans draw from.
    pub scope: Scope,
    /// A bug that is planted, where the build can.
    pub mutant: Option<Mutant>,
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Requests of clients.
    pub operations: u64,
    /// Of them, those that succeeded.
    pub succeeded: u64,
    /// Events of the worlds.
    pub events: u64,
    /// Processes that came back.
    pub restarts: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// From the last fault until all owners held the same, the longest.
    pub slowest_convergence: Duration,
    /// Broken promises by seed, shrunk.
    pub failures: Vec<Failure>,
    /// How long it took.
    pub took: Duration,
}

/// A seed that breaks a promise.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was broken in the whole run.
    pub violations: Vec<Violation>,
    /// The smallest plan found that breaks the first of these promises.
    pub smallest: Plan,
    /// What it breaks, and how.
    pub shown: Report,
}

/// A campaign stops after so many failures: more would say no more.
const ENOUGH_FAILURES: usize = 5;

/// Runs one plan; a panic counts as a broken promise.
pub fn run_safely(plan: &Plan, readable: Readable) -> Report {
    catch_unwind(AssertUnwindSafe(|| run(plan, readable))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Violation {
            promise: "no panic",
            detail: text.unwrap_or_default(),
        };
        Report {
            violations: vec![violation],
            ..Report::default()
        }
    })
}

/// Runs all seeds; `progress` is called now and then.
pub fn campaign(campaign: &Campaign, progress: &(dyn Fn(&Summary) + Sync)) -> Summary {
    let begun = Instant::now();
    let next = AtomicU64::new(campaign.first);
    let enough = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|threads| {
        for _ in 0..campaign.jobs {
            threads.spawn(|| {
                plant(campaign.mutant);
                while !enough.load(Ordering::Relaxed) && campaign.within.is_none_or(|within| begun.elapsed() < within) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= campaign.first.saturating_add(campaign.seeds) {
                        return;
                    }
                    let plan = Plan::draw(seed, &campaign.scope);
                    let report = run_safely(&plan, Readable::No);
                    let failure = (!report.violations.is_empty()).then(|| explain(&plan, report.clone()));
                    let mut summary = summary.lock().expect("a thread that panics is a bug of the campaign");
                    summary.add(&report);
                    summary.failures.extend(failure);
                    summary.took = begun.elapsed();
                    if summary.failures.len() >= ENOUGH_FAILURES {
                        enough.store(true, Ordering::Relaxed);
                    }
                    progress(&summary);
                }
            });
        }
    });
    let mut summary = summary
        .into_inner()
        .expect("a thread that panics is a bug of the campaign");
    summary.took = begun.elapsed();
    summary
}

/// Shrinks a failure.
pub fn explain(plan: &Plan, report: Report) -> Failure {
    let violations = report.violations.clone();
    let promise = violations.first().map_or("", |violation| violation.promise);
    let (smallest, shown) = shrink(plan, report, promise, &|plan| run_safely(plan, Readable::No));
    Failure {
        seed: plan.seed,
        violations,
        smallest,
        shown,
    }
}

impl Summary {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += Duration::from_nanos(report.nanos);
        self.operations += report.operations;
        self.succeeded += report.succeeded;
        self.events += report.counts.events;
        self.restarts += report.counts.restarts;
        self.slowest_convergence = self.slowest_convergence.max(Duration::from_nanos(report.converged_in));
        for (&fault, count) in &report.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    /// Simulated seconds a second of wall time.
    pub fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / self.took.as_secs_f64().max(1e-9)
    }
}

impl Failure {
    /// What to show of it, in lines.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("seed {} breaks:", self.seed)];
        let shown = |violation: &Violation| format!("  {}: {}", violation.promise, violation.detail);
        lines.extend(self.violations.iter().take(5).map(shown));
        lines.push("shrunk to:".to_owned());
        lines.extend(self.smallest.describe().into_iter().map(|line| format!("  {line}")));
        lines.push(format!(
            "which in {:.1} simulated seconds breaks:",
            self.shown.nanos as f64 / SECOND as f64
        ));
        lines.extend(self.shown.violations.iter().take(3).map(shown));
        lines
    }
}
