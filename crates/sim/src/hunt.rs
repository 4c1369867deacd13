//! Each planted bug has to be found: by some seed, through some oracle.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use annulus_mutants::{Mutant, plant};

use crate::campaign::run_safely;
use crate::oracles::Violation;
use crate::plan::{Plan, Scope};
use crate::run::Readable;

/// Within so many seeds a planted bug is to be found.
pub const SEEDS: u64 = 200;

/// How a planted bug was found, or not.
#[derive(Debug)]
pub struct Hunted {
    /// Which.
    pub mutant: Mutant,
    /// The seed that found it, and what it broke; nothing where none did.
    pub found: Option<(u64, Violation)>,
    /// How long it took.
    pub took: Duration,
}

/// Plants each of these bugs in turn, and runs seeds from `first` until one finds it; `told` is called with each.
pub fn hunt(mutants: &[Mutant], first: u64, jobs: usize, told: &(dyn Fn(&Hunted) + Sync)) -> Vec<Hunted> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..jobs {
            threads.spawn(|| {
                while let Some(&mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    plant(Some(mutant));
                    let hunted = hunt_one(mutant, first);
                    plant(None);
                    told(&hunted);
                    all.lock()
                        .expect("a thread that panics is a bug of the hunt")
                        .push(hunted);
                }
            });
        }
    });
    all.into_inner().expect("a thread that panics is a bug of the hunt")
}

fn hunt_one(mutant: Mutant, first: u64) -> Hunted {
    let begun = Instant::now();
    let scope = scope(mutant);
    let found = (first..first.saturating_add(SEEDS)).find_map(|seed| {
        let report = run_safely(&Plan::draw(seed, &scope), Readable::No);
        report.violations.into_iter().next().map(|violation| (seed, violation))
    });
    Hunted {
        mutant,
        found,
        took: begun.elapsed(),
    }
}

/// Where a bug is looked for: all over, but for one that takes a rare order of a few things.
fn scope(mutant: Mutant) -> Scope {
    let (faults, workloads, nodes): (&[&str], &[&str], _) = match mutant {
        Mutant::SameMeansNothingSeen => (&["isolate", "no-catch-up"], &["cycles"], Some(3)),
        Mutant::SameNodeTwice => (&["isolate", "no-catch-up", "twice"], &["cycles"], Some(3)),
        Mutant::DoubtIgnored | Mutant::TrustedAfterOne => (
            &["crossed", "no-catch-up"],
            &["registers", "churn", "sessions"],
            Some(3),
        ),
        Mutant::OldDiskTrusted => (
            &["yesterday", "no-catch-up"],
            &["registers", "churn", "sessions"],
            Some(3),
        ),
        Mutant::ClosedUnheard => (
            &["isolate", "blackout", "no-handoff"],
            &["registers", "churn", "lww"],
            Some(5),
        ),
        Mutant::ClosedUnequal => (&["crash", "isolate", "no-catch-up"], &["registers"], Some(3)),
        Mutant::OverdueHintDropped => (&["isolate", "no-handoff"], &["registers"], Some(5)),
        Mutant::WholeKeyExpires => (&["slow-link", "isolate"], &["ttl"], None),
        Mutant::OldTotalAddedTo => (&["isolate", "partition", "no-handoff"], &["tallies"], Some(5)),
        _ => return Scope::default(),
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Scope {
        faults: names(faults),
        workloads: names(workloads),
        nodes,
        measure: None,
    }
}
