//! `annulus-sim`: many seeds, one after the other; whatever promise one breaks is shrunk and printed.

fn main() {
    let first: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(10);
    let trace = std::env::args().nth(3).is_some();
    let mut scope = annulus_sim::Scope::default();
    if std::env::var("M").is_ok() {
        scope.measure = Some((5, 50, 1000));
    }
    for seed in first..first + count {
        let plan = annulus_sim::Plan::draw(seed, &scope);
        if trace {
            for l in plan.describe() {
                println!("{l}");
            }
        }
        let report = annulus_sim::run(
            &plan,
            if trace {
                annulus_sim::Readable::Yes
            } else {
                annulus_sim::Readable::No
            },
        );
        for l in &report.lines {
            println!("{l}");
        }
        println!(
            "{seed} {:016x} ops {} ok {} s {} ev {} conv {:.1}",
            report.hash,
            report.operations,
            report.succeeded,
            report.nanos / 1_000_000_000,
            report.counts.events,
            report.converged_in as f64 / 1e9
        );
        for v in report.violations.iter().take(3) {
            println!("   {}: {}", v.promise, v.detail);
        }
    }
}
