//! Plans that once broke a promise break none any more: each was shrunk to what it took, and is named after what went wrong.
//!
//! `cargo xtask sim --plan FILE --trace` shows one, and with `--mutant NAME` how it broke.

use std::fs;
use std::path::Path;

use annulus_sim::{Plan, Readable, run};

#[test]
fn what_was_mended_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("the folder is there").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a text");
        let plan = Plan::read(&text).expect("a plan that this version reads");
        let report = run(&plan, Readable::No);
        assert_eq!(report.violations, [], "{}", entry.path().display());
        assert!(report.succeeded > 0, "{} does nothing", entry.path().display());
        seen += 1;
    }
    assert!(seen > 0, "{} is empty", folder.display());
}

/// Seeds whose plans did not become small enough to be kept: they mean the same only as long as plans are drawn as they were.
const SEEDS: [(u64, &str); 1] = [(
    900_179,
    "a node that answered a listing twice had its keys on the page twice",
)];

#[test]
fn seeds_that_once_broke_a_promise_break_none() {
    for (seed, what) in SEEDS {
        let report = run(&Plan::draw(seed, &Default::default()), Readable::No);
        assert_eq!(report.violations, [], "seed {seed}: {what}");
    }
}

#[test]
fn one_seed_is_one_run_and_two_are_two() {
    let hash = |seed| run(&Plan::draw(seed, &Default::default()), Readable::No).hash;
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
}

#[test]
fn a_plan_in_a_file_is_the_plan() {
    let plan = Plan::draw(3, &Default::default());
    let read = Plan::read(&plan.write()).expect("what was written");
    assert_eq!(read.describe(), plan.describe());
    assert_eq!(run(&read, Readable::No).hash, run(&plan, Readable::No).hash);
    assert!(Plan::read("{}").is_err());
}
