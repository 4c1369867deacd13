//! The replication of one partition, run against an adversary: thousands of random histories with messages lost, late,
//! repeated and reordered, crashes, wiped and rolled-back owners, fallbacks that coordinate, hints, and closing.
//!
//! Two replicas go through each history side by side: a naive one whose clock is a plain set and whose every rule is a few
//! lines, and one built on the crate's types, with strip and fill. After every step they must hold the same, and at
//! the end the world's checks must hold: owners agree, no acknowledged write is lost, nothing that a surviving write
//! replaced came back, and strict reads saw what strict writes acknowledged. That the checks can fail is shown by
//! switching off one rule of the naive replica at a time.
#![allow(clippy::unwrap_used)]

mod compact;
mod naive;
mod random;
mod replica;
mod twins;
mod world;

use naive::Naive;
use replica::{Replica, Rule};
use twins::Twins;
use world::World;

const STEPS: usize = 150;

fn run<R: Replica>(seed: u64, rule_off: Option<Rule>, steps: usize) -> Vec<String> {
    World::<R>::new(seed, rule_off).run(steps)
}

fn assert_histories_hold(seeds: std::ops::Range<u64>, steps: usize) {
    for seed in seeds {
        let problems = run::<Twins>(seed, None, steps);
        assert!(problems.is_empty(), "seed {seed}, {steps} steps: {problems:#?}");
    }
}

#[test]
fn thousands_of_short_histories_hold() {
    assert_histories_hold(0..2_500, STEPS);
}

#[test]
fn hundreds_of_long_histories_hold() {
    assert_histories_hold(1_000_000..1_000_300, 4 * STEPS);
}

#[test]
fn the_checks_see_each_rule_that_is_switched_off() {
    for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::LogUntilAll) {
        let is_seen = (0..1_000).any(|seed| !run::<Naive>(seed, Some(rule), STEPS).is_empty());
        assert!(is_seen, "no history failed without {rule:?}");
    }
}

/// The log is a shortcut: while a gap in it is noticed, the whole partition is streamed instead.
#[test]
fn a_log_that_forgets_too_early_costs_a_stream_but_no_write() {
    for seed in 0..500 {
        let problems = run::<Naive>(seed, Some(Rule::LogUntilAll), STEPS);
        assert!(problems.is_empty(), "seed {seed}: {problems:#?}");
    }
}
